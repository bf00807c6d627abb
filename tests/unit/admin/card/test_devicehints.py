"""Hints for known devices, and that docs/devices.md has the same ones."""

import pathlib
import re

from cases import each

from m365proxy.admin.card.devicehints import HINTS, Facts, hints
from m365proxy.admin.card.entrances import Entrance
from m365proxy.system.choices import Service, TlsMode

DOCS = pathlib.Path(__file__).resolve().parents[4] / "docs" / "devices.md"


def entrance(port, tls=TlsMode.STARTTLS, min_version="TLSv1.2", lf_only=False):
    return Entrance(Service.SMTP, port, tls, min_version, lf_only, ("0.0.0.0",), True)


PLAIN = Facts("mfp-1", entrance(25, TlsMode.NONE), None, None, False, False, True)
STARTTLS = PLAIN._replace(sending=entrance(587))

ADVICE = {
    # name: (facts, the number of the hint, words of its advice, or "" if it is not given)
    "a short login": (PLAIN, 0, ""),
    "an address as login": (PLAIN._replace(login="a@contoso.com"), 0, "short user name"),
    "a long login": (PLAIN._replace(login="x" * 32), 0, "short user name"),
    "no login": (PLAIN._replace(login=""), 0, ""),
    "STARTTLS": (STARTTLS, 1, "second time"),
    "STARTTLS, known to begin with TLS": (STARTTLS._replace(starts_with_tls=True), 1, ""),
    "TLS at once is asked for anyway": (PLAIN._replace(sending=entrance(465, TlsMode.IMPLICIT)), 1, ""),
    "no TLS at all": (PLAIN, 2, ""),
    "old TLS has no port": (STARTTLS, 2, "`min_version`"),
    "old TLS has a port": (STARTTLS._replace(old_tls=entrance(2526, min_version="TLSv1")), 2, "port 2526"),
    "old TLS is all there is": (PLAIN._replace(sending=entrance(25, min_version="TLSv1.1")), 2, ""),
    "From is replaced": (PLAIN._replace(rewrites_from=True), 3, "is replaced"),
    "From is not replaced": (PLAIN, 3, "`rewrite_from`"),
    "bare LF has no port": (PLAIN, 4, "`lf_only_clients`"),
    "bare LF has a port": (PLAIN._replace(bare_lf=entrance(26, lf_only=True)), 4, "port 26"),
    "a certificate nobody knows": (STARTTLS, 5, "install the server's certificate"),
    "a certificate of a known CA": (STARTTLS._replace(is_self_signed=False), 5, ""),
    "no certificate": (PLAIN, 5, ""),
}


@each("name", ADVICE)
def test_advice(name):
    facts, number, words = ADVICE[name]
    advice = HINTS[number].advice(facts)
    assert words in advice if words else advice == ""
    assert ((HINTS[number].kind, HINTS[number].symptom, advice) in hints(facts)) is bool(words)


def test_the_documentation_has_the_same_symptoms():
    sections = re.split(r"^## ", DOCS.read_text("utf-8"), flags=re.MULTILINE)
    said = [
        (section.partition("\n")[0], symptom.replace("\n  ", " "))
        for section in sections
        for symptom in re.findall(r"^- \*([^*]+)\*", section, re.MULTILINE)
    ]
    assert said == [(hint.kind, hint.symptom) for hint in HINTS]
