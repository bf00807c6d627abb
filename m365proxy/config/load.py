"""Reading the configuration file: where it is, what is in it, what is wrong with it."""

from __future__ import annotations

import dataclasses
import difflib
import json
import os
import re
import stat
import sys
import urllib.parse
from collections import Counter
from types import SimpleNamespace
from typing import Any, Dict, Iterator, List, Mapping, NoReturn, Optional, Tuple

from ..errors import ConfigError
from ..system import machine
from ..system.interfaces import default_gateways
from . import jsonmistakes
from .consistency import contradictions, doubts, plain_passwords
from .option import Option
from .options import OPTIONS, keys_of
from .sections import SECTIONS, Config
from .sockets import sockets_of
from .types import Mistake, Object, Path, Secret, kind, shown

MIB = 1048576

# Ten thousand mailboxes fit; a wrong file given by mistake is not read into a small machine's memory.
_LONGEST_FILE = 4 * MIB


def _of_machine(platform: str, environ: Mapping[str, str]) -> str:
    """Where the configuration of a service is."""
    if platform != "win32":
        return "/etc/m365proxy.json"
    return "\\".join((environ.get("ProgramData", "C:\\ProgramData"), "m365proxy", "config.json"))


_PLACES = (os.path.join("~", ".m365proxy", "config.json"), _of_machine(sys.platform, os.environ))

_SAMPLE = "A sample is /usr/share/doc/m365proxy/examples/m365proxy.json, or etc/m365proxy.json in the source."


def find(explicit: Optional[str], environ: Mapping[str, str]) -> str:
    """The configuration file's path; ConfigError, with the places looked at, if there is none."""
    given = explicit or environ.get("M365PROXY_CONFIG")
    if given:
        return given
    for place in map(os.path.expanduser, _PLACES):
        if os.path.exists(place):
            return place
    raise ConfigError(
        f"There is no configuration: neither --config nor M365PROXY_CONFIG is set, and neither {_PLACES[0]} nor "
        f"{_PLACES[1]} exists. Make one with `m365proxy init`. {_SAMPLE}"
    )


def place(explicit: Optional[str], environ: Mapping[str, str]) -> str:
    """Where the configuration is or, if there is none yet, where a new one belongs: root's is that of a service.

    On Windows an administrator's is, too.
    """
    try:
        return find(explicit, environ)
    except ConfigError:
        return _PLACES[1] if machine.is_administrator() else os.path.expanduser(_PLACES[0])


def size_limit(attachment_limit_mb: float) -> int:
    """The octets a message may have so that its attachments may have `attachment_limit_mb` MB.

    A MB is 1,048,576 octets here.  Base64 makes 4 octets of 3 and breaks
    lines after 76 with CRLF; 1 MiB is for the text and the headers.
    """
    return int(attachment_limit_mb * MIB) * 4 * 78 // (3 * 76) + MIB


def load(path: str, environ: Optional[Mapping[str, str]] = None) -> Config:
    """Read and check a configuration file; ConfigError holds every mistake found in it."""
    path = os.path.abspath(path)
    content, mode = content_of(path)
    return parsed(content, path, mode, environ)


def parsed(content: bytes, path: str, mode: int = 0o600, environ: Optional[Mapping[str, str]] = None) -> Config:
    """`load` for what a file of this (absolute) path and mode holds, or will hold."""
    document = _parse(content, path)
    reader = _Reader(os.path.dirname(path))
    read = reader.section(document, "", "")
    read.mailboxes = read.mailboxes or ()
    read.sockets = tuple(sockets_of(read, has_smtp_port="smtp_port" in document))
    problems = reader.problems + contradictions(read, reader.is_sound)
    if problems:
        raise ConfigError(*problems)
    del read.key  # the whole has no place of its own
    read.path, read.warnings = path, ()
    read.https_proxy = _proxy_url(read.https_proxy)
    read.state_dir = read.state_dir or state_directory(os.environ if environ is None else environ, path)
    config = Config(**_typed(read, ""))
    warnings = (*doubts(config), *_gateways(config), *_exposed(config, mode))
    return dataclasses.replace(config, warnings=warnings)


def content_of(path: str) -> Tuple[bytes, int]:
    """The octets of a configuration file, and its mode; ConfigError if it cannot be read."""
    try:
        with open(path, "rb") as file:
            content = file.read(_LONGEST_FILE + 1)
            mode = os.fstat(file.fileno()).st_mode
    except OSError as error:
        advice = {
            FileNotFoundError: f"Make it with `m365proxy init`, or name another with --config. {_SAMPLE}",
            PermissionError: "Run as root or as the user the service runs as, or give this user the right to read it.",
        }.get(type(error), "Name a file with --config.")
        raise ConfigError(f"{path} cannot be read: {error.strerror}. {advice}") from None
    if len(content) > _LONGEST_FILE:
        raise ConfigError(f"{path} is longer than {_LONGEST_FILE} octets: it is no configuration of m365proxy.")
    return content, mode


class _Document(Dict[str, object]):
    """A JSON object that remembers which of its keys were there twice."""

    def __init__(self, pairs: List[Tuple[str, object]]):
        super().__init__(pairs)
        counts = Counter(name for name, _ in pairs)
        self.repeated = [name for name, count in counts.items() if count > 1 and not name.startswith("#")]


def _parse(content: bytes, path: str) -> _Document:
    def refuse(name: str) -> NoReturn:
        raise ConfigError(f"{path} is not valid JSON: {name} is not a number in JSON.")

    try:
        document = json.loads(
            # Windows editors write UTF-8 with a mark in front, or UTF-16
            content.decode(json.detect_encoding(content)),
            object_pairs_hook=_Document,
            parse_constant=refuse,
            # Python refuses to read numbers of thousands of digits; no option is that large
            parse_int=lambda digits: int(digits) if len(digits) < 20 else float(digits),
        )
    except json.JSONDecodeError as error:
        sentence, shown = jsonmistakes.explain(error)
        raise ConfigError(f"{path} is not valid JSON: {sentence}", shown=shown) from None
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{path} is not valid JSON: line {line} is not UTF-8; save the file as UTF-8.") from None
    except RecursionError:
        raise ConfigError(f"{path} is not valid JSON: brackets are nested too deeply.") from None
    if not isinstance(document, _Document):
        raise ConfigError(f"{path} must hold one object in braces {{ }}, not {kind(document)}.")
    return document


class _Reader:
    """Turns the parsed document into namespaces along the option table, and collects problems.

    What is missing or wrong becomes the default, or None.
    """

    def __init__(self, directory: str):
        self.problems: List[str] = []
        self._directory = directory
        self._broken: set[str] = set()

    def is_sound(self, path: str) -> bool:
        """Whether no problem was found at or below `path`."""
        return not any(broken == path or broken.startswith((path + ".", path + "[")) for broken in self._broken)

    def section(self, document: Dict[str, object], section: str, path: str) -> SimpleNamespace:
        """The object at `path`, with the keys of the table's `section`."""
        options = keys_of(section)
        self._names(document, options, path)
        result = SimpleNamespace(key=path)
        for option in options:
            setattr(result, option.name, self._value(document, option, _joined(path, option.name)))
        return result

    def _complain(self, path: str, predicate: str) -> None:
        self._broken.add(path)
        self.problems.append(f"{path} {predicate}" + ("" if predicate.endswith("?") else "."))

    def _names(self, document: Dict[str, object], options: List[Option], path: str) -> None:
        known = [option.name for option in options]
        for name in document:
            if name not in known and not name.startswith("#"):
                self._complain(_joined(path, name), "is not a known option; " + _advice(name, known, path))
        self._repeats(document, path)

    def _repeats(self, document: object, path: str) -> None:
        for name in getattr(document, "repeated", ()):
            self._complain(_joined(path, name), "is there twice; keep one")

    def _value(self, document: Dict[str, object], option: Option, path: str) -> object:
        value = document.get(option.name)
        if value is None and (option.name not in document or option.default is None):
            if option.required:
                self._complain(path, f"is missing: {option.help.rstrip('.')}")
            value = option.default
            if value is None:
                return None
        try:
            cast = option.type(value)
        except Mistake as mistake:
            for suffix, predicate in mistake.found:
                self._complain(path + suffix, predicate)
            return None if option.default is None else self._value({}, option, path)
        if isinstance(cast, list):
            return tuple(self._items(cast, option.path + "[]", path))
        if isinstance(cast, dict):
            return self.section(cast, option.path, path)
        self._repeats(value, path)
        if isinstance(option.type, Path) and isinstance(cast, str) and cast not in option.type.special:
            return os.path.join(self._directory, os.path.expanduser(cast))
        return cast

    def _items(self, documents: List[object], section: str, path: str) -> Iterator[SimpleNamespace]:
        for index, document in enumerate(documents):
            place = f"{path}[{index}]"
            if isinstance(document, dict):
                yield self.section(document, section, place)
            else:
                self._complain(place, f"must be {Object.words}, not {kind(document)}")


def _joined(path: str, name: str) -> str:
    """The place of a key as a sentence shows it; a name with odd characters is in quotes."""
    if not re.fullmatch(r"[\w-]{1,60}", name):
        return f"{path}[{shown(name)}]" if path else shown(name)
    return f"{path}.{name}" if path else name


def _advice(name: str, known: List[str], path: str) -> str:
    """What to do about an unknown key: use one with a similar name, here or in another section, or remove it."""
    names = [option.name for option in OPTIONS]
    lower = name.lower()
    near = difflib.get_close_matches(lower, known, 1)
    if near and lower not in set(names) - set(known):
        return f"did you mean {_joined(path, near[0])}?"
    elsewhere = difflib.get_close_matches(lower, names, 1, cutoff=0.8)
    if elsewhere:
        return f"did you mean {' or '.join(option.path for option in OPTIONS if option.name == elsewhere[0])}?"
    return "remove it, or put # before its name to keep it as a comment"


def state_directory(environ: Mapping[str, str], path: str) -> str:
    """That of a config at `path` which names none."""
    if sys.platform == "win32" and os.path.normcase(path) == os.path.normcase(_PLACES[1]):
        return os.path.join(os.path.dirname(path), "state")  # the user of a service has another home
    # systemd gives a list with colons when a unit has several
    given = environ.get("STATE_DIRECTORY", "").split(":")[0] if sys.platform != "win32" else ""
    return given or os.path.expanduser(os.path.join("~", ".m365proxy"))


def _proxy_url(proxy: object) -> Optional[Secret]:
    """https_proxy as one URL, from either of its spellings."""
    if not isinstance(proxy, SimpleNamespace):
        return None if proxy is None else Secret(proxy)
    if proxy.user is None:
        return Secret(proxy.url)
    scheme, _, host = proxy.url.partition("://")
    user, password = (urllib.parse.quote(text or "", safe="") for text in (proxy.user, proxy.password))
    return Secret(f"{scheme}://{user}:{password}@{host}")


def _typed(read: SimpleNamespace, section: str) -> Dict[str, Any]:
    """What was read of a section, its subsections as objects of their classes."""
    return {name: _typed_value(value, f"{section}.{name}" if section else name) for name, value in vars(read).items()}


def _typed_value(value: object, path: str) -> object:
    if isinstance(value, SimpleNamespace):
        return SECTIONS[path](**_typed(value, path))
    if isinstance(value, tuple) and path + "[]" in SECTIONS:
        return tuple(_typed_value(item, path + "[]") for item in value)
    return value


def _gateways(config: Config) -> Iterator[str]:
    """A warning if a router may send without login: it may hide many clients behind its address (NAT)."""
    gateways = default_gateways() if config.relay_networks else []
    for network, address in config.relay_networks:
        if str(network.network_address) in gateways and network.num_addresses == 1:
            yield (
                f'relay_networks["{network}"] is this machine\'s gateway: every client whose address it hides (NAT) '
                f"can send as {address} without a password; name the devices' own addresses."
            )


def _exposed(config: Config, mode: int) -> Iterator[str]:
    """A warning if other users can read secrets in the file."""
    is_readable = sys.platform != "win32" and bool(mode & stat.S_IROTH)
    secrets = config.client_secret or config.notify_url or "@" in (config.https_proxy or "")
    if is_readable and (secrets or plain_passwords(config)):
        yield (
            f"{config.path} holds secrets in plain text, and every user of this machine can read it; "
            f"run `chmod o-rwx {config.path}`."
        )
