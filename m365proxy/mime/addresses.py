"""Mail addresses: reading lists of them as devices write them, writing them so that nobody misreads them.

The reader follows RFC 5322 with its obsolete forms and accepts broken input;
the writer writes only addresses that passed `valid_address`, and display names
in which no parser can find another address.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from typing import Iterable, List, NamedTuple, Tuple

from ..errors import Permanent
from . import words

# RFC 5321 4.5.3.1: octets of a local part and of a whole address.
_LONGEST_LOCAL = 64
_LONGEST = 254

# RFC 1035 2.3.4; in ASCII a label only grows.
_LONGEST_LABEL = 63

# Characters of a word put together from pieces; the bound keeps the time linear.
_LONGEST_WORD = 1000

# How many members of one list are read; the others are left out.  A header may name thousands, and reading them
# takes seconds; no message may have that many recipients.
MOST = 5000

# Characters of a display name; Outlook shows no more.
_LONGEST_NAME = 255

# An address of the Internet, whose domain has a dot: the only ones that the configuration takes.
INTERNET_LOCAL = r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}"
INTERNET_DOMAIN = r"(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)+[A-Za-z0-9-]{2,63}"
_INTERNET = re.compile(rf"{INTERNET_LOCAL}@{INTERNET_DOMAIN}")

_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_LOCAL = re.compile(rf"{_ATOM}(?:\.{_ATOM})*\Z")
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_DOMAIN = re.compile(rf"{_LABEL}(?:\.{_LABEL})*\Z")
# Besides letters, marks and digits: the hyphen, and the joiners of Persian and Indic words (RFC 5892 2.8).
_IN_LABELS = "-\u200c\u200d"
_PHRASE = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~ -]+\Z")

_QUOTED = re.compile(r'"([^"\\]*(?:\\.[^"\\]*)*)"', re.S)
_ANGLE = re.compile(r'<([^<>"]*)>')
_QUOTED_ANGLE = re.compile(r'<([^<>"]*(?:"[^"\\]*(?:\\.[^"\\]*)*"[^<>"]*)+)>', re.S)
_OPEN_ANGLE = re.compile(r"<([^<>,;]*)")
_LITERAL = re.compile(r"\[[^\[\]\s]{0,100}\]")
_RUN = re.compile(r'[^\s"(),;:<>\[\]]+')
_SPACE = re.compile(r"\s+")
_ROUTE = re.compile(r"@(?:\[[^\[\]]*\]|[^:\[\]])*:")


class Mailbox(NamedTuple):
    """A display name (decoded, perhaps empty) and an address as its sender wrote it, but `plain`."""

    name: str
    address: str


def valid_address(address: str, smtputf8: bool = False) -> bool:
    """Whether this is one local@domain that can be written into a header without quoting.

    With `smtputf8` the domain may be international (it travels as A-labels).
    A local part that is not ASCII has no ASCII form (RFC 6531) and is refused,
    as are quoted local parts and address literals: Graph fails a whole
    message for one address it cannot read.
    """
    return "@" in address and len(address) <= _LONGEST and _is_valid(address, smtputf8)


@functools.lru_cache(maxsize=1024)  # each address is looked at several times
def _is_valid(address: str, smtputf8: bool) -> bool:
    if not address.isascii():
        if not smtputf8:
            return False
        address = _with_a_labels(address)
    local, _, domain = address.rpartition("@")
    return (
        len(local) <= _LONGEST_LOCAL
        and len(address) <= _LONGEST
        and "=?" not in local  # some readers would decode it
        and bool(_LOCAL.match(local))
        and bool(_DOMAIN.match(domain))
    )


def objection(address: str, smtputf8: bool = False) -> str:
    """Why `valid_address` refuses an address, to follow "because"; "" if it does not."""
    if valid_address(address, smtputf8):
        return ""
    local, at, domain = address.rpartition("@")
    if not at or not domain:
        return "it has no domain"
    if not local.isascii() or not (domain.isascii() or smtputf8):
        return "it has characters outside ASCII"
    if len(local) > _LONGEST_LOCAL or len(_with_a_labels(address)) > _LONGEST:
        return "it is too long"
    if domain.startswith("["):
        return "it has an IP address in place of a domain"
    if not _DOMAIN.match(_with_a_labels(domain)):
        return "its domain has an underscore" if "_" in domain else "its domain is not valid"
    if local.startswith('"'):
        return "it needs its quotes"
    return "there is a blank in it" if " " in local else "what stands before the @ is not valid"


def is_internet_address(address: str) -> bool:
    """Whether mail from elsewhere could come to it: root@localhost is none."""
    return bool(_INTERNET.fullmatch(address))


def domain_of(address: str) -> str:
    """The domain in lower case and ASCII; "" if there is none."""
    return _with_a_labels(address).rpartition("@")[2].lower() if "@" in address else ""


def on_the_wire(address: str) -> str:
    """The address in ASCII; raises Permanent if it cannot be in a header."""
    if not valid_address(address, smtputf8=True):
        raise Permanent(f"The address {ascii(address)} cannot be used with Microsoft 365. Correct it at the sender.")
    return address if address.isascii() else _with_a_labels(address)


def key(address: str) -> str:
    """A key that is the same for all spellings of one address."""
    return _with_a_labels(address).lower()


@functools.lru_cache(maxsize=1024)  # each address is looked up several times, and a hostile list has thousands
def _with_a_labels(address: str) -> str:
    """The address with its domain in ASCII (RFC 5891 4.4, upper case and widths mapped as in RFC 5895 2).

    Python's own codec follows the rules of 2003 and turns straße.de into
    strasse.de, which may belong to somebody else.  A domain with anything but
    letters, marks, digits and hyphens stays as it is, and is not valid.
    """
    if address.isascii() or len(address) > _LONGEST:
        return address
    local, at, domain = address.rpartition("@")
    # Each character by itself: str.lower() of a word makes a final sigma, which is another letter.
    domain = unicodedata.normalize("NFKC", domain)
    if len(domain) > _LONGEST:  # one character may become eighteen
        return address
    lowered = "".join(character.lower() for character in domain)
    labels = unicodedata.normalize("NFC", lowered).replace("\u3002", ".").split(".")
    if max(map(len, labels)) > _LONGEST_LABEL or not all(map(_may_be_in_a_label, "".join(labels))):
        return address
    return local + at + ".".join(label if label.isascii() else f"xn--{_punycode(label)}" for label in labels)


def _may_be_in_a_label(character: str) -> bool:
    category = unicodedata.category(character)
    return character in _IN_LABELS or category[0] in "LN" or category in ("Mn", "Mc")


def _punycode(label: str) -> str:
    return label.encode("punycode").decode("ascii")


def parse(text: str) -> List[Mailbox]:
    """The mailboxes of an unfolded address list; groups are flattened, members without an "@" are left out.

    Understands quoted strings, comments, groups, routes, encoded words, addresses
    without brackets and ";" as separator, and tolerates anything that is not
    closed.  Runs in time linear in the length, and stops after 5,000 mailboxes.
    """
    return _parse(text, again=True)


def _parse(text: str, again: bool) -> List[Mailbox]:
    result: List[Mailbox] = []
    entry = _Entry()
    # Once a closing character was not found, it is not searched for again: that keeps the time linear.
    closed_quotes = closed_comments = closed_angles = True
    position = 0
    while position < len(text) and len(result) < MOST:
        character = text[position]
        match = None
        if character == '"' and closed_quotes:
            match = _QUOTED.match(text, position)
            closed_quotes = match is not None
            if match:
                entry.add(_unquoted(match.group(1)), quoted=True)
        elif character == "(" and closed_comments:
            end = _comment_end(text, position)
            closed_comments = end > 0
            if end > 0:
                entry.comments.append(text[position + 1 : end - 1])
                position = end
                continue
        elif character == "<":
            match = _ANGLE.match(text, position)
            if not match and closed_angles:
                match = _QUOTED_ANGLE.match(text, position)
                closed_angles = match is not None
            match = match or _OPEN_ANGLE.match(text, position)
            assert match is not None  # it begins with "<"
            if entry.angle:
                result += entry.mailboxes(again)
                entry = _Entry()
            entry.angle = _inside(match.group(1))
        elif character == "[":
            match = _LITERAL.match(text, position)
            if match:
                entry.add(match.group())
        elif character == ",":
            found = entry.mailboxes(again)
            result += found
            entry = _Entry("" if found else entry.beginning())
        elif character == ";":
            result += entry.mailboxes(again)
            entry = _Entry()
        elif character == ":":
            entry = _Entry()  # the words so far were the name of a group
        else:
            match = _RUN.match(text, position)
            if match:
                entry.add(match.group())
        position = match.end() if match else position + 1
    return result + entry.mailboxes(again)


def _comment_end(text: str, position: int) -> int:
    depth = 0
    while position < len(text):
        character = text[position]
        if character == "\\":
            position += 1
        elif character == "(":
            depth += 1
        elif character == ")":
            depth -= 1
            if depth == 0:
                return position + 1
        position += 1
    return 0


def _inside(angle: str) -> str:
    """The address between angle brackets, without its route, and without white space but in quotes."""
    address = without_route(angle.strip() if '"' in angle else _SPACE.sub("", angle))
    return address[len("mailto:") :] if address.lower().startswith("mailto:") else address


def without_route(path: str) -> str:
    """A path without its source route, which is ignored (RFC 5321 appendix C, RFC 5322 4.4)."""
    route = _ROUTE.match(path)
    return path[route.end() :] if route else path


def plain(address: str) -> str:
    """The address without quotes that its local part does not need (RFC 5321 4.1.2) and a dot behind its domain."""
    if address.startswith('"'):
        match = _QUOTED.match(address)
        local = _unquoted(match.group(1)) if match else ""
        if match and _LOCAL.match(local) and address.startswith("@", match.end()):
            address = local + address[match.end() :]
    return address[:-1] if "@" in address and address.endswith(".") else address


def _unquoted(text: str) -> str:
    """What is between the quotes of a quoted string, without its backslashes."""
    return re.sub(r"\\(.)", r"\1", text, flags=re.S)


class _Entry:
    """What has been read of one member of the list.

    `begun`: what stands between the last address and a comma.  It belongs to the name: "Doe, Jane <jane@x.org>".
    """

    def __init__(self, begun: str = "") -> None:
        self._begun = begun
        self.words: List[Tuple[str, bool]] = []  # text, quoted
        self.comments: List[str] = []
        self.angle = ""

    def add(self, text: str, quoted: bool = False) -> None:
        """Add a word; the words on both sides of an "@" are joined."""
        if self.words:
            before, was_quoted = self.words[-1]
            around_at = (text.startswith("@") and not quoted) or (before.endswith("@") and not was_quoted)
            if around_at and len(before) <= _LONGEST_WORD:
                if was_quoted and not _LOCAL.match(before):
                    before = f'"{before}"'
                self.words[-1] = (before + text, False)
                return
        self.words.append((text, quoted))

    def beginning(self) -> str:
        """The words of a member without address, with those before it."""
        if self.angle:
            return ""
        words_of_it = " ".join(word for word, _ in self.words)
        return ", ".join(filter(None, (self._begun, words_of_it)))[:_LONGEST_WORD]

    def mailboxes(self, again: bool) -> List[Mailbox]:
        return [Mailbox(name, plain(address)) for name, address in self._read(again)]

    def _read(self, again: bool) -> List[Mailbox]:
        if "@" in self.angle:
            name = self._name(word for word, _ in self.words)
            begun = words.decode(self._begun) if name else ""
            return [Mailbox(", ".join(filter(None, (begun, name))), self.angle)]
        addresses = [word for word, quoted in self.words if "@" in word and not quoted]
        if len(addresses) == 1:
            return [Mailbox(self._name(word for word, quoted in self.words if quoted or "@" not in word), addresses[0])]
        if addresses:
            return [Mailbox("", address) for address in addresses]
        # Some devices put the address itself into quotes, or encode the whole list.
        addresses = [word for word, _ in self.words if valid_address(word, smtputf8=True)]
        if addresses:
            return [Mailbox("", addresses[0])]
        whole = " ".join(word for word, _ in self.words)
        return _parse(words.clean(words.decode(whole)), again=False) if again and "=?" in whole else []

    def _name(self, parts: Iterable[str]) -> str:
        return words.decode(" ".join(parts) or " ".join(self.comments))


def display_name(name: str) -> str:
    """A display name that nobody can take for an address, or "".

    Exchange refuses a From whose name holds an "@" (ErrorSendAsDenied), and a
    naive reader would find a recipient in it.
    """
    name = " ".join(words.clean(name[: 4 * _LONGEST_NAME]).replace("<", " ").replace(">", " ").split())[:_LONGEST_NAME]
    if "@" in unicodedata.normalize("NFKC", name) or "=?" in name:
        return ""
    return name.strip()


def written(mailbox: Mailbox) -> bytes:
    """One mailbox for a header; its address must come from `on_the_wire`."""
    address = mailbox.address.encode("ascii")
    name = display_name(mailbox.name)
    if not name:
        return address
    if not name.isascii():
        phrase = b" ".join(words.encode(name))
    elif _PHRASE.match(name):
        phrase = name.encode("ascii")
    else:
        phrase = b'"' + name.replace("\\", "\\\\").replace('"', '\\"').encode("ascii") + b'"'
    return phrase + b" <" + address + b">"


def listed(mailboxes: Iterable[Mailbox]) -> bytes:
    """An address list for a header, not folded."""
    return b", ".join(written(mailbox) for mailbox in mailboxes)


def address_matches(address: str, patterns: Iterable[str]) -> bool:
    """Whether a mail address is one of the patterns, which are addresses or "*@domain"; case does not matter."""
    address = address.lower()
    local, at, domain = address.rpartition("@")
    return bool(local and at) and any(pattern in (address, "*@" + domain) for pattern in map(str.lower, patterns))
