"""Runs what the scheduled task for Windows runs, in the places that docs/windows.md names: windowstask.py TASK.xml

For `.ci/windows`, by the Python that was put there, and for nowhere else: it writes to %ProgramData%.  The program has
no sign-in, so a mail is accepted and waits; the program is killed as Task Scheduler ends it, and finds the mail again.
"""

import json
import os
import shlex
import smtplib
import socket
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree

NAMES = {"task": "http://schemas.microsoft.com/windows/2004/02/mit/task"}
MAILBOX = "scanner@contoso.com"
PASSWORD = "drawer full of devices"


def action(path):
    """(program, arguments, directory) of the task in a file."""
    found = ElementTree.parse(path).getroot().find("task:Actions/task:Exec", NAMES)
    program, arguments, directory = (
        found.findtext(f"task:{name}", "", NAMES) for name in ("Command", "Arguments", "WorkingDirectory")
    )
    return program.strip('"'), shlex.split(arguments), directory


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def write_config(path, port):
    ids = {name: f"5f0c8d3a-7f3e-4a52-9a55-0d6a1c6f1b1{place}" for place, name in enumerate(("tenant_id", "client_id"))}
    document = {
        "user": "relay@contoso.com",
        **ids,
        "mailboxes": [{"username": MAILBOX, "password": PASSWORD}],
        "smtp_port": port,
        "logging": {"file": "m365proxy.log"},
    }
    with open(path, "w", encoding="utf-8") as file:
        json.dump(document, file)


def wait_for(condition, what):
    end = time.monotonic() + 60
    while not condition():
        if time.monotonic() > end:
            sys.exit(f"windowstask: {what} did not come")
        time.sleep(0.2)


def answers(port):
    try:
        with socket.create_connection(("127.0.0.1", port), 5) as sock:
            return sock.recv(3) == b"220"
    except OSError:
        return False


def main(path):
    program, arguments, directory = action(path)
    os.makedirs(directory, exist_ok=True)
    port = free_port()
    write_config(os.path.join(directory, "config.json"), port)
    waiting = os.path.join(directory, "state", "queue", "new")
    for mails in (1, 2):
        with subprocess.Popen([program, *arguments], cwd=directory) as running:
            wait_for(lambda: answers(port), "a greeting")
            with smtplib.SMTP("127.0.0.1", port, timeout=30) as client:
                client.login(MAILBOX, PASSWORD)
                client.sendmail(MAILBOX, [MAILBOX], b"Subject: scan\r\n\r\nA page.\r\n")
            said = subprocess.run([program, "-m", "m365proxy", "queue", "list"], capture_output=True, text=True)
            assert said.stdout.count(MAILBOX) >= mails, said
            running.kill()
        assert len(os.listdir(waiting)) == mails
    assert os.path.getsize(os.path.join(directory, "m365proxy.log"))
    print(f"{program} {' '.join(arguments)}: 2 mails accepted, killed after each, both wait.")


if __name__ == "__main__":
    main(sys.argv[1])
