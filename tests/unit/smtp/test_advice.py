"""What is advised; tests/unit/test_advice.py follows it."""

import ipaddress
import json

from cases import each
from smtp_harness import user

from m365proxy.smtp import advice
from m365proxy.smtp.policy import Policy

FIRST = ["scanner@contoso.com may not send as {}:", "set the device's sender address to scanner@contoso.com,"]
HERE = "to this mailbox in the configuration"


def last(address):
    return f'or add "rewrite_from": true {HERE}: such mail then comes from {address}'


@each(
    "address, options, ways",
    [
        (
            "Boss@contoso.com",
            {},
            [f'or add "send_as": ["boss@contoso.com"] {HERE}, if Exchange lets it send as that,'],
        ),
        (
            "boss@contoso.com",
            {"send_as": ("a@contoso.com", "*@fabrikam.example")},
            [
                'or add "send_as": ["a@contoso.com", "*@fabrikam.example", "boss@contoso.com"] '
                f"{HERE}, if Exchange lets it send as that,"
            ],
        ),
        (
            "boss@contoso.com",
            {"send_as": ("a@contoso.com",) * 50},
            [f'or add "boss@contoso.com" in "send_as" {HERE}, if Exchange lets it send as that,'],
        ),
        ("root@localhost", {}, []),
        ("*@contoso.com", {}, []),  # in send_as it would be the whole domain
        ("root@[10.0.0.1]", {}, []),
        ("root@my_nas.contoso.com", {}, []),
    ],
)
def test_the_ways_for_a_sender(address, options, ways):
    reply = advice.sender_refused(address, user(**options))
    assert list(reply.lines) == [FIRST[0].format(address), FIRST[1], *ways, last("scanner@contoso.com")]


def test_the_sender_that_would_stand_there_is_named():
    reply = advice.sender_refused(
        "root@localhost", user(default_from="office@contoso.com", send_as=("office@contoso.com",))
    )
    assert reply.lines[-1] == last("office@contoso.com")


def test_the_longest_advice_is_no_line_too_long():
    longest = "a" * 64 + "@" + ".".join(["b" * 60] * 3) + ".com"
    reply = advice.sender_refused(longest, user(longest.replace("a", "c"), send_as=("x@contoso.com",) * 15))
    assert len(reply.lines) == 4 and max(map(len, reply.lines)) <= 490


POLICY = {"plaintext_networks": [ipaddress.ip_network("127.0.0.0/8")], "mailboxes": ["a@contoso.com", "b@contoso.com"]}


def test_the_ways_without_auth():
    said = advice.without_auth("192.0.2.7", Policy(**POLICY), can_start_tls=True, tls_required=False)
    assert said == (
        "it was offered no AUTH, because it had not begun TLS, and left: set TLS (STARTTLS) on the device; "
        'or let it log in without TLS: "plaintext_networks": ["127.0.0.0/8", "192.0.2.7"]; '
        'or let it send without a login: "relay_networks": {"192.0.2.7": "a@contoso.com"} (or another mailbox)'
    )


def test_what_is_configured_stays_in_the_line():
    relays = [(ipaddress.ip_network("192.0.2.8"), "b@contoso.com")]
    said = advice.without_auth("192.0.2.7", Policy(**POLICY, relay_networks=relays), False, False)
    assert "give this port a certificate (tls.tls_cert)" in said
    whole = json.dumps({"192.0.2.8/32": "b@contoso.com", "192.0.2.7": "a@contoso.com"})
    assert f'"relay_networks": {whole}' in said


def test_of_long_lists_only_what_is_new():
    many = [ipaddress.ip_network(f"10.0.{number}.0/24") for number in range(100)]
    policy = Policy(
        plaintext_networks=many, relay_networks=[(one, "a@contoso.com") for one in many], mailboxes=["a@contoso.com"]
    )
    said = advice.without_auth("192.0.2.7", policy, True, False)
    assert '"192.0.2.7" in "plaintext_networks"' in said
    assert said.endswith('"192.0.2.7": "a@contoso.com" in "relay_networks"')


def test_nobody_may_send():
    assert "relay_networks" not in advice.without_auth("192.0.2.7", Policy(), True, False)
