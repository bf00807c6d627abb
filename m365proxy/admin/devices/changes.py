"""What a proposal changes in the config: one device more, and nothing else."""

from __future__ import annotations

import json
from typing import Callable, Dict, Iterator, List, Sequence, cast

from ...errors import UsageError
from ..init.amendment import Document

# Puts something into the config, and returns the option with its new value, as it will be in the file.
Change = Callable[[Document], str]


def extended(key: str, present: Sequence[str], added: str) -> Change:
    """A list of the config's top with one entry more.  `present`: what is true if it is not in the file."""

    def change(document: Document) -> str:
        return _append(document, key, present, added)

    return change


def relayed(client: str, mailbox: str) -> Change:
    """relay_networks with one address more."""

    def change(document: Document) -> str:
        networks = document.get("relay_networks")
        document["relay_networks"] = networks = {**(networks if isinstance(networks, dict) else {}), client: mailbox}
        return _option("relay_networks", networks)

    return change


def listening(listener: Document, smtp_port: int) -> Change:
    """One listener more; `smtp_port` stays open, which without its key only a config without listeners opens."""

    def change(document: Document) -> str:
        there = document.get("listeners")
        listeners: List[object] = list(there) if isinstance(there, list) else []
        shown = []
        if not listeners and document.get("smtp_port") is None:
            document["smtp_port"] = smtp_port
            shown.append(_option("smtp_port", smtp_port))
        if listener not in listeners:  # it may be there for another device
            document["listeners"] = listeners = [*listeners, dict(listener)]
        return "\n".join([*shown, _option("listeners", listeners)])

    return change


def rewriting(mailbox: str) -> Change:
    """A mailbox with rewrite_from."""

    def change(document: Document) -> str:
        _mailbox(document, mailbox)["rewrite_from"] = True
        return f"{_option('rewrite_from', True)} for {mailbox}"

    return change


def sending_as(mailbox: str, address: str) -> Change:
    """A mailbox with one address more in send_as."""

    def change(document: Document) -> str:
        return f"{_append(_mailbox(document, mailbox), 'send_as', (), address)} for {mailbox}"

    return change


def admitting(login: str, client: str) -> Change:
    """A login with one network more."""

    def change(document: Document) -> str:
        for one in _logins(document):
            if str(one.get("login")).casefold() == login.casefold():
                return f"{_append(one, 'networks', (), client)} for {login}"
        raise UsageError(f"{login} is no login of the config any more.")

    return change


def _append(document: Document, key: str, present: Sequence[str], added: str) -> str:
    there = document.get(key)
    known = [there] if isinstance(there, str) else list(there) if isinstance(there, list) else list(present)
    document[key] = value = known if added in known else [*known, added]
    return _option(key, value)


def _option(key: str, value: object) -> str:
    return f'"{key}": {json.dumps(value, ensure_ascii=False)}'


def _mailboxes(document: Document) -> Iterator[Document]:
    found = document.get("mailboxes")
    yield from (
        cast(Dict[str, object], one) for one in (found if isinstance(found, list) else ()) if isinstance(one, dict)
    )


def _mailbox(document: Document, address: str) -> Document:
    for one in _mailboxes(document):
        if str(one.get("username")).lower() == address.lower():
            return one
    raise UsageError(f"{address} is no mailbox of the config any more.")


def _logins(document: Document) -> Iterator[Document]:
    for mailbox in _mailboxes(document):
        found = mailbox.get("logins")
        yield from (
            cast(Dict[str, object], one) for one in (found if isinstance(found, list) else ()) if isinstance(one, dict)
        )
