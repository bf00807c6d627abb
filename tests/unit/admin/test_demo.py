"""What the demo takes for the same mail.  The demo as a whole is run by test_windows.py, test_cli.py and others."""

import email
import email.policy
from email.message import EmailMessage

import pytest
from cases import each

from m365proxy.admin import demo


def mail(subject="Größe", text="one\ntwo\n", content=b"%PDF \0\xff\r\n", name="scan.pdf"):
    made = EmailMessage(policy=email.policy.SMTP)
    made["Subject"] = subject
    made.set_content(text)
    made.add_attachment(content, maintype="application", subtype="pdf", filename=name)
    return made


def test_a_mail_that_was_written_and_read_again_is_the_same():
    sent = mail()
    assert demo._compare(sent, email.message_from_bytes(bytes(sent), policy=email.policy.SMTP)) == 2


@each(
    "change, words",
    [
        ({"subject": "Gr??e"}, "the subject changed"),
        ({"text": "one\n\ntwo\n"}, "not what was sent"),
        ({"content": b"%PDF \0\xff\n"}, "not what was sent"),
        ({"name": "attachment.pdf"}, "not what was sent"),
    ],
    ids=["subject", "text", "content", "name"],
)
def test_any_change_on_the_way_fails(change, words):
    with pytest.raises(demo.DemoFailed, match=words):
        demo._compare(mail(), mail(**change))


def test_a_part_that_is_lost_fails():
    fetched = EmailMessage(policy=email.policy.SMTP)
    fetched["Subject"] = "Größe"
    fetched.set_content("one\ntwo\n")
    with pytest.raises(demo.DemoFailed):
        demo._compare(mail(), fetched)


def test_what_does_not_come_fails_in_the_end(monkeypatch):
    demo._wait_for(lambda: True, "nothing")
    monkeypatch.setattr(demo, "_PATIENCE", 0.0)
    with pytest.raises(demo.DemoFailed, match="The demo failed: it did not come."):
        demo._wait_for(lambda: False, "it did not come")
