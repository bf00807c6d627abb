"""Real POP3 clients with their default settings, and one's turn at a freshly filled mailbox."""

import os
import pathlib
import poplib
import pty
import re
import ssl
import subprocess

import pytest
from program import PASSWORD, SCANS, wait_until
from tools import need

HEADER = b"From: <alerts@contoso.com>\r\nTo: <scans@contoso.com>\r\nSubject: %s\r\nMessage-ID: <%s@contoso.com>\r\n\r\n"


class Case:
    """One client's turn at a mailbox that has just been filled with messages, by name: each has its name in its id."""

    def __init__(self, program, directory, way, delete, raws):
        self.program = program
        self.directory = directory
        self.way = way
        self.delete = delete
        self.certificate = str(program.certificate)
        ports = [int(line.rpartition(":")[2]) for line in program.status()["listeners"] if line.startswith("pop3")]
        self.port = ports[1] if way == "tls" else ports[0]
        self.tenant = program.sandbox.tenant
        for item in self.tenant.items(SCANS):
            self.tenant.purge(item)
        self.raws = raws
        for number, raw in enumerate(self.raws.values()):
            self.tenant.add_message(SCANS, raw, received=1_700_000_000 + number)

    def write(self, name, text):
        path = self.directory / name
        path.write_text(text)
        path.chmod(0o600)
        return str(path)

    def run(self, *words, **more):
        # getmail takes Python's warnings for failures of the delivery.
        environ = dict(self.program.environ, HOME=str(self.directory), LC_ALL="C.UTF-8", PYTHONWARNINGS="ignore")
        done = subprocess.run(words, capture_output=True, timeout=60, env=environ, cwd=self.directory, **more)
        assert done.returncode == 0, (done.stdout[-2000:] + done.stderr[-2000:]).decode(errors="replace")
        return done.stdout

    def maildir(self):
        for name in ("cur", "new", "tmp"):
            (self.directory / "Maildir" / name).mkdir(parents=True)
        return str(self.directory / "Maildir")

    def delivered(self):
        return [path.read_bytes() for path in sorted((self.directory / "Maildir" / "new").iterdir())]

    def check(self, received):
        """Every message once, each field and octet of its body, whatever line ends and fields the client adds."""
        found = {}
        for raw in received:
            head, _, body = raw.replace(b"\r\n", b"\n").partition(b"\n\n")
            name = re.search(rb"^Message-ID: <([\w-]+)@", head, re.MULTILINE).group(1)
            assert name not in found
            found[name] = head.split(b"\n"), body.rstrip(b"\n")
        assert sorted(found) == sorted(self.raws)
        for name, raw in self.raws.items():
            head, _, body = raw.replace(b"\r\n", b"\n").partition(b"\n\n")
            lines, text = found[name]
            assert text == body.rstrip(b"\n"), name
            assert [line for line in lines if line in head.split(b"\n")] == head.split(b"\n"), name
        left = 0 if self.delete else len(self.raws)
        wait_until(lambda: len(self.tenant.items(SCANS)) == left, what=f"{left} messages left")


def by_poplib(case):
    trust = ssl.create_default_context(cafile=case.certificate)
    if case.way == "tls":
        client = poplib.POP3_SSL("localhost", case.port, context=trust, timeout=60)
    else:
        client = poplib.POP3("localhost", case.port, timeout=60)
        if case.way == "stls":
            client.stls(trust)
    client.user(SCANS)
    client.pass_(PASSWORD)
    received = []
    for number in range(1, client.stat()[0] + 1):
        received.append(b"\r\n".join(client.retr(number)[1]) + b"\r\n")
        if case.delete:
            client.dele(number)
    client.quit()
    return received


def by_curl(case):
    url = f"{'pop3s' if case.way == 'tls' else 'pop3'}://localhost:{case.port}/"
    words = [need("curl"), "-sS", "--user", f"{SCANS}:{PASSWORD}", "--cacert", case.certificate]
    words += ["--ssl-reqd"] if case.way == "stls" else []
    numbers = [line.split()[0].decode() for line in case.run(*words, url).splitlines()]
    received = [case.run(*words, url + number) for number in numbers]
    if case.delete:
        for _ in numbers:
            # Whether DELE's answer has several lines curl decides by the number in the URL.
            case.run(*words, "--head", "--request", "DELE", url + "1")
    return received


def by_mpop(case):
    case.run(
        need("mpop"),
        "--host=localhost",
        f"--port={case.port}",
        f"--user={SCANS}",
        "--passwordeval=cat " + case.write("password", PASSWORD + "\n"),
        f"--tls={'off' if case.way == 'plain' else 'on'}",
        f"--tls-starttls={'on' if case.way == 'stls' else 'off'}",
        *([] if case.way == "plain" else [f"--tls-trust-file={case.certificate}"]),
        f"--delivery=maildir,{case.maildir()}",
        f"--keep={'off' if case.delete else 'on'}",
        f"--uidls-file={case.directory / 'uidls'}",
        "--auth=user",
    )
    return case.delivered()


def by_fetchmail(case):
    trust = f"sslcertfile {case.certificate}"
    ways = {"plain": "sslproto ''", "stls": trust, "tls": f"ssl {trust}"}
    keep = "" if case.delete else "keep"
    rc = case.write(
        "fetchmailrc",
        f"poll localhost protocol pop3 port {case.port} user '{SCANS}' password '{PASSWORD}' {ways[case.way]} {keep}\n"
        f"  mda 'cat > {case.maildir()}/new/$$'\n",
    )
    case.run(
        need("fetchmail"),
        "--fetchmailrc",
        rc,
        "--idfile",
        str(case.directory / "ids"),
        "--pidfile",
        str(case.directory / "pid"),
        "--nosyslog",
        "--nodetach",
    )
    return case.delivered()


# getmail waits for ever for a delivery that ends before it has begun to wait: so this one looks whether it does, by
# its handler of SIGCHLD (the 17th bit) and its sleep.
DELIVER = r"""
cat > new/$$
until grep -q '^SigCgt:.*[13579bdf]....$' /proc/$PPID/status && grep -q '^State:.S' /proc/$PPID/status
do sleep 0.02
done
sleep 0.1
"""


def by_getmail(case):
    if case.way == "stls":
        pytest.skip("getmail6 knows no STLS")
    kind = "SimplePOP3SSLRetriever" if case.way == "tls" else "SimplePOP3Retriever"
    trust = f"ca_certs = {case.certificate}\n" if case.way == "tls" else ""
    (case.directory / "getmail").mkdir()
    rc = case.write(
        "getmail/getmailrc",
        f"[retriever]\ntype = {kind}\nserver = localhost\nport = {case.port}\nusername = {SCANS}\n"
        f"password = {PASSWORD}\n{trust}[destination]\ntype = MDA_external\npath = /bin/sh\n"
        # Its Maildir refuses to deliver as root.
        f"arguments = ('{case.write('deliver', f'cd {case.maildir()}' + DELIVER)}',)\nallow_root_commands = true\n"
        f"[options]\ndelete = {str(case.delete).lower()}\n",
    )
    case.run(need("getmail"), "--getmaildir", str(pathlib.Path(rc).parent), "--rcfile", rc)
    return case.delivered()


PERL = """
use strict; use Net::POP3;
my ($port, $way, $certificate, $user, $password, $delete, $directory) = @ARGV;
my @trust = (SSL_ca_file => $certificate, SSL_verify_mode => 1, SSL_verifycn_name => 'localhost');
my $pop = Net::POP3->new('localhost', Port => $port, Timeout => 60, $way eq 'tls' ? (SSL => 1, @trust) : ())
    or die "no connection: $@";
if ($way eq 'stls') { $pop->starttls(@trust) or die "no STLS" }
defined(my $count = $pop->login($user, $password)) or die "no sign-in";
for my $number (1 .. $count) {
    open(my $file, '>', "$directory/$number") or die; binmode $file;
    $pop->get($number, $file) or die "no message $number"; close $file;
    $pop->delete($number) or die if $delete;
}
$pop->quit or die "no QUIT";
"""


def by_perl(case):
    if subprocess.run([need("perl"), "-MNet::POP3", "-MIO::Socket::SSL", "-e", "1"], capture_output=True).returncode:
        pytest.skip("Perl's Net::POP3 or IO::Socket::SSL is not installed")
    place = pathlib.Path(case.maildir()) / "new"
    case.run(
        "perl",
        "-e",
        PERL,
        str(case.port),
        case.way,
        case.certificate,
        SCANS,
        PASSWORD,
        "1" if case.delete else "",
        str(place),
    )
    return case.delivered()


def by_mutt(case):
    """A mail reader at a terminal: tag all, copy to a Maildir, delete, quit."""
    program = need("neomutt")
    scheme = "pops" if case.way == "tls" else "pop"
    case.maildir()
    rc = case.write(
        "muttrc",
        f"set folder={case.directory}\nset pop_user='{SCANS}'\nset pop_pass='{PASSWORD}'\nset mbox_type=Maildir\n"
        f"set certificate_file={case.certificate}\nset ssl_ca_certificates_file={case.certificate}\n"
        f"set ssl_starttls={'yes' if case.way == 'stls' else 'no'}\nset ssl_force_tls=no\nset pop_authenticators=user\n"
        "set confirmappend=no\nset confirmcreate=no\nset delete=yes\nset quit=yes\nset wait_key=no\nset pop_delete=no\n"
        f"set pop_checkinterval=600\nset copy=no\nset move=no\n"
        f"push '<tag-pattern>~A<enter><tag-prefix><{'save' if case.delete else 'copy'}-message>"
        f"{case.directory}/Maildir<enter><quit>'\n",
    )
    environ = dict(case.program.environ, HOME=str(case.directory), TERM="vt100", LC_ALL="C.UTF-8")
    words = [program, "-n", "-F", rc, "-f", f"{scheme}://localhost:{case.port}/"]
    pid, terminal = pty.fork()
    if not pid:
        os.chdir(case.directory)
        os.execve(program, words, environ)
    shown = b""
    try:
        while True:
            shown += os.read(terminal, 65536)
    except OSError:  # the terminal is gone when the program is
        pass
    _, status = os.waitpid(pid, 0)
    os.close(terminal)
    assert status == 0, shown[-3000:]
    new = case.directory / "Maildir" / "new"
    for path in (case.directory / "Maildir" / "cur").iterdir():
        path.rename(new / path.name)
    return case.delivered()


def poll_fdm(case, url):
    keep = "" if case.delete else " keep"
    conf = case.write(
        "fdm.conf",
        f'account "scans" pop3 server "localhost" port {case.port} user "{SCANS}" pass "{PASSWORD}" no-apop{keep}\n'
        f'action "keep" maildir "{case.directory / "Maildir"}"\nmatch all action "keep"\n',
    )
    # -m: root's lock file is one for the whole machine, and other tests run beside this one.
    # TMPDIR: started by root, it fetches as a user of its own, who may not write where these tests do.
    return ["env", "TMPDIR=/tmp", need("fdm"), "-q", "-m", "-l", "-f", conf, "fetch"]


def by_fdm(case):
    case.maildir()
    case.run(*poll_fdm(case, ""))
    return case.delivered()


CLIENTS = [by_poplib, by_curl, by_mpop, by_fetchmail, by_getmail, by_perl, by_mutt]
