"""The way to Microsoft, step by step: the first step that fails is named, and what comes after it is skipped."""

import socket
import socketserver
import ssl
import struct
import threading
import time

import pytest
from program import Program
from tunnel import Tunnel

from m365proxy.admin.check import network, runner
from m365proxy.admin.check.result import Group
from m365proxy.admin.check.subject import Subject, Way
from m365proxy.admin.terminal import Mark
from m365proxy.config import load as configuration

STEPS = ["dns", "tcp", "proxy", "tls", "graph", "clock"]


@pytest.fixture(scope="module")
def installation(tmp_path_factory):
    made = Program(tmp_path_factory.mktemp("network")).sign_in()
    yield made
    made.close()


@pytest.fixture
def program(installation):
    """One for all tests, as it was at first."""
    settings = dict(installation.settings)
    yield installation
    installation.settings = settings
    installation.sandbox.online()
    installation.sandbox.faults.clear()
    installation.sandbox.tenant.clock = time.time


def lines(program, **settings):
    """The lines of the network, and whether the mailboxes were looked at."""
    program.configure(**settings)
    found = list(runner.run(Subject(configuration.load(str(program.config), {}))))
    network_lines = [line for group, line in found if group is Group.MICROSOFT and line.name in STEPS]
    mailboxes = [line.mark for group, line in found if group is Group.MAILBOXES]
    return network_lines, Mark.SKIPPED not in mailboxes


def marks(found):
    return {line.name: line.mark for line in found}


def failed(found, step):
    """The line of the only step that is wrong; what comes after it is skipped because of it."""
    after = STEPS[STEPS.index(step) + 1 :]
    (line,) = [line for line in found if line.mark is Mark.WRONG]
    assert line.name == step and line.remedy
    assert [one.name for one in found if one.mark is Mark.SKIPPED] == after
    assert {one.sentence for one in found if one.mark is Mark.SKIPPED} <= {f"skipped, because {step} failed"}
    return line


def test_all_is_well(program):
    found, reached = lines(program)
    assert reached and marks(found) == dict.fromkeys(["dns", "tcp", "tls", "graph", "clock"], Mark.OK)
    said = {line.name: line.sentence for line in found}
    assert f"127.0.0.1 port {program.sandbox.port} answers" in said["tcp"]
    assert 'certificate by "m365proxy stand-in tenant"' in said["tls"]


@pytest.mark.parametrize(
    "error, words",
    [
        (socket.gaierror(socket.EAI_AGAIN, "again"), "no name server answers"),
        (socket.gaierror(socket.EAI_NONAME, "unknown"), "unknown to the name server"),
        (UnicodeError("label too long"), "unknown to the name server"),
        (None, "says 0.0.0.0, as a filter does"),
    ],
)
def test_a_name_that_is_not_resolved(program, monkeypatch, error, words):
    def resolve(name, *_rest, **_more):
        assert name == "graph.contoso.com"  # an address is not asked for
        if error:
            raise error
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("0.0.0.0", 443))]

    monkeypatch.setattr(network.socket, "getaddrinfo", resolve)
    found, reached = lines(program, graph_url="https://graph.contoso.com")
    line = failed(found, "dns")
    assert words in line.sentence and line.exit_status == 69 and not reached


def test_names_that_fail_for_one_reason_are_one_line(program, monkeypatch):
    def resolve(name, *_rest, **_more):
        raise socket.gaierror(socket.EAI_AGAIN, "again")

    monkeypatch.setattr(network.socket, "getaddrinfo", resolve)
    urls = {"graph_url": "https://graph.contoso.com", "authority_url": "https://login.contoso.com"}
    line = failed(lines(program, **urls)[0], "dns")
    assert line.sentence.startswith("The names login.contoso.com and graph.contoso.com cannot be resolved: no name")


def test_a_closed_port(program):
    program.sandbox.offline()
    found, reached = lines(program)
    line = failed(found, "tcp")
    assert f"127.0.0.1 port {program.sandbox.port}: connection refused" in line.sentence and not reached
    assert f"TCP {program.sandbox.port}" in line.remedy and line.exit_status == 69


def test_no_answer_to_a_connection(monkeypatch, program):
    def connect(*_rest):
        raise socket.timeout("timed out")

    monkeypatch.setattr(network.socket, "create_connection", connect)
    assert "no answer in time" in failed(lines(program)[0], "tcp").sentence


def test_an_address_that_is_tried_first_and_does_not_answer(monkeypatch, program):
    """As IPv6 where only the network's router has it."""
    real, resolve = socket.create_connection, socket.getaddrinfo

    def connect(place, *rest):
        if place[0] == "2001:db8::7":
            raise socket.timeout("timed out")
        return real(place, *rest)

    def both(name, *rest, **more):
        found = resolve(name, *rest, **more)
        if not more:  # create_connection asks for the address that it was given
            return found
        return [(socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("2001:db8::7", 443, 0, 0)), *found]

    monkeypatch.setattr(network.socket, "create_connection", connect)
    monkeypatch.setattr(network.socket, "getaddrinfo", both)
    program.configure()
    (line,) = network.tcp(Subject(configuration.load(str(program.config), {})))
    assert line.mark is Mark.ATTENTION and "answers at 127.0.0.1, but not at 2001:db8::7" in line.sentence


def test_a_firewall_that_looks_into_tls_is_named(program):
    found, reached = lines(program, ca_file="cert.pem")
    line = failed(found, "tls")
    assert 'is by "m365proxy stand-in tenant", which this machine does not trust' in line.sentence
    assert "ca_file" in line.remedy and line.exit_status == 69 and not reached


def test_somebody_else_answers(program, monkeypatch):
    """With a certificate that is trusted, but for another name."""
    resolve = socket.getaddrinfo
    monkeypatch.setattr(network.socket, "getaddrinfo", lambda name, *rest, **more: resolve("127.0.0.1", *rest, **more))
    line = failed(lines(program, graph_url=f"https://graph.contoso.com:{program.sandbox.port}")[0], "tls")
    assert 'answers as graph.contoso.com has a certificate for another name, by "m365proxy stand-in' in line.sentence


class _Resetting(socketserver.BaseRequestHandler):
    """Resets the connection when TLS begins."""

    def handle(self):
        self.request.recv(1)
        self.request.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.request.close()


def test_a_connection_that_is_reset(program):
    with socketserver.TCPServer(("127.0.0.1", 0), _Resetting) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        url = f"https://127.0.0.1:{server.server_address[1]}"
        line = failed(lines(program, authority_url=url, graph_url=url)[0], "tls")
        server.shutdown()
    assert "closed before" in line.sentence


@pytest.mark.parametrize(
    "reason, words, remedy",
    [
        ("certificate is not yet valid", "is not yet valid: it is good from 1970-01-02 to 2049-", network.set_clock()),
        ("certificate has expired", "has expired: it is good from", network.set_clock()),
        (
            "Hostname mismatch, certificate is not valid for 'x'.",
            "a certificate for another name, by",
            "captive portal",
        ),
        ("IP address mismatch, certificate is not valid for 'x'.", "for another name, by", "captive portal"),
        ("self-signed certificate", '"m365proxy stand-in tenant", which this machine does not trust', "ca_file"),
    ],
)
def test_why_a_certificate_is_refused(program, reason, words, remedy):
    error = ssl.SSLCertVerificationError(1, "certificate verify failed")
    error.verify_message = reason
    line = network._untrusted(Way("127.0.0.1", program.sandbox.port, ""), error)
    assert words in line.sentence and remedy in line.remedy


def test_a_captive_portal(program):
    program.sandbox.faults.add("portal", path=r"^/v1\.0/$")
    found, reached = lines(program)
    line = failed(found, "graph")
    assert "Another system answers" in line.sentence and not reached and line.exit_status == 69


@pytest.mark.parametrize(
    "offset, mark, words, status",
    [
        (-1000, Mark.WRONG, "s ahead of Microsoft's", 78),
        (400, Mark.WRONG, "s behind Microsoft's", 78),
        (100, Mark.ATTENTION, "s behind Microsoft's", 0),
        (5, Mark.OK, "agrees", 0),
    ],
)
def test_the_clock_by_graphs_date(program, offset, mark, words, status):
    program.sandbox.tenant.clock = lambda: time.time() + offset
    found, _ = lines(program)
    (line,) = [line for line in found if line.name == "clock"]
    assert (line.mark, line.exit_status) == (mark, status) and words in line.sentence
    assert bool(line.remedy) == (mark is not Mark.OK)


def test_a_proxy_on_the_way(program):
    with Tunnel("m365proxy", "s:cret") as tunnel:
        url = tunnel.url.replace("//", "//m365proxy:s%3Acret@")
        found, reached = lines(program, https_proxy=url)
    assert reached and marks(found) == dict.fromkeys(STEPS, Mark.OK)
    said = {line.name: line.sentence for line in found}
    assert f"the proxy 127.0.0.1 port {tunnel.port} answers" in said["tcp"]
    assert "cret" not in str(found)


@pytest.mark.parametrize(
    "mode, words, remedy",
    [
        ("403 Forbidden", "refuses connections to 127.0.0.1 (status 403)", "allow HTTPS"),
        ("407 Proxy Authentication Required", "user or password is missing or wrong (407)", "https_proxy"),
        ("close", "The connection to the proxy 127.0.0.1 was closed before", "https_proxy"),
        ("garbage", "is not HTTP: it is no proxy", "https_proxy"),
    ],
)
def test_a_proxy_that_refuses(program, mode, words, remedy):
    with Tunnel() as tunnel:
        tunnel.mode = mode
        line = failed(lines(program, https_proxy=tunnel.url)[0], "proxy")
    assert words in line.sentence and remedy in line.remedy and line.exit_status == 69


def test_a_proxy_that_is_spoken_to_by_tls_is_left_to_the_real_request(program, monkeypatch):
    class Connected:
        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

    monkeypatch.setattr(network.socket, "create_connection", lambda *_: Connected())
    program.configure(https_proxy="https://127.0.0.1:1")
    subject = Subject(configuration.load(str(program.config), {}))
    assert next(network.tcp(subject)).mark is Mark.OK
    assert next(network.proxy(subject)).mark is Mark.INFO
    assert next(network.tls(subject)).mark is Mark.SKIPPED
