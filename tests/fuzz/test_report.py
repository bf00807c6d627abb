"""What `report` knows of is in no text that it has scrubbed, whatever stands around it and however it is spelled."""

from __future__ import annotations

import base64
import json
import os
import urllib.parse

import pytest

from m365proxy.admin.report import vocabulary
from m365proxy.admin.report.pseudonyms import Kind, Pseudonyms

hypothesis = pytest.importorskip("hypothesis")
st = hypothesis.strategies

EXAMPLES = int(os.environ.get("M365PROXY_FUZZ_EXAMPLES", "300"))
short = hypothesis.settings(max_examples=EXAMPLES, deadline=None, database=None)

# Digits and signs, so that nothing of it is in a pseudonym or a word of ours.
secrets = st.text(st.sampled_from("aQzé7#&%+/=\"'\\:@.~-_$ 0"), min_size=8, max_size=24).map(str.strip)
locals_ = st.text(st.sampled_from("qxz.7_+-"), min_size=5, max_size=12).map(lambda text: text.strip(".+-_") + "q7xz")
domains = st.sampled_from(["qzx7.example", "q-7.zx.example", "zq7x"])
around = st.text(st.sampled_from("ab=<>()[]{}\"'`/\\:;,.@%#& -_0129\n"), max_size=40)
spellings = st.sampled_from(
    [
        str,
        str.upper,
        lambda text: urllib.parse.quote(text, safe=""),
        lambda text: json.dumps(text)[1:-1],
        lambda text: base64.b64encode(text.encode()).decode(),
    ]
)


@short
@hypothesis.given(secrets, around, around, spellings)
def test_no_secret(secret, before, after, spell):
    hypothesis.assume(len(secret) >= 6 and not vocabulary.is_known(secret) and any(c.isalnum() for c in secret))
    pseudonyms = Pseudonyms()
    pseudonyms.hide(secret)
    text = pseudonyms.scrub_foreign(before + spell(secret) + after)
    assert secret.lower() not in text.lower() or set(secret) <= set("<secret>0")


@short
@hypothesis.given(locals_, domains, around, around, st.booleans(), spellings)
def test_no_address(local, domain, before, after, is_known, spell):
    address = f"{local}@{domain}"
    pseudonyms = Pseudonyms()
    if is_known:
        pseudonyms.mailbox(address)
    pseudonyms.name(Kind.LOGIN, "somebody else")
    hypothesis.assume(is_known or not before or not before[-1].isalnum())
    text = pseudonyms.scrub_foreign(f"{before}{spell(address)}{after}").lower()
    assert address not in text and local not in text.split("@")[0].split()


@short
@hypothesis.given(st.text(max_size=300))
def test_any_text_can_be_scrubbed(text):
    Pseudonyms().scrub_foreign(text)
