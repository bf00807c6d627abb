"""What is behind which path."""

import pytest
from web_harness import StandInMonitor

from m365proxy.errors import Temporary
from m365proxy.web.site import PAGES, Request, Site
from m365proxy.web.source import Source

REQUEST = Request("127.0.0.1", "GET", "/livez", ("localhost",), "HTTP/1.1", "")


def respond(monitor=None, **changes):
    return Site(Source(monitor or StandInMonitor())).respond(REQUEST._replace(**changes))


@pytest.mark.parametrize("path", PAGES)
def test_every_page_is_shown(path):
    assert respond(path=path).status == 200


@pytest.mark.parametrize("method", ["POST", "DELETE", "OPTIONS", "get", ""])
def test_a_method_that_is_not_for_reading(method):
    found = respond(method=method)
    assert (found.status, found.headers) == (405, (("Allow", "GET, HEAD"),))


@pytest.mark.parametrize("path", ["/none", "livez", "/livez/", "/../livez", "*", ""])
def test_there_is_nothing_else(path):
    assert respond(path=path).status == 404


@pytest.mark.parametrize(
    "error, said",
    [
        (OSError(5, "Input/output error", "/secret/place"), b"The state of things cannot be found out: Input/output"),
        (Temporary("The disk is slow."), b"The disk is slow.\n"),
    ],
)
def test_what_cannot_be_found_out(error, said):
    monitor = StandInMonitor()
    monitor.error = error
    found = respond(monitor, path="/healthz")
    assert found.status == 503
    assert found.body.startswith(said) and b"secret" not in found.body
