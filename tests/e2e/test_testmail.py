"""`test` as a command beside the running program."""

import base64
import re

from program import ALERTS, PASSWORD, SCANS, wait_until


def said(done):
    """Without the line ends of the terminal."""
    return " ".join(done.stdout.split())


def test_from_nothing_to_the_inbox(make_program):
    """Without the program, without a sign-in, and when all is well, with the device's own password from a pipe.

    At last, from a shell without the program's key: what cannot be decrypted is said once, as a step.
    """
    program = make_program()
    done = program.command("test")
    assert done.returncode == 3 and done.stdout == "" and "m365proxy is not running. Start it" in done.stderr

    program.start()
    done = program.command("test", "--login", SCANS)
    assert done.returncode == 77 and done.stderr == "", done.stdout
    queue_id = re.search(r"250: on disk, queue id (\S+)", done.stdout).group(1)
    assert f"--config {program.config} login`." in said(done) and f"The mail is queued as {queue_id}" in said(done)
    assert program.queue() == [("new", "")]

    program.sign_in()
    wait_until(lambda: program.queue() == [], what="the delivery of what was queued")
    done = program.command("test", "--from", ALERTS, "--to", SCANS, "--ask-password", stdin=PASSWORD + "\n")
    assert done.returncode == 0 and done.stderr == "", done.stdout
    for step in (
        "with its own password",
        "250: on disk",
        "draft made",
        "202: ",
        "in Sent Items",
        "in the inbox",
        "PDF",
    ):
        assert step in said(done), step
    assert len(program.sandbox.tenant.items(SCANS)) == 2

    key = base64.urlsafe_b64encode(bytes(32)).decode()
    done = program.command("test", M365PROXY_KEY=key)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    assert "cannot be looked into: " in said(done) and "M365PROXY_KEY" in said(done)
