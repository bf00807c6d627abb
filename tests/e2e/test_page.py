"""The page in a browser, and in a text browser."""

import os
import pathlib
import re
import shutil
import signal
import smtplib
import struct
import subprocess
import time
import types
import urllib.request

import browser
import pages
import pytest
from program import ALERTS, COMMAND, PASSWORD, SCANS, wait_until
from web_harness import guard

from m365proxy.web import page as module
from m365proxy.web.statusport import Access, StatusPort
from m365proxy.web.style import STYLE

DOCS = pathlib.Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    return browser.Browser(tmp_path_factory.mktemp("chromium"))


@pytest.fixture
def serve(tmp_path, monkeypatch):
    """serve(page): its address, behind a status port."""
    made = []

    def serve(page):
        report, devices, setting = page
        monkeypatch.setattr(module, "socket", types.SimpleNamespace(gethostname=lambda: setting.host))
        monitor = types.SimpleNamespace(
            report=lambda: report, devices=types.SimpleNamespace(views=lambda: devices), is_alive=lambda: True
        )
        port = StatusPort(monitor, guard(), setting.program)
        made.append(port)
        port.open(["127.0.0.1"], 0, Access())
        port.start()
        return f"http://127.0.0.1:{port.listeners[0].port}/"

    yield serve
    for port in made:
        port.close()


@browser.needed
@pytest.mark.parametrize("make", [pages.well, pages.troubled, pages.huge, pages.hostile])
def test_nothing_in_it_becomes_an_element_and_nothing_is_refused(chromium, serve, tmp_path, make):
    dom, said = chromium.elements(serve(make(tmp_path)))
    assert said == []
    shown = pages.Reader(dom)
    assert set(shown.counts) <= pages.ELEMENTS
    assert {name for name, _ in shown.attributes} <= pages.ATTRIBUTES
    assert "<title>owned" not in dom and shown.counts["title"] == 1


@browser.needed
def test_another_style_or_a_script_would_be_refused(chromium, serve, tmp_path, monkeypatch):
    """So an empty console means something."""
    monkeypatch.setattr(module, "STYLE", STYLE + "\nbody { color: red }")
    address = serve(pages.well(tmp_path))
    monkeypatch.setattr(
        module, "_PAGE", module._PAGE.replace("{style}", "p {{}}").replace("</h1>", "<script>1</script>")
    )
    _, said = chromium.elements(address)
    assert len([line for line in said if "Content Security Policy" in line]) == 2


# Shows pages in frames of a phone's width, with everything unfolded, and writes down what it measures.
FRAME = '<iframe src="{name}" width="360" height="800"></iframe><p></p>'
MEASURES = """<!DOCTYPE html><title>x</title>%s<script>
onload = () => document.querySelectorAll("iframe").forEach(frame => {
  const page = frame.contentDocument;
  page.querySelectorAll("details").forEach(one => one.open = true);
  const widest = Math.max(...[...page.body.querySelectorAll("*")].map(one => one.getBoundingClientRect().right));
  const colour = getComputedStyle(page.body).backgroundColor;
  frame.nextSibling.textContent = [page.documentElement.scrollWidth, Math.ceil(widest), colour].join(" ");
});
</script>"""


def measured(chromium, directory, all_made, *options):
    """Of each page (its width, right edge of what reaches farthest, colour of the background)."""
    names = [f"page-{number}.html" for number in range(len(all_made))]
    for name, made in zip(names, all_made):
        (directory / name).write_text(str(module.render(*made)), "utf-8")
    (directory / "frames.html").write_text(MEASURES % "".join(FRAME.format(name=name) for name in names))
    dom, said = chromium.elements(directory / "frames.html", "--allow-file-access-from-files", *options)
    assert said == []
    found = [measures.split(" ", 2) for measures in re.findall("<p>(.*?)</p>", dom)]
    assert len(found) == len(all_made)
    return [(int(width), int(widest), colour) for width, widest, colour in found]


@browser.needed
def test_on_a_phone_nothing_is_wider_than_the_screen(chromium, tmp_path):
    makers = [pages.well, pages.troubled, pages.huge, pages.hostile]
    found = measured(chromium, tmp_path, [make(tmp_path) for make in makers])
    assert [make for make, (width, widest, _) in zip(makers, found) if width > 360 or widest > 360] == []


@browser.needed
def test_light_and_dark(chromium, tmp_path):
    page = pages.well(tmp_path)
    (light,) = measured(chromium, tmp_path, [page], "--blink-settings=preferredColorScheme=1")
    (dark,) = measured(chromium, tmp_path, [page], "--blink-settings=preferredColorScheme=0")
    assert (light[2], dark[2]) == ("rgb(246, 247, 249)", "rgb(20, 23, 28)")


# File, what it shows, width, height, and options.
PICTURES = [
    ("page-light.png", pages.troubled, 1000, 1180, "--blink-settings=preferredColorScheme=1"),
    ("page-dark.png", pages.well, 1000, 1180, "--blink-settings=preferredColorScheme=0"),
    ("page-phone.png", pages.troubled, 360, 1180, "--blink-settings=preferredColorScheme=1"),
]


@browser.needed
@pytest.mark.parametrize("name, make, width, height, option", PICTURES, ids=[picture[0] for picture in PICTURES])
def test_the_pictures_in_the_documentation(chromium, serve, in_utc, tmp_path, name, make, width, height, option):
    """PAGE_PICTURES=write makes them anew, by pngquant and optipng small ones."""
    drawn, kept = tmp_path / name, DOCS / name
    chromium.picture(serve(make(tmp_path)), drawn, width, height, option)
    if os.environ.get("PAGE_PICTURES") == "write":
        subprocess.run(["pngquant", "--force", "--strip", "--output", str(kept), "64", str(drawn)], check=True)
        subprocess.run(["optipng", "-quiet", "-o5", str(kept)], check=True)
    assert size_of(drawn) == size_of(kept) == (width, height)
    assert kept.stat().st_size < 100_000


def size_of(path):
    """Width and height of a PNG (its specification, 11.2.2)."""
    head = path.read_bytes()[:24]
    assert head.startswith(b"\x89PNG\r\n\x1a\n")
    return struct.unpack(">II", head[16:])


@pytest.fixture
def in_utc(monkeypatch):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", "UTC")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.skipif(not shutil.which("w3m"), reason="w3m is not installed")
def test_in_a_text_browser_it_reads_from_top_to_bottom(serve, in_utc, tmp_path):
    address = serve(pages.troubled(tmp_path))
    command = ["w3m", "-dump", "-cols", "80", address]
    text = subprocess.run(command, capture_output=True, text=True, timeout=100, check=True).stdout
    at = 0
    for said in (
        "m365proxy on pi\n",
        "Attention: 3 things to do\n",
        "As of 2027-01-15 08:00:00.",
        "What to do\n",
        " 1. 1 message is held",
        "    sudo m365proxy queue list\n",
        " 3. 41 messages wait in erp@contoso.com",
        "At a glance\n",
        "sign-in\n    relay@contoso.com, since",
        "Queue\n",
        "erp@contoso.com",
        "Mailboxes\n",
        "The last messages\n",
        "2027-01-15 07:55:20 waiting erp@contoso.com to invoices@fabrikam.com\n",
        "accepted from 192.0.2.40, 48211 octets",
        "Devices\n",
        "192.0.2.40",
    ):
        assert said in text[at:], said
        at = text.index(said, at)
    assert max(map(len, text.splitlines())) <= 80


@browser.needed
def test_the_page_of_the_running_program(chromium, make_program):
    program = make_program(status_port=0).sign_in()
    program.sandbox.faults.add("answer", path="/messages$", status=503, code="serverBusy")
    program.start()
    with smtplib.SMTP("localhost", program.port("smtp"), timeout=30) as smtp:
        smtp.login(ALERTS, PASSWORD)
        smtp.sendmail(ALERTS, [SCANS], f"From: {ALERTS}\r\nTo: {SCANS}\r\nSubject: Secret\r\n\r\nSecret\r\n")
    wait_until(lambda: "handed over to Exchange" in program.command("trace", ALERTS).stdout, what="the delivery")

    # A page that is a moment old may be shown once more.
    def shown():
        dom, said = chromium.elements(f"http://127.0.0.1:{program.port('status')}/")
        assert said == []
        reader = pages.Reader(dom)
        text = " ".join(reader.text.split())
        return text if "handed over to Exchange" in text else None

    text = wait_until(shown, what="the page of the delivered message")
    for said in ("All is well", f"sent {ALERTS} to {SCANS}", "not sent: ", "127.0.0.1", "no TLS, AUTH"):
        assert said in text, said
    assert "Secret" not in text


@browser.needed
def test_a_client_cannot_write_into_the_page(chromium, make_program):
    """Everything that a client may choose, by a client that has a login and by one that has none."""
    program = make_program(status_port=0).sign_in().start()
    script = "<script>document.title='owned'</script><img/src=x/onerror=alert(1)>"
    odd = "'onload='&lt{`x`}@contoso.com"  # an address as RFC 5321 has them
    with smtplib.SMTP("localhost", program.port("smtp"), local_hostname=script, timeout=30) as smtp:
        smtp.ehlo()
        with pytest.raises(smtplib.SMTPAuthenticationError):
            smtp.login(script, "wrong")
        smtp.login(ALERTS, PASSWORD)
        smtp.docmd("MAIL", f"FROM:<{script}@contoso.com>")
        smtp.rset()
        smtp.docmd("RCPT", f'TO:<"{script}"@contoso.com>')
        smtp.rset()
        smtp.sendmail(ALERTS, [SCANS, odd], f"From: {ALERTS}\r\nSubject: {script}\r\n\r\nx\r\n")
    address = f"http://127.0.0.1:{program.port('status')}/"

    def shown():
        dom, said = chromium.elements(address)
        assert said == []
        reader = pages.Reader(dom)
        assert set(reader.counts) <= pages.ELEMENTS and reader.counts["title"] == 1
        assert {name for name, _ in reader.attributes} <= pages.ATTRIBUTES
        return reader.text

    wait_until(lambda: f"{ALERTS} to {SCANS}, {odd}" in shown(), what="the page of the message")


@pytest.mark.skipif(os.name == "nt", reason="a console sends Ctrl-C to the tests, too")
def test_the_demo_shows_its_page(tmp_path):
    environ = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen([*COMMAND, "demo", "--serve"], stdout=subprocess.PIPE, text=True, env=environ) as demo:
        try:
            found = next(filter(None, (re.search("http://[^ ]*/$", line) for line in demo.stdout)))
            with urllib.request.urlopen(found.group(), timeout=30) as answer:
                page = answer.read().decode()
        finally:
            demo.send_signal(signal.SIGINT)
            demo.stdout.read()
    assert demo.returncode == 0 and list(tmp_path.iterdir()) == []
    assert "<h1>All is well</h1>" in page and "handed over to Exchange" in page
