"""What a device says to a listener and hears: a connection with TLS, a small SMTP and a small POP3 client.

The listener is known by its certificate: nothing else is trusted, whatever name is in it.
"""

from __future__ import annotations

import base64
import re
import socket
import ssl
import time
from typing import Iterator, List, NamedTuple, Tuple

from ...errors import ProxyError
from ...server import tls
from ...system.choices import TlsMode
from ..steps import Failed
from .device import Way

# Seconds for an answer, and for one that may need many requests to Graph.
_SECONDS, _LONG_SECONDS = 30.0, 120.0

# Octets of a line, and of what is read in all: a test mail has some thousand.
_LINE_LIMIT, _TEXT_LIMIT = 64 * 1024, 8 * 1024 * 1024

# OpenSSL's X509_V_FLAG_PARTIAL_CHAIN, which Python names since 3.10: what is trusted need not be an authority.
_PARTIAL_CHAIN = 0x80000

# Reasons of a failed verification (X509_V_ERR_CERT_NOT_YET_VALID, X509_V_ERR_CERT_HAS_EXPIRED).
_TOO_EARLY, _EXPIRED = 9, 10

# Octets of a file with certificates.
_PEM_LIMIT = 1024 * 1024

_CHECK = "Run `m365proxy check --offline`."


class Refused(ProxyError):
    """The listener said no.  `said` is its line, which mostly says what to do; `code`: three digits or a POP3 code."""

    def __init__(self, command: str, said: str, code: str):
        super().__init__(f"{command}: {said}")
        self.said = said
        self.code = code


class Certificate(NamedTuple):
    """What a listener must prove to be."""

    path: str = ""
    der: bytes = b""

    @classmethod
    def read(cls, path: str) -> Certificate:
        """The first certificate of a file, which is that of a listener; Failed."""
        try:
            with open(path, "rb") as file:
                return cls(path, tls.first_der(file.read(_PEM_LIMIT)))
        except OSError as error:
            raise Failed(f"{path} cannot be read: {error.strerror}.", _CHECK, 78) from None
        except ValueError:
            raise Failed(f"{path} holds no certificate in PEM.", _CHECK, 78) from None


class _Dialogue:
    """A connection to a listener; OSError if it breaks."""

    def __init__(self, way: Way, certificate: Certificate):
        """`certificate`: the listener's, if it has TLS."""
        self._certificate = certificate
        self._way = way
        self._socket = socket.create_connection(
            (way.address, way.port), timeout=_SECONDS, source_address=(way.address, 0)
        )
        self._file = self._socket.makefile("rb")
        self.encryption = ""
        try:
            if way.is_proxy:
                self._socket.sendall(self._proxy_header())
            if way.socket.tls is TlsMode.IMPLICIT:
                self._encrypt()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self._file.close()
        self._socket.close()

    def _proxy_header(self) -> bytes:
        """What a load balancer on this machine would say of a client on this machine."""
        family = "TCP6" if ":" in self._way.address else "TCP4"
        port = self._socket.getsockname()[1]
        return f"PROXY {family} {self._way.address} {self._way.address} {port} {self._way.port}\r\n".encode()

    def _encrypt(self) -> None:
        self._file.close()
        try:
            self._socket = self._context().wrap_socket(self._socket)
        except ssl.SSLCertVerificationError as error:
            raise _wrong_certificate(error, self._certificate.path) from None
        except ssl.SSLError as error:
            raise Failed(f"TLS with {self._way} failed: {error.reason or error}.", _CHECK, 78) from None
        self._file = self._socket.makefile("rb")
        self.encryption = self._socket.version() or "TLS"

    def _context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False  # whatever names devices use: it must be this certificate and no other
        context.verify_flags |= _PARTIAL_CHAIN
        context.load_verify_locations(cadata=self._certificate.der)
        if self._way.socket.min_version in tls.OLD_VERSIONS:
            context.set_ciphers("DEFAULT:@SECLEVEL=0")  # the certificate may be as old as the devices
        return context

    def _say(self, line: str) -> None:
        self._socket.sendall(line.encode() + b"\r\n")

    def _hear(self) -> str:
        line = self._file.readline(_LINE_LIMIT)
        if not line.endswith(b"\n"):
            raise ConnectionError("the connection was closed")
        return line.decode("utf-8", "replace").rstrip("\r\n")

    def patient(self) -> None:
        """Wait longer for answers from now on."""
        self._socket.settimeout(_LONG_SECONDS)


def _wrong_certificate(error: ssl.SSLCertVerificationError, path: str) -> Failed:
    if error.verify_code in (_TOO_EARLY, _EXPIRED):
        today = time.strftime("%Y-%m-%d")
        what = "has expired" if error.verify_code == _EXPIRED else "is not valid yet"
        renew = " If that is right, renew it, then run `m365proxy reload`." if error.verify_code == _EXPIRED else ""
        return Failed(
            f"The certificate in {path} {what}.", f"It is {today} by this machine's clock: set it if not.{renew}", 78
        )
    return Failed(
        f"The listener has another certificate than the one in {path} ({error.verify_message}).",
        "If it was renewed, run `m365proxy reload`.",
        78,
    )


class SmtpDevice(_Dialogue):
    """Greets in `__init__`, by TLS where the listener has it; then `log_in`, `send`, `quit`.

    Refused, Failed, OSError.
    """

    def __init__(self, way: Way, certificate: Certificate):
        super().__init__(way, certificate)
        try:
            self._expect("the connection", "220")
            self._command("EHLO test.invalid", "250")
            if way.socket.tls is TlsMode.STARTTLS:
                self._command("STARTTLS", "220")
                self._encrypt()
                self._command("EHLO test.invalid", "250")
        except BaseException:
            self.close()
            raise

    def log_in(self, login: str, password: str) -> None:
        response = base64.b64encode(f"\0{login}\0{password}".encode("utf-8", "surrogateescape")).decode()
        self._command(f"AUTH PLAIN {response}", "235", shown="AUTH PLAIN")

    def send(self, sender: str, recipient: str, mail: bytes) -> str:
        """Hand over a mail with CRLF line ends; what the listener said to it."""
        self._command(f"MAIL FROM:<{sender}>", "250")
        self._command(f"RCPT TO:<{recipient}>", "250")
        self._command("DATA", "354")
        doubled = re.sub(rb"^\.", b"..", mail, flags=re.M)  # RFC 5321 4.5.2
        self._socket.sendall(doubled + b".\r\n")
        return self._expect("the mail", "250")

    def quit(self) -> None:
        self._command("QUIT", "221")

    def _command(self, line: str, code: str, shown: str = "") -> str:
        self._say(line)
        return self._expect(shown or line, code)

    def _expect(self, command: str, code: str) -> str:
        """The text of the reply; Refused if it is another one."""
        texts = []
        while True:
            line = self._hear()
            texts.append(line[4:])
            if line[3:4] != "-":
                break
        if not line.startswith(code):
            raise Refused(command, f"{line[:3]} {' '.join(texts)}", line[:3])
        return " ".join(texts)


class Pop3Device(_Dialogue):
    """Logs in in `__init__`; then `newest`, `retrieve`, `quit`.  Refused, Failed, OSError."""

    def __init__(self, way: Way, certificate: Certificate, login: str, password: str):
        super().__init__(way, certificate)
        try:
            self._expect("the connection")
            if way.socket.tls is TlsMode.STARTTLS:
                self._command("STLS")
                self._encrypt()
            self.patient()
            self._command(f"USER {login}")
            self._command(f"PASS {password}", shown="PASS")
        except BaseException:
            self.close()
            raise

    def newest(self, most: int) -> Iterator[Tuple[int, bytes]]:
        """Number and header of the last messages, the newest first."""
        counts = re.search(r"(\d+) \d+$", self._command("STAT"))
        count = int(counts.group(1)) if counts else 0
        for number in range(count, max(0, count - most), -1):
            self._command(f"TOP {number} 0")
            yield number, self._text()

    def retrieve(self, number: int) -> bytes:
        self._command(f"RETR {number}")
        return self._text()

    def quit(self) -> None:
        self._command("QUIT")

    def _command(self, line: str, shown: str = "") -> str:
        self._say(line)
        return self._expect(shown or line)

    def _expect(self, command: str) -> str:
        """What follows +OK; Refused."""
        line = self._hear()
        if not line.startswith("+OK"):
            code = re.match(r"-ERR \[([^\]]*)\]", line)
            raise Refused(command, line, code.group(1) if code else "")
        return line[3:].strip(" .")

    def _text(self) -> bytes:
        """The lines up to the single dot, without the added ones (RFC 1939 3)."""
        lines: List[bytes] = []
        size = 0
        while size < _TEXT_LIMIT:
            line = self._file.readline(_LINE_LIMIT)
            if not line:
                break
            if line == b".\r\n":
                return b"".join(lines)
            lines.append(line[1:] if line.startswith(b".") else line)
            size += len(line)
        raise ConnectionError("the message did not come to its end")
