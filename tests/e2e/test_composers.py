"""Programs and libraries that write mail: umlauts, a picture in HTML and the name of a file arrive as they were set.

tests/README.md lists them all, and which of them .ci/run installs.
"""

import json
import os
import pwd
import shutil
import smtplib
import subprocess
import tempfile
from email.message import EmailMessage

import mailreader
import pytest
from program import ALERTS, PASSWORD, SCANS, wait_until
from tools import need

SUBJECT = "Gr\u00f6\u00dfe 5 \u20ac \u2013 p\u0159\u00edli\u0161 \u017elu\u0165ou\u010dk\u00fd k\u016f\u0148"
FROM, TO = "B\u00fcro 2", "\u0141ukasz \u015awi\u0119ty"
TEXT = "Gr\u00fc\u00dfe aus \u0160umava\n.\n..dots"
HTML = '<p class="a=b">Gr\u00fc\u00dfe \u20ac</p><img src="cid:%s">'
NAME = "\u00dcbersicht \u010d. 5.pdf"
PDF = b"%PDF-1.4\r\n" + bytes(range(256)) * 3 + b"\n%%EOF\r\n"
PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256))


class Case:
    """One composer's turn: the files it may send, and a look at what arrives."""

    def __init__(self, program, directory):
        self.program = program
        self.directory = directory
        self.port = str(program.port("smtp"))
        (directory / NAME).write_bytes(PDF)
        (directory / "logo.png").write_bytes(PNG)
        (directory / "text").write_text(TEXT + "\n", "utf-8")

    def write(self, name, text):
        path = self.directory / name
        path.write_text(text, "utf-8")
        path.chmod(0o600)
        return str(path)

    def run(self, *words, stdin="", **environ):
        environ = dict(self.program.environ, HOME=str(self.directory), LC_ALL="C.UTF-8", **environ)
        done = subprocess.run(
            words, input=stdin.encode(), capture_output=True, timeout=60, env=environ, cwd=self.directory
        )
        assert done.returncode == 0, (done.stdout[-2000:] + done.stderr[-2000:]).decode(errors="replace")

    def arrived(self):
        tenant = self.program.sandbox.tenant
        wait_until(lambda: tenant.delivered, what="the delivery")
        (record,) = tenant.delivered
        assert list(record.recipients) == [SCANS]
        return mailreader.parsed(record.raw)

    def check(self, names=True, rich=True):
        """`names`: people have names; `rich`: there is HTML with a picture."""
        mail = self.arrived()
        fields = dict(mailreader.fields(mail))
        assert fields["Subject"] == SUBJECT
        assert fields["From"] == mailreader.person(FROM if names else "", ALERTS)
        assert fields["To"] == mailreader.person(TO if names else "", SCANS)
        pieces = {piece.kind: piece for piece in mailreader.pieces(mail)}
        assert pieces["text/plain"].content == tuple(TEXT.split("\n"))
        file = next(piece for piece in pieces.values() if piece.name == NAME)
        assert file.content == (mailreader.escaped(PDF),)
        if rich:
            (html,) = pieces["text/html"].content
            picture = pieces["image/png"]
            assert html == HTML % picture.content_id.strip("<>") and picture.content_id
            assert picture.content == (mailreader.escaped(PNG),)
        assert len(pieces) == (4 if rich else 2)


@pytest.fixture
def case(shared_program, tmp_path):
    return Case(shared_program, tmp_path)


# ---------------------------------------------------------------- libraries


def test_python_email(case):
    mail = EmailMessage()
    mail["Subject"], mail["From"], mail["To"] = SUBJECT, f"{FROM} <{ALERTS}>", f"{TO} <{SCANS}>"
    mail.set_content(TEXT + "\n")
    mail.add_alternative(HTML % "logo@contoso.com" + "\n", subtype="html")
    mail.get_payload()[1].add_related(PNG, "image", "png", cid="<logo@contoso.com>")
    mail.add_attachment(PDF, maintype="application", subtype="pdf", filename=NAME)
    with smtplib.SMTP("127.0.0.1", int(case.port), timeout=30) as client:
        client.login(ALERTS, PASSWORD)
        client.send_message(mail)
    case.check()


NODE = """
const mail = JSON.parse(process.argv[3]);
require("nodemailer").createTransport(JSON.parse(process.argv[2])).sendMail(mail, (error) => {
  if (error) { console.error(error); process.exit(1); }
});
"""


def test_nodemailer(case, nodemailer):
    (nodemailer / "send.js").write_text(NODE)
    options = {"host": "127.0.0.1", "port": int(case.port), "ignoreTLS": True}
    options["auth"] = {"user": ALERTS, "pass": PASSWORD}
    mail = {
        "from": {"name": FROM, "address": ALERTS},
        "to": {"name": TO, "address": SCANS},
        "subject": SUBJECT,
        "text": TEXT,
        "html": HTML % "logo@contoso.com",
        "attachments": [{"path": "logo.png", "cid": "logo@contoso.com"}, {"path": NAME}],
    }
    case.run("node", str(nodemailer / "send.js"), json.dumps(options), json.dumps(mail))
    case.check()


PHP = r"""<?php
require '/usr/share/php/libphp-phpmailer/autoload.php';
[, $port, $user, $password, $mail] = $argv;
$mail = json_decode($mail, true);
$mailer = new PHPMailer\PHPMailer\PHPMailer(true);
$mailer->isSMTP();
$mailer->Host = '127.0.0.1';
$mailer->Port = (int) $port;
$mailer->SMTPAuth = true;
$mailer->SMTPAutoTLS = false;
$mailer->Username = $user;
$mailer->Password = $password;
$mailer->CharSet = $mail['charset'];
$mailer->setFrom($user, $mail['from']);
$mailer->addAddress($mail['address'], $mail['to']);
$mailer->Subject = $mail['subject'];
$mailer->Body = $mail['html'];
$mailer->AltBody = $mail['text'];
$mailer->addEmbeddedImage('logo.png', 'logo@contoso.com');
$mailer->addAttachment($mail['name']);
$mailer->send();
"""


def test_phpmailer(case):
    if not os.path.exists("/usr/share/php/libphp-phpmailer/autoload.php"):
        pytest.skip("PHPMailer is not installed")
    mail = {"charset": "UTF-8", "from": FROM, "to": TO, "address": SCANS, "subject": SUBJECT, "text": TEXT}
    mail.update(html=HTML % "logo@contoso.com", name=NAME)
    case.run(need("php"), case.write("send.php", PHP), case.port, ALERTS, PASSWORD, json.dumps(mail))
    case.check()


RUBY = """
require 'mail'
require 'json'
port, user, password, mail = ARGV
mail = JSON.parse(mail)
Mail.defaults do
  delivery_method :smtp, address: '127.0.0.1', port: port.to_i, user_name: user, password: password,
                  authentication: 'plain', openssl_verify_mode: OpenSSL::SSL::VERIFY_NONE
end
Mail.deliver do
  from    "#{mail['from']} <#{user}>"
  to      "#{mail['to']} <#{mail['address']}>"
  subject mail['subject']
  add_file mail['name']
  attachments.inline['logo.png'] = File.binread('logo.png')
  id = attachments['logo.png'].cid
  text_part { content_type 'text/plain; charset=UTF-8'; body mail['text'] }
  html_part { content_type 'text/html; charset=UTF-8'; body mail['html'].sub('%s', id) }
end
"""


def test_ruby_mail(case):
    ruby = need("ruby", "-rmail", "-e", "1")
    mail = {"from": FROM, "to": TO, "address": SCANS, "subject": SUBJECT, "text": TEXT, "html": HTML, "name": NAME}
    case.run(ruby, case.write("send.rb", RUBY), case.port, ALERTS, PASSWORD, json.dumps(mail))
    case.check()


PERL = r"""
use strict; use utf8; use Encode; use Email::MIME; use Email::Sender::Simple 'sendmail';
use Email::Sender::Transport::SMTP; use JSON::PP;
my ($port, $user, $password, $json) = @ARGV;
my $mail = decode_json($json);
sub file { open(my $in, '<', encode_utf8($_[0])) or die; binmode $in; local $/; <$in> }
sub text { Email::MIME->create(
    attributes => {content_type => $_[0], charset => 'UTF-8', encoding => 'quoted-printable'}, body_str => $_[1]) }
my $picture = Email::MIME->create(
    header => ['Content-ID' => '<logo@contoso.com>'],
    attributes => {content_type => 'image/png', encoding => 'base64', disposition => 'inline'},
    body => file('logo.png'));
my $related = Email::MIME->create(
    attributes => {content_type => 'multipart/related'}, parts => [text('text/html', $mail->{html}), $picture]);
my $both = Email::MIME->create(
    attributes => {content_type => 'multipart/alternative'}, parts => [text('text/plain', $mail->{text}), $related]);
my $file = Email::MIME->create(
    attributes => {content_type => 'application/pdf', encoding => 'base64', disposition => 'attachment',
                   filename => $mail->{name}, name => $mail->{name}}, body => file($mail->{name}));
my $whole = Email::MIME->create(
    header_str => [From => "$mail->{from} <$user>", To => "$mail->{to} <$mail->{address}>",
                   Subject => $mail->{subject}],
    attributes => {content_type => 'multipart/mixed'}, parts => [$both, $file]);
sendmail($whole, {transport => Email::Sender::Transport::SMTP->new(
    host => '127.0.0.1', port => $port, sasl_username => $user, sasl_password => $password)});
"""


def test_perl_email_sender(case):
    perl = need("perl", "-MEmail::Sender::Transport::SMTP", "-MEmail::MIME", "-e", "1")
    mail = {"from": FROM, "to": TO, "address": SCANS, "subject": SUBJECT, "text": TEXT, "name": NAME}
    mail["html"] = HTML % "logo@contoso.com"
    case.run(perl, case.write("send.pl", PERL), case.port, ALERTS, PASSWORD, json.dumps(mail))
    case.check()


JAVA = """
import java.util.*;
import javax.mail.*;
import javax.mail.internet.*;

public class Send {
    static MimeBodyPart text(String content, String type) throws Exception {
        MimeBodyPart part = new MimeBodyPart();
        part.setText(content, "UTF-8", type);
        return part;
    }

    static MimeBodyPart of(Multipart inner) throws Exception {
        MimeBodyPart part = new MimeBodyPart();
        part.setContent(inner);
        return part;
    }

    public static void main(String[] said) throws Exception {
        Properties properties = new Properties();
        properties.put("mail.smtp.host", "127.0.0.1");
        properties.put("mail.smtp.port", said[0]);
        properties.put("mail.smtp.auth", "true");
        Session session = Session.getInstance(properties);
        MimeMessage mail = new MimeMessage(session);
        mail.setFrom(new InternetAddress(said[1], said[3], "UTF-8"));
        mail.addRecipient(Message.RecipientType.TO, new InternetAddress(said[4], said[5], "UTF-8"));
        mail.setSubject(said[6], "UTF-8");
        MimeBodyPart picture = new MimeBodyPart();
        picture.attachFile("logo.png", "image/png", "base64");
        picture.setContentID("<logo@contoso.com>");
        picture.setDisposition("inline");
        MimeBodyPart file = new MimeBodyPart();
        file.attachFile(said[9], "application/pdf", "base64");
        Multipart related = new MimeMultipart("related", text(said[8], "html"), picture);
        Multipart both = new MimeMultipart("alternative", text(said[7], "plain"), of(related));
        mail.setContent(new MimeMultipart("mixed", of(both), file));
        Transport.send(mail, said[1], said[2]);
    }
}
"""


def test_javamail(case):
    java, _ = need("java"), need("javac")
    jars = [f"/usr/share/java/{name}.jar" for name in ("javax.mail", "javax.activation")]
    if not all(map(os.path.exists, jars)):
        pytest.skip("JavaMail (libmail-java) is not installed")
    said = [case.port, ALERTS, PASSWORD, FROM, SCANS, TO, SUBJECT, TEXT, HTML % "logo@contoso.com", NAME]
    case.run(java, "-cp", ":".join(jars), "-Dfile.encoding=UTF-8", case.write("Send.java", JAVA), *said)
    case.check()


# ---------------------------------------------------------------- programs that attach, but write no HTML


def test_swaks(case):
    case.run(
        need("swaks"),
        *("--server", "127.0.0.1", "--port", case.port, "--auth-user", ALERTS, "--auth-password", PASSWORD),
        *("--from", ALERTS, "--to", SCANS, "--header", f"Subject: {SUBJECT}"),
        *("--h-From", f"{FROM} <{ALERTS}>", "--h-To", f"{TO} <{SCANS}>"),
        *("--attach-type", "text/plain; charset=utf-8", "--attach-body", f"{TEXT}\n"),
        *("--attach-type", "application/pdf", "--attach-name", NAME, "--attach", f"@{case.directory / NAME}"),
    )
    case.check(rich=False)


def test_s_nail(case):
    user, password = ALERTS.replace("@", "%40"), PASSWORD.replace(" ", "%20")
    config = case.write(
        "mailrc",
        f"set v15-compat\nset mta=smtp://{user}:{password}@127.0.0.1:{case.port}\nset smtp-auth=plain\n"
        f"set from='{FROM} <{ALERTS}>'\nset fullnames sendcharsets=utf-8 ttycharset=utf-8 sendwait\n",
    )
    words = [need("s-nail"), "-s", SUBJECT, "-a", str(case.directory / NAME), f"{TO} <{SCANS}>"]
    case.run(*words, stdin=TEXT + "\n", MAILRC=config, NAIL_NO_SYSTEM_RC="1")
    case.check(rich=False)


def test_neomutt(case):
    config = case.write(
        "muttrc",
        f"set smtp_url='smtp://{ALERTS}@127.0.0.1:{case.port}'\nset smtp_pass='{PASSWORD}'\n"
        f"set from={ALERTS}\nset realname='{FROM}'\nset use_from=yes\nset copy=no\nset charset=utf-8\n"
        "set ssl_starttls=no\nset ssl_force_tls=no\nset send_charset=utf-8\nset smtp_authenticators=plain\n",
    )
    words = [need("neomutt"), "-n", "-F", config, "-s", SUBJECT, "-a", NAME, "--", f"{TO} <{SCANS}>"]
    case.run(*words, stdin=TEXT + "\n")
    case.check(rich=False)


# ---------------------------------------------------------------- libraries that pass on what they are given

NET_SMTP = r"""
use strict; use Net::SMTP;
my ($port, $user, $password, $to) = @ARGV;
my $smtp = Net::SMTP->new('127.0.0.1', Port => $port) or die "no connection: $@";
$smtp->auth($user, $password) or die 'no login';
$smtp->mail($user) and $smtp->to($to) and $smtp->data() or die $smtp->message;
$smtp->datasend($_) while <STDIN>;
$smtp->dataend() and $smtp->quit or die $smtp->message;
"""

GO = """
package main

import (
	"io"
	"net/smtp"
	"os"
)

func main() {
	mail, _ := io.ReadAll(os.Stdin)
	auth := smtp.PlainAuth("", os.Args[2], os.Args[3], "localhost")
	if err := smtp.SendMail("localhost:"+os.Args[1], auth, os.Args[2], []string{os.Args[4]}, mail); err != nil {
		panic(err)
	}
}
"""


def raw_mail():
    head = f"Subject: {SUBJECT}\nFrom: {FROM} <{ALERTS}>\nTo: {TO} <{SCANS}>\nMIME-Version: 1.0\n"
    part = f"Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\n{TEXT}\n"
    file = EmailMessage()
    file.set_content(PDF, maintype="application", subtype="pdf", filename=NAME)
    both = f"--BB\n{part}\n--BB\n{file.as_string()}\n--BB--\n"
    return f"{head}Content-Type: multipart/mixed; boundary=BB\n\n{both}"


def test_perl_net_smtp(case):
    perl = need("perl", "-MNet::SMTP", "-MAuthen::SASL", "-e", "1")
    case.run(perl, case.write("send.pl", NET_SMTP), case.port, ALERTS, PASSWORD, SCANS, stdin=raw_mail())
    case.check(rich=False)


def test_go(case):
    go = need("go")
    environ = {"GOCACHE": str(case.directory), "GO111MODULE": "off", "SSL_CERT_FILE": str(case.program.certificate)}
    words = [go, "run", case.write("send.go", GO), case.port, ALERTS, PASSWORD, SCANS]
    case.run(*words, stdin=raw_mail(), **environ)
    case.check(rich=False)


# ---------------------------------------------------------------- mail servers that send through this one

EXIM = """
exim_path = {exim}
exim_user = Debian-exim
exim_group = mail
spool_directory = {place}
log_file_path = {place}/log/%s
pid_file_path = {place}/pid
primary_hostname = smarthost.contoso.com
local_interfaces = 127.0.0.1
keep_environment =
accept_8bitmime = true
acl_not_smtp = accept
never_users =
trusted_users = root
begin acl
begin routers
smarthost:
  driver = manualroute
  route_list = * 127.0.0.1
  self = send
  transport = smarthost
begin transports
smarthost:
  driver = smtp
  port = {port}
  hosts_require_auth = *
  hosts_avoid_tls = *
begin authenticators
plain:
  driver = plaintext
  public_name = PLAIN
  client_send = ^{user}^{password}
"""


def test_exim(case):
    exim = need(os.environ.get("M365PROXY_TEST_EXIM", "exim4"))
    if os.geteuid():
        pytest.skip("Exim takes another configuration from root only")
    if "Debian-exim" not in {entry.pw_name for entry in pwd.getpwall()}:
        pytest.skip("Exim has no user of its own here")
    # It works as another user, who may not look into pytest's directories.
    with tempfile.TemporaryDirectory(prefix="m365proxy-exim-") as place:
        os.chmod(place, 0o755)
        shutil.chown(place, "Debian-exim", "mail")
        config = os.path.join(place, "exim.conf")
        with open(config, "w", encoding="utf-8") as file:
            file.write(EXIM.format(exim=exim, place=place, port=case.port, user=ALERTS, password=PASSWORD))
        case.run(exim, "-C", config, "-odi", "-i", "-f", ALERTS, SCANS, stdin=raw_mail())
        case.check(rich=False)
