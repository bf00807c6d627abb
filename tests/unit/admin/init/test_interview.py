"""The questions: what follows from which answer, and what is refused."""

import ipaddress
import os
import pathlib
import shlex

import pytest
from cases import each
from init_harness import TENANT, KnownTenants, busy_ports, giving, typing

from m365proxy.admin.init import interview, spelling
from m365proxy.admin.init.interview import Interview
from m365proxy.admin.init.spelling import EVERYWHERE, Certificate, Door
from m365proxy.errors import UsageError

NET = ipaddress.ip_network
LAN = NET("192.0.2.0/24")


@pytest.fixture(autouse=True)
def _machine(monkeypatch):
    busy_ports(monkeypatch)
    monkeypatch.setattr(interview, "proposed_networks", lambda: (LAN,))


def answered(present=None, tenants=None, **answers):
    questions, shown = giving(**{"tenant": "contoso.com", **answers})
    found = Interview(questions, tenants or KnownTenants(), present).whole()
    questions.check_all_used()
    return found, shown.getvalue()


@each("devices", [(LAN,), EVERYWHERE, EVERYWHERE[:1], EVERYWHERE[::-1]])
def test_without_encryption_nobody_gets_in_by_enter_who_could_not_before(devices):
    before, _ = answered(tls="none", plaintext="none")
    before = before._replace(devices=devices)
    assert answered(before)[0] == before
    with_tls = before._replace(certificate=Certificate("auto"))
    expected = spelling.PRIVATE if set(devices) & set(EVERYWHERE) else devices
    assert answered(with_tls, tls="none")[0].plaintext == expected


def test_where_only_mail_is_fetched_no_port_for_sending_is_opened():
    before, _ = answered(pop3_ports=[110])
    before = before._replace(smtp=())
    assert answered(before)[0] == before
    assert answered(before, smtp_ports=[25])[0].smtp == (Door(25),)


def test_the_defaults_are_good_enough_for_most():
    found, _ = answered()
    assert found == interview.Answers(
        tenant="contoso.com",
        app_only=False,
        account="relay@contoso.com",
        mailboxes=("scanner@contoso.com",),
        new=frozenset({"scanner@contoso.com"}),
        devices=(LAN,),
        certificate=Certificate("auto"),
        plaintext=(),
        relays=(),
        smtp=(Door(25), Door(587), Door(465, True)),
        pop3=(),
    )


@each(
    "answers, expected",
    [
        ({"sign_in": "application"}, {"app_only": True, "account": ""}),
        ({"tenant": TENANT, "account": "r@contoso.de", "mailboxes": "s@contoso.com"}, {"account": "r@contoso.de"}),
        ({"mailboxes": "relay@contoso.com"}, {"mailboxes": ("relay@contoso.com",), "new": frozenset()}),
        ({"mailboxes": ["a@contoso.com", "b@contoso.de"], "new_mailboxes": "b@contoso.de"}, {"new": {"b@contoso.de"}}),
        ({"new_mailboxes": False}, {"new": frozenset()}),
        ({"devices": "here", "tls": "none"}, {"devices": (), "plaintext": (), "smtp": (Door(25), Door(587))}),
        ({"devices": "any"}, {"devices": EVERYWHERE}),
        ({"tls": "none"}, {"plaintext": (LAN,), "certificate": Certificate()}),
        ({"tls": "none", "devices": "any"}, {"plaintext": spelling.PRIVATE}),
        ({"tls": "none", "plaintext": "192.0.2.7"}, {"plaintext": (NET("192.0.2.7"),)}),
        ({"plaintext": "192.0.2.7"}, {"plaintext": (NET("192.0.2.7"),)}),
        ({"relay": {"192.0.2.7": "scanner@contoso.com"}}, {"relays": ((NET("192.0.2.7"), "scanner@contoso.com"),)}),
        (
            {"smtp_ports": 2525, "pop3_ports": [1110, 995]},
            {"smtp": (Door(2525),), "pop3": (Door(1110), Door(995, True))},
        ),
    ],
)
def test_what_follows_from_an_answer(answers, expected):
    found, _ = answered(**answers)
    assert {name: getattr(found, name) for name in expected} == expected


NOWHERE = os.path.abspath("/nowhere.pem")


@each(
    "answers, sentence",
    [
        ({"tenant": "contosso.com"}, "The answer tenant: Microsoft knows no tenant contosso.com."),
        ({"tenant": TENANT}, "The answer mailboxes is missing"),
        ({"sign_in": "application", "account": "relay@contoso.com"}, "The answer account has no effect"),
        ({"mailboxes": []}, "At least one is needed"),
        ({"smtp_ports": "none"}, "At least one port is needed"),
        ({"tls": "none", "smtp_ports": 465}, "there is no certificate"),
        ({"pop3_ports": 25}, "Port 25 is for SMTP already."),
        ({"tls": NOWHERE}, f"The answer tls: {NOWHERE} cannot be read"),
        ({"tls_key": "key.pem"}, "The answer tls_key has no effect"),
        ({"relay": "192.0.2.7=nobody@contoso.com"}, "is none of the mailboxes"),
    ],
)
def test_what_is_refused(answers, sentence):
    if answers.get("tenant") == TENANT:
        answers = {**answers, "sign_in": "application"}
    with pytest.raises(UsageError) as caught:
        answered(**answers)
    assert sentence in str(caught.value)


def test_a_mailbox_outside_the_tenant_is_asked_for_again():
    typed = ["contoso.com", "", "relay@contosso.com", "", "s@fabrikam.com", "s@contoso.com", *[""] * 20]
    questions, shown = typing(*typed)
    found = Interview(questions, KnownTenants(), None).whole()
    assert (found.account, found.mailboxes) == ("relay@contoso.com", ("s@contoso.com",))
    assert "Did you mean relay@contoso.com? Type it again if it is right." in shown.getvalue()
    assert "fabrikam.com belongs to another tenant" in shown.getvalue()


def test_without_microsoft_it_says_that_nothing_was_checked():
    found, shown = answered(tenants=KnownTenants(None), tenant="contosso.com")
    assert found.tenant == "contosso.com"
    assert "Whether contosso.com exists could not be checked: No connection to login.example." in shown


def test_a_port_in_use_is_answered_with_free_ones(monkeypatch):
    busy_ports(monkeypatch, 25, 2525)
    questions, shown = typing("contoso.com", *[""] * 8, "2525", "587", "none")
    assert Interview(questions, KnownTenants(), None).whole().smtp == (Door(587),)
    assert "Port 25 is in use by another program." in shown.getvalue()
    assert "! Port 2525 is in use by another program. Free: 587 465." in shown.getvalue()


def test_a_port_of_the_config_stays_whoever_has_it_now(monkeypatch):
    before, _ = answered()
    busy_ports(monkeypatch, 25, 587)
    before = before._replace(smtp=(Door(25), Door(587)))
    questions, shown = typing("25 587", "587", "110")
    assert Interview(questions, KnownTenants(), before).ports(before).pop3 == (Door(110),)
    assert "Port 587 is for SMTP already." in shown.getvalue()


def test_the_running_programs_own_ports_are_free():
    found, _ = answered()
    questions, _ = giving(smtp_ports=[25], pop3_ports=[110])
    assert Interview(questions, KnownTenants(), found, our_ports=[25]).ports(found).pop3 == (Door(110),)


def test_what_is_there_is_the_default_and_stays():
    before, _ = answered(mailboxes=["a@contoso.com", "b@contoso.com"], plaintext="192.0.2.7", smtp_ports=[2525])
    again, _ = answered(present=before)
    assert again == before
    more, shown = answered(present=before, mailboxes="c@contoso.com", new_mailboxes="no")
    assert more.mailboxes == ("a@contoso.com", "b@contoso.com", "c@contoso.com") and more.new == before.new
    assert "To remove a@contoso.com, b@contoso.com, edit the config" in shown


@pytest.mark.parametrize("names", [("cert.pem", "privkey.pem"), ("cert.pem", "cert.key"), ("both.pem", "both.pem")])
def test_the_key_beside_a_certificate_is_found(tmp_path, certificate, names):
    paths = [tmp_path / name for name in names]
    texts = [pathlib.Path(path).read_bytes() for path in certificate]
    for path in paths:
        path.write_bytes(b"".join(texts) if names[0] == names[1] else texts[paths.index(path)])
    found, _ = answered(tls=str(paths[0]))
    assert found.certificate == tuple(map(str, paths))


def test_a_key_that_the_service_cannot_read(monkeypatch, certificate):
    monkeypatch.setattr(interview.packaged, "obstacles", lambda *paths: ["/etc/my keys", paths[1]])
    _, shown = answered(tls=certificate[0], tls_key=certificate[1])
    files = f"'/etc/my keys' {shlex.quote(certificate[1])}"
    assert f"`chgrp m365proxy {files}` and `chmod g+rX {files}`" in " ".join(shown.split())


def test_a_key_of_another_certificate_is_refused(tmp_path, certificate):
    with pytest.raises(UsageError, match="The answer tls_key is missing"):
        (tmp_path / "cert.pem").write_bytes(pathlib.Path(certificate[0]).read_bytes())
        answered(tls=str(tmp_path / "cert.pem"))
    with pytest.raises(UsageError, match="The answer tls_key: tls"):
        answered(tls=certificate[0], tls_key=certificate[0])


def test_what_is_no_certificate(tmp_path):
    (tmp_path / "x").write_text("hello")
    with pytest.raises(UsageError, match="is no certificate in PEM form"):
        answered(tls=str(tmp_path / "x"))


@pytest.mark.parametrize(
    "answers, chosen",
    [({}, "a@contoso.com"), ({"mailbox": "b@contoso.com"}, "b@contoso.com"), ({"mailbox": "c@c.de"}, "")],
)
def test_whose_a_login_is(answers, chosen):
    asking = Interview(giving(**answers)[0], KnownTenants(), None)
    if chosen:
        assert asking.which_mailbox(["a@contoso.com", "b@contoso.com"], "printer") == chosen
    else:
        with pytest.raises(UsageError, match="none of the mailboxes"):
            asking.which_mailbox(["a@contoso.com", "b@contoso.com"], "printer")


def test_every_question_has_its_key_in_the_manual():
    asked = set()

    class Recorded:
        def __init__(self):
            self._questions = giving(tenant="contoso.com")[0]
            self.heading, self.note = self._questions.heading, self._questions.note

        def ask(self, question):
            asked.add(question.key)
            return self._questions.ask(question)

    Interview(Recorded(), KnownTenants(), None).whole()
    assert asked | {"tls_key", "mailbox", "ids"} == interview.KEYS.keys()
