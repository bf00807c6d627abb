"""Escaping."""

import pytest
from cases import each

from m365proxy.web.render import Html, code, escape, fill, join, prose


@pytest.mark.parametrize(
    "value, html",
    [
        ("scanner@contoso.com", "scanner@contoso.com"),
        ("<script>alert(1)</script>", "&lt;script&gt;alert(1)&lt;/script&gt;"),
        ("\" onload='x' &lt;", "&quot; onload=&#39;x&#39; &amp;lt;"),
        ("a\u202eb\u2066\x00\r\n\x7f\ud800", "a\\u202eb\\u2066\\x00\\x0d\\x0a\\x7f\\ud800"),
        (b"\xff<", "\\xff&lt;"),
        (None, "None"),
        (12, "12"),
        ("größe 😀", "größe 😀"),
        ("{other}", "{other}"),
    ],
)
def test_what_comes_from_anywhere_is_text(value, html):
    assert escape(value) == html
    assert fill("<p>{value}</p>", value=value, other=Html("<b>")) == f"<p>{html}</p>"


def test_what_is_long_is_cut_off_before_it_is_escaped():
    assert escape("&" * 10_000) == "&amp;" * 499 + "…"


def test_what_was_filled_is_not_escaped_again():
    assert fill("<td>{cell}</td>", cell=join([fill("<b>{x}</b>", x="<"), escape(">")])) == "<td><b>&lt;</b>\n&gt;</td>"


@each(
    "text, html",
    [
        ("Run `m365proxy login`.", "Run <code>sudo m365proxy login</code>."),
        ("`a` and `b`", "<code>a</code> and <code>b</code>"),
        ("one ` only <", "one <code> only &lt;</code>"),
        ("`</code><script>`", "<code>&lt;/code&gt;&lt;script&gt;</code>"),
        ("m365proxy login", "m365proxy login"),
    ],
)
def test_commands_in_a_sentence_can_be_copied(text, html):
    assert prose(text, "sudo m365proxy") == html


def test_the_program_is_started_as_it_is_here():
    assert code("m365proxy login", "m365proxy --config '/a <b>.json'") == (
        "<code>m365proxy --config &#39;/a &lt;b&gt;.json&#39; login</code>"
    )
    assert code("m365proxyd login", "x") == "<code>m365proxyd login</code>"
