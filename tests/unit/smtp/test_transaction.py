from cases import each
from smtp_harness import user

from m365proxy.smtp import advice, replies
from m365proxy.smtp.syntax import DeliveryNotes
from m365proxy.smtp.transaction import Transaction, choose_recipient, choose_sender
from m365proxy.spool.envelope import Envelope


def test_the_envelope_is_what_was_said():
    transaction = Transaction("reports@contoso.com", False, DeliveryNotes(ret="HDRS", envid="QQ"))
    transaction.add("Jones@example.org", DeliveryNotes(notify="NEVER"))
    transaction.add("smith@example.org", DeliveryNotes(notify="SUCCESS,FAILURE", orcpt="rfc822;s@example.org"))
    assert transaction.fix_envelope(user(), "192.0.2.7") == Envelope(
        mailbox="scanner@contoso.com",
        sender="reports@contoso.com",
        recipients=("Jones@example.org", "smith@example.org"),
        client="192.0.2.7",
        login="scanner@contoso.com",
        ret="HDRS",
        envid="QQ",
        silent=("Jones@example.org",),
        orcpt=("smith@example.org rfc822;s@example.org",),
    )


@each("notify, silent", [("", False), ("NEVER", True), ("DELAY", True), ("FAILURE", False), ("DELAY,FAILURE", False)])
def test_a_report_of_failure_is_wanted_unless_something_else_was_asked_for(notify, silent):
    transaction = Transaction("", False, DeliveryNotes())
    transaction.add("jones@example.org", DeliveryNotes(notify=notify))
    assert bool(transaction.fix_envelope(user(), "192.0.2.7").silent) == silent


def test_recipients_are_the_same_in_any_case():
    transaction = Transaction("", False, DeliveryNotes())
    transaction.add("Jones@Example.org", DeliveryNotes())
    assert "jones@example.ORG" in transaction and "smith@example.org" not in transaction


@each(
    "address, rewrite, chosen",
    [
        ("scanner@contoso.com", False, "scanner@contoso.com"),
        ("Scanner@CONTOSO.com", False, "Scanner@CONTOSO.com"),
        ("", False, "scanner@contoso.com"),
        ("root", False, "scanner@contoso.com"),
        ("boss@contoso.com", False, advice.sender_refused("boss@contoso.com", user())),
        ("boss@contoso.com", True, "scanner@contoso.com"),
        ("\xfc@contoso.com", False, replies.not_ascii("\xfc@contoso.com")),
        ("\xfc@contoso.com", True, "scanner@contoso.com"),
    ],
)
def test_the_sender(address, rewrite, chosen):
    assert choose_sender(address, False, user(rewrite_from=rewrite)) == chosen


@each(
    "address, smtputf8, chosen",
    [
        ("Jones@Contoso.com", False, "Jones@Contoso.com"),
        ("postMaster", False, "scanner@contoso.com"),
        ("postmaster@contoso.com", False, "postmaster@contoso.com"),
        ("jones@example.org", False, "Mail to example.org is not allowed here (allowed_domains)"),
        ("jones@b\xfccher.example", True, "jones@xn--bcher-kva.example"),
        ("jones@b\xfccher.example", False, "jones@b?cher.example contains characters outside ASCII"),
        ("j\xf6nes@contoso.com", True, "j?nes@contoso.com contains characters outside ASCII"),
        ("", False, "Use RCPT TO:<user@domain>, not nothing"),
        ("root", False, "Microsoft 365 cannot send to root, because it has no domain"),
        (
            "jones@[10.0.0.1]",
            False,
            "Microsoft 365 cannot send to jones@[10.0.0.1], because it has an IP address in place of a domain",
        ),
        (
            "jones@my_nas.contoso.com",
            False,
            "Microsoft 365 cannot send to jones@my_nas.contoso.com, because its domain has an underscore",
        ),
    ],
)
def test_the_recipient(address, smtputf8, chosen):
    found = choose_recipient(address, smtputf8, user(), ("contoso.com", "xn--bcher-kva.example"))
    assert (found if isinstance(found, str) else " ".join(found.lines)) == chosen
