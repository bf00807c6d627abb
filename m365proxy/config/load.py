"""Reading the configuration file: where it is, what it says, what is wrong with it."""

from __future__ import annotations

import difflib
import json
import os
import re
import stat
import sys
import urllib.parse
from collections import Counter
from types import SimpleNamespace
from typing import Iterator, Mapping, NoReturn, Optional, Tuple

from ..errors import ConfigError
from ..system.interfaces import default_gateways
from . import jsonmistakes
from .consistency import contradictions, doubts, plain_passwords
from .options import OPTIONS, Option, keys_of
from .types import Object, Path, Refused, Secret, kind, shown

MIB = 1048576

# Ten thousand mailboxes fit; a wrong file given by mistake is not read into a small machine's memory.
_LONGEST_FILE = 4 * MIB

_PLACES = (os.path.join("~", ".m365proxy", "config.json"), "/etc/m365proxy.json")

_SAMPLE = "A sample is /usr/share/doc/m365proxy/examples/m365proxy.json, or etc/m365proxy.json in the source."

_SHORTHANDS = (
    ("smtp_port", "smtp", False),
    ("smtps_port", "smtp", True),
    ("pop3_port", "pop3", False),
    ("pop3s_port", "pop3", True),
)


class Config(SimpleNamespace):
    """The whole configuration as nested namespaces named like the keys: config.queue.retry_interval.

    Options without a value are None, lists are tuples, networks are ipaddress
    networks, paths are absolute, addresses are in lower case; `sent_items` is
    None ("keep") or a number of days.  Every object has its place in `key`
    ("mailboxes[1]").  Beyond the keys of the table:

    path: the file's absolute path.
    warnings: a list of sentences.
    listeners: a tuple of namespaces, one for each socket, the shorthands
        included: key, protocol, address, port, tls ("none", "starttls",
        "implicit"), min_version, required, lf_only_clients.
    https_proxy: one URL with the credentials in it, or None.
    relay_networks: pairs (network, mailbox address), the smallest network first.
    state_dir: always set.
    """


def find(explicit: Optional[str], environ: Mapping[str, str]) -> str:
    """The configuration file's path; ConfigError names the places looked at if there is none."""
    given = explicit or environ.get("M365PROXY_CONFIG")
    if given:
        return given
    for place in map(os.path.expanduser, _PLACES):
        if os.path.exists(place):
            return place
    raise ConfigError(
        f"There is no configuration: neither --config nor M365PROXY_CONFIG is set, and neither {_PLACES[0]} nor "
        f"{_PLACES[1]} exists. {_SAMPLE}"
    )


def size_limit(attachment_limit_mb: float) -> int:
    """The octets a message may have so that its attachments may have `attachment_limit_mb` MB.

    A MB is 1,048,576 octets here.  Base64 makes 4 octets of 3 and breaks
    lines after 76 with CRLF; 1 MiB is for the text and the headers.
    """
    return int(attachment_limit_mb * MIB) * 4 * 78 // (3 * 76) + MIB


def load(path: str, environ: Optional[Mapping[str, str]] = None) -> Config:
    """Read and check a configuration file; ConfigError holds every mistake found in it."""
    path = os.path.abspath(path)
    content, mode = _content(path)
    document = _parse(content, path)
    reader = _Reader(os.path.dirname(path))
    config = Config(**vars(reader.section(document, "", "")))
    config.path = path
    config.mailboxes = config.mailboxes or ()
    config.https_proxy = reader.proxy_url(config.https_proxy)
    config.state_dir = config.state_dir or _state_directory(os.environ if environ is None else environ)
    config.listeners = tuple(_listeners(config, document))
    reader.problems += contradictions(config, reader.is_sound)
    if reader.problems:
        raise ConfigError(*reader.problems)
    config.warnings = [*doubts(config), *_gateways(config), *_exposed(config, mode)]
    return config


def _content(path: str) -> Tuple[bytes, int]:
    """The file's octets and its mode."""
    try:
        with open(path, "rb") as file:
            content = file.read(_LONGEST_FILE + 1)
            mode = os.fstat(file.fileno()).st_mode
    except OSError as error:
        advice = {
            FileNotFoundError: f"Make it, or name another with --config. {_SAMPLE}",
            PermissionError: "Run as root or as the user the service runs as, or give this user the right to read it.",
        }.get(type(error), "Name a file with --config.")
        raise ConfigError(f"{path} cannot be read: {error.strerror}. {advice}") from None
    if len(content) > _LONGEST_FILE:
        raise ConfigError(f"{path} is longer than {_LONGEST_FILE} octets: that is no configuration of m365proxy.")
    return content, mode


class _Document(dict):
    """A JSON object that remembers which of its keys stood there twice."""

    def __init__(self, pairs: list[tuple[str, object]]):
        super().__init__(pairs)
        counts = Counter(name for name, _ in pairs)
        self.repeated = [name for name, count in counts.items() if count > 1 and not name.startswith("#")]


def _parse(content: bytes, path: str) -> _Document:
    def refuse(name: str) -> NoReturn:
        raise ConfigError(f"{path} is not valid JSON: {name} is not a number there.")

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
        raise ConfigError(f"{path} is not valid JSON: brackets are nested too deep.") from None
    if not isinstance(document, _Document):
        raise ConfigError(f"{path} must hold one object in braces {{ }}, not {kind(document)}.")
    return document


class _Reader:
    """Turns the parsed document into namespaces along the option table, collecting problems."""

    def __init__(self, directory: str):
        self.problems: list[str] = []
        self._directory = directory
        self._broken: set[str] = set()

    def is_sound(self, path: str) -> bool:
        """Whether nothing at or below `path` was complained about."""
        return not any(broken == path or broken.startswith((path + ".", path + "[")) for broken in self._broken)

    def section(self, document: dict, section: str, path: str) -> SimpleNamespace:
        """The object at `path` with the keys of the table's `section`."""
        options = keys_of(section)
        self._names(document, options, path)
        result = SimpleNamespace(key=path)
        for option in options:
            setattr(result, option.name, self._value(document, option, _joined(path, option.name)))
        return result

    def proxy_url(self, proxy: object) -> Optional[Secret]:
        """https_proxy as one URL, from either of its spellings."""
        if not isinstance(proxy, SimpleNamespace):
            return proxy
        if not self.is_sound("https_proxy"):
            return None
        if proxy.user is None:
            if proxy.password is not None:
                self._complain("https_proxy.password", "is set, but https_proxy.user is not; set both or none")
            return proxy.url
        if "@" in proxy.url:
            self._complain("https_proxy", "holds a user name in its url and in user; keep one")
        scheme, _, host = proxy.url.partition("://")
        user, password = (urllib.parse.quote(text or "", safe="") for text in (proxy.user, proxy.password))
        return Secret(f"{scheme}://{user}:{password}@{host}")

    def _complain(self, path: str, predicate: str) -> None:
        self._broken.add(path)
        self.problems.append(f"{path} {predicate}" + ("" if predicate.endswith("?") else "."))

    def _names(self, document: dict, options: list[Option], path: str) -> None:
        known = [option.name for option in options]
        for name in document:
            if name not in known and not name.startswith("#"):
                self._complain(_joined(path, name), "is not a known option; " + _advice(name, known, path))
        self._repeats(document, path)

    def _repeats(self, document: object, path: str) -> None:
        for name in getattr(document, "repeated", ()):
            self._complain(_joined(path, name), "is there twice; keep one")

    def _value(self, document: dict, option: Option, path: str) -> object:
        value = document.get(option.name)
        if value is None and (option.name not in document or option.default is None):
            if option.required:
                self._complain(path, f"is missing: {option.help.rstrip('.')}")
            value = option.default
            if value is None:
                return None
        try:
            cast = option.type(value)
        except Refused as refused:
            for suffix, predicate in refused.mistakes:
                self._complain(path + suffix, predicate)
            return None if option.default is None else self._value({}, option, path)
        if keys_of(option.path + "[]"):
            return tuple(self._items(cast, option.path + "[]", path))
        if isinstance(cast, dict):
            return self.section(cast, option.path, path)
        self._repeats(value, path)
        if isinstance(option.type, Path) and cast not in option.type.special:
            return os.path.join(self._directory, os.path.expanduser(cast))
        return cast

    def _items(self, documents: list, section: str, path: str) -> Iterator[SimpleNamespace]:
        for index, document in enumerate(documents):
            place = f"{path}[{index}]"
            try:
                yield self.section(Object()(document), section, place)
            except Refused as refused:
                self._complain(place, str(refused))


def _joined(path: str, name: str) -> str:
    """The place of a key as a sentence shows it; a name with odd characters stands in quotes."""
    if not re.fullmatch(r"[\w-]{1,60}", name):
        return f"{path}[{shown(name)}]" if path else shown(name)
    return f"{path}.{name}" if path else name


def _advice(name: str, known: list[str], path: str) -> str:
    """What to do about an unknown key: the one of that name elsewhere, else the nearest here, else the nearest."""
    names = [option.name for option in OPTIONS]
    lower = name.lower()
    near = difflib.get_close_matches(lower, known, 1)
    if near and lower not in set(names) - set(known):
        return f"did you mean {_joined(path, near[0])}?"
    elsewhere = difflib.get_close_matches(lower, names, 1, cutoff=0.8)
    if elsewhere:
        return f"did you mean {' or '.join(option.path for option in OPTIONS if option.name == elsewhere[0])}?"
    return "remove it, or put # before its name to keep it as a comment"


def _state_directory(environ: Mapping[str, str]) -> str:
    # systemd gives a list with colons when a unit has several
    given = environ.get("STATE_DIRECTORY", "").split(":")[0] if sys.platform != "win32" else ""
    return given or os.path.expanduser(os.path.join("~", ".m365proxy"))


def _listeners(config: Config, document: dict) -> Iterator[SimpleNamespace]:
    """Every socket to open, from the shorthands and from listeners."""
    usual = "starttls" if config.tls.tls_cert else "none"
    for key, protocol, implicit in _SHORTHANDS:
        port = getattr(config, key)
        if port is None or (key == "smtp_port" and config.listeners and key not in document):
            continue
        for address in config.bind:
            yield SimpleNamespace(
                key=key,
                protocol=protocol,
                address=address,
                port=port,
                tls="implicit" if implicit else usual,
                min_version=config.tls.min_version,
                required=config.tls.required,
                lf_only_clients=False,
            )
    for given in config.listeners:
        if given.protocol is None or given.port is None:
            continue
        tls = given.tls or usual
        for address in given.bind or config.bind:
            yield SimpleNamespace(
                key=given.key,
                protocol=given.protocol,
                address=address,
                port=given.port,
                tls=tls,
                min_version=given.min_version or config.tls.min_version,
                # tls: "none" said outright for one listener is an exception to tls.required
                required=(config.tls.required and given.tls != "none") if given.required is None else given.required,
                lf_only_clients=given.lf_only_clients,
            )


def _gateways(config: Config) -> Iterator[str]:
    """A warning if a router may send without sign-in: it may hide many behind its address (NAT)."""
    gateways = default_gateways() if config.relay_networks else []
    for network, address in config.relay_networks:
        if str(network.network_address) in gateways and network.num_addresses == 1:
            yield (
                f'relay_networks["{network}"] is this machine\'s gateway: everybody whose address it hides (NAT) '
                f"can send as {address} without a password; name the devices' own addresses."
            )


def _exposed(config: Config, mode: int) -> Iterator[str]:
    """A warning if others may read secrets in the file."""
    secrets = config.client_secret or config.status_password or "@" in (config.https_proxy or "")
    if (secrets or plain_passwords(config)) and sys.platform != "win32" and mode & stat.S_IROTH:
        yield (
            f"{config.path} holds secrets in plain text, and every user of this machine can read it; "
            f"run `chmod o-rwx {config.path}`."
        )
