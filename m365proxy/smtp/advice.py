"""What an administrator can write into the configuration about a client that was refused: lines to be copied."""

from __future__ import annotations

import json
from typing import List

from ..logins.users import User
from ..mime.addresses import is_internet_address
from . import replies
from .policy import Policy
from .replies import Reply

# Characters of a value that is shown as a whole.
_LONGEST = 300

# A port that the usual ones leave free.
_ANOTHER_PORT = 2526

LF_ONLY = "it ends its lines with a bare LF (lf_only_clients)"
BARE_LF = (
    "it ends its lines with a bare LF, and needs a listener of its own: put "
    + json.dumps({"protocol": "smtp", "port": _ANOTHER_PORT, "lf_only_clients": True})
    + ' into "listeners", and set "smtp_port", too, to keep that port open'
)


def _line(name: str, value: object, added: str) -> str:
    """An option with its new value; of a long one only what is `added`."""
    text = json.dumps(value)
    return f'"{name}": {text}' if len(text) <= _LONGEST else f'{added} in "{name}"'


def sender_refused(address: str, user: User) -> Reply:
    """The reply to a sender, or author, that the user may not be."""
    ways, here = [], "to this mailbox in the configuration"
    # No other may be in send_as, and there "*@" is a whole domain.
    if is_internet_address(address) and not address.startswith("*@"):
        more = _line("send_as", [*user.send_as, address.lower()], json.dumps(address.lower()))
        ways.append(f"or add {more} {here}, if Exchange lets it send as that,")
    ways.append(f'or add "rewrite_from": true {here}: such mail then comes from {user.default_from}')
    return replies.sender_refused(address, user.mailbox, ways)


def without_auth(peer: str, policy: Policy, can_start_tls: bool, tls_required: bool) -> str:
    """One sentence: what can be done about a client that was offered no AUTH and left."""
    here = "" if can_start_tls else "give this port a certificate (tls.tls_cert) and "
    ways = [f"it was offered no AUTH, because it had not begun TLS, and left: {here}set TLS (STARTTLS) on the device"]
    if not tls_required:
        networks = [*map(str, policy.plaintext_networks), peer]
        ways.append(f"or let it log in without TLS: {_line('plaintext_networks', networks, json.dumps(peer))}")
        ways += _relaying(peer, policy)
    return "; ".join(ways)


def _relaying(peer: str, policy: Policy) -> List[str]:
    if not policy.mailboxes:
        return []
    relays = {str(network): mailbox for network, mailbox in policy.relay_networks}
    new = {peer: policy.mailboxes[0]}
    others = " (or another mailbox)" if len(policy.mailboxes) > 1 else ""
    line = _line("relay_networks", {**relays, **new}, json.dumps(new)[1:-1])
    return [f"or let it send without a login: {line}{others}"]
