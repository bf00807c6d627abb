"""The page as text.  Browsers see it in tests/e2e/test_page.py."""

import re

import pages
import pytest
from web_harness import StandInMonitor

from m365proxy.monitoring import stories
from m365proxy.web.page import render, show, show_still
from m365proxy.web.source import Source


def read(page):
    reader = pages.Reader(str(render(*page)))
    reader.text = " ".join(reader.text.split())
    return reader


@pytest.fixture
def directory(tmp_path):
    return tmp_path


def test_the_verdict_comes_first(directory):
    page = render(*pages.well(directory))
    assert "<title>All is well - pi</title>" in page and "<h1>All is well</h1>" in page
    assert '<header class="good">' in page and "What to do" not in page


def test_what_to_do_with_commands_that_can_be_copied(directory):
    report, devices, setting = pages.troubled(directory)
    page = render(report, devices, setting)
    assert "<title>Attention: 3 things to do - pi</title>" in page and '<header class="bad">' in page
    assert page.index("What to do") < page.index("At a glance")
    assert "<code>sudo m365proxy queue list</code>" in page and "<code>m365proxy" not in page
    for finding in report["findings"]:
        assert finding["sentence"].replace("`", "") in read((report, devices, setting)).text


def test_how_things_stand(directory):
    text = read(pages.troubled(directory)).text
    for said in (
        "sign-in relay@contoso.com, since 24 h, renewed 60 min ago",
        "ports smtp 192.0.2.1:25, smtps 192.0.2.1:465, pop3s 192.0.2.1:995",
        "pid 4711, version 3.0.0, 3 connections",
        "disk 811 MB free (below 64 MB new mail is refused)",
        "certificate /etc/ssl/pi.pem, valid for 61 days",
        "app secret valid for 412 days",
    ):
        assert said in text


def test_sending_is_paused(directory):
    report = pages.report_of(directory, paused="There is no sign-in: run `m365proxy login`.")
    assert "sending paused: There is no sign-in: run sudo m365proxy login." in read((report, [], pages.SETTING)).text


def test_since_when_there_is_something_to_do(directory):
    report, devices, setting = pages.troubled(directory)
    report["findings"][0] = {**report["findings"][0], "since": pages.NOW - 3600}
    said = f"each by its ID. Since {stories.local_time(pages.NOW - 3600)[:16]}."
    assert said in read((report, devices, setting)).text


def test_without_an_event_log(directory):
    report = pages.report_of(directory)
    assert "knows of none yet, or is switched off (logging.events_mb)." in read((report, [], pages.SETTING)).text
    (directory / "events").write_text("")
    assert "The event log cannot be read: " in read((report, [], pages.SETTING)).text


def test_nothing_in_it_is_anything_but_text(directory):
    page = str(render(*pages.hostile(directory)))
    reader = pages.Reader(page)
    assert set(reader.counts) <= pages.ELEMENTS
    assert {name for name, _ in reader.attributes} <= pages.ATTRIBUTES
    assert reader.counts["title"] == reader.counts["style"] == 1
    assert page.count("&lt;script&gt;") > 40
    assert all(character.isprintable() or character == "\n" for character in page)


def test_every_text_of_a_snapshot_is_shown_escaped_or_not_at_all(directory):
    """A text that is added to the snapshot is planted here by itself."""
    report, devices, setting = pages.troubled(directory)
    planted = {**_planted(report), "state_dir": str(directory)}
    page = str(render(planted, _planted(devices), setting))
    reader = pages.Reader(page)
    assert set(reader.counts) <= pages.ELEMENTS and "<script" not in page and "onerror=alert(1)&gt;" in page
    assert {name for name, _ in reader.attributes} <= pages.ATTRIBUTES


def _planted(value):
    if isinstance(value, str):
        return pages.HOSTILE
    if isinstance(value, list):
        return [_planted(item) for item in value]
    return {key: _planted(item) for key, item in value.items()} if isinstance(value, dict) else value


def test_of_very_many_things_to_do_some_are_shown(directory):
    report, devices, setting = pages.well(directory)
    finding = {"key": "x", "sentence": "Do it.", "commands": []}
    text = read(({**report, "findings": [finding] * 60}, devices, setting)).text
    assert text.count("Do it.") == 50 and "10 more things are not shown." in text


def test_it_stays_small(directory):
    report, devices, setting = pages.huge(directory)
    page = render(report, devices, setting)
    assert len(page.encode()) < 500_000
    assert page.count('<details class="message">') == 200
    assert all(f'<span class="name">{name}</span>' in page for name in report["mailboxes"])


def test_its_style_is_the_one_that_the_header_allows():
    shown = show(Source(StandInMonitor()))
    [style] = re.findall(b"<style>(.*?)</style>", shown.body, re.DOTALL)
    assert shown.style.encode() == style and shown.status == 200


def test_it_is_renewed_unless_it_is_to_be_still():
    source = Source(StandInMonitor())
    assert b'<meta http-equiv="refresh" content="60">' in show(source).body
    assert b'href="/still"' in show(source).body
    still = show_still(source).body
    assert b"refresh" not in still and b'<a href="/">' in still and b"All is well" in still
