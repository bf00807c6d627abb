"""The command: what is written, shown and said, and with which exit status it ends."""

import errno
import io
import json
import signal
import sys

import pytest
from configs import HASHED, MINIMAL
from init_harness import CLIENT, IDS, OTHER, TENANT, KnownTenants, busy_ports

from m365proxy import cli
from m365proxy.admin.init import conversation, installation, interview
from m365proxy.errors import InUse
from m365proxy.logins import passwords

# Every answer but the first is the default.
FIRST = ["contoso.com", *[""] * 9]


@pytest.fixture(autouse=True)
def _machine(monkeypatch):
    busy_ports(monkeypatch)
    monkeypatch.setattr(interview, "proposed_networks", lambda: ())
    monkeypatch.setattr(installation, "Outbound", lambda proxy, ca_file: "a way out")
    monkeypatch.setattr(installation, "Tenants", lambda outbound, authority: KnownTenants())
    monkeypatch.setattr(conversation.card, "text", lambda config, login, terminal, password: f"CARD {login}\n")
    monkeypatch.setattr("sys.argv", ["m365proxy"])
    monkeypatch.setattr(passwords, "hash_password", lambda password: HASHED["password"])
    for name in ("SUDO_USER", "M365PROXY_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "300")


class Console:
    """The command in a directory of its own."""

    def __init__(self, directory, monkeypatch, capsys):
        self.directory, self.path = directory, directory / "config.json"
        self._monkeypatch, self._capsys = monkeypatch, capsys

    def run(self, *words, typed=None, answers=None):
        """The exit status; `typed` are lines at a terminal, `answers` those of a file."""
        if answers is not None:
            (self.directory / "answers").write_text(json.dumps(answers))
            words = (*words, "--answers", str(self.directory / "answers"))
        with self._monkeypatch.context() as patch:
            if typed is not None:
                patch.setattr(conversation.Terminal, "interactive", True, raising=False)
                patch.setattr(conversation.Terminal, "__init__", at_a_terminal)
                patch.setattr("sys.stdin", Typed(typed))
            status = cli.main(["--config", str(self.path), "init", *words])
        self.out, self.err = self._capsys.readouterr()
        return status

    def written(self):
        return json.loads(self.path.read_text())

    def names(self):
        return sorted(path.name for path in self.directory.iterdir() if path.name != "answers")


_real_init = conversation.Terminal.__init__


def at_a_terminal(self, stream, environ):
    _real_init(self, stream, environ)
    self.interactive = True


class Typed(io.StringIO):
    """Lines that somebody types; an exception instead of a line is raised, and a function gives the line."""

    def __init__(self, lines):
        super().__init__()
        self._lines = iter(lines)

    def readline(self):
        line = next(self._lines, None)
        if isinstance(line, type):
            raise line
        if callable(line):
            line = line()
        return "" if line is None else line + "\n"


@pytest.fixture
def console(tmp_path, monkeypatch, capsys):
    return Console(tmp_path, monkeypatch, capsys)


def test_the_first_run_and_the_ids(console):
    assert console.run(typed=[*FIRST, IDS[:60], IDS[60:]]) == 0, console.err
    assert console.names() == ["config-tenant.ps1", "config.json"]
    written = console.written()
    assert (written["tenant_id"], written["client_id"]) == (TENANT, CLIENT)
    assert "CARD scanner@contoso.com" in console.out
    for words in ("Enter takes the answer in brackets", "https://shell.azure.com", "`m365proxy --config", " login`"):
        assert words in console.out
    assert "--ids" not in console.out.partition("Next:")[2]


def test_the_password_is_shown_once_and_stored_hashed(console, monkeypatch):
    hashed = []
    monkeypatch.setattr(passwords, "hash_password", lambda password: hashed.append(password) or HASHED["password"])
    assert console.run(typed=[*FIRST, ""]) == 0
    assert len(hashed) == 1 and f"scanner@contoso.com {hashed[0]}\n" in console.out
    assert hashed[0] not in console.path.read_text() and len(hashed[0]) == 16


class Output(io.StringIO):
    """Standard output on a disk that is full after a number of lines."""

    def __init__(self, lines):
        super().__init__()
        self._left = lines

    def flush(self):
        if self.getvalue().count("\n") > self._left:
            raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("lines, is_written", [(0, False), (3, True)])
def test_where_passwords_cannot_be_shown_nothing_is_written_or_it_says_so(console, monkeypatch, lines, is_written):
    console.path.write_text(json.dumps({**MINIMAL, "mailboxes": [HASHED]}))
    before = console.path.read_bytes()
    monkeypatch.setattr("sys.stdout", Output(lines))
    assert console.run("--add-login", "printer") == 74
    assert (console.path.read_bytes() != before) is is_written
    assert ("of printer" in console.err and " hash-password`" in console.err) is is_written


def test_a_card_that_cannot_be_made_keeps_no_password_from_being_shown(console, monkeypatch):
    def fail(config, login, terminal, password):
        raise PermissionError(errno.EACCES, "Permission denied", "/proc/net/route")

    monkeypatch.setattr(conversation.card, "text", fail)
    assert console.run(answers={"tenant": "contoso.com"}) == 73
    assert console.names() == []


@pytest.mark.parametrize(
    "words, command", [(["--add-login", "a b"], "--add-login 'a b'"), (["--ids", IDS], f"--ids '{IDS}'")]
)
def test_the_command_for_root_is_the_one_that_was_typed(console, monkeypatch, words, command):
    console.path.write_text(json.dumps({**MINIMAL, "mailboxes": [HASHED]}))
    monkeypatch.setattr(conversation.configfile.os, "access", lambda path, mode: False)
    assert console.run(*words) == 73
    assert f" init {command}`" in console.err


def test_without_encryption_the_ports_that_are_closed_are_named(console):
    assert console.run(answers={"tenant": "contoso.com", "smtp_ports": [25, 465], "pop3_ports": ["8995/tls"]}) == 0
    assert console.run("--tls", answers={"tls": "none"}) == 0
    assert "Closed, as they are for TLS from the first octet: 465 8995/tls" in console.out
    assert console.run("--tls", answers={"tls": "auto"}) == 0 and "Closed" not in console.out


def test_the_ports_of_the_running_program_are_free_for_it(console, monkeypatch):
    console.path.write_text(
        json.dumps({**MINIMAL, "mailboxes": [HASHED], "smtp_port": 8025, "tls": {"tls_cert": "auto"}})
    )
    busy_ports(monkeypatch, 8025, 8026)
    monkeypatch.setattr(conversation.running, "is_running", lambda config: True)
    assert console.run("--ports", answers={"smtp_ports": "8025/tls"}) == 0, console.err
    assert console.run("--ports", answers={"smtp_ports": 8026}) == 64
    assert "Port 8026 is in use" in console.err


def test_one_change_opens_no_port_for_sending_where_mail_is_only_fetched(console):
    listeners = [{"protocol": "pop3", "port": 110}]
    console.path.write_text(json.dumps({**MINIMAL, "mailboxes": [HASHED], "listeners": listeners}))
    assert console.run("--add-login", "printer") == 0
    assert console.run("--tls", answers={"tls": "auto"}) == 0 and console.run("--tls", answers={"tls": "none"}) == 0
    assert console.written()["listeners"] == listeners and "smtp_port" not in console.written()


def test_the_ids_can_follow_later(console):
    assert console.run(typed=[*FIRST, ""]) == 0
    assert console.written()["client_id"] == installation.amendment.ZEROS
    assert (
        "1. Open https://shell.azure.com" in console.out
        and f"--config {console.path} init --ids 'LINE'`" in console.out
    )
    assert console.run("--ids", IDS) == 0
    assert console.written()["client_id"] == CLIENT and console.names() == ["config-tenant.ps1", "config.json"]


@pytest.mark.parametrize(
    "ids, sentence",
    [
        (f"tenant_id={CLIENT} client_id={TENANT}", "The two ids are swapped"),
        (f"tenant_id={OTHER} client_id={CLIENT}", f"tenant_id is not that of contoso.com, which is {TENANT}."),
        (f"tenant_id={CLIENT} client_id={OTHER}", f"Microsoft knows no tenant {CLIENT}."),
        ("hello", "There are no ids in this."),
    ],
)
def test_ids_that_cannot_be_right(console, ids, sentence):
    assert console.run(answers={"tenant": "contoso.com"}) == 0
    before = console.path.read_bytes()
    assert console.run("--ids", ids) == 64
    assert sentence in console.err and console.path.read_bytes() == before


def test_a_file_of_answers_does_it_all(console):
    answers = {"tenant": "contoso.com", "mailboxes": ["a@contoso.com"], "smtp_ports": [2525], "ids": IDS}
    assert console.run(answers=answers) == 0
    written = console.written()
    assert (written["mailboxes"][0]["username"], written["smtp_port"]) == ("a@contoso.com", 2525)
    assert written["client_id"] == CLIENT
    assert console.run(answers=answers) == 0 and "Nothing changed" in console.out
    assert console.names() == ["config-tenant.ps1", "config.json"]


@pytest.mark.parametrize(
    "answers, sentence",
    [
        ({"tenat": "contoso.com"}, "did you mean tenant?"),
        ({"tenant": "contosso.com"}, "The answer tenant: Microsoft knows no tenant contosso.com."),
        ({}, "The answer tenant is missing"),
        ({"tenant": "contoso.com", "mailbox": "a@contoso.com"}, "The answer mailbox has no effect"),
        ({"tenant": "contoso.com", "ids": "x"}, "The answer ids: There are no ids in this."),
    ],
)
def test_mistakes_in_answers_write_nothing(console, answers, sentence):
    assert console.run(answers=answers) == 64
    assert sentence in console.err and console.names() == []


def test_printing_writes_nothing(console):
    assert console.run("--print", answers={"tenant": "contoso.com", "sign_in": "application"}) == 0
    assert console.names() == [] and '"smtp_port": 25' in console.out and "Nothing was written." in console.out
    assert "scanner@contoso.com'; New" in console.out and "PRIVATE KEY" not in console.out


def test_printing_shows_no_secret_that_the_config_holds_and_says_what_its_passwords_are_for(console):
    mailbox = {"username": "alerts@contoso.com", "password": "drawer full of devices"}
    console.path.write_text(json.dumps({**MINIMAL, "mailboxes": [mailbox], "client_secret": "wide open"}))
    assert console.run("--print", "--add-login", "printer") == 0
    assert "drawer" not in console.out and "wide open" not in console.out and '"password": "***"' in console.out
    assert '"digest": "***"' in console.out  # passwords could be tried against it
    assert "the next run makes others" in console.out and "shown only now" not in console.out


@pytest.mark.parametrize(
    "end, status, said", [([KeyboardInterrupt], 130, "Stopped; nothing was written."), ([], 64, "")]
)
@pytest.mark.parametrize("answered", [0, 3, 9])
def test_whoever_stops_leaves_nothing_half_done(console, end, status, said, answered):
    console.path.write_text("{}")
    assert console.run(typed=FIRST[:answered] + end) == status
    assert console.names() == ["config.json"] and console.path.read_text() == "{}"
    assert said in console.out and (end or "nothing was written" in console.err)


def test_a_config_that_somebody_else_changes_meanwhile_is_left_alone(console):
    console.path.write_text("{}")

    def edit():
        console.path.write_text('{"#": "mine"}')
        return ""

    assert console.run(typed=[*FIRST[:-1], edit]) == 75
    assert "Meanwhile somebody else has changed" in console.err
    assert console.names() == ["config.json"] and console.path.read_text() == '{"#": "mine"}'


@pytest.mark.skipif(sys.platform == "win32", reason="Windows locks no directories")
def test_two_at_once_write_one_after_the_other(console, monkeypatch):
    """The second finds out that the config has changed: its password would be of no use."""
    console.path.write_text(json.dumps({**MINIMAL, "mailboxes": [HASHED]}))
    real = installation.configfile.write

    def write(new):
        with pytest.raises(InUse), installation.files.locked_directory(str(console.directory), 0):
            raise AssertionError("another one may write here now")
        return real(new)

    monkeypatch.setattr(installation.configfile, "write", write)
    assert console.run("--add-login", "printer") == 0, console.err
    with installation.files.locked_directory(str(console.directory), 0):
        pass


def test_without_encryption_a_port_for_sending_mail_remains(console):
    mailboxes, tls = [HASHED], {"tls_cert": "auto"}
    document = {**MINIMAL, "mailboxes": mailboxes, "tls": tls, "bind": "127.0.0.1"}
    console.path.write_text(
        json.dumps({**document, "listeners": [{"protocol": "smtp", "port": 8465, "tls": "implicit"}]})
    )
    assert console.run("--tls", answers={"tls": "none"}) == 0, console.err
    written = console.written()
    assert written["smtp_port"] == 25 and all("tls" not in listener for listener in written.get("listeners", ()))


def test_what_changes_while_the_script_runs_stays(console):
    def edit():
        console.path.write_text(json.dumps({**console.written(), "attachment_limit_mb": 20}))
        return IDS

    assert console.run(typed=[*FIRST, edit]) == 0
    assert (console.written()["attachment_limit_mb"], console.written()["client_id"]) == (20, CLIENT)


def test_whoever_stops_at_the_ids_has_a_config(console):
    assert console.run(typed=[*FIRST, KeyboardInterrupt]) == 130
    assert "config.json" in console.names() and console.out.endswith("Stopped.\n")
    assert " init --ids 'LINE'`" in console.out.partition("Next:")[2]


def test_a_terminal_that_is_gone_at_the_ids_is_as_good_as_later(console):
    assert console.run(typed=FIRST) == 0
    assert "1. Open https://shell.azure.com" in console.out


@pytest.mark.skipif(sys.platform == "win32", reason="signals are sent otherwise there")
def test_ctrl_c_while_it_writes_waits_until_the_password_is_shown(console, monkeypatch):
    real = conversation.configfile.files.move

    def move(source, target):
        signal.raise_signal(signal.SIGINT)  # at once; os.kill may take its time
        real(source, target)

    monkeypatch.setattr(conversation.configfile.files, "move", move)
    assert console.run(typed=FIRST) == 130
    assert console.names() == ["config-tenant.ps1", "config.json"] and console.out.endswith("Stopped.\n")
    assert "\nscanner@contoso.com " in console.out.partition("Passwords are shown only now")[2]


def test_without_a_terminal_it_says_what_to_do(console):
    assert console.run() == 64
    assert "init --answers FILE" in console.err and "docker exec -it" in console.err and console.names() == []
    assert console.run("--ports") == 64


def test_passwords_that_nobody_would_see_are_not_made(console, monkeypatch):
    (console.directory / "answers").write_text('{"tenant": "contoso.com"}')
    monkeypatch.setattr("sys.stdout", None)
    assert cli.main(["--config", str(console.path), "init", "--answers", str(console.directory / "answers")]) == 64
    assert console.names() == []


@pytest.mark.parametrize("words", [["--ids", IDS], ["--add-login", "printer"], ["--add-mailbox", "a@contoso.com"]])
def test_one_change_needs_a_config(console, words):
    assert console.run(*words) == 64
    assert "is not set up yet. Begin with" in console.err and console.names() == []


def set_up(console, **settings):
    console.path.write_text(json.dumps({**MINIMAL, "tenant_id": TENANT, "mailboxes": [HASHED], **settings}))


def test_a_login_is_added(console):
    set_up(console)
    assert console.run("--add-login", "printer-2") == 0
    login = console.written()["mailboxes"][0]["logins"][0]
    assert login["login"] == "printer-2" and login["password"].startswith("scrypt$")
    assert "CARD printer-2" in console.out and "Kept as it was" in console.out and len(console.names()) == 2
    for known in ("PRINTER-2", "scanner@contoso.com"):
        assert console.run("--add-login", known) == 64 and "is there already" in console.err
    assert console.run("--add-login", " ") == 64


@pytest.mark.parametrize("option", ["--ids", "--add-login", "--add-mailbox"])
def test_an_empty_word_is_no_reason_to_ask_everything(console, option):
    set_up(console)
    before = console.path.read_bytes()
    assert console.run(option, "", typed=[]) == 64 and "Enter takes" not in console.out
    assert console.path.read_bytes() == before


def test_a_login_of_one_of_several_mailboxes(console):
    set_up(console, mailboxes=[HASHED, {**HASHED, "username": "alerts@contoso.com"}])
    assert console.run("--add-login", "camera", typed=["alerts@contoso.co", "alerts@contoso.com"]) == 0
    assert "Did you mean alerts@contoso.com?" in console.out
    assert console.run("--add-login", "ups", answers={"mailbox": "alerts@contoso.com"}) == 0
    assert [login["login"] for login in console.written()["mailboxes"][1]["logins"]] == ["camera", "ups"]


def test_a_mailbox_is_added(console):
    set_up(console)
    assert console.run("--add-mailbox", "alerts@contoso.com") == 0
    assert [one["username"] for one in console.written()["mailboxes"]] == ["scanner@contoso.com", "alerts@contoso.com"]
    assert "'alerts@contoso.com'; New = $true" in (console.directory / "config-tenant.ps1").read_text()
    assert "1. Open https://shell.azure.com" in console.out
    assert console.run("--add-mailbox", "alerts@contoso.com") == 64


@pytest.mark.parametrize("typed, status", [(["no"], 64), ([""], 64), (["yes", ""], 0), (None, 0)])
def test_a_mailbox_outside_the_tenant(console, typed, status):
    set_up(console)
    before = console.path.read_bytes()
    assert console.run("--add-mailbox", "a@fabrikam.com", typed=typed) == status
    assert "fabrikam.com belongs to another tenant" in console.out
    assert (console.path.read_bytes() == before) == (status != 0)


def test_ports_are_changed(console):
    set_up(console, attachment_limit_mb=20)
    assert console.run("--ports", typed=["25 587", "110"]) == 0
    written = console.written()
    assert written.pop("listeners") == [{"protocol": "smtp", "port": 587}]
    assert (written["smtp_port"], written["pop3_port"], written["attachment_limit_mb"]) == (25, 110, 20)


def test_only_new_warnings_are_shown(console):
    set_up(console, bind="0.0.0.0")
    assert console.run("--add-login", "printer") == 0 and "has no TLS" not in console.out
    assert console.run("--ports", typed=["25", "110"]) == 0
    assert "pop3_port has no TLS" in console.out and "smtp_port has no TLS" not in console.out


def test_encryption_is_switched_off(console):
    set_up(console, tls={"tls_cert": "auto"}, bind="0.0.0.0", smtps_port=465, allowed_networks=["192.0.2.0/24"])
    assert console.run("--tls", typed=["none", ""]) == 0
    written = console.written()
    assert "tls" not in written and "smtps_port" not in written
    assert written["plaintext_networks"] == ["127.0.0.0/8", "::1/128", "192.0.2.0/24"]
    assert "! smtp_port has no TLS" in console.out


def test_who_may_only_send_is_not_asked_about_pop3(console):
    set_up(console, permissions="send")
    assert console.run("--ports", typed=["25"]) == 0
    assert console.written()["smtp_port"] == 25 and "POP3" not in console.out


@pytest.mark.parametrize("tenant, stays", [("contoso.com", True), ("contoso.de", True), ("fabrikam.com", False)])
def test_the_ids_of_another_tenant_go(console, tenant, stays):
    set_up(console)
    answers = {"tenant": tenant, "account": f"relay@{tenant}"}
    assert console.run(answers=answers) == 0
    assert (console.written()["tenant_id"] == TENANT) == stays
    assert ("they are taken out" in console.out) != stays and ("init --ids" in console.out) != stays


def test_ids_stay_if_nobody_can_tell_whose_they_are(console, monkeypatch):
    set_up(console)
    monkeypatch.setattr(installation, "Tenants", lambda outbound, authority: KnownTenants(None))
    assert console.run(answers={"tenant": "contoso.com"}) == 0
    assert (console.written()["tenant_id"], console.written()["client_id"]) == (TENANT, MINIMAL["client_id"])
    assert "The ids stay" in console.out and "taken out" not in console.out


def test_what_does_not_concern_the_tenant_writes_no_script(console):
    set_up(console)
    assert console.run("--ports", typed=["25", "110"]) == 0
    assert "config-tenant.ps1" not in console.names() and "shell.azure.com" not in console.out


def test_an_application_with_a_secret_gets_a_hint_instead_of_a_script(console):
    set_up(console, user=None, client_secret="s")
    assert console.run("--add-mailbox", "alerts@contoso.com") == 0
    assert "config-tenant.ps1" not in console.names() and "Give the application its rights in Exchange" in console.out


def test_a_config_with_mistakes_is_left_alone(console):
    console.path.write_text('{"user": }')
    assert console.run(typed=FIRST) == 78 and "line 1, column 10" in console.err
    assert console.path.read_text() == '{"user": }'


def test_what_does_not_fit_together_is_not_written(console):
    set_up(console, status_port=110)
    before = console.path.read_bytes()
    assert console.run("--ports", typed=["25", "110"]) == 78
    assert "status_port and pop3_port both want port 110" in console.err and console.path.read_bytes() == before


def test_a_full_disk(console, monkeypatch):
    def full(file):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(conversation.configfile.files, "sync_file", full)
    console.path.write_text('{"smtp_port": 2525}')
    assert console.run(answers={"tenant": "contoso.com"}) == 74
    assert "No space left on device; nothing was changed" in console.err
    assert console.names() == ["config.json"] and console.path.read_text() == '{"smtp_port": 2525}'


def test_the_second_name(console):
    assert cli.main(["--config", str(console.path), "configure", "--ids", IDS]) == 64
