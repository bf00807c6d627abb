"""What is behind which path."""

import pathlib

import pytest
from cases import each
from web_harness import StandInMonitor, guard

from m365proxy.errors import Temporary
from m365proxy.server import tls
from m365proxy.system import ownprocess
from m365proxy.web.site import PAGES, Request, Site
from m365proxy.web.source import Source

REQUEST = Request("127.0.0.1", "GET", "/livez", ("localhost",), "HTTP/1.1", "")


def respond(monitor=None, site=None, **changes):
    return (site or Site(Source(monitor or StandInMonitor()), guard())).respond(REQUEST._replace(**changes))


@each("path", PAGES)
def test_every_page_is_shown(path):
    assert respond(path=path).status == 200


@each("method", ["POST", "DELETE", "OPTIONS", "get", ""])
def test_a_method_that_is_not_for_reading(method):
    found = respond(method=method)
    assert (found.status, found.headers) == (405, (("Allow", "GET, HEAD"),))


@each("path", ["/none", "livez", "/livez/", "/../livez", "*", ""])
def test_there_is_nothing_else(path):
    assert respond(path=path).status == 404


@pytest.mark.parametrize(
    "error, said",
    [
        (
            OSError(5, "Input/output error", "/secret/place"),
            b"The state of things cannot be found out: Input/output error. Check the disk of state_dir",
        ),
        (Temporary("The disk is slow."), b"The disk is slow.\n"),
    ],
)
def test_what_cannot_be_found_out(error, said):
    monitor = StandInMonitor()
    monitor.error = error
    found = respond(monitor, path="/healthz")
    assert found.status == 503
    assert found.body.startswith(said) and b"secret" not in found.body


@each(
    "hosts, version, status",
    [
        (("localhost:8025",), "HTTP/1.1", 200),
        ((), "HTTP/1.0", 200),  # health checks of load balancers
        ((), "HTTP/1.1", 400),
        (("localhost", "localhost"), "HTTP/1.1", 400),
        (("localhost", "localhost"), "HTTP/1.0", 400),
        (("rebound.example.org",), "HTTP/1.1", 421),
        (("rebound.example.org",), "HTTP/1.0", 421),
    ],
)
@each("path", ["/livez", "/"])
def test_the_name_it_is_asked_by(hosts, version, status, path):
    assert respond(hosts=hosts, version=version, path=path).status == status


def test_a_refused_name_is_logged_once_for_each_client_and_not_sent_back(caplog):
    caplog.set_level("INFO", "m365proxy.web")
    site = Site(Source(StandInMonitor()), guard())
    for peer in ("192.0.2.1", "192.0.2.1", "192.0.2.2"):
        found = respond(site=site, peer=peer, hosts=("<b>.example.org\x1b",))
        assert b"example" not in found.body
    assert [record.getMessage() for record in caplog.records] == [
        f'refused {peer}, who asks for "<b>.example.org\\\\x1b": see tls.tls_cert'
        for peer in ("192.0.2.1", "192.0.2.2")
    ]


def test_of_many_who_are_refused_only_some_are_remembered(caplog, monkeypatch):
    monkeypatch.setattr("m365proxy.web.site._REMEMBERED", 2)
    caplog.set_level("INFO", "m365proxy.web")
    site = Site(Source(StandInMonitor()), guard())
    for peer in "abcba":
        respond(site=site, peer=peer, hosts=("rebound.example.org",))
    assert [record.getMessage().split(",")[0][-1] for record in caplog.records] == ["a", "b", "c", "a"]


def test_names_in_the_certificate_are_read_again_after_it_was_changed(certificate, tmp_path, monkeypatch):
    monkeypatch.setattr(ownprocess, "is_possible", lambda: False)
    site = Site(Source(StandInMonitor()), guard())
    paths = [tmp_path / "one.pem", tmp_path / "two.pem", tmp_path / "none.pem"]
    for path, name in zip(paths, ("relay.contoso.com", "gateway.contoso.com")):
        path.write_bytes(tls.self_signed([name], pathlib.Path(certificate[1]).read_bytes())[0])
    found = []
    for path in paths:
        site.set_access(str(path), None)
        found.append(respond(site=site, hosts=("gateway.contoso.com",)).status)
    assert found == [421, 200, 421]


def test_with_a_password_only_what_is_for_orchestrators_is_open():
    site = Site(Source(StandInMonitor()), guard())
    site.set_access("", "a drawer full")
    assert {path for path in PAGES if respond(site=site, path=path).status == 200} == {"/livez", "/readyz"}
    assert respond(site=site, path="/none").status == 404
    assert respond(site=site, path="/", authorization="Basic YWRtaW46YSBkcmF3ZXIgZnVsbA==").status == 200
