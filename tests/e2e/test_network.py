"""Through proxies and past certificates: everything to Microsoft goes one way, and what is wrong is said."""

import smtplib

import pytest
from program import ALERTS, PASSWORD, SCANS, wait_until
from tunnel import Tunnel

SECRET = "S3cret-of-the-proxy"


def submit(program):
    with smtplib.SMTP("localhost", program.port("smtp"), timeout=30) as smtp:
        smtp.login(ALERTS, PASSWORD)
        smtp.sendmail(ALERTS, [SCANS], f"From: {ALERTS}\r\nTo: {SCANS}\r\nSubject: t\r\n\r\nx\r\n")


def delivered(program):
    wait_until(lambda: len(program.sandbox.tenant.delivered) == 1, what="the delivery")
    wait_until(lambda: program.queue() == [])


@pytest.fixture
def tunnel():
    with Tunnel("svc", SECRET) as made:
        yield made


@pytest.fixture
def open_tunnel():
    with Tunnel() as made:
        yield made


def count_connections(program):
    """A list that grows with every connection that reaches the stand-in tenant."""
    seen, wrapped = [], program.sandbox.wrapped

    def counting(sock):
        seen.append(sock)
        return wrapped(sock)

    program.sandbox.wrapped = counting
    return seen


def all_through(program, tunnel, **environ):
    """Sign-in and delivery, not one connection past the proxy."""
    arrived = count_connections(program)
    done = program.command("login", **environ)
    assert done.returncode == 0, done.stderr
    by_login = len(tunnel.connects)
    assert by_login > 0 and len(arrived) == by_login
    program.start(**environ)
    submit(program)
    delivered(program)
    assert program.stop() == 0
    assert len(tunnel.connects) > by_login and len(arrived) == len(tunnel.connects)
    assert set(tunnel.connects) == {f"127.0.0.1:{program.sandbox.port}"}
    paths = {request.path.rpartition("/")[2] for request in program.sandbox.requests}
    assert {"devicecode", "token", "me", "send"} <= paths


def test_a_proxy_of_the_config_with_user_and_password(make_program, tunnel):
    program = make_program(https_proxy={"url": tunnel.url, "user": "svc", "password": SECRET})
    all_through(program, tunnel)
    assert SECRET not in program.said()


def test_a_proxy_url_with_credentials_inside(make_program, tunnel):
    all_through(make_program(https_proxy=tunnel.url.replace("//", f"//svc:{SECRET}@")), tunnel)


def test_a_proxy_of_the_environment(make_program, open_tunnel):
    all_through(make_program(), open_tunnel, HTTPS_PROXY=open_tunnel.url)


def test_no_proxy_of_the_environment(make_program, open_tunnel):
    program = make_program()
    environ = {"HTTPS_PROXY": open_tunnel.url, "NO_PROXY": "127.0.0.1"}
    assert program.command("login", **environ).returncode == 0
    program.start(**environ)
    submit(program)
    delivered(program)
    assert open_tunnel.connects == []


def test_a_wrong_proxy_password(make_program, tunnel):
    wrong = "N0t-the-secret"
    program = make_program().sign_in()
    program.configure(https_proxy={"url": tunnel.url, "user": "svc", "password": wrong})
    done = program.command("login")
    assert done.returncode == 69 and "407" in done.stderr and "https_proxy" in done.stderr
    program.start()
    submit(program)
    wait_until(lambda: "sending is paused" in program.said(), what="the pause")
    program.stop()
    said = program.said()
    assert "user or password is missing or wrong (407). Check https_proxy." in said
    assert wrong not in said + done.stderr + done.stdout and "Traceback" not in said + done.stderr
    assert program.queue() == [("new", "")] and program.sandbox.tenant.delivered == []
    program.configure(https_proxy={"url": tunnel.url, "user": "svc", "password": SECRET})
    program.start()
    delivered(program)


def test_a_proxy_that_is_down_comes_back(make_program, open_tunnel):
    program = make_program(https_proxy=open_tunnel.url).sign_in()
    open_tunnel.mode = "503 Service Unavailable"
    program.start()
    submit(program)
    wait_until(lambda: "The proxy refuses connections" in program.said(), what="the sentence")
    wait_until(lambda: program.queue() == [("new", "")])
    open_tunnel.mode = "pass"
    delivered(program)


@pytest.mark.parametrize("name", ["REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"])
def test_trust_from_the_environment(make_program, name):
    program = make_program()
    del program.settings["ca_file"]
    program.configure()
    environ = {name: program.sandbox.ca_file}
    assert program.command("login", **environ).returncode == 0
    program.start(**environ)
    submit(program)
    delivered(program)


def test_a_certificate_that_is_not_trusted(make_program):
    program = make_program().sign_in()
    program.configure(ca_file=str(program.certificate))  # a good file, but not of who signed
    done = program.command("login")
    assert done.returncode == 69 and "not trusted" in done.stderr and "ca_file" in done.stderr
    program.start()
    submit(program)
    wait_until(lambda: "sending is paused" in program.said(), what="the pause")
    assert "is not trusted" in program.said() and "set ca_file" in program.said()
    program.stop()
    assert program.queue() == [("new", "")] and program.sandbox.tenant.delivered == []
    program.configure(ca_file=program.sandbox.ca_file)
    program.start()
    delivered(program)


def test_a_ca_file_that_is_not_there(make_program):
    program = make_program(ca_file="nowhere.pem")
    done = program.command("run")
    assert done.returncode == 78 and "ca_file" in done.stderr and "nowhere.pem" in done.stderr
