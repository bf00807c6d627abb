"""Answers in a config: what is answered is what the config says then, and nothing else changes."""

import copy
import ipaddress

import pytest
from cases import each
from configs import MINIMAL

from m365proxy.admin.init import amendment, answers, configfile
from m365proxy.admin.init.answers import Answers
from m365proxy.admin.init.spelling import EVERYWHERE, Certificate, Door
from m365proxy.errors import UsageError

NET = ipaddress.ip_network
BOX, SECOND = "scanner@contoso.com", "alerts@contoso.com"
FIRST = Answers(
    tenant="contoso.com",
    app_only=False,
    account="relay@contoso.com",
    mailboxes=(BOX,),
    new=frozenset(),
    devices=(NET("192.0.2.0/24"),),
    certificate=Certificate("auto"),
    plaintext=(),
    relays=(),
    smtp=(Door(25), Door(587), Door(465, True)),
    pop3=(),
)


def said(document):
    """What a document answers."""
    loaded = configfile.loaded(document, "/nowhere/config.json")
    return in_order(answers.of_config(loaded, "contoso.com", ()))


def in_order(answered):
    """The order of ports says nothing."""
    return answered._replace(smtp=tuple(sorted(answered.smtp)), pop3=tuple(sorted(answered.pop3)))


def amended(document, present, answered, *new):
    document = copy.deepcopy(document)
    amendment.amend(document, present, answered, dict.fromkeys(new, "a secret"))
    return document


CHANGES = [
    {"account": "other@contoso.com"},
    {"mailboxes": (BOX, SECOND)},
    {"devices": ()},
    {"devices": EVERYWHERE},
    {"devices": (NET("192.0.2.0/24"), NET("fd00::/64"))},
    {"certificate": Certificate("/cert.pem", "/key.pem")},
    {"certificate": Certificate(), "smtp": (Door(25),)},
    {"plaintext": (NET("192.0.2.7"), NET("192.0.2.0/28"))},
    {"relays": ((NET("192.0.2.7"), BOX),)},
    {"smtp": (Door(2525),)},
    {"smtp": (Door(465, True),)},
    {"smtp": (Door(465, True), Door(8465, True))},
    {"pop3": (Door(110), Door(995, True))},
    {"pop3": (Door(110), Door(1110), Door(995, True))},
]


@each("change", [{}, *CHANGES])
def test_a_new_config_says_what_was_answered(change):
    answered = FIRST._replace(**change)
    assert said(amended({}, None, answered, *answered.mailboxes)) == in_order(answered)


@each("change", CHANGES)
def test_one_change_and_back(change):
    """What was not asked about stays, wherever it stands."""
    first = amended({}, None, FIRST, BOX)
    first.update({"#": "mine", "attachment_limit_mb": 20, "limits": {"#": "few", "connections": 7}})
    first["mailboxes"][0]["rewrite_from"] = True
    changed = FIRST._replace(**change)
    second = amended(first, FIRST, changed, SECOND)
    back = FIRST._replace(mailboxes=changed.mailboxes)
    third = amended(second, changed, back)
    assert said(second) == in_order(changed) and said(third) == in_order(back)
    for key in first.keys() - {"mailboxes", "smtps_port", "listeners"}:  # there are two ways to open a port
        assert third[key] == first[key]
    assert third["mailboxes"][0] == first["mailboxes"][0]
    assert amended(first, FIRST, FIRST) == first


def test_listeners_that_stay_keep_what_is_set_for_them():
    old = {"protocol": "SMTP", "port": 2526, "min_version": "TLSv1", "#": "the old printer"}
    odd = {"protocol": "pop3", "port": 1110, "bind": "127.0.0.1"}
    document = {**MINIMAL, "tls": {"tls_cert": "auto"}, "smtp_port": 25, "listeners": [old, odd]}
    present = said(document)
    changed = amended(document, present, present._replace(smtp=(Door(2526), Door(587))))
    assert changed["listeners"] == [old, odd] and changed["smtp_port"] == 587
    assert "listeners" not in amended(document, present, present._replace(smtp=(Door(25),), pop3=()))


@each("port", [2526, 465])
@each("old, new", [("implicit", None), ("starttls", "implicit"), (None, "implicit")])
def test_a_listener_gets_the_tls_that_was_answered(port, old, new):
    listener = {"protocol": "smtp", "port": port, "#": "the old printer", **({"tls": old} if old else {})}
    document = {**MINIMAL, "tls": {"tls_cert": "auto"}, "smtp_port": 25, "listeners": [listener]}
    present = said(document)
    answered = present._replace(smtp=(Door(25), Door(port, new == "implicit")))
    changed = amended(document, present, answered)
    assert said(changed) == in_order(answered)
    assert changed["listeners"] == [
        {"protocol": "smtp", "port": port, "#": "the old printer", **({"tls": new} if new else {})}
    ]


def test_without_a_certificate_nothing_asks_for_one():
    document = amended({}, None, FIRST, BOX)
    document["tls"].update(required=True, min_version="TLSv1.3")
    document["tls_first"] = ["192.0.2.7"]
    changed = amended(document, FIRST, FIRST._replace(certificate=Certificate(), smtp=(Door(25),)))
    assert changed["tls"] == {"min_version": "TLSv1.3"} and "tls_first" not in changed
    assert said(changed).certificate == Certificate()


def test_from_an_account_to_the_application_and_back():
    document = amended({}, None, FIRST, BOX)
    application = FIRST._replace(app_only=True, account="")
    changed = amended(document, FIRST, application)
    assert "user" not in changed
    changed["client_certificate"] = {"private_key": "k", "thumbprint": "0" * 40}
    assert amended(changed, application, FIRST).keys() == document.keys()


def test_a_user_beside_the_applications_secret_signs_nobody_in_and_both_stay():
    document = {**MINIMAL, "client_secret": "of the application", "client_secret_expires": "2031-01-01"}
    present = said(document)
    assert (present.app_only, present.account) == (True, "")
    assert amended(document, present, present._replace(smtp=(Door(26),))) == {**document, "smtp_port": 26}


@each(
    "document, left",
    [
        (
            {
                "user": "relay@contoso.com",
                "mailboxes": [{"username": BOX, "password": "what `m365proxy hash-password` prints"}],
            },
            {"user": None, "mailboxes": None},
        ),
        (
            {"user": "relay@contoso.com", "mailboxes": [{"username": BOX, "password": None}], "smtp_port": 25},
            {"user": None, "mailboxes": None, "smtp_port": 25},
        ),
        ({"user": "relay@fabrikam.com", "mailboxes": []}, {"user": "relay@fabrikam.com", "mailboxes": None}),
        ({"user": "relay@contoso.com", "smtp_port": 25}, {"user": None, "smtp_port": 25}),
    ],
)
def test_the_sample_is_no_answer(document, left):
    amendment.drop_sample(document)
    assert document == left
    answered = amended(document, None, FIRST, BOX)  # in their places
    assert list(answered)[: len(left)] == list(left) and said(answered) == in_order(FIRST)


def test_what_somebody_typed_into_the_sample_stays():
    document = {"user": "relay@contoso.com", "mailboxes": [{"username": BOX, "password": "secret"}]}
    before = copy.deepcopy(document)
    amendment.drop_sample(document)
    assert document == before


def test_a_login_goes_to_its_mailbox():
    document = amended({}, None, FIRST._replace(mailboxes=(BOX, SECOND)), BOX, SECOND)
    amendment.add_login(document, SECOND, "printer", "a secret")
    amendment.add_login(document, SECOND, "camera", "a secret")
    assert [one["login"] for one in document["mailboxes"][1]["logins"]] == ["printer", "camera"]
    with pytest.raises(UsageError, match="is no mailbox"):
        amendment.add_login(document, "nobody@contoso.com", "x", "y")
