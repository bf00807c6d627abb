"""The tenant's script from its first line to its last: the real az against the stand-in tenant.

Exchange is stood in for by functions, written from the documentation of each cmdlet.  PowerShell is not to be had
here: see `powershell`.
"""

import json
import os
import shutil
import subprocess

import pytest
from directory import GRAPH, Directory
from program import COMMAND

from m365proxy.admin.init.tenantscript import Ids, Plan, PlannedMailbox, parse_ids, script
from m365proxy.server.tls import self_signed
from m365proxy.system.choices import Permissions

pytest.importorskip("tree_sitter_powershell", reason="tree-sitter-powershell is not installed; .ci/clients does it")

from powershell import Powershell, Thrown, version  # noqa: E402

AZ = os.environ.get("M365PROXY_TEST_AZ") or shutil.which("az")
pytestmark = pytest.mark.skipif(not AZ, reason="az is not installed; .ci/clients does it")

ACCOUNT = "relay@contoso.com"
SIGN_IN = {"openid", "profile", "offline_access"}  # what msal asks for at every sign-in
DELEGATED = Plan(
    tenant="contoso.com",
    account=ACCOUNT,
    mailboxes=(PlannedMailbox("alerts@contoso.com", True), PlannedMailbox("scanner@contoso.com", False)),
    permissions=Permissions.FULL,
    attachment_limit_mb=80,
    app_only=False,
    certificate="",
    app_name="m365proxy",
)


class Exchange:
    """Mailboxes and rights, and the cmdlets that the script calls."""

    def __init__(self, tenant_id, *addresses):
        self.tenant_id = tenant_id
        self.connected_to = ""
        self.compliance = False  # connected to Security & Compliance
        self.module = "3.9.0"
        self.mailboxes = {}
        self.full_access, self.send_as = set(), set()
        self.principals, self.scopes, self.roles = {}, {}, []
        self.changes = []
        self.refuse = {}  # cmdlet -> sentence
        self.new = ""
        self.unknown_for = 0  # requests about this new mailbox that are answered as if it were not there
        for address in addresses:
            self.mailboxes[address] = self._mailbox("UserMailbox")

    @staticmethod
    def _mailbox(kind):
        size = "35 MB (36,700,160 bytes)"
        box = {"RecipientTypeDetails": kind, "MaxSendSize": size, "MaxReceiveSize": size, "Name": "somebody"}
        return {**box, "CustomAttribute1": ""}

    def commands(self):
        """For `Powershell`."""
        names = [name for name in vars(type(self)) if name.partition("_")[0] in _VERBS]
        return {name.replace("_", "-"): self._cmdlet(getattr(self, name), name) for name in names}

    def _cmdlet(self, function, name):
        name = name.replace("_", "-")

        def call(inputs, positional, named):
            if name in self.refuse:
                raise Thrown(self.refuse[name])
            assert not positional or name in ("get-module", "import-module", "install-module")
            named.pop("erroraction", None)
            if name.partition("-")[0] in ("new", "set", "add"):
                self.changes.append(name)
            if self.unknown_for > 0 and named.get("identity") == self.new:
                self.unknown_for -= 1
                raise Thrown("The operation couldn't be performed because the object couldn't be found.")
            return function(*positional, **named, **({} if inputs is None else {"inputs": inputs}))

        return call

    def get_module(self, name, listavailable):
        return [{"Name": name, "Version": version(self.module)}]

    def install_module(self, name, scope, force):
        assert (scope, force) == ("CurrentUser", True)
        self.module = "3.9.0"

    def import_module(self, name, minimumversion):
        assert version(self.module) >= version(minimumversion)

    def get_connectioninformation(self):
        one = {"State": "Connected", "TenantID": self.tenant_id, "IsEopSession": True, "ModulePrefix": ""}
        other = {**one, "TenantID": self.connected_to, "IsEopSession": False}
        return [one] * self.compliance + [other] * bool(self.connected_to)

    def connect_exchangeonline(self, device, showbanner=True, exchangeenvironmentname="O365Default"):
        assert device is True and exchangeenvironmentname == "O365Default"
        self.connected_to = self.tenant_id

    def get_organizationconfig(self):
        return [{"IsDehydrated": False}]

    def get_mailbox(self, filter, resultsize=""):
        assert self.connected_to
        name, operator, value = filter.split(" ", 2)
        value = value[1:-1].replace("''", "'")
        assert operator == "-eq"
        if name != "EmailAddresses":
            assert resultsize == "Unlimited"
            return [{**box, "DistinguishedName": key} for key, box in self.mailboxes.items() if box[name] == value]
        return [self.mailboxes[value]] if value in self.mailboxes else []

    def new_mailbox(self, shared, name, displayname, primarysmtpaddress):
        assert shared is True and displayname == primarysmtpaddress.partition("@")[0]
        if name in [box["Name"] for box in self.mailboxes.values()]:
            raise Thrown(f'The name "{name}" is already being used.')
        self.new = primarysmtpaddress
        self.mailboxes[primarysmtpaddress] = {**self._mailbox("SharedMailbox"), "Name": name}
        return [self.mailboxes[primarysmtpaddress]]

    def set_mailbox(self, identity, maxsendsize=None, maxreceivesize=None, customattribute1=""):
        mailbox = self.mailboxes[identity]
        for key, size in (("MaxSendSize", maxsendsize), ("MaxReceiveSize", maxreceivesize)):
            if size:
                mailbox[key] = f"{size[:-2]} MB ({int(size[:-2]) * 1048576:,} bytes)"
        if customattribute1 != "":
            mailbox["CustomAttribute1"] = customattribute1 or ""

    def get_mailboxpermission(self, identity, user):
        return [{"AccessRights": ["FullAccess"], "Deny": False}] if (identity, user) in self.full_access else []

    def add_mailboxpermission(self, identity, user, accessrights, automapping):
        assert accessrights == "FullAccess" and automapping is False
        self.full_access.add((identity, user))

    def remove_mailboxpermission(self, identity, user, accessrights, confirm):
        assert accessrights == "FullAccess" and confirm is False
        self.full_access.remove((identity, user))

    def get_recipientpermission(self, identity, trustee):
        held = (identity, trustee) in self.send_as
        return [{"AccessRights": ["SendAs"], "AccessControlType": "Allow"}] if held else []

    def add_recipientpermission(self, identity, trustee, accessrights, confirm):
        assert accessrights == "SendAs" and confirm is False
        self.send_as.add((identity, trustee))

    def remove_recipientpermission(self, identity, trustee, accessrights, confirm):
        assert accessrights == "SendAs" and confirm is False
        self.send_as.remove((identity, trustee))

    def get_serviceprincipal(self):
        return [{"AppId": app_id} for app_id in self.principals]

    def new_serviceprincipal(self, appid, objectid, displayname):
        self.principals[appid] = objectid

    def remove_serviceprincipal(self, identity, confirm):
        assert confirm is False
        del self.principals[identity]

    def get_managementscope(self):
        return [{"Name": name, "RecipientFilter": text} for name, text in self.scopes.items()]

    def new_managementscope(self, name, recipientrestrictionfilter):
        self.scopes[name] = recipientrestrictionfilter

    def new_managementroleassignment(self, app, role, customresourcescope):
        assert app in self.principals.values() and customresourcescope in self.scopes
        self.roles.append((app, role, customresourcescope))

    def remove_managementscope(self, identity, confirm):
        assert confirm is False and identity not in [scope for *_, scope in self.roles]
        del self.scopes[identity]

    def get_managementroleassignment(self):
        return [{"Role": role, "CustomResourceScope": role[2]} for role in self.roles]

    def remove_managementroleassignment(self, confirm, inputs):
        assert confirm is False
        for assignment in inputs:
            self.roles.remove(assignment["Role"])

    def test_serviceprincipalauthorization(self, identity, resource=None):
        held = [one for one in self.roles if one[0] == self.principals.get(identity)]
        return [self._right(role, scope, resource) for _, role, scope in held]

    def _right(self, role, scope, resource):
        if scope == "Organization":
            return {"RoleName": role, "AllowedResourceScope": scope, "ScopeType": scope, "InScope": True}
        attribute, _, value = self.scopes[scope].split(" ", 2)
        inside = resource and self.mailboxes.get(resource, {}).get(attribute) == value.strip("'")
        said = "Not Run" if resource is None else bool(inside)
        return {"RoleName": role, "AllowedResourceScope": scope, "ScopeType": "CustomRecipientScope", "InScope": said}


_VERBS = ("get", "new", "set", "add", "remove", "test", "connect", "import", "install")


@pytest.fixture(scope="module")
def directory():
    with Directory() as running:
        yield running


@pytest.fixture
def tenant(directory, tmp_path, monkeypatch):
    """The directory without applications, and az signed in to it."""
    directory.applications.clear()
    directory.grants.clear()
    directory.role_assignments.clear()
    directory.principals[1:] = []
    directory.unknown_for = 0
    for name, value in {
        "AZURE_CONFIG_DIR": str(tmp_path / "azure"),
        "AZURE_CORE_COLLECT_TELEMETRY": "no",
        "AZURE_CORE_INSTANCE_DISCOVERY": "false",
        "REQUESTS_CA_BUNDLE": directory.ca_file,
        "PATH": f"{os.path.dirname(AZ)}{os.pathsep}{os.environ['PATH']}",
    }.items():
        monkeypatch.setenv(name, value)
    address = directory.graph_url
    register = f"cloud register --name standin --skip-endpoint-discovery --endpoint-active-directory {address} "
    register += f"--endpoint-resource-manager {address} --endpoint-active-directory-resource-id {address} "
    register += f"--endpoint-microsoft-graph-resource-id {address}/"
    login = f"login --service-principal --username {directory.client_id} --password sandbox-secret "
    login += f"--tenant {directory.tenant_id} --allow-no-subscriptions"
    for command in (register, "cloud set --name standin", login):
        subprocess.run([AZ, *command.split()], check=True, capture_output=True)
    directory.forget()
    return directory


@pytest.fixture
def exchange(directory):
    return Exchange(directory.tenant_id, ACCOUNT, "scanner@contoso.com")


def run(plan, directory, exchange):
    """What the plan's script prints, as one text."""
    return run_text(script(plan), directory, exchange)


def run_text(text, directory, exchange):
    """What a script prints, as one text; its changes are in directory.changes and exchange.changes."""
    import requests

    def rest(inputs, positional, named):
        answer = requests.get(named["uri"], verify=directory.ca_file, timeout=60)
        if not answer.ok:
            raise Thrown(f"Response status code does not indicate success: {answer.status_code}")
        return [answer.json()]

    directory.forget()
    exchange.changes.clear()
    session = Powershell({**exchange.commands(), "invoke-restmethod": rest}, dict(os.environ))
    session.run(text)
    return "\n".join(session.printed)


def ids(directory):
    (application,) = directory.applications
    return Ids(directory.tenant_id, application["appId"])


def test_an_account_signs_in(tenant, exchange):
    printed = run(DELEGATED, tenant, exchange)
    assert "PROBLEM" not in printed and "ERROR" not in printed, printed
    assert parse_ids(printed.splitlines()[-1]) == ids(tenant)

    (application,) = tenant.applications
    assert application["isFallbackPublicClient"] is True
    assert application["signInAudience"] == "AzureADMyOrg"
    (access,) = application["requiredResourceAccess"]
    names = {identity: name for name, identity in tenant.scope_ids.items()}
    assert access["resourceAppId"] == GRAPH
    wanted = {"Mail.Send", "Mail.Send.Shared", "Mail.ReadWrite", "Mail.ReadWrite.Shared", "User.Read"}
    assert {names[one["id"]] for one in access["resourceAccess"]} == wanted
    assert {one["type"] for one in access["resourceAccess"]} == {"Scope"}
    (grant,) = tenant.grants
    assert set(grant["scope"].split()) == wanted | SIGN_IN
    assert grant["consentType"] == "AllPrincipals"

    both = {("alerts@contoso.com", ACCOUNT), ("scanner@contoso.com", ACCOUNT)}
    assert exchange.full_access == exchange.send_as == both
    assert exchange.mailboxes["alerts@contoso.com"]["RecipientTypeDetails"] == "SharedMailbox"
    assert {box["MaxSendSize"] for box in exchange.mailboxes.values()} == {"111 MB (116,391,936 bytes)"}
    assert f"  scanner@contoso.com: {ACCOUNT} has FullAccess, SendAs" in printed


def test_a_second_run_changes_nothing_and_says_so(tenant, exchange):
    first = run(DELEGATED, tenant, exchange)
    assert tenant.changes and exchange.changes
    second = run(DELEGATED, tenant, exchange)
    assert (tenant.changes, exchange.changes) == ([], [])
    for word in ("created ", "changed ", "PROBLEM"):
        assert word not in second, second
    # What was made, asked for anew, and the ids are the same.
    assert second.count("already there") >= first.count("created") + first.count("changed")
    assert second[second.index("What is granted") :] == first[first.index("What is granted") :]


def test_from_full_to_sending_only(tenant, exchange):
    run(DELEGATED, tenant, exchange)
    printed = run(DELEGATED._replace(permissions=Permissions.SEND), tenant, exchange)
    (grant,) = tenant.grants
    assert set(grant["scope"].split()) == {"Mail.Send", "Mail.Send.Shared", "User.Read"} | SIGN_IN
    assert len(tenant.applications[0]["requiredResourceAccess"][0]["resourceAccess"]) == 3
    assert exchange.changes == []
    assert "PROBLEM" not in printed, printed


def test_an_app_registration_made_by_hand_is_completed(tenant, exchange):
    subprocess.run([AZ, "ad", "app", "create", "--display-name", "m365proxy"], check=True, capture_output=True)
    printed = run(DELEGATED, tenant, exchange)
    assert "Allow public client flows) is allowed now" in printed
    assert tenant.applications[0]["isFallbackPublicClient"] is True
    assert parse_ids(printed.splitlines()[-1]) == ids(tenant)


def test_what_is_new_is_not_known_everywhere_at_once(tenant, exchange):
    tenant.unknown_for, exchange.unknown_for = 2, 2
    printed = run(DELEGATED, tenant, exchange)
    assert "Trying again" in printed
    assert "PROBLEM" not in printed
    assert len(tenant.principals) == 2
    assert ("alerts@contoso.com", ACCOUNT) in exchange.send_as


def test_hostile_names(tenant, exchange):
    name, address = "Bürgermeister $(throw) \u2019; `Remove-Mailbox #1", "o'brien@contoso.com"
    plan = DELEGATED._replace(app_name=name, mailboxes=(PlannedMailbox(address, True),))
    for _ in range(2):
        printed = run(plan, tenant, exchange)
        assert "PROBLEM" not in printed, printed
        assert tenant.applications[0]["displayName"] == name
        assert (address, ACCOUNT) in exchange.full_access
    assert (tenant.changes, exchange.changes) == ([], [])


def test_the_application_signs_in(tenant, exchange):
    certificate = self_signed(["m365proxy"])[0].decode()
    plan = DELEGATED._replace(account="", app_only=True, certificate=certificate)
    printed = run(plan, tenant, exchange)
    assert "PROBLEM" not in printed and "ERROR" not in printed, printed
    (application,) = tenant.applications
    (key,) = application["keyCredentials"]
    assert key["key"].replace("\n", "") == "".join(certificate.strip().splitlines()[1:-1])
    assert not application["isFallbackPublicClient"]
    # Nothing in Entra, all in Exchange, and there for these mailboxes only.
    assert application["requiredResourceAccess"] == [] and tenant.grants == []
    assert exchange.scopes == {"m365proxy": "CustomAttribute1 -eq 'm365proxy'"}
    roles = {(role, scope) for _, role, scope in exchange.roles}
    assert roles == {("Application Mail.Send", "m365proxy"), ("Application Mail.ReadWrite", "m365proxy")}
    marked = {address for address, box in exchange.mailboxes.items() if box["CustomAttribute1"] == "m365proxy"}
    assert marked == {"alerts@contoso.com", "scanner@contoso.com"}
    assert not exchange.full_access and not exchange.send_as
    assert "Application Mail.ReadWrite  m365proxy  True" in printed

    printed = run(plan, tenant, exchange)
    assert (tenant.changes, exchange.changes) == ([], []), printed
    assert "PROBLEM" not in printed

    # A second certificate is added beside the first; what is there for all mailboxes is a problem.
    tenant.role_assignments.append((tenant.principals[1]["id"], "Mail.Send"))
    exchange.roles.append((tenant.principals[1]["id"], "Application Exchange Full Access", "Organization"))
    exchange.mailboxes["scanner@contoso.com"]["CustomAttribute1"] = "Building 7"
    printed = run(plan._replace(certificate=self_signed(["m365proxy"])[0].decode()), tenant, exchange)
    assert len(application["keyCredentials"]) == 2
    assert "The application has Mail.Send for EVERY mailbox" in printed
    assert "The application has the role Application Exchange Full Access for EVERY mailbox" in printed
    assert "scanner@contoso.com: CustomAttribute1 is in use already ('Building 7')" in printed
    assert exchange.mailboxes["scanner@contoso.com"]["CustomAttribute1"] == "Building 7"
    assert "Problems: 3." in printed


def test_sizes_are_only_made_larger(tenant, exchange):
    scanner, account = exchange.mailboxes["scanner@contoso.com"], exchange.mailboxes[ACCOUNT]
    scanner["MaxSendSize"] = account["MaxReceiveSize"] = "150 MB (157,286,400 bytes)"
    scanner["MaxReceiveSize"], account["MaxSendSize"] = "36 MB (37,748,736 bytes)", "Unlimited"
    run(DELEGATED, tenant, exchange)
    assert [scanner[key] for key in ("MaxSendSize", "MaxReceiveSize")] == [
        "150 MB (157,286,400 bytes)",
        "111 MB (116,391,936 bytes)",
    ]
    assert [account[key] for key in ("MaxSendSize", "MaxReceiveSize")] == ["Unlimited", "150 MB (157,286,400 bytes)"]


def test_a_name_that_another_recipient_has(tenant, exchange):
    exchange.mailboxes["scanner@contoso.com"]["Name"] = "alerts"
    more = (PlannedMailbox("scanner@fabrikam.com", True), PlannedMailbox("scanner@adatum.com", True))
    printed = run(DELEGATED._replace(mailboxes=DELEGATED.mailboxes + more), tenant, exchange)
    assert "PROBLEM" not in printed, printed
    names = {address: box["Name"] for address, box in exchange.mailboxes.items()}
    assert names["alerts@contoso.com"] == "alerts_contoso.com"
    assert [names[mailbox.address] for mailbox in more] == ["scanner", "scanner_adatum.com"]


def test_what_is_there_of_exchange_does_not_do(tenant, exchange):
    """An old module, and a connection to Security & Compliance."""
    exchange.module, exchange.compliance = "2.0.5", True
    printed = run(DELEGATED, tenant, exchange)
    assert "Installing the module ExchangeOnlineManagement" in printed
    assert exchange.connected_to == tenant.tenant_id
    assert "PROBLEM" not in printed, printed


@pytest.mark.parametrize("app_only", [False, True])
def test_everything_is_taken_away_again(tenant, exchange, app_only):
    certificate = self_signed(["m365proxy"])[0].decode()
    application = {"account": "", "app_only": True, "certificate": certificate} if app_only else {}
    plan = DELEGATED._replace(**application)
    exchange.mailboxes["others@contoso.com"] = {**exchange.mailboxes[ACCOUNT], "CustomAttribute1": "Building 7"}
    exchange.principals["others"] = "m365proxy"
    run(plan, tenant, exchange)
    assert (exchange.scopes and exchange.roles) if app_only else exchange.send_as

    text = script(plan)
    undoing = text[text.rindex("\n}\n") + 3 :]
    commands = undoing[undoing.index("# Connect-ExchangeOnline") : undoing.index("# The new mailboxes")]
    exchange.connected_to = ""
    printed = run_text("".join(line[2:] for line in commands.splitlines(True)), tenant, exchange)
    assert "ERROR" not in printed, printed
    assert not (exchange.full_access or exchange.send_as or exchange.scopes or exchange.roles)
    assert exchange.principals == {"others": "m365proxy"}
    marks = {address: box["CustomAttribute1"] for address, box in exchange.mailboxes.items()}
    assert marks.pop("others@contoso.com") == "Building 7"
    assert set(marks.values()) == {""}
    assert tenant.applications == []


@pytest.mark.parametrize("sign_in", ["account", "app"])
def test_from_init_to_the_ids_in_the_config(tenant, exchange, tmp_path, sign_in):
    config, answers = tmp_path / "m365proxy.json", tmp_path / "answers.json"
    address = tenant.graph_url
    config.write_text(json.dumps({"graph_url": address, "authority_url": address, "ca_file": tenant.ca_file}))
    answered = {"tenant": "contoso.com", "sign_in": sign_in, "mailboxes": ["alerts@contoso.com", "scanner@contoso.com"]}
    answered.update({"new_mailboxes": ["alerts@contoso.com"]}, **({"account": ACCOUNT} if sign_in == "account" else {}))
    answers.write_text(json.dumps(answered))

    def init(*words):
        command = [*COMMAND, "--config", str(config), "init", *words]
        done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
        assert done.returncode == 0, done.stdout + done.stderr

    init("--answers", str(answers))
    printed = run_text((tmp_path / "m365proxy-tenant.ps1").read_text("utf-8"), tenant, exchange)
    assert "PROBLEM" not in printed, printed
    init("--ids", printed.splitlines()[-1])
    written = json.loads(config.read_text("utf-8"))
    assert Ids(written["tenant_id"], written["client_id"]) == ids(tenant)
    if sign_in == "app":
        (key,) = tenant.applications[0]["keyCredentials"]
        assert written["client_certificate"]["thumbprint"] == key["customKeyIdentifier"]


# --- what goes wrong


def test_another_tenant(tenant, exchange):
    printed = run(DELEGATED._replace(tenant="11111111-2222-3333-4444-555555555555"), tenant, exchange)
    assert f"az is signed in to the tenant {tenant.tenant_id}, but" in printed
    assert "ids:" not in printed
    assert (tenant.changes, exchange.changes) == ([], [])


def test_a_tenant_that_is_not_there(tenant, exchange):
    printed = run(DELEGATED._replace(tenant="contosso.com"), tenant, exchange)
    assert "Microsoft does not know the tenant contosso.com" in printed
    assert (tenant.changes, exchange.changes) == ([], [])


def test_nobody_is_signed_in(tenant, exchange):
    subprocess.run([AZ, "logout"], check=True, capture_output=True)
    printed = run(DELEGATED, tenant, exchange)
    assert "az is not signed in. Run: az login" in printed
    assert (tenant.changes, exchange.changes) == ([], [])


def test_exchange_of_another_tenant(tenant, exchange):
    exchange.connected_to = "11111111-2222-3333-4444-555555555555"
    printed = run(DELEGATED, tenant, exchange)
    assert "Exchange is connected to another tenant than contoso.com" in printed
    assert exchange.changes == []
    assert parse_ids(printed.splitlines()[-1]) == ids(tenant)  # the app registration is there all the same


def test_two_app_registrations_with_the_name(tenant, exchange):
    tenant.applications += [{"appId": identity, "displayName": "m365proxy"} for identity in ("1", "2")]
    printed = run(DELEGATED, tenant, exchange)
    assert "There are 2 app registrations with the name m365proxy" in printed
    assert (tenant.changes, exchange.changes) == ([], [])


def test_one_mailbox_does_not_stop_the_others(tenant, exchange):
    exchange.mailboxes.pop("scanner@contoso.com")
    exchange.mailboxes[ACCOUNT]["RecipientTypeDetails"] = "SharedMailbox"
    more = (PlannedMailbox("scanner@contoso.com", False), *DELEGATED.mailboxes[:1])
    printed = run(DELEGATED._replace(mailboxes=more), tenant, exchange)
    assert f"{ACCOUNT} is a SharedMailbox, which cannot sign in" in printed
    assert "scanner@contoso.com: there is no such mailbox" in printed
    assert ("alerts@contoso.com", ACCOUNT) in exchange.send_as
    assert "Problems: 2." in printed


def test_a_right_that_is_refused(tenant, exchange):
    exchange.refuse["add-recipientpermission"] = "Access Denied."
    printed = run(DELEGATED, tenant, exchange)
    assert "PROBLEM        scanner@contoso.com: Access Denied." in printed
    assert f"scanner@contoso.com: {ACCOUNT} has FullAccess\n" in printed
    assert parse_ids(printed.splitlines()[-1]) == ids(tenant)


def test_roles_that_cannot_be_read_are_not_given_again(tenant, exchange):
    certificate = self_signed(["m365proxy"])[0].decode()
    plan = DELEGATED._replace(account="", app_only=True, certificate=certificate)
    run(plan, tenant, exchange)
    exchange.refuse["test-serviceprincipalauthorization"] = "The server is busy."
    printed = run(plan, tenant, exchange)
    assert len(exchange.roles) == 2
    assert "PROBLEM        The server is busy." in printed


def test_nothing_of_the_session_is_removed(tenant, exchange, tmp_path):
    """The script stops before it makes a file: $file of the session it is pasted into is not its own."""
    mine = tmp_path / "mine"
    mine.write_text("mine")
    subprocess.run([AZ, "logout"], check=True, capture_output=True)
    session = Powershell(exchange.commands(), dict(os.environ))
    session.run(f"$file = '{mine}'")
    session.run(script(DELEGATED))
    assert mine.read_text() == "mine"
