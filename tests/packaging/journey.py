#!/usr/bin/env python3
"""From nothing to the first mail, as an administrator at a terminal: init, login, check and test, and nothing else.

    journey.py deb ROOT M365PROXY.DEB [--page docs/first-mail.md [--write]]
    journey.py file ROOT M365PROXY.PY

ROOT is a Debian root that may be changed (tests/packaging/roots.sh): "plain" for the .deb, "bare" for the single file.
It gets namespaces of its own, where login.microsoftonline.com and graph.microsoft.com are the stand-in tenant: no
setting of the program says so.  Needs root, pexpect and the command `ip`.

With --page, ends with status 1 if the page shows something else than the terminal did; --write makes the page.
"""

import argparse
import contextlib
import os
import pathlib
import re
import shutil
import smtplib
import ssl
import subprocess
import sys
import time

import firstmail
import pexpect
from firstmail import Step

from m365proxy.sandbox import Sandbox

SIGN_IN, GRAPH = "login.microsoftonline.com", "graph.microsoft.com"
RELAY, SCANNER = "relay@contoso.com", "scanner@contoso.com"
HOST, ADDRESS = "gateway", "192.168.10.5"

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
PROMPT = f"root@{HOST}:~# "

# Seconds for anything that is waited for; apt unpacks Python in it.
PATIENCE = 120


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kind", choices=["deb", "file"])
    parser.add_argument("root", type=pathlib.Path)
    parser.add_argument("program", type=pathlib.Path)
    parser.add_argument("--page", type=pathlib.Path)
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    if os.getpid() != 1:
        enter_namespaces()
    steps = travelled(arguments)
    text = firstmail.page(PROMPT, steps) if arguments.page else ""
    if arguments.write:
        arguments.page.write_text(text, "utf-8")
    elif arguments.page:
        difference = firstmail.difference(arguments.page.read_text("utf-8"), text)
        if difference:
            sys.exit(f"{difference}\n{arguments.page} is not what the program prints; run this with --write")
    print(f"from install to a mail that arrived: {steps[-1].ended:.0f} s, {len(steps)} commands")


def enter_namespaces():
    """Start again as process 1 of namespaces: mounts, network, host name and processes are ours, and end with it."""
    kinds = ["--mount", "--net", "--uts", "--pid", "--fork", "--kill-child", "--propagation", "private"]
    os.execvp("unshare", ["unshare", *kinds, sys.executable, *sys.argv])


def travelled(arguments):
    """Everything the person at the terminal did, in order."""
    sandbox = Sandbox(mailboxes=[RELAY], user=RELAY, hosts=(SIGN_IN, GRAPH))
    sandbox.approve_after = None
    make_network()
    sandbox.start(443)
    with contextlib.ExitStack() as stack:
        stack.callback(sandbox.stop)
        prepare_root(arguments.root, sandbox.ca_file)
        journey = (FromPackage if arguments.kind == "deb" else FromFile)(arguments.root, arguments.program, sandbox)
        stack.callback(journey.close)
        try:
            journey.go()
        except SystemExit:
            print(f"The program's log:\n{journey.log.read_text() if journey.log.exists() else ''}", file=sys.stderr)
            raise
        return journey.terminal.steps


def make_network():
    """A host name, and an interface with an address that devices could reach."""
    for command in (
        f"hostname {HOST}",
        "ip link set lo up",
        "ip link add name eth0 type veth peer name devices",
        f"ip address add {ADDRESS}/24 dev eth0",
        "ip link set eth0 up",
        "ip link set devices up",
    ):
        subprocess.run(command.split(), check=True)


def prepare_root(root, ca_file):
    """What a machine has: /proc and /dev, names that resolve, a certificate authority to trust."""
    subprocess.run(["mount", "-t", "proc", "proc", root / "proc"], check=True)
    subprocess.run(["mount", "--rbind", "/dev", root / "dev"], check=True)
    hosts = f"127.0.0.1 localhost {SIGN_IN} {GRAPH}\n::1 localhost\n{ADDRESS} {HOST}.contoso.com {HOST}\n"
    (root / "etc/hosts").write_text(hosts)
    (root / "etc/hostname").write_text(f"{HOST}\n")
    # Where the package ca-certificates looks for more; and what it makes, for a root that will not have it.
    for place in ("usr/local/share/ca-certificates/contoso.crt", "etc/ssl/certs/ca-certificates.crt"):
        (root / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ca_file, root / place)
        (root / place).chmod(0o644)


def in_root(root, *words):
    """A command line that runs in the root with a clean environment."""
    environ = [f"PATH={PATH}", "HOME=/root", "LANG=C.UTF-8", "TERM=xterm", "DEBIAN_FRONTEND=noninteractive"]
    return ["env", "-i", *environ, "chroot", str(root), *words]


class Terminal:
    """A shell in the root, 80 columns wide, and whoever types there."""

    def __init__(self, root):
        shell = ("env", "-C", "/root", f"PS1={PROMPT}", "/bin/bash", "--norc", "--noprofile", "--noediting")
        command, *words = in_root(root, *shell)
        self._child = pexpect.spawn(command, words, encoding="utf-8", dimensions=(24, 80), timeout=PATIENCE)
        self._child.delaybeforesend = None
        self._child.expect_exact(PROMPT)
        self._began = 0.0
        self._screen = ""
        self.steps = []

    def run(self, title, command, *dialogue, shown=None):
        """Type a command, answer what it asks, and wait for the prompt; what was on the screen.

        `dialogue`: (words on the screen, what is typed then) in this order; what is typed may be a function of the
        match.  The command must succeed.  `shown`: what of the screen is worth showing.
        """
        self._began = self._began or time.monotonic()
        self._screen = ""
        self._child.sendline(command)
        self._see("\r\n")
        for words, reply in dialogue:
            found = self._see(words.replace(" ", r"\s+"))
            typed = reply(found) if callable(reply) else reply
            if typed is not None:
                self._child.sendline(typed)
        self._see(re.escape(PROMPT))
        ended = time.monotonic() - self._began
        screen = firstmail.plain(self._screen.removesuffix(PROMPT).partition("\n")[2])
        screen = shown(screen) if shown else screen
        print(f"{PROMPT}{command}\n{screen}", end="", flush=True)
        self._child.sendline("echo =$?=")
        status = int(self._see(r"=(\d+)=\r\n").group(1))
        self._see(re.escape(PROMPT))
        if status:
            sys.exit(f"{command}: exit status {status}")
        self.steps.append(Step(title, command, screen, ended))
        return screen

    def _see(self, pattern):
        """Wait for it; the match."""
        child = self._child
        found = child.expect([pattern, re.escape(PROMPT), pexpect.TIMEOUT, pexpect.EOF])
        self._screen += child.before + (child.after if isinstance(child.after, str) else "")
        if found:
            why = ("the command ended", "nothing more came", "the shell ended")[found - 1]
            sys.exit(f"waiting for {pattern!r}: {why}. The screen:\n{firstmail.plain(self._screen)}")
        return child.match

    def close(self):
        self._child.close(force=True)


class Journey:
    """What is typed, and who helps: Microsoft's cloud shell, and the person with the phone."""

    command = "m365proxy"

    def __init__(self, root, program, sandbox):
        self.root = root
        self.program = program
        self.sandbox = sandbox
        self.log = root / "root/log"
        self.terminal = Terminal(root)
        self._service = None

    def go(self):
        self.install()
        shown = self.terminal.run("Answer the questions", f"{self.command} init", *self.answers())
        self.start()
        self.terminal.run("Sign in", f"{self.command} login", *self.phone())
        self.terminal.run("Check", f"{self.command} check")
        self.terminal.run("Send a mail", f"{self.command} test")
        self.see_that_it_arrived()
        self.send_as_device(shown)

    def answers(self):
        """To the questions of init, by words of them; "" takes what is proposed."""
        yield "Your tenant", "contoso.com"
        for question in ("Who signs in", "The account that signs in", "The mailboxes", "to be made", "Where are the"):
            yield question, ""
        for question in ("Encryption between", "without encryption", "cannot log in at all", "sending mail"):
            yield question, ""
        yield "fetch mail", "110 995"
        yield "paste the last line", lambda found: self.cloud_shell()

    def phone(self):
        """Somebody reads the code off the screen, and types it while the command waits."""
        seen = []
        yield r"\n\s+(?:\x1b\[\d+m)?([A-F0-9]{9})\b", lambda found: seen.append(found.group(1))
        yield "Waiting. ", lambda found: self.sandbox.entra.approve(seen[0])

    def cloud_shell(self):
        """What the tenant's script does; its last line."""
        script = next(self.root.glob("etc/m365proxy*.ps1")).read_text()
        for address in re.findall(r"@\{ Address = '([^']+)'; New = \$true", script):
            self.sandbox.tenant.add_mailbox(address)
        if "$tenant = 'contoso.com'" not in script or "$account = 'relay@contoso.com'" not in script:
            sys.exit("the script is for another tenant")
        return f"m365proxy ids: tenant_id={self.sandbox.tenant_id} client_id={self.sandbox.client_id}"

    def see_that_it_arrived(self):
        """In the tenant, once, with its PDF."""
        (delivery,) = self.sandbox.tenant.delivered
        if b"application/pdf" not in delivery.raw:
            sys.exit("the mail that arrived has no PDF")

    def send_as_device(self, card):
        """A device in the network, set as the card says, sends a mail, which arrives."""
        set_to = dict(
            re.findall(r"(?m)^(Port|User name|Password|From, Reply-To) +(\S+)$", card.partition("FETCHING")[0])
        )
        sender, unticked = set_to["From, Reply-To"], ssl._create_unverified_context()
        with smtplib.SMTP_SSL(ADDRESS, int(set_to["Port"]), timeout=PATIENCE, context=unticked) as device:
            device.login(set_to["User name"], set_to["Password"])
            device.sendmail(sender, sender, f"From: {sender}\r\nTo: {sender}\r\nSubject: scan\r\n\r\nA page.\r\n")
        self.wait_for("a device's mail", lambda: len(self.sandbox.tenant.delivered) == 2)

    def run(self, *words):
        """The program, beside the terminal."""
        with open(self.log, "wb") as log:
            self._service = subprocess.Popen(
                in_root(self.root, *words), stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def wait_for(self, what, condition):
        """Until it is true, or the program has ended."""
        deadline = time.monotonic() + PATIENCE
        while not condition():
            if self._service.poll() is not None or time.monotonic() > deadline:
                sys.exit(f"waiting for {what}: in vain")
            time.sleep(0.1)

    def close(self):
        self.terminal.close()
        if self._service is not None:
            self._service.terminate()
            self._service.wait(30)


class FromPackage(Journey):
    """The .deb in a root without Python; the journey plays systemd."""

    def install(self):
        package = f"m365proxy_{self.program.name.split('_')[1]}_all.deb"
        shutil.copy(self.program, self.root / "root" / package)
        self.terminal.run("Install", f"apt install -y ./{package}", shown=firstmail.end_of_installation)
        self.run(
            *("setpriv", "--reuid", "m365proxy", "--regid", "m365proxy", "--init-groups", "--no-new-privs"),
            *(f"--{kind}=-all,+net_bind_service" for kind in ("bounding-set", "inh-caps", "ambient-caps")),
            *("env", "STATE_DIRECTORY=/var/lib/m365proxy"),
            *self.unit("ExecStart").split(),
        )
        (self.root / "run/systemd/system").mkdir(parents=True)  # sd_booted(3)

    def start(self):
        """The service waits for its config, and starts by itself."""
        self.wait_for("its start", (self.root / "var/lib/m365proxy/status.json").exists)

    def unit(self, key):
        """A setting of the unit as it is installed."""
        places = [self.root / top / "systemd/system/m365proxy.service" for top in ("usr/lib", "lib")]
        text = next(place for place in places if place.exists()).read_text()
        return re.search(rf"^{key}=(.*)$", text, re.MULTILINE).group(1)


class FromFile(Journey):
    """The single file in a root with python3 and python3-cryptography."""

    command = "python3 m365proxy.py"

    def install(self):
        shutil.copy(self.program, self.root / "root/m365proxy.py")

    def start(self):
        self.run("env", "-C", "/root", *self.command.split(), "run")
        self.wait_for("its start", (self.root / "root/.m365proxy/status.json").exists)


if __name__ == "__main__":
    main()
