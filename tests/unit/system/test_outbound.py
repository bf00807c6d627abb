"""Sessions to the outside: which way they go, whom they trust, and what their errors say."""

from __future__ import annotations

import base64
import contextlib
import datetime
import ipaddress
import re
import shutil
import socket
import ssl
import subprocess
import sys
import threading

import pytest

from m365proxy.errors import ConfigError, Temporary
from m365proxy.system.outbound import Outbound, plain

# http.client of Python 3.9 leaves a failed CONNECT's answer to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

# As config makes it of a URL, a user and a password.
PASSWORD, CREDENTIALS = "p@ss:w/rd%", "svc:p%40ss%3Aw%2Frd%25"

# Whatever the machine's own environment says must not decide a test.
CLEAN = {}


@pytest.fixture(autouse=True)
def no_proxy_in_the_environment(monkeypatch):
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A self-signed certificate for graph.test, localhost and 127.0.0.1: (path of both, of the certificate)."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "graph.test")])
    now = datetime.datetime(2020, 1, 1)
    names = [x509.DNSName("graph.test"), x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + datetime.timedelta(days=36500))
        .add_extension(x509.SubjectAlternativeName(names), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .sign(key, hashes.SHA256())
    ).public_bytes(serialization.Encoding.PEM)
    pem_key = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    directory = tmp_path_factory.mktemp("tls")
    (directory / "both.pem").write_bytes(made + pem_key)
    (directory / "ca.pem").write_bytes(made)
    return str(directory / "both.pem"), str(directory / "ca.pem")


class Server:
    """Accepts on loopback and hands each connection to `serve` in a thread of its own."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.connections = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                self.connections += 1
                threading.Thread(target=self._guarded, args=(client,), daemon=True).start()

    def _guarded(self, client):
        with contextlib.suppress(OSError), client:
            self.serve(client)

    def serve(self, client):
        raise NotImplementedError

    def close(self):
        self.listener.close()


def read_head(sock):
    data = b""
    while b"\r\n\r\n" not in data:
        piece = sock.recv(4096)
        if not piece:
            break
        data += piece
    return data.decode("latin-1")


class Web(Server):
    """Reads one request, keeps its head, answers with the same octets each time.

    The usual answer says that the connection ends with it: a client that keeps it may not have seen the end yet when it
    sends the next request.
    """

    def __init__(self, answer=b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok", certificate=None):
        self.answer = answer
        self.heads = []
        self.context = None
        if certificate:
            self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.context.load_cert_chain(certificate)
        super().__init__()

    def serve(self, client):
        with self.context.wrap_socket(client, server_side=True) if self.context else client as stream:
            self.heads.append(read_head(stream))
            stream.sendall(self.answer)


class Blunt(Server):
    """Speaks plain HTTP where TLS is due."""

    def serve(self, client):
        client.recv(65536)
        client.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")


class Proxy(Server):
    """A CONNECT proxy that leads every name to one port, if the credentials are right."""

    def __init__(self, target_port, user="", password="", refusal=""):
        self.target_port = target_port
        self.expected = "Basic " + base64.b64encode(f"{user}:{password}".encode("latin-1")).decode() if user else ""
        self.refusal = refusal
        self.asked = []
        super().__init__()

    def serve(self, client):
        head = read_head(client)
        self.asked.append(head.split("\r\n")[0])
        status = self.refusal
        if self.expected and f"proxy-authorization: {self.expected}".lower() not in head.lower():
            status = "407 Proxy Authentication Required"
        if status:
            client.sendall(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n".encode())
            return
        with socket.create_connection(("127.0.0.1", self.target_port)) as upstream:
            client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            back = threading.Thread(target=pump, args=(upstream, client), daemon=True)
            back.start()
            pump(client, upstream)
            back.join(10)


def pump(source, sink):
    with contextlib.suppress(OSError):
        while True:
            data = source.recv(65536)
            if not data:
                break
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)


@pytest.fixture
def serve():
    servers = []

    def start(kind, *args, **more):
        servers.append(kind(*args, **more))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def get(outbound, url, headers=None):
    with outbound.session() as session:
        return request_by(session, url, headers or {})


def usual(session, url, headers):
    return session.get(url, timeout=(5, 5), allow_redirects=False, headers=headers)


def exchange(session, url, headers):
    response = session.exchange("GET", url, headers, None, (5, 5))
    assert response.content is not None  # read while the session is open
    return response


request_by = usual


@pytest.fixture(params=[usual, exchange])
def each_way(request, monkeypatch):
    """Requests as others make them, and as the Graph client does."""
    monkeypatch.setattr(sys.modules[__name__], "request_by", request.param)


def failure(outbound, url, **more):
    """The sentence for a request that must fail."""
    with pytest.raises(OSError) as caught:
        get(outbound, url, **more)
    return plain(caught.value)


class Closed:
    """A port that is held, so that nobody else gets it, and where nobody listens."""

    def __init__(self):
        self.socket = socket.socket()
        self.socket.bind(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]

    def close(self):
        self.socket.close()


# The way


def test_explicit_proxy_with_credentials(serve, certificate, each_way):
    web = serve(Web, certificate=certificate[0])
    proxy = serve(Proxy, web.port, "svc", PASSWORD)
    out = Outbound(f"http://{CREDENTIALS}@127.0.0.1:{proxy.port}", certificate[1])
    assert get(out, "https://graph.test/v1.0").text == "ok"
    assert [line.rpartition(" ")[0] for line in proxy.asked] == ["CONNECT graph.test:443"]
    assert "proxy-authorization" not in web.heads[0].lower()


def test_explicit_proxy_beats_the_environment(serve, certificate, monkeypatch, each_way):
    web = serve(Web, certificate=certificate[0])
    ours, theirs = serve(Proxy, web.port), serve(Proxy, web.port)
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{theirs.port}")
    monkeypatch.setenv("NO_PROXY", "graph.test")
    assert get(Outbound(f"http://127.0.0.1:{ours.port}", certificate[1]), "https://graph.test/").text == "ok"
    assert (ours.connections, theirs.connections) == (1, 0)


@pytest.mark.parametrize("name", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"])
def test_proxy_of_the_environment(serve, certificate, monkeypatch, name, each_way):
    web = serve(Web, certificate=certificate[0])
    proxy = serve(Proxy, web.port)
    monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
    assert get(Outbound(ca_file=certificate[1]), "https://graph.test/").text == "ok"
    assert proxy.connections == 1


def test_no_proxy_is_asked_for_each_url(serve, certificate, monkeypatch, each_way):
    web = serve(Web, certificate=certificate[0])
    proxy = serve(Proxy, web.port)
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.port}")
    monkeypatch.setenv("NO_PROXY", "localhost,127.0.0.1")
    with Outbound(ca_file=certificate[1]).session() as session:
        for times in (1, 2):
            assert request_by(session, f"https://127.0.0.1:{web.port}/", {}).text == "ok"
            assert proxy.connections == times - 1
            assert request_by(session, "https://graph.test/", {}).text == "ok"
            assert proxy.connections == times


def test_direct_ignores_the_environment(serve, certificate, monkeypatch, each_way):
    web = serve(Web, certificate=certificate[0])
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{serve(Closed).port}")
    assert get(Outbound(ca_file=certificate[1], direct=True), f"https://127.0.0.1:{web.port}/").text == "ok"


@pytest.mark.parametrize("proxied", [False, True])
def test_netrc_is_never_used(serve, tmp_path, monkeypatch, proxied, each_way):
    web = serve(Web)
    (tmp_path / ".netrc").write_text("default login trap password trap\n")
    (tmp_path / ".netrc").chmod(0o600)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    out = Outbound(f"http://127.0.0.1:{web.port}" if proxied else None)
    get(out, f"http://127.0.0.1:{web.port}/", headers={"Authorization": "Bearer ours"})
    assert "Authorization: Bearer ours\r\n" in web.heads[0]
    get(out, f"http://127.0.0.1:{web.port}/")
    assert "authorization" not in web.heads[1].lower()


def test_user_agent(serve, each_way):
    from m365proxy import __version__

    web = serve(Web)
    get(Outbound(), f"http://127.0.0.1:{web.port}/")
    get(Outbound(user_agent="other/1"), f"http://127.0.0.1:{web.port}/")
    assert f"User-Agent: m365proxy/{__version__}\r\n" in web.heads[0]
    assert "User-Agent: other/1\r\n" in web.heads[1]


def test_nothing_is_tried_twice(serve, each_way):
    web = serve(Web, b"")
    assert "closed before the answer" in failure(Outbound(), f"http://127.0.0.1:{web.port}/")
    assert web.connections == 1


class Octets:
    """A body."""

    def __init__(self, data):
        self.data = data

    def __len__(self):
        return len(self.data)

    def read(self, size=-1):
        data, self.data = self.data, b""
        return data


def test_an_exchange_is_sent_as_it_is_and_keeps_no_cookies(serve):
    web = serve(Web, b"HTTP/1.1 200 OK\r\nSet-Cookie: a=b\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
    with Outbound().session() as session:
        for body in (None, Octets(b"four"), Octets(b"")):
            url = f"http://127.0.0.1:{web.port}/v1.0/m%2Fx?$filter=a%20eq%20'b'"
            session.exchange("POST", url, {"X-One": "1", "User-Agent": "other"}, body, (5, 5)).close()
    lengths = [re.findall("content-length: ([0-9]+)", head.lower()) for head in web.heads]
    assert lengths[1:] == [["4"], ["0"]]
    for head in web.heads:
        assert head.startswith("POST /v1.0/m%2Fx?$filter=a%20eq%20'b' HTTP/1.1\r\n")
        assert "X-One: 1\r\n" in head and "User-Agent: other\r\n" in head and "Accept-Encoding: gzip" in head
        assert not any(word in head.lower() for word in ("cookie", "transfer-encoding"))


@pytest.mark.parametrize(
    "given, sent",
    [
        ("/a b?c=d e", "/a%20b?c=d%20e"),
        ("/caf\u00e9", "/caf%C3%A9"),
        ("/a/../b#c", "/b"),
        ("", "/"),
        ("/%zz", "/%25zz"),
    ],
)
def test_an_exchange_repairs_an_odd_url_as_every_request_does(serve, certificate, each_way, given, sent):
    web = serve(Web, certificate=certificate[0])
    assert get(Outbound(ca_file=certificate[1]), f"https://127.0.0.1:{web.port}{given}").text == "ok"
    assert web.heads[0].startswith(f"GET {sent} HTTP/1.1\r\n")


# Trust


@pytest.mark.parametrize("name", ["REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"])
def test_trust_from_the_environment(serve, certificate, name, each_way):
    web = serve(Web, certificate=certificate[0])
    url = f"https://127.0.0.1:{web.port}/"
    assert get(Outbound(environ={name: certificate[1]}), url).text == "ok"
    assert "not trusted" in failure(Outbound(environ=CLEAN), url)


def test_the_systems_certificates_are_preferred_to_the_libraries(serve, certificate, tmp_path, monkeypatch):
    import certifi

    web = serve(Web, certificate=certificate[0])
    url = f"https://127.0.0.1:{web.port}/"
    monkeypatch.setattr("m365proxy.system.outbound._SYSTEM_STORES", (str(tmp_path / "none"), certificate[1], "unused"))
    assert get(Outbound(environ=CLEAN), url).text == "ok"
    assert "not trusted" in failure(Outbound(environ={"SSL_CERT_FILE": certifi.where()}), url)
    monkeypatch.setattr("m365proxy.system.outbound._SYSTEM_STORES", (str(tmp_path / "none"),))
    assert Outbound(environ=CLEAN).session().verify is True


def test_ca_file_beats_the_environment(serve, certificate, monkeypatch):
    import certifi

    web = serve(Web, certificate=certificate[0])
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", certifi.where())
    assert get(Outbound(ca_file=certificate[1]), f"https://127.0.0.1:{web.port}/").text == "ok"


def test_requests_ca_bundle_comes_before_ssl_cert_file(serve, certificate):
    import certifi

    web = serve(Web, certificate=certificate[0])
    out = Outbound(environ={"REQUESTS_CA_BUNDLE": certificate[1], "SSL_CERT_FILE": certifi.where()})
    assert get(out, f"https://127.0.0.1:{web.port}/").text == "ok"


def test_ca_directory_is_allowed(tmp_path):
    Outbound(ca_file=str(tmp_path))


@pytest.mark.parametrize("origin", ["ca_file", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"])
@pytest.mark.parametrize(
    "content, word", [(None, "cannot be read: No such file"), (b"junk", "no certificate"), (b"", "no certificate")]
)
def test_unusable_ca_file(tmp_path, origin, content, word):
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=word) as caught:
        if origin == "ca_file":
            Outbound(ca_file=str(path), environ=CLEAN)
        else:
            Outbound(environ={origin: str(path)})
    assert str(caught.value).startswith(f"{origin}: {path} ")


# What the errors say


def test_sentences_of_the_way(serve, certificate, each_way):
    out = Outbound(environ=CLEAN)
    url = "http://127.0.0.1:%d/secret?token=S3cret"
    tls = serve(Web, certificate=certificate[0])
    cases = [
        (f"http://127.0.0.1:{serve(Closed).port}/", "No connection to 127.0.0.1: Connection refused."),
        (url % serve(Web, b"").port, "The connection to 127.0.0.1 was closed before"),
        (url % serve(Web, b"hello\r\n\r\n").port, "What 127.0.0.1 answered is not HTTP."),
        (f"https://127.0.0.1:{serve(Blunt).port}/", "TLS with 127.0.0.1 failed (wrong version number)."),
        (f"https://127.0.0.1:{tls.port}/", "The certificate of 127.0.0.1 is not trusted (self"),
    ]
    for address, sentence in cases:
        said = failure(out, address)
        assert said.startswith(sentence), said
        assert "S3cret" not in said and "secret" not in said


@pytest.mark.parametrize(
    "proxy, sentence",
    [
        (None, "The name of graph.test cannot be resolved."),
        ("http://svc:S3cret@proxy.test:1", "The name of the proxy (on the way to graph.test) cannot be resolved."),
    ],
)
def test_name_that_cannot_be_resolved(monkeypatch, proxy, sentence):
    def unknown(*_args, **_more):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    said = failure(Outbound(proxy, environ=CLEAN), "https://graph.test/?token=S3cret")
    assert said.startswith(sentence) and "S3cret" not in said


def test_connection_timeout():
    from requests import Request
    from requests.exceptions import ConnectTimeout

    error = ConnectTimeout(request=Request("GET", "https://graph.test/?token=S3cret").prepare())
    assert plain(error) == "No connection to graph.test in time. Does a firewall let TCP 443 out?"


def test_wrong_host_name_in_the_certificate(serve, certificate):
    web = serve(Web, certificate=certificate[0])
    proxy = serve(Proxy, web.port)
    out = Outbound(f"http://127.0.0.1:{proxy.port}", certificate[1])
    assert failure(out, "https://other.test/").startswith("The certificate of other.test is not trusted (")


@pytest.mark.parametrize(
    "reason, advice",
    [
        ("certificate is not yet valid", "clock"),
        ("certificate has expired", "clock"),
        ("unable to get local issuer certificate", "ca_file"),
    ],
)
def test_advice_on_certificates(reason, advice):
    error = ssl.SSLCertVerificationError(1, "failed")
    error.verify_message = reason
    assert advice in plain(error)


def test_timeouts(serve):
    class Silent(Server):
        def serve(self, client):
            client.recv(65536)
            client.recv(1)

    server = serve(Silent)
    with Outbound().session() as session, pytest.raises(OSError) as caught:
        session.get(f"http://127.0.0.1:{server.port}/", timeout=(5, 0.05))
    assert plain(caught.value).startswith("No answer from 127.0.0.1 in time.")


@pytest.mark.parametrize("proxied", [False, True])
def test_a_session_interrupted_while_it_connects_asks_for_nothing(serve, certificate, proxied):
    begun, interrupted, asked = threading.Event(), threading.Event(), []

    class Slow(Web):
        def serve(self, client):
            begun.set()
            assert interrupted.wait(10)
            with self.context.wrap_socket(client, server_side=True) as stream:
                asked.append(read_head(stream))
                stream.recv(1)  # silent until the other side has gone

    web = serve(Slow, certificate=certificate[0])
    proxy = f"http://127.0.0.1:{serve(Proxy, web.port).port}" if proxied else None
    failed = []

    def fetch(session):
        try:
            session.get(f"https://localhost:{web.port}/", timeout=(5, 20))
        except OSError as error:
            failed.append(error)

    with Outbound(proxy, certificate[1], environ=CLEAN).session() as session:
        thread = threading.Thread(target=fetch, args=(session,), daemon=True)
        thread.start()
        assert begun.wait(10)
        session.interrupt()
        interrupted.set()
        thread.join(5)
        assert not thread.is_alive() and len(failed) == 1
    assert asked in ([], [""])


@pytest.mark.parametrize("proxied", [False, True])
def test_a_request_is_checked_when_its_connection_is_ready(serve, certificate, proxied):
    class TooLate(Exception):
        pass

    web = serve(Web, certificate=certificate[0])
    proxy = f"http://127.0.0.1:{serve(Proxy, web.port).port}" if proxied else None
    checked = []

    def asked():
        return len([head for head in web.heads if head])

    def check():
        checked.append(asked())
        if len(checked) == 2:
            raise TooLate

    with Outbound(proxy, certificate[1], environ=CLEAN).session() as session:
        session.before_each(check)
        assert session.get(f"https://localhost:{web.port}/", timeout=(5, 5)).ok
        with pytest.raises(TooLate):
            session.get(f"https://localhost:{web.port}/", timeout=(5, 5))
        assert session.get(f"https://localhost:{web.port}/", timeout=(5, 5)).ok
    assert checked == [0, 1, 1] and asked() == 2


@pytest.mark.parametrize("length", [b"Content-Length: 10", b"Transfer-Encoding: chunked"])
def test_a_body_cut_short_is_an_error(serve, length, each_way):
    web = serve(Web, b"HTTP/1.1 200 OK\r\n" + length + b"\r\n\r\nA\r\nabc")
    url = f"http://127.0.0.1:{web.port}/"
    assert "closed before the answer was complete" in failure(Outbound(), url)
    with Outbound().session() as session, pytest.raises(OSError):
        b"".join(session.get(url, timeout=5, stream=True).iter_content(4))


@pytest.mark.parametrize(
    "make, sentence",
    [
        (lambda serve: serve(Proxy, 0, "svc", "other").port, "The proxy refuses connections to graph.test: user or"),
        (
            lambda serve: serve(Proxy, 0, refusal="403 No").port,
            "The proxy refuses connections to graph.test (status 403).",
        ),
        (
            lambda serve: serve(Closed).port,
            "No connection to the proxy (on the way to graph.test): Connection refused.",
        ),
        (lambda serve: serve(Web, b"").port, "The connection to "),
    ],
)
def test_sentences_of_the_proxy(serve, make, sentence, each_way):
    out = Outbound(f"http://svc:S3cret@127.0.0.1:{make(serve)}", environ=CLEAN)
    said = failure(out, "https://graph.test/x?token=S3cret")
    assert said.startswith(sentence), said
    assert "S3cret" not in said


@pytest.mark.parametrize(
    "proxy", ["socks5://svc:S3cret@proxy.test:1080", "http:///x", "http://svc:S3cret@proxy.test:port"]
)
def test_unusable_proxy_of_the_environment(monkeypatch, proxy, each_way):
    monkeypatch.setenv("HTTPS_PROXY", proxy)
    said = failure(Outbound(environ=CLEAN), "https://graph.test/")
    assert said == "The proxy's URL cannot be used: check https_proxy, or HTTPS_PROXY in the environment."


def test_ca_file_gone_after_the_start(tmp_path, certificate):
    path = tmp_path / "ca.pem"
    shutil.copy(certificate[1], path)
    out = Outbound(ca_file=str(path))
    path.unlink()
    with pytest.raises(Temporary, match="certificates to trust cannot be read"):
        out.session()


@pytest.mark.parametrize("proxied", [False, True])
def test_the_certificates_are_read_once_for_all_sessions(serve, certificate, monkeypatch, proxied):
    web = serve(Web, certificate=certificate[0])
    proxy = f"http://127.0.0.1:{serve(Proxy, web.port).port}" if proxied else None
    out = Outbound(proxy, certificate[1], direct=not proxied)
    read, load = [], ssl.SSLContext.load_verify_locations

    def counted(context, *args, **more):
        read.append(context)
        return load(context, *args, **more)

    monkeypatch.setattr(ssl.SSLContext, "load_verify_locations", counted)
    for _ in range(3):
        assert get(out, f"https://127.0.0.1:{web.port}/").text == "ok"
    assert len(read) == 1


def test_unknown_errors_are_named_not_quoted():
    assert plain(ValueError("S3cret")) == "No answer from the server (ValueError)."


def test_repr_hides_the_proxy_password():
    out = Outbound("http://svc:S3cret@proxy.test:3128")
    assert "S3cret" not in repr(out) + str(out)


def test_import_is_light():
    heavy = "('requests', 'urllib3', 'msal')"
    code = f"import sys, m365proxy.system.outbound; print([m for m in {heavy} if m in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


URL = "https://graph.microsoft.com"
OPEN, CLOSED = "http://proxy.contoso.com:3128", "http://user:word@proxy.contoso.com:3128"


@pytest.mark.parametrize(
    "given, direct, environ, proxy",
    [
        (None, False, {}, None),
        (CLOSED, False, {}, CLOSED),
        (CLOSED, True, {}, None),
        (CLOSED, False, {"https_proxy": OPEN}, CLOSED),
        (None, False, {"https_proxy": OPEN}, OPEN),
        (None, False, {"https_proxy": "proxy.contoso.com:3128"}, OPEN),
        (None, False, {"https_proxy": OPEN, "no_proxy": "microsoft.com"}, None),
        (None, True, {"https_proxy": OPEN}, None),
    ],
)
def test_the_proxy_on_a_way(monkeypatch, given, direct, environ, proxy):
    for name in ("https_proxy", "HTTPS_PROXY", "no_proxy", "NO_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    assert Outbound(given, direct=direct).proxy_for(URL) == proxy


@pytest.mark.parametrize("value", ["http://proxy:port", "http://[::1", "http://"])
def test_a_proxy_on_a_way_that_cannot_be_used(monkeypatch, value):
    monkeypatch.setenv("https_proxy", value)
    monkeypatch.setenv("no_proxy", "")
    with pytest.raises(Temporary, match="proxy's URL cannot be used"):
        Outbound().proxy_for(URL)


def test_an_error_that_knows_no_host_is_told_it():
    assert plain(socket.timeout(), "graph.microsoft.com") == "No answer from graph.microsoft.com in time."
    assert plain(socket.timeout()) == "No answer from the server in time."
