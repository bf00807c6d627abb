"""The tenant's script: one PowerShell file that prepares a tenant for the answers given, and the ids it prints."""

from __future__ import annotations

import base64
import re
import unicodedata
from typing import List, NamedTuple, Sequence, Tuple

from ...config.load import size_limit
from ...entra.registration import PERMISSIONS
from ...errors import UsageError
from ...system.choices import Permissions
from . import tenantparts as parts

# MB of a message that Exchange sends and receives by default, and the most it can be told to
# (attachment-createuploadsession.md; the limits page of Exchange Online).
_DEFAULT_MESSAGE_MB = 35
_LARGEST_MESSAGE_MB = 150

# What PowerShell takes for the end of a literal in single quotes: these, and ' (about_Quoting_Rules, and what
# CodeGeneration.EscapeSingleQuotedStringContent doubles).
_SINGLE_QUOTES = re.compile("(['\u2018\u2019\u201a\u201b])")

# az takes a word that begins with - or @ for something else than a name, and does not double a quote in its filters;
# a management scope has no longer name (New-ManagementScope).
_APP_NAME = re.compile(r"[^\W_][^'\r\n]{0,63}")

# Which mailboxes an application may reach is marked here; CustomAttribute1 to 15 are free for such things.
_ATTRIBUTE = "CustomAttribute1"

_GUID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_DOMAIN = r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)+"
_VALUE = rf"(?:{_GUID}|{_DOMAIN})"
_END = r"(?=$|[^\w-]|tenant|client|app|directory)"

# As the script prints them, and as the portal names them.
_TENANT_NAME = r"(?:tenant[ _-]?id|directory \(tenant\) id)"
_CLIENT_NAME = r"(?:client[ _-]?id|app(?:lication)?[ _-]?id|application \(client\) id)"

# Microsoft's own, which stand on the same pages: Microsoft Graph, and the placeholder of documentation.
_NOBODYS = {
    "00000003-0000-0000-c000-000000000000": "Microsoft Graph's",
    "00000000-0000-0000-0000-000000000000": "only a placeholder",
}

_EXPECTED = "Paste the script's last line: m365proxy ids: tenant_id=... client_id=..."


class PlannedMailbox(NamedTuple):
    """A mailbox the devices use; `new` if the script is to create it, as a shared mailbox."""

    address: str
    new: bool


class Plan(NamedTuple):
    """What the script is to prepare."""

    tenant: str  # a domain of it, or its id
    account: str  # that signs in; "" if the application does
    mailboxes: Tuple[PlannedMailbox, ...]
    permissions: Permissions
    attachment_limit_mb: float
    app_only: bool
    certificate: str  # the application's public certificate as PEM, if app_only; else ""
    app_name: str


class Ids(NamedTuple):
    """What the config needs of the app registration."""

    tenant_id: str
    client_id: str


def script(plan: Plan) -> str:
    """The whole PowerShell file, which may run any number of times.

    Whatever the answers contain, they are literals in it.  UsageError if one
    has a control character, if `app_name` is no name, or if `certificate` is none.
    """
    for text in (plan.tenant, plan.account, plan.app_name, *(mailbox.address for mailbox in plan.mailboxes)):
        _refuse_control_characters(text)
    if not _APP_NAME.fullmatch(plan.app_name):
        raise UsageError(
            f"{plan.app_name!r} is no name for an app registration. It must begin with a letter or a digit, "
            "and have at most 64 characters and no ' in it."
        )
    own = [parts.APP_ONLY_APP, parts.EXCHANGE, parts.APP_ONLY_ROLES] if plan.app_only else _delegated(plan)
    rights = [parts.GRANT_MARK] if plan.app_only else _grants(plan)
    shown = parts.SHOWN_APP_ONLY if plan.app_only else parts.SHOWN_DELEGATED
    return "".join(
        [
            parts.HEADER,
            "\n",
            parts.OPENING,
            _answers(plan),
            parts.FUNCTIONS,
            parts.APP,
            *own,
            parts.GRANT_BEGIN,
            *rights,
            parts.GRANT_END,
            parts.MAILBOXES,
            parts.SHOWN_BEGIN,
            shown,
            parts.CLOSING,
            _undoing(plan),
        ]
    )


def _delegated(plan: Plan) -> List[str]:
    return [parts.DELEGATED_APP, parts.EXCHANGE, parts.FULL_ACCESS, parts.SEND_AS, parts.ACCOUNT]


def _grants(plan: Plan) -> List[str]:
    """Send As alone is enough to send; all else is done in the mailbox itself."""
    if plan.permissions is Permissions.SEND:
        return [parts.GRANT_SEND_AS]
    return [parts.GRANT_FULL_ACCESS, parts.GRANT_SEND_AS]


def literal(text: str) -> str:
    """`text` as a PowerShell literal, in which nothing has a meaning."""
    return "'" + _SINGLE_QUOTES.sub(r"\1\1", text) + "'"


def _refuse_control_characters(text: str) -> None:
    if any(unicodedata.category(character) in ("Cc", "Zl", "Zp") for character in text):
        raise UsageError(f"There is a control character in {text!r}. Type it again, on one line.")


def _answers(plan: Plan) -> str:
    """The variables that all parts use."""
    lines = [
        f"$tenant = {literal(plan.tenant)}",
        f"$appName = {literal(plan.app_name)}",
        f"$appFilter = {literal(_app_filter(plan))}",
        f"$isPublicClient = {literal('false' if plan.app_only else 'true')}",
        f"$account = {literal(plan.account)}",
        f"$messageMb = {_message_mb(plan.attachment_limit_mb)}  # 0: what Exchange allows by default is enough",
        "$mailboxes = @(",
        *(
            f"    @{{ Address = {literal(mailbox.address)}; New = ${str(mailbox.new).lower()}; "
            f"Name = {literal(_local_part(mailbox))}; OtherName = {literal(_other_name(mailbox))} }}"
            for mailbox in plan.mailboxes
        ),
        ")",
    ]
    if plan.app_only:
        lines += _application(plan)
    else:
        lines.append(f"$permissions = {_literals(PERMISSIONS[plan.permissions])}")
    return "\n".join(lines) + "\n"


def _application(plan: Plan) -> List[str]:
    # Takes long to import, and is of no use to who has an account that signs in.
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization

    from ...server.tls import end_of

    try:
        certificate = x509.load_pem_x509_certificate(plan.certificate.encode())
    except ValueError:
        raise UsageError("The application's certificate is none: it must be PEM, with BEGIN CERTIFICATE.") from None
    fingerprint = certificate.fingerprint(hashes.SHA1())  # what Entra calls its thumbprint
    # Written anew, so that nothing else of the file, such as the key, can get into the script.
    pem = certificate.public_bytes(serialization.Encoding.PEM).decode().strip()
    # Entra says its thumbprint in hex or in base64 (keycredential.md says both).
    roles = [f"Application {name}" for name in ("Mail.Send", "Mail.ReadWrite")]
    return [
        f"$attribute = '{_ATTRIBUTE}'",
        f"$mark = {literal(plan.app_name)}",
        f"$roles = {_literals(roles[:1] if plan.permissions is Permissions.SEND else roles)}",
        f"$thumbprint = '{fingerprint.hex().upper()}'",
        f"$thumbprint64 = '{base64.b64encode(fingerprint).decode()}'",
        f"$certificateEnd = '{end_of(pem.encode()).strftime('%Y-%m-%dT%H:%M:%SZ')}'",
        f"$certificate = {literal(pem)}",
    ]


def _literals(words: Sequence[str]) -> str:
    return f"@({', '.join(map(literal, words))})"


def _app_filter(plan: Plan) -> str:
    """OData's; there is no quote in the name."""
    return f"displayName eq '{plan.app_name}'"


def _local_part(mailbox: PlannedMailbox) -> str:
    return mailbox.address.rpartition("@")[0] or mailbox.address


def _other_name(mailbox: PlannedMailbox) -> str:
    """A name for where another recipient has that of the local part; at most 64 characters (New-Mailbox)."""
    return mailbox.address.replace("@", "_")[:64]


def _message_mb(attachment_limit_mb: float) -> int:
    """MB of the largest message the devices may send, if Exchange has to be told; else 0."""
    needed = -(-size_limit(attachment_limit_mb) // (1024 * 1024))
    return 0 if needed <= _DEFAULT_MESSAGE_MB else min(needed, _LARGEST_MESSAGE_MB)


def _undoing(plan: Plan) -> str:
    """Comments; without their first two characters they take away what the script made."""
    name = literal(plan.app_name)
    commands = ["Connect-ExchangeOnline -Device"]
    for mailbox in plan.mailboxes:
        if not plan.app_only and mailbox.address.lower() != plan.account.lower():
            commands += _undo_rights(plan, literal(mailbox.address))
    if plan.app_only:
        commands += [
            f"$attribute = '{_ATTRIBUTE}'",
            f"$mark = {name}",
            "$empty = @{ $attribute = $null }",
            """Get-Mailbox -ResultSize Unlimited -Filter ("{0} -eq '{1}'" -f $attribute, $mark) |""",
            "    ForEach-Object { Set-Mailbox -Identity $_.DistinguishedName @empty }",
            f"Get-ManagementRoleAssignment | Where-Object {{ $_.CustomResourceScope -eq {name} }} |",
            "    Remove-ManagementRoleAssignment -Confirm:$false",
            f"Remove-ManagementScope -Identity {name} -Confirm:$false",
        ]
    commands.append(f"$apps = az ad app list --filter {literal(_app_filter(plan))} --query '[].appId' --output tsv")
    if plan.app_only:
        commands.append("foreach ($app in $apps) { Remove-ServicePrincipal -Identity $app -Confirm:$false }")
    commands.append("foreach ($app in $apps) { az ad app delete --id $app }")
    lines = [
        "",
        "To take everything away again: remove the # and the blank from the lines that follow, and run them alone.",
        "In a national cloud, add -ExchangeEnvironmentName to the first, as in the script above.",
        "The limits on the size of mail stay (Exchange's own: -MaxSendSize 35MB -MaxReceiveSize 36MB).",
        "",
        *commands,
    ]
    made = [literal(mailbox.address) for mailbox in plan.mailboxes if mailbox.new]
    if made:
        lines += ["", "The new mailboxes, and ALL THEIR MAIL with them:", ""]
        lines += [f"Remove-Mailbox -Identity {address} -Confirm:$false" for address in made]
    return "".join(f"# {line}".rstrip() + "\n" for line in lines)


def _undo_rights(plan: Plan, address: str) -> List[str]:
    account = literal(plan.account)
    commands = []
    if plan.permissions is not Permissions.SEND:
        commands.append(
            f"Remove-MailboxPermission -Identity {address} -User {account} -AccessRights FullAccess -Confirm:$false"
        )
    commands.append(
        f"Remove-RecipientPermission -Identity {address} -Trustee {account} -AccessRights SendAs -Confirm:$false"
    )
    return commands


def parse_ids(line: str) -> Ids:
    """The ids in what somebody pasted: the script's last line or a part of it, or the portal's names and values.

    UsageError, with a sentence on what to paste, if an id is missing, if it
    cannot be one, or if the two are certainly swapped.
    """
    # A terminal breaks the line where it ends, with or without a blank.
    for between in (" ", ""):
        text = re.sub(r"\s*[\r\n]+\s*", between, re.sub(r"[\"'`]", " ", line.strip()))
        tenant_id, client_id = _named(_TENANT_NAME, text), _named(_CLIENT_NAME, text)
        if tenant_id and client_id:
            break
    if not tenant_id and not client_id:
        found = re.findall(_GUID, text, re.IGNORECASE)
        if found:
            raise UsageError(f"It is not clear which id this is: {found[0]}. {_EXPECTED}")
        raise UsageError(f"There are no ids in this. {_EXPECTED}")
    if not tenant_id or not client_id:
        missing = "client_id" if tenant_id else "tenant_id"
        raise UsageError(f"There is no {missing} in this. {_EXPECTED}")
    _check_ids(tenant_id, client_id)
    return Ids(tenant_id, client_id)


def _named(name: str, text: str) -> str:
    """The value behind a name, in lower case; "" if there is none."""
    match = re.search(rf"{name}\s*[:=]?\s*({_VALUE}){_END}", text, re.IGNORECASE)
    return match.group(1).lower() if match else ""


def _check_ids(tenant_id: str, client_id: str) -> None:
    for name, value in (("tenant_id", tenant_id), ("client_id", client_id)):
        if value in _NOBODYS:
            raise UsageError(f"{name} {value} is {_NOBODYS[value]}. {_EXPECTED}")
    if tenant_id == client_id:
        raise UsageError(f"tenant_id and client_id are the same, {tenant_id}: one was pasted twice. {_EXPECTED}")
    if not re.fullmatch(_GUID, client_id):
        if re.fullmatch(_GUID, tenant_id):
            raise UsageError(f"The ids are swapped: {client_id} is a tenant. Paste them the other way round.")
        raise UsageError(f"client_id {client_id} is not an id like 11111111-2222-3333-4444-555555555555. {_EXPECTED}")
