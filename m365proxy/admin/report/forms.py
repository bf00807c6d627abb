"""The forms of what must not be in a report: addresses, hosts, paths, keys; and how a known name may be spelled."""

from __future__ import annotations

import base64
import ipaddress
import json
import re
import unicodedata
import urllib.parse
from typing import Iterable, List, Pattern

GUID = r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}"
QUEUE_ID = r"\d{8}T\d{6}-[0-9a-f]{12}-[0-9a-f]{8}"

_OWN = (
    r"(?:mailbox|address)-\d+@domain-\d+|(?:mailbox|address|domain|login|user|host|device|network|tenant|app|id|name)-\d+"
    r"(?![\w-])|<[a-z ]+>"
)

_ADDRESS = (
    r"(?:\"[^\"\n]{1,64}\"|[^\s<>()\[\],;:\"'`\\/|@]{1,128})?(?:@|%(?:25)*40)(?:\w(?:[\w.-]*\w)?|\[[^\]\s]{2,60}\])"
)
ADDRESS = re.compile(_ADDRESS)

# A pseudonym, or what stands for something that was left out.
OWN = re.compile(_OWN)

# Between the two halves of an address; in a URL it is encoded, perhaps twice.
AT = re.compile(r"@|%(?:25)*40")

MAC = re.compile(r"(?:[0-9a-f]{2}[:-]){5}[0-9a-f]{2}", re.IGNORECASE)

# What texts from outside quote may be anything: a folder, a display name, a value of the config.
QUOTED = re.compile(r"\"((?:[^\"\\\n]|\\.)*)\"|(?<!\w)'([^'\n]*)'(?!\w)")

_HARMLESS = re.compile(
    rf"\W*|[\d.]+|TLSv1(?:\.\d)?|(?:{_OWN})(?:/\d+|\.[a-z]+)?|\*@domain-\d+|{QUEUE_ID}|\d{{8}}\.jsonl", re.IGNORECASE
)

# What is left in the place of forms that get no pseudonym.
MARKS = {"key": "<key>", "hash": "<hash>", "opaque": "<key or token>"}

# In this order at the same place of a text.
_FORMS = (
    rf"(?P<own>{_OWN})",
    rf"(?P<kept>(?:request[-_]id[ =]|(?:Trace|Correlation) ID: ){GUID}|{QUEUE_ID})",
    r"(?P<key>-----BEGIN(?:.|\n)*?(?:-----END[^-\n]*-----|\Z))",
    r"(?P<hash>(?:scrypt|\$[a-z0-9-]{1,10})\$[^\s\"'<>]+|\{[A-Z0-9-]{3,12}\}[\w+/=$.]{8,})",
    r"(?P<url>[a-z][a-z0-9+.-]{1,20}://(?:<secret>|[^\s\"'<>`])+)",
    rf"(?P<address>{_ADDRESS})",
    r"(?P<path>(?:@PATHS@|(?<![\w.<%-])(?:[a-z]:)?[\\/]+)[^\s:\"'`<>|,;]*)",
    r"(?P<names_of>@NAMES@)",
    rf"(?P<guid>(?<![\w-]){GUID}(?![\w-]))",
    r"(?P<ip>(?:(?<!\d)(?<!\d\.)\d{1,3}(?:\.\d{1,3}){3}(?!\d|\.\d)"
    r"|(?<!\d)(?<!\d[-.])\d{1,3}(?:-\d{1,3}){3}(?!\d|[-.]\d)"
    r"|(?<![\w:.-])(?:[0-9a-f]{2}[:-]){5}[0-9a-f]{2}(?![\w:-])"
    r"|(?:(?<![\w:.-])|(?<=ipv6:))(?=[0-9a-f]*:[0-9a-f]*:)[0-9a-f:]{2,39}(?:\.\d{1,3}){0,3}(?:%\w{1,16})?(?![\w:]))(?:/\d{1,3}\b)?)",
    r"(?P<opaque>(?<![\w+/-])(?:[0-9a-f]{16,}|(?=\S*\d)(?=\S*[a-z])(?-i:(?=\S*[A-Z]))[\w+/~.-]{24,}"
    r"|[\w+/-]{60,})=*(?![\w+/-]))",
    r"(?P<host>(?<![\w.\]-])(?:\w[\w-]*\.)+[^\W\d_][^\W_]+(?:-+[^\W_]+)*(?![\w-]))",
)

# Never: a pattern for what there is none of.
_NOTHING = r"(?!)"


def compiled(names: Iterable[str], paths: Iterable[str]) -> Pattern[str]:
    """A pattern that finds all forms, and these patterns of names and paths; the group's name says which form."""
    pattern = "|".join(_FORMS)
    pattern = pattern.replace("@NAMES@", word(any_of(names))).replace("@PATHS@", any_of(paths))
    return re.compile(pattern, re.IGNORECASE)


def any_of(patterns: Iterable[str]) -> str:
    """A pattern for any of these, the longer ones first."""
    found = sorted(set(patterns), key=lambda pattern: (-len(pattern), pattern))
    return f"(?:{'|'.join(found)})" if found else _NOTHING


def word(pattern: str) -> str:
    """A pattern that is not found inside of words."""
    return rf"(?<![^\W_]){pattern}(?![^\W_])"


def spelled(text: str, encoded: bool = False) -> str:
    """A pattern for a text as it stands in URLs, in JSON and in log lines; `encoded`: as base64 too."""
    spellings = set()
    for cased in {text, text.lower(), text.upper(), text.title()}:  # where letters are encoded, case is too
        spellings |= {
            cased,
            urllib.parse.quote(cased, "", errors="surrogatepass"),
            urllib.parse.quote(cased, errors="surrogatepass"),
            urllib.parse.quote_plus(cased, errors="surrogatepass"),
        }
        spellings |= {json.dumps(cased)[1:-1], json.dumps(cased, ensure_ascii=False)[1:-1]}
    spellings |= {"".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)}
    spellings |= {unicodedata.normalize("NFD", text), unicodedata.normalize("NFC", text)}
    spellings = {text, *(spelling.lower() for spelling in spellings)}  # case is ignored, and each one more takes time
    if encoded:
        octets = text.encode("utf-8", "surrogatepass")
        spellings |= {base64.b64encode(octets).decode().rstrip("="), octets.hex()}
        spellings |= {base64.urlsafe_b64encode(octets).decode().rstrip("=")}
    return any_of(r"\s+".join(map(re.escape, spelling.split())) for spelling in spellings if spelling.split())


def is_ip(text: str) -> bool:
    try:
        ipaddress.ip_address(text.partition("%")[0])
        return True
    except ValueError:
        return False


def words(text: str) -> List[str]:
    """The words of a text that may be JSON."""
    return re.findall(r"<[a-z ]+>|[^\s,:;{}\[\]()\"\\]+", text)


def is_harmless(text: str) -> bool:
    """Whether a word is one of ours or a number, or says nothing."""
    return _HARMLESS.fullmatch(text) is not None
