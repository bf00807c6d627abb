"""The tenant's script: what it asks for, that an answer can never become code, and the ids it prints."""

import base64
import hashlib
import re
import ssl
from pathlib import Path

import pytest
from cases import each

from m365proxy.admin.init.tenantscript import Ids, Plan, PlannedMailbox, literal, parse_ids, script
from m365proxy.errors import UsageError
from m365proxy.server.tls import self_signed
from m365proxy.system.choices import Permissions

TENANT = "5f0c8d3a-7f3e-4a52-9a55-0d6a1c6f1b11"
CLIENT = "c1a4e2d0-36b5-4c0e-8b6f-2f6d1e0a7c22"
GRAPH = "00000003-0000-0000-c000-000000000000"

# Every cmdlet of Exchange Online that the script calls or names, with the parameters it gives.  Each stands on the
# cmdlet's page, for Exchange Online: MicrosoftDocs/office-docs-powershell, exchange/exchange-ps/ExchangePowerShell, as
# looked up on 2026-11-29.  What is added here is to be looked up first, and belongs into docs/tenant.md.
DOCUMENTED = {
    "Add-MailboxPermission": "AccessRights AutoMapping Identity User",
    "Add-RecipientPermission": "AccessRights Confirm Identity Trustee",
    "Connect-ExchangeOnline": "Device ExchangeEnvironmentName ShowBanner",
    "Disconnect-ExchangeOnline": "Confirm",
    "Enable-OrganizationCustomization": "",
    "Get-ConnectionInformation": "",
    "Get-Mailbox": "Filter ResultSize",
    "Get-MailboxPermission": "Identity User",
    "Get-ManagementRoleAssignment": "",
    "Get-ManagementScope": "",
    "Get-OrganizationConfig": "",
    "Get-RecipientPermission": "Identity Trustee",
    "Get-ServicePrincipal": "",
    "New-Mailbox": "DisplayName Name PrimarySmtpAddress Shared",
    "New-ManagementRoleAssignment": "App CustomResourceScope Role",
    "New-ManagementScope": "Name RecipientRestrictionFilter",
    "New-ServicePrincipal": "AppId DisplayName ObjectId",
    "Remove-Mailbox": "Confirm Identity",
    "Remove-MailboxPermission": "AccessRights Confirm Identity User",
    "Remove-ManagementRoleAssignment": "Confirm",
    "Remove-ManagementScope": "Confirm Identity",
    "Remove-RecipientPermission": "AccessRights Confirm Identity Trustee",
    "Remove-ServicePrincipal": "Confirm Identity",
    "Set-Mailbox": "CustomAttribute1 Identity MaxReceiveSize MaxSendSize",
    "Test-ServicePrincipalAuthorization": "Identity Resource",
}
# PowerShell's own, and what the script defines itself.
NOT_EXCHANGE = re.compile(
    r"(?:Write|Out|Format|Sort|Where|ForEach|ConvertTo|Start|Invoke|Import|Install|Assert|Join|Grant)-\w+"
    r"|(?:Get-(?:Command|Module|Octets)|Set-(?:Content|Size)|Remove-Item|Find-\w+|Test-(?:FullAccess|SendAs))"
)

# What PowerShell takes for a single quote (about_Quoting_Rules; its tokenizer takes the curly ones too).
QUOTES = "'\u2018\u2019\u201a\u201b"


def plan(**changes):
    return Plan(
        tenant="contoso.com",
        account="relay@contoso.com",
        mailboxes=(PlannedMailbox("alerts@contoso.com", True), PlannedMailbox("scanner@contoso.com", False)),
        permissions=Permissions.FULL,
        attachment_limit_mb=20,
        app_only=False,
        certificate="",
        app_name="m365proxy",
    )._replace(**changes)


@pytest.fixture(scope="module")
def certificate():
    return self_signed(["m365proxy"])


@pytest.fixture(scope="module")
def app_only(certificate):
    return plan(account="", app_only=True, certificate=certificate[0].decode())


def variable(text, name):
    """The line that sets it, without the name."""
    (line,) = [line for line in text.splitlines() if line.startswith(f"${name} = ")]
    return line.partition(" = ")[2]


def code_and_literals(text):
    """PowerShell without double quotes, taken apart: the code with '' for each literal, and what these say."""
    code, literals, rest = "", [], text
    while rest:
        if rest[0] not in QUOTES:
            code, rest = code + rest[0], rest[1:]
            continue
        said, rest = "", rest[1:]
        while rest[0] not in QUOTES or rest[1:2] in list(QUOTES):
            said, rest = said + rest[0], rest[2 if rest[0] in QUOTES else 1 :]
        code, literals, rest = code + "''", literals + [said], rest[1:]
    return code, literals


def with_answers(text):
    """The two places that answers get into: the variables at the top, and the commands that undo."""
    top = text[text.index("$tenant = ") : text.index("$graph = ")]
    undoing = text[text.rindex("\n}\n") + 3 :]
    assert all(line == "#" or line.startswith("# ") for line in undoing.splitlines())
    commands = "\n".join(line[2:] for line in undoing.splitlines())
    return top + commands[commands.index("Connect-ExchangeOnline") :]


@each("form", ["delegated", "send only", "app-only"])
@each(
    "hostile",
    [
        "o'brien",
        "'; Remove-Mailbox *; '",
        "\u2019; Remove-Mailbox *; \u2018",
        "\u201a\u201b''\u2019",
        '"; $(Remove-Mailbox *); "',
        "$(Remove-Mailbox *)`n#> & { $account",
        "Bürgermeisteramt #1 @{ }",
        "-Force",
        "'",
        "",
    ],
)
def test_no_answer_becomes_code(form, hostile, app_only):
    ordinary = {"delegated": plan(), "send only": plan(permissions=Permissions.SEND), "app-only": app_only}[form]
    name = "x" + hostile.replace("'", "")  # az allows no quote in it
    mailboxes = (PlannedMailbox(f"{hostile}@contoso.com", True), PlannedMailbox(f"x{hostile}@contoso.com", False))
    account = "" if ordinary.app_only else f"a{hostile}@contoso.com"
    answers = ordinary._replace(tenant=hostile, account=account, mailboxes=mailboxes, app_name=name)
    code, literals = code_and_literals(with_answers(script(answers)))
    assert code == code_and_literals(with_answers(script(ordinary)))[0]
    assert {hostile, name, f"{hostile}@contoso.com", f"x{hostile}@contoso.com"} <= set(literals)
    # Everything else is the same, whatever was answered.
    rest = [text[text.index("$graph = ") : text.rindex("\n}\n")] for text in (script(answers), script(ordinary))]
    assert rest[0] == rest[1]


@each("where", ["tenant", "account", "app_name", "mailboxes"])
@each("character", ["\n", "\r", "\0", "\x1b", "\x85", "\u2028"])
def test_control_characters_are_refused(where, character):
    value = f"a{character}b"
    with pytest.raises(UsageError, match="control character"):
        script(plan(**{where: (PlannedMailbox(value, True),) if where == "mailboxes" else value}))


@each("name", ["", "-Force", "@/etc/passwd", " m365proxy", "_", "o'brien", "x" * 65])
def test_names_that_are_none(name):
    with pytest.raises(UsageError, match="begin with a letter or a digit"):
        script(plan(app_name=name))


@each(
    "text, expected",
    [("a", "'a'"), ("", "''"), ("o'b", "'o''b'"), ("$a`n", "'$a`n'"), ("\u2019", "'\u2019\u2019'")],
)
def test_literal(text, expected):
    assert literal(text) == expected


# --- what is asked for


@pytest.mark.parametrize(
    "permissions, expected",
    [
        (Permissions.SEND, {"Mail.Send", "Mail.Send.Shared", "User.Read"}),
        (
            Permissions.FULL,
            {"Mail.Send", "Mail.Send.Shared", "User.Read", "Mail.ReadWrite", "Mail.ReadWrite.Shared"},
        ),
    ],
)
def test_exactly_the_permissions_needed(permissions, expected):
    text = script(plan(permissions=permissions))
    assert set(code_and_literals(variable(text, "permissions"))[1]) == expected
    assert "Application Mail" not in text


def test_sending_only_needs_no_full_access():
    assert "Add-MailboxPermission" in script(plan())
    text = script(plan(permissions=Permissions.SEND))
    assert "Add-MailboxPermission" not in text
    assert "Remove-MailboxPermission" not in text
    assert "Add-RecipientPermission" in text


@pytest.mark.parametrize("form", [plan(), plan(permissions=Permissions.SEND)])
def test_permissions_are_looked_up_by_name(form):
    """No id of Microsoft's stands in the script but that of Graph itself, by which it is asked."""
    assert set(re.findall(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", script(form))) == {GRAPH}
    assert "az ad sp show --id $graph --query 'oauth2PermissionScopes[].[value, id]'" in script(form)


@pytest.mark.parametrize(
    "permissions, expected",
    [
        (Permissions.SEND, ["Application Mail.Send"]),
        (Permissions.FULL, ["Application Mail.Send", "Application Mail.ReadWrite"]),
    ],
)
def test_an_application_gets_its_rights_in_exchange_only(app_only, permissions, expected):
    text = script(app_only._replace(permissions=permissions))
    assert code_and_literals(variable(text, "roles"))[1] == expected
    assert "-CustomResourceScope $appName" in text
    for word in ("az ad app permission", "--required-resource-accesses", "$permissions", "SendAs", "FullAccess"):
        assert word not in text
    assert variable(text, "isPublicClient") == "'false'"
    assert variable(script(plan()), "isPublicClient") == "'true'"


def test_the_certificate_of_an_application_and_never_its_key(certificate, app_only):
    pem, key = certificate
    text = script(app_only._replace(certificate=(key + pem).decode()))
    assert pem.decode().strip() in text
    assert "PRIVATE KEY" not in text
    fingerprint = hashlib.sha1(ssl.PEM_cert_to_DER_cert(pem.decode())).digest()
    assert variable(text, "thumbprint") == f"'{fingerprint.hex().upper()}'"
    assert variable(text, "thumbprint64") == f"'{base64.b64encode(fingerprint).decode()}'"


@pytest.mark.parametrize("text", ["", "none", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_no_certificate(app_only, text):
    with pytest.raises(UsageError, match="BEGIN CERTIFICATE"):
        script(app_only._replace(certificate=text))


@each(
    "attachment_limit_mb, expected",
    [(1, "0"), (24, "0"), (24.9, "36"), (25, "36"), (80, "111"), (109, "150"), (110, "150"), (150, "150")],
)
def test_size_limits_only_if_the_devices_mail_needs_it(attachment_limit_mb, expected):
    text = script(plan(attachment_limit_mb=attachment_limit_mb))
    assert variable(text, "messageMb").split()[0] == expected


def test_mailboxes_in_their_order():
    text = script(plan())
    first = "@{ Address = 'alerts@contoso.com'; New = $true; Name = 'alerts'; OtherName = 'alerts_contoso.com' }"
    second = "@{ Address = 'scanner@contoso.com'; New = $false; Name = 'scanner'; OtherName = 'scanner_contoso.com' }"
    assert text.index(first) < text.index(second)


def test_a_name_has_at_most_64_characters():
    """New-Mailbox: what -Name may have."""
    text = script(plan(mailboxes=(PlannedMailbox(f"{'x' * 60}@contoso.com", True),)))
    assert f"OtherName = '{'x' * 60}_con' }}" in text


# --- again, and away


def test_everything_is_taken_away_again(app_only):
    undone = with_answers(script(plan()))
    for command in (
        "Remove-MailboxPermission -Identity 'alerts@contoso.com' -User 'relay@contoso.com' -AccessRights FullAccess",
        "Remove-RecipientPermission -Identity 'scanner@contoso.com' -Trustee 'relay@contoso.com' -AccessRights SendAs",
        "Remove-Mailbox -Identity 'alerts@contoso.com'",
        "az ad app delete --id $app",
    ):
        assert command in undone
    assert "Remove-Mailbox -Identity 'scanner@contoso.com'" not in undone  # it was there before
    undone = with_answers(script(app_only))
    for command in ("Remove-ManagementScope", "Remove-ManagementRoleAssignment", "Remove-ServicePrincipal"):
        assert command in undone


def test_only_what_the_script_made_is_taken_away(app_only):
    """A CustomAttribute with another value, and another's service principal of the same name, are left alone."""
    undone = with_answers(script(app_only))
    undone = undone[undone.index("Connect-ExchangeOnline") :]
    assert undone.index("$attribute = 'CustomAttribute1'") < undone.index("$mark = 'm365proxy'")
    assert """Get-Mailbox -ResultSize Unlimited -Filter ("{0} -eq '{1}'" -f $attribute, $mark) |""" in undone
    assert "-CustomAttribute1 $null" not in undone
    assert "DisplayName" not in undone
    ours = undone[undone.index("$apps = az ad app list") :]
    assert "foreach ($app in $apps) { Remove-ServicePrincipal -Identity $app -Confirm:$false }" in ours
    assert ours.index("Remove-ServicePrincipal") < ours.index("az ad app delete")


def test_the_own_mailbox_of_the_account_is_left_its_rights():
    text = script(plan(mailboxes=(PlannedMailbox("Relay@contoso.com", False),)))
    assert "Remove-RecipientPermission" not in text


def calls(text):
    """Each cmdlet of Exchange in it, also those it names in a sentence or a comment, with the parameters given."""
    text = re.sub(r"[`|]\n(?:# )?\s*", "", text)
    for match in re.finditer(r"\b([A-Z][a-z]+-[A-Z]\w+)((?:(?!\b[A-Z][a-z]+-[A-Z])[^|{}\n])*)", text):
        if not NOT_EXCHANGE.fullmatch(match.group(1)):
            yield match.group(1), set(re.findall(r" -([A-Z]\w+)", match.group(2))) - {"ErrorAction"}


def test_each_cmdlet_was_looked_up(app_only):
    found = [call for form in (plan(), app_only) for call in calls(script(form))]
    assert {name for name, _ in found} == set(DOCUMENTED)
    for name, parameters in found:
        assert parameters <= set(DOCUMENTED[name].split()), name


def test_what_was_looked_up_is_said_in_the_documentation():
    page = (Path(__file__).parents[4] / "docs" / "tenant.md").read_text("utf-8")
    section = page[page.index("### What the script was checked against") :]
    section = section[: section.index("\n## ")]
    assert set(re.findall(r"`([A-Z][a-z]+-[A-Z]\w+)`", section)) == set(DOCUMENTED)
    assert "2026-11-29" in section


def test_the_ids_come_last_and_are_understood():
    text = script(plan())
    last = text[: text.rindex("\n}\n")].splitlines()[-1]
    assert last.startswith("if ($clientId)")
    printed = last[last.index('"') + 1 : last.rindex('"')]
    printed = printed.replace("$tenantId", TENANT).replace("$clientId", CLIENT)
    assert parse_ids(printed) == Ids(TENANT, CLIENT)


# --- the ids

LINE = f"m365proxy ids: tenant_id={TENANT} client_id={CLIENT}"


@each(
    "line",
    [
        LINE,
        LINE.upper(),
        f"  {LINE}\r\n",
        f'"{LINE}"',
        f"'{LINE}'",
        f"tenant_id={TENANT} client_id={CLIENT}",
        f"client_id={CLIENT}, tenant_id={TENANT}",
        f'"tenant_id": "{TENANT}", "client_id": "{CLIENT}"',
        f"Application (client) ID: {CLIENT}\nObject ID: {GRAPH}\nDirectory (tenant) ID: {TENANT}",
        f"tenant id {TENANT} app id {CLIENT}",
        f"PS /home> ./tenant.ps1\nEverything is there.\n{LINE}\nPS /home>",
        *(LINE[:at] + "\n" + LINE[at:] for at in range(20, len(LINE), 7)),
        "\n".join(LINE[at : at + 40] for at in range(0, len(LINE), 40)),
    ],
)
def test_ids_are_read(line):
    assert parse_ids(line) == Ids(TENANT, CLIENT)


def test_a_tenant_may_be_named_by_its_domain():
    assert parse_ids(f"tenant_id=contoso.com client_id={CLIENT}") == Ids("contoso.com", CLIENT)


@each(
    "line, sentence",
    [
        ("", "There are no ids"),
        ("nonsense", "There are no ids"),
        (CLIENT, "not clear which id"),
        (f"{TENANT} {CLIENT}", "not clear which id"),
        (f"tenant_id={TENANT}", "no client_id"),
        (f"client_id={CLIENT}", "no tenant_id"),
        (f"tenant_id={TENANT} client_id={CLIENT[:-1]}", "no client_id"),
        (f"tenant_id={TENANT} client_id={CLIENT}0", "no client_id"),
        (f"tenant_id={TENANT} client_id=", "no client_id"),
        ("tenant_id=... client_id=...", "There are no ids"),
        (f"tenant_id={TENANT} client_id={TENANT}", "pasted twice"),
        (f"tenant_id={TENANT} client_id=contoso.onmicrosoft.com", "swapped"),
        ("tenant_id=contoso.com client_id=fabrikam.com", "not an id like"),
        (f"tenant_id={TENANT} client_id={GRAPH}", "Microsoft Graph's"),
        (f"tenant_id=00000000-0000-0000-0000-000000000000 client_id={CLIENT}", "placeholder"),
    ],
)
def test_ids_that_cannot_be(line, sentence):
    with pytest.raises(UsageError, match=sentence):
        parse_ids(line)
