"""The parts of the tenant's script, by rules that PowerShell does not enforce.

What a part does is tried with the real az in e2e/test_tenantscript.py.
"""

import re

from cases import each

from m365proxy.admin.init import tenantparts

# What changes something, as the command begins.
CHANGES = re.compile(
    r"az ad (?:app (?:create|update|credential reset|permission grant)|sp create)"
    r"|(?:New|Set|Add)-(?:Mailbox\w*|RecipientPermission|ServicePrincipal|Management\w+) "
)
EXCHANGE = re.compile(r"(?:Get|New|Set|Add|Test)-(?:Mailbox|Recipient|ServicePrincipal|Management|Organization)\w*")

# What the answers set, and what PowerShell does.
ANSWERS = {"tenant", "appName", "appFilter", "isPublicClient", "account", "messageMb", "mailboxes", "permissions"}
ANSWERS |= {"attribute", "mark", "roles", "thumbprint", "thumbprint64", "certificateEnd", "certificate"}
POWERSHELL = {"_", "true", "false", "null", "LASTEXITCODE", "Matches"}

PARTS = {name: text for name, text in vars(tenantparts).items() if name.isupper()}
WHOLE = "".join(PARTS.values())


def commands(text):
    """Its lines without comments; one that goes on after a backtick or | is one."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    return re.sub(r"(?:`|(?<=\|))\n\s*", "", "\n".join(lines)).splitlines()


@each("part", sorted(PARTS))
def test_whether_az_did_it_is_looked_at(part):
    lines = commands(PARTS[part])
    for number, line in enumerate(lines):
        if re.search(r"^\s*(?:\$\w+ = (?:@\()?)?az ", line) and "$cloud = " not in line:
            after = " ".join(lines[number + 1 : number + 5])
            assert "$LASTEXITCODE" in after or "Assert-Az" in after, line


@each("part", sorted(PARTS))
def test_no_cmdlet_of_exchange_fails_without_a_word(part):
    """A script's $ErrorActionPreference does not reach into a module: each call says -ErrorAction itself."""
    for line in commands(PARTS[part]):
        if EXCHANGE.search(line) and "$($" not in line and "'Take it away" not in line:
            assert "-ErrorAction" in line, line


@each("part", sorted(PARTS))
def test_whatever_changes_something_is_one_of_two_ways(part):
    """The other one says that it is there already, or goes on to the next."""
    lines = commands(PARTS[part])
    changing = [number for number, line in enumerate(lines) if CHANGES.search(line)]
    for number in changing:
        before = " ".join(lines[max(0, number - 8) : number + 10])
        assert "'already there'" in before, lines[number]


def test_the_changes_are_these():
    found = {match.group().strip() for line in commands(WHOLE) for match in CHANGES.finditer(line)}
    assert found == {
        *("az ad app create", "az ad app update", "az ad app credential reset", "az ad app permission grant"),
        *("az ad sp create", "New-Mailbox", "Set-Mailbox", "Add-MailboxPermission", "Add-RecipientPermission"),
        *("New-ServicePrincipal", "New-ManagementScope", "New-ManagementRoleAssignment"),
    }


def test_every_variable_is_set_in_the_script():
    """One that is not would be taken from the session it is pasted into."""
    known = {name.lower() for name in ANSWERS | POWERSHELL}
    known |= {name.lower() for name in re.findall(r"\$(\w+)(?:, \$\w+)* = ", WHOLE)}
    known |= {name.lower() for name in re.findall(r"\$\w+, \$(\w+) = ", WHOLE)}
    known |= {name.lower() for name in re.findall(r"foreach \(\$(\w+) in", WHOLE)}
    for parameters in re.findall(r"^function [\w-]+\((.*)\) \{", WHOLE, re.MULTILINE):
        known |= {name.lower() for name in re.findall(r"\$(\w+)", parameters)}
    code = "\n".join(commands(WHOLE))
    used = {name.lower() for name in re.findall(r"[$@](?:\{)?([A-Za-z_]\w*)", code)}
    assert used - known == set()


def test_what_the_end_uses_is_set_at_the_beginning():
    """The script may stop anywhere, and the session it is pasted into may have a $file of its own, which is removed."""
    used = set(re.findall(r"\$(\w+)", PARTS["CLOSING"])) - POWERSHELL
    set_first = set(re.findall(r"^\$(\w+) = ", PARTS["FUNCTIONS"], re.MULTILINE))
    assert used - set_first == {"tenantId"}  # only together with $clientId, which comes later
    assert PARTS["APP"].index("$tenantId = ") < PARTS["APP"].index("$clientId = ")


@each("part", sorted(PARTS))
def test_blocks_are_closed_where_the_parts_meet(part):
    """A part may open what a later one closes; the whole may not."""
    depth = PARTS[part].count("{") - PARTS[part].count("}")
    opens = {"OPENING": 1, "APP": 1, "GRANT_BEGIN": 1, "GRANT_END": -1, "CLOSING": -2}
    assert depth == opens.get(part, 0)


# --- what the pages of the cmdlets say (exchange/exchange-ps/ExchangePowerShell)


def test_the_module_knows_the_connections():
    """Get-ConnectionInformation.md: version 3.0.0 or later."""
    assert "$_.Version -ge [version]'3.0.0'" in PARTS["EXCHANGE"]
    assert "Import-Module ExchangeOnlineManagement -MinimumVersion 3.0.0" in PARTS["EXCHANGE"]


def test_security_and_compliance_is_no_connection_to_exchange():
    """Get-ConnectionInformation.md: IsEopSession is True there; with a ModulePrefix, cmdlets have other names."""
    (function,) = re.findall(r"function Find-Connection\(\) \{\n(.*?)\n\}", PARTS["EXCHANGE"], re.DOTALL)
    assert "IsEopSession" in function and "-not $_.ModulePrefix" in function
    assert PARTS["EXCHANGE"].count("Get-ConnectionInformation") == 1


def test_each_limit_is_raised_by_itself():
    """Set-Mailbox.md: both take unlimited, too; one that is larger than needed is not made smaller."""
    assert "-MaxSendSize" not in WHOLE and "-MaxReceiveSize" not in WHOLE
    assert "foreach ($limit in 'MaxSendSize', 'MaxReceiveSize')" in PARTS["EXCHANGE"]
    assert "if (\"$size\" -eq 'Unlimited') { return [long]::MaxValue }" in PARTS["EXCHANGE"]


def test_a_name_that_is_taken_is_no_obstacle():
    """New-Mailbox.md: the name is unique in the tenant, which may have several domains."""
    assert PARTS["MAILBOXES"].count("New-Mailbox -Shared -Name $entry.") == 2


def test_any_role_for_the_whole_tenant_is_a_problem():
    """application-rbac.md: Application Exchange Full Access has Mail.ReadWrite and Mail.Send as well."""
    after = PARTS["APP_ONLY_ROLES"][PARTS["APP_ONLY_ROLES"].index("foreach ($right in $given)") :]
    assert "if ($right.ScopeType -eq 'Organization') {" in after


def test_roles_are_given_twice_only_if_there_are_none_yet():
    """New-ManagementRoleAssignment.md: without a name, each gets one of its own."""
    assert "catch { if (-not $isNewPrincipal) { throw } }" in PARTS["APP_ONLY_ROLES"]
