"""The POST of a notice: what is sent, what counts as taken, and servers that do not answer as they should."""

import json
import os
import socket

import pytest
from receiver import Receiver

from m365proxy.errors import Temporary
from m365proxy.monitoring import webhook
from m365proxy.monitoring.notice import Notice
from m365proxy.system.outbound import Outbound

FINDING = {"key": "held", "sentence": "1 message is held.", "commands": ["m365proxy queue list"], "since": 1.8e9}
NOTICE = Notice((FINDING,))


@pytest.fixture
def receiver():
    made = Receiver()
    yield made
    made.close()


@pytest.fixture
def outbound():
    return Outbound(None, environ={}, direct=True)


@pytest.mark.parametrize("status", [200, 201, 204])
def test_json_is_posted(receiver, outbound, status):
    receiver.status = status
    assert webhook.post(outbound, receiver.url(), NOTICE) == f"taken by 127.0.0.1 ({status})"
    [(line, headers, body)] = receiver.got
    assert line == "POST /mail-gateway" and headers["Content-Type"] == "application/json"
    assert json.loads(body) == json.loads(NOTICE.as_json())
    # ntfy makes its message by these of the JSON
    assert (headers["X-Template"], headers["X-Title"], headers["X-Message"]) == ("yes", "{{.title}}", "{{.message}}")


@pytest.mark.parametrize("notice, status", [(NOTICE, "down"), (Notice((), ((FINDING, 1.8e9),)), "up")])
def test_placeholders_are_filled(receiver, outbound, notice, status):
    webhook.post(outbound, receiver.url("/api/push/abc?status={status}&msg={title}"), notice)
    [(line, _, _)] = receiver.got
    assert line.startswith(f"POST /api/push/abc?status={status}&msg=m365proxy%20on%20")


def test_credentials_in_the_url_become_a_header(receiver, outbound):
    webhook.post(outbound, receiver.url(credentials="gateway:s3cret@"), NOTICE)
    [(line, headers, _)] = receiver.got
    assert headers["Authorization"].startswith("Basic ") and "s3cret" not in line


def test_it_goes_through_the_proxy(receiver):
    webhook.post(Outbound(receiver.url(""), environ={}), "http://ntfy.contoso.com/mail-gateway", NOTICE)
    [(line, _, _)] = receiver.got
    assert line == "POST http://ntfy.contoso.com/mail-gateway"


@pytest.mark.parametrize("status", [301, 307, 400, 401, 404, 429, 500, 503])
def test_what_is_no_2xx_is_not_taken(receiver, outbound, status):
    receiver.status, receiver.headers = status, {"Location": "/elsewhere"}
    with pytest.raises(Temporary, match=f"127.0.0.1 answered {status}") as caught:
        webhook.post(outbound, receiver.url("/t0ken", credentials="gateway:s3cret@"), NOTICE)
    assert len(receiver.got) == 1
    assert "s3cret" not in str(caught.value) and "t0ken" not in str(caught.value)


def test_an_answer_that_drips_is_not_waited_for(receiver, outbound):
    receiver.drips = True
    with pytest.raises(Temporary, match="127.0.0.1 has not answered within"):
        webhook.post(outbound, receiver.url(), NOTICE, seconds=0.3)


def test_a_server_that_hangs_is_not_waited_for(outbound):
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://u:s3cret@127.0.0.1:{server.getsockname()[1]}/t0ken"
        with pytest.raises(Temporary, match="127.0.0.1 (in time|has not answered)|No answer from 127.0.0.1") as caught:
            webhook.post(outbound, url, NOTICE, seconds=0.3)
    assert "s3cret" not in str(caught.value) and "t0ken" not in str(caught.value)


@pytest.mark.skipif(os.name == "nt", reason="Windows takes seconds to refuse")
def test_nobody_is_there(outbound):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(Temporary, match="No connection to 127.0.0.1") as caught:
        webhook.post(outbound, f"http://u:s3cret@127.0.0.1:{port}/t0ken", NOTICE)
    assert "s3cret" not in str(caught.value) and "t0ken" not in str(caught.value)


def test_a_name_that_nobody_knows(outbound):
    with pytest.raises(Temporary, match="no.such.name.invalid"):
        webhook.post(outbound, "https://no.such.name.invalid/t0ken", NOTICE)


def test_a_host_that_is_none(outbound):
    with pytest.raises(Temporary):
        webhook.post(outbound, "http://a..b/t0ken", NOTICE)
