import base64
import hashlib

import pytest

from m365proxy.web import response

DATE = "Sun, 29 Nov 2026 17:00:00 GMT"


def header(found, close=False):
    lines = found.head(DATE, close).decode("ascii").split("\r\n")
    assert lines[-2:] == ["", ""]
    return lines[0], dict(line.split(": ", 1) for line in lines[1:-2])


@pytest.mark.parametrize(
    "found", [response.text(200, ["ok"]), response.html(b"<p>", "p { margin: 0 }"), response.refusal(404)]
)
def test_every_response_has_the_headers_that_protect_its_reader(found):
    _, fields = header(found)
    policy = fields.pop("Content-Security-Policy").split("; ")
    assert policy[:4] == ["default-src 'none'", "base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'"]
    assert "unsafe" not in str(policy)
    assert fields.pop("Content-Type") == found.media_type
    assert fields == {
        "Date": DATE,
        "Content-Length": str(len(found.body)),
        "Cache-Control": "no-store",
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
    }


def test_the_policy_allows_one_style():
    style = "p { content: 'ä' }"
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    _, fields = header(response.html(b"", style))
    assert fields["Content-Security-Policy"].endswith(f"; style-src 'sha256-{digest}'")


def test_a_refusal_says_why_in_words():
    found = response.refusal(405, ("Allow", "GET, HEAD"))
    line, fields = header(found, close=True)
    assert line == "HTTP/1.1 405 Method Not Allowed"
    assert (fields["Allow"], fields["Connection"]) == ("GET, HEAD", "close")
    assert found.body == b"Method Not Allowed\n"
    assert response.refusal(403, why="Not for you.").body == b"Not for you.\n"
