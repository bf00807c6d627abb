"""The page's tables."""

import re

import pages
from cases import each
from snapshots import NOW, snapshot_of, watch

from m365proxy.monitoring.counters import Counters
from m365proxy.web import tables
from m365proxy.web.tables import Column


def rows(html):
    """The texts of the cells, row by row."""
    found = re.findall("<tr>(.*?)</tr>", html)
    return [[re.sub("<.*?>", "", cell) for cell in re.findall("<t[hd].*?>(.*?)</t[hd]>", row)] for row in found]


def test_a_table_has_heads_for_its_columns_and_rows():
    html = tables.table("Two.", [Column("Name"), Column("Count", True)], [("<a>", 1), ("b", 2)])
    assert "<caption>Two.</caption>" in html and '<th scope="col" class="number">Count</th>' in html
    assert '<th scope="row">&lt;a&gt;</th> <td class="number" data-label="Count">1</td>' in html
    assert "<caption>" not in tables.table("", [Column("Name")], [])


def test_an_empty_queue_needs_no_table():
    assert tables.queue(snapshot_of(), "m365proxy") == "<p>Empty.</p>"
    sending = snapshot_of(queue={"sending": 1})
    assert tables.queue(sending, "m365proxy") == "<p>1 being sent.</p>"


def test_the_queue_with_its_reasons(tmp_path):
    report, *_ = pages.troubled(tmp_path)
    html = tables.queue(report, "m365proxy")
    assert "43 waiting, 1 being sent, 1 held, 1 failed; the oldest waits for 90 min." in html
    found = rows(html)
    assert found[0] == ["Mailbox", "State", "Messages", "Oldest", "Why"]
    assert found[1][:3] == [pages.ERP, "waiting", "41"] and found[1][4] == pages.BUSY
    assert found[2][:3] == [pages.SCANNER, "waiting", "2"] and found[2][4] == "not tried yet"
    assert 'class="mark wait">waiting<' in html and 'class="mark bad">held<' in html


def test_the_mail_of_a_mailbox_that_was_removed(tmp_path):
    report, *_ = pages.troubled(tmp_path)
    del report["mailboxes"][pages.ERP]
    assert rows(tables.queue(report, "m365proxy"))[1][0] == "no longer in the config"


def test_what_is_not_shown_of_the_queue_is_counted(tmp_path):
    report, *_ = pages.huge(tmp_path, logged=0)
    html = tables.queue(report, "m365proxy")
    assert len(rows(html)) == 101 and f"{400 * 14 + 6000} more messages are not shown." in html


def boxes(count, troubled=(), now=NOW):
    counters = Counters()
    names = [f"m{number:03}@contoso.com" for number in range(count)]
    for number in troubled:
        counters.note(now, {"event": "deferred", "mailbox": names[number], "reason": "No."})
    return snapshot_of(watched=watch(mailboxes=tuple(names)), counters=counters, now=now)


@each("count, shown", [(1, 1), (12, 12), (13, 2), (500, 2)])
def test_those_with_something_to_say_come_first(count, shown):
    troubled = [0] if count == 1 else [count - 1, 5]
    html = tables.mailboxes(boxes(count, troubled), "m365proxy")
    before, _, folded = html.partition("<details>")
    assert len(rows(before)) - 1 == shown and (f"{count - shown} other mailboxes" in folded) is (count > shown)
    assert [row[0] for row in rows(before)[1:3]] == [f"m{number:03}@contoso.com" for number in sorted(troubled)]
    assert html.count("@contoso.com") == count


def test_so_many_with_trouble_are_folded_too():
    html = tables.mailboxes(boxes(150, range(120)), "m365proxy")
    before, _, folded = html.partition("<details>")
    assert "150 mailboxes, 120 of them with waiting mail or trouble." in before
    assert len(rows(before)) == 101 and len(rows(folded)) == 51


def test_none_has_anything_to_say():
    html = tables.mailboxes(boxes(20), "m365proxy")
    assert html.startswith("<p>20 mailboxes, none of them with waiting mail or trouble.</p>\n<details>")


def test_a_mailbox(tmp_path):
    report, *_ = pages.troubled(tmp_path)
    found = {row[0]: row[1:] for row in rows(tables.mailboxes(report, "m365proxy"))}
    assert found[pages.SCANNER][:3] == ["2", "212", "0"] and found[pages.SCANNER][4] == ""
    assert found[pages.ERP][:4] == ["41", "0", "1", "none yet"] and "Exchange refuses to send as" in found[pages.ERP][4]


def test_devices_with_something_to_set_come_first(tmp_path):
    _, devices, _ = pages.troubled(tmp_path)
    html = tables.devices(devices, "m365proxy")
    assert "5 clients, 3 of them with something to set." in html
    found = {row[0]: row[2:] for row in rows(html)[1:]}
    assert list(found)[3:] == ["192.0.2.18", "192.0.2.17"]
    assert found["192.0.2.17"] == [pages.SCANNER, "TLSv1.2, AUTH LOGIN", ""]
    assert found["192.0.2.40"][1:] == [
        "no TLS, AUTH PLAIN",
        "Its password travels without TLS: set STARTTLS on the device if it can.",
    ]
    assert "supports only old TLS" in found["192.0.2.31"][1]


def test_no_device_came_yet():
    assert tables.devices([], "m365proxy") == "<p>None came yet.</p>"


def test_of_very_many_devices_some_are_shown(tmp_path):
    _, devices, _ = pages.huge(tmp_path, logged=0)
    html = tables.devices(devices, "m365proxy")
    assert len(rows(html)) == 101 and f"{len(devices) - 100} more are not shown; <code>m365proxy devices</code>" in html


def test_one_is_one(tmp_path):
    _, devices, _ = pages.well(tmp_path)
    assert "1 client, none of them with something to set." in tables.devices(devices[:1], "m365proxy")
    assert "1 mailbox, none of them with waiting mail or trouble." in tables.mailboxes(snapshot_of(), "m365proxy")
