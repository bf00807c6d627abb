"""HTTP to Microsoft Entra: the client that msal uses, and what Entra's refusals mean."""

from __future__ import annotations

import contextlib
import re
import threading
import urllib.parse
from typing import Any, Dict, Iterator, Mapping, NamedTuple, Optional, Tuple, Type

from ..errors import ProxyError, SignInNeeded, Temporary
from ..system import jsontext, log

# Seconds: to connect, of silence while reading, and for a whole answer.
_CONNECT_SECONDS, _READ_SECONDS, _ANSWER_SECONDS = 10.0, 30.0, 60.0

# Octets; token answers and discovery documents have a few thousand.
_ANSWER_LIMIT = 1024 * 1024


class Misconfigured(SignInNeeded):
    """Entra refuses the app registration, its secret or the tenant: an administrator has to change something."""

    exit_status = 78


class Busy(Temporary):
    """The service answered that it cannot answer now; `seconds` is its Retry-After, or 0."""

    def __init__(self, sentence: str, seconds: float = 0.0):
        super().__init__(sentence)
        self.seconds = seconds


class Reply:
    """An answer in the shape msal wants.

    It has no headers: msal 1.21 fails on a Retry-After that is not a number, and
    uses no other header.
    """

    def __init__(self, status_code: int, text: str):
        self.status_code = status_code
        self.text = text
        self.headers: Dict[str, str] = {}

    def raise_for_status(self) -> None:
        """Do nothing: if the answer was not Entra's, an error has already been raised."""


class HttpClient:
    """What msal uses instead of a session of its own, which would have neither our time limits nor our proxy.

    429, 5xx and anything that is not JSON are raised here, before msal's hidden
    cache could repeat them for a minute.  For one thread.
    """

    def __init__(self, outbound: Any):
        self._outbound = outbound
        self._session = outbound.session()

    def __enter__(self) -> HttpClient:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        self._session.close()

    def get(self, url: str, params: Any = None, headers: Any = None, **_more: Any) -> Reply:
        """Get a discovery document.  Raises Temporary, or what `refusal` makes of a refusal."""
        status, text, answer = self.exchange("GET", url, params=params, headers=headers)
        if status != 200:
            raise refusal(answer)
        return Reply(status, text)

    def post(self, url: str, params: Any = None, data: Any = None, headers: Any = None, **_more: Any) -> Reply:
        """Send a token request; a refusal is left to msal's caller.  Raises Temporary."""
        status, text, answer = self.exchange("POST", url, params=params, data=data, headers=headers)
        expected = ("access_token", "device_code") if status == 200 else ("error",)
        if not any(isinstance(answer.get(name), str) for name in expected):
            raise _foreign(urllib.parse.urlsplit(url).hostname, status)
        return Reply(status, text)

    def exchange(self, method: str, url: str, mark: str = "", **request: Any) -> Tuple[int, str, Dict[str, Any]]:
        """Status, text and JSON object of an answer below 500; Temporary if there is no such answer.

        `mark`: a header that the service puts on every answer.
        """
        host = urllib.parse.urlsplit(url).hostname
        with (
            self._limited(host),
            self._session.request(
                method, url, stream=True, allow_redirects=False, timeout=(_CONNECT_SECONDS, _READ_SECONDS), **request
            ) as response,
        ):
            status = response.status_code
            content = _content(response)
        if status in (408, 429) or status >= 500:
            raise Busy(f"{host} cannot answer now (HTTP status {status}).", _retry_after(response.headers))
        text = content.decode("utf-8", "replace")
        try:
            answer = jsontext.parse(text)
        except ValueError:
            answer = None
        if not isinstance(answer, dict) or 300 <= status < 400 or (mark and not response.headers.get(mark)):
            raise _foreign(host, status)
        return status, text, answer

    @contextlib.contextmanager
    def _limited(self, host: Optional[str]) -> Iterator[None]:
        """Limit one request: Temporary for requests' errors and when its time is over, even if data still trickles."""
        late = threading.Event()

        def break_off() -> None:
            late.set()
            self._session.interrupt()

        timer = threading.Timer(_ANSWER_SECONDS, break_off)
        timer.daemon = True
        try:
            timer.start()
        except RuntimeError:
            raise Temporary("The system has no thread left to ask Microsoft with.") from None
        error: Optional[Exception] = None
        try:
            yield
        except (OSError, ValueError) as caught:  # requests' own errors are OSErrors
            error = caught
        finally:
            timer.cancel()
            timer.join()
        if late.is_set():  # a head that was cut off looks complete
            self._session.close()
            self._session = self._outbound.session()
            raise Temporary(f"{host} did not answer completely in time.")
        if error is not None:
            raise Temporary(self._outbound.plain(error)) from None


def _foreign(host: Optional[str], status: int) -> Temporary:
    return Temporary(
        f"What answers as {host} is not Microsoft (HTTP status {status}). "
        "Is a proxy, a firewall or a captive portal in between?"
    )


def _content(response: Any) -> bytes:
    """The body; raises OSError if it is too long."""
    content = bytearray()
    for chunk in response.iter_content(16 * 1024):
        content += chunk
        if len(content) > _ANSWER_LIMIT:
            raise OSError("the answer does not end")
    return bytes(content)


def _retry_after(headers: Mapping[str, str]) -> float:
    """Seconds; 0 if there is no Retry-After in seconds (Entra gives no other form)."""
    value = headers.get("Retry-After", "")
    return float(value) if value.isdecimal() and len(value) < 6 else 0.0


# The OAuth error decides what is to be done (reference-error-codes.md); the number is for the sentence.
_KINDS: Dict[str, Type[ProxyError]] = {
    "invalid_grant": SignInNeeded,
    "interaction_required": SignInNeeded,
    "consent_required": SignInNeeded,
    "login_required": SignInNeeded,
    "expired_token": SignInNeeded,
    "authorization_declined": SignInNeeded,
    "access_denied": SignInNeeded,
    "bad_verification_code": SignInNeeded,
    "invalid_client": Misconfigured,
    "unauthorized_client": Misconfigured,
    "invalid_request": Misconfigured,
    "invalid_scope": Misconfigured,
    "invalid_resource": Misconfigured,
    "invalid_tenant": Misconfigured,
    "unsupported_grant_type": Misconfigured,
}

_AGAIN = "Run `m365proxy login` again."
_LOGIN = "Run `m365proxy login`."
_POLICY = (
    "A Conditional Access policy blocks the sign-in. Have this account or app excluded from the policy on devices, "
    "places or the device code flow, then run `m365proxy login`."
)

_BY_ERROR = {
    "expired_token": f"The code expired before the sign-in was complete. {_AGAIN}",
    "bad_verification_code": f"The code is no longer valid. {_AGAIN}",
    "authorization_declined": f"The sign-in was declined. {_AGAIN}",
    "access_denied": f"The sign-in was declined. {_AGAIN}",
}


class _Code(NamedTuple):
    """What an AADSTS number means; `kind` where it overrules the OAuth error."""

    sentence: str
    kind: Optional[Type[ProxyError]] = None


_CODES: Dict[int, _Code] = {
    number: code
    for numbers, code in {
        (50033, 50087, 90006): _Code("Microsoft's sign-in service has a temporary problem.", Temporary),
        (50196,): _Code("Microsoft was asked for tokens too often and wants a pause.", Temporary),
        (70008, 700082): _Code(f"The sign-in was not used for 90 days and has expired. {_LOGIN}"),
        (70043,): _Code(f"A policy on sign-in frequency has ended the sign-in. {_LOGIN}"),
        (50173, 50132, 50133): _Code(
            f"The sign-in was revoked, as happens when the account's password is changed. {_LOGIN}"
        ),
        (50072, 50074, 50076, 50079, 50158): _Code(f"Microsoft asks for multi-factor authentication. {_LOGIN}"),
        (50055, 50144): _Code(f"The account's password has expired. Change it. {_LOGIN}"),
        (50057,): _Code(
            "The account is disabled, as a shared mailbox's own account always is. Enable it, or set user to an "
            f"account with access to the mailbox. {_LOGIN}"
        ),
        (50053,): _Code(
            f"The account is locked, or this network's address is blocked. Wait, or have it unblocked. {_LOGIN}"
        ),
        (50105,): _Code(
            "The account is not assigned to the app. Assign it in Entra under Enterprise applications, Users and "
            f"groups. {_LOGIN}"
        ),
        (50126,): _Code(f"User or password was wrong. {_AGAIN}"),
        (50020, 50034): _Code(f"The account does not belong to this tenant. Check user and tenant_id. {_LOGIN}"),
        (50134,): _Code(f"The sign-in went to the wrong data centre. {_AGAIN}"),
        (53000, 53001, 53003, 530003): _Code(_POLICY),
        (65001, 90094): _Code(
            "Nobody has consented to the app's permissions. Have an administrator grant consent in Entra under App "
            f"registrations, API permissions. {_LOGIN}"
        ),
        (65004,): _Code(f"The app's permissions were declined. {_AGAIN}"),
        (70018,): _Code(_BY_ERROR["bad_verification_code"]),
        (70019,): _Code(_BY_ERROR["expired_token"]),
        (7000218,): _Code(
            "The app registration does not allow the device code flow. In Entra under App registrations, "
            'Authentication, set "Allow public client flows" to Yes. Then run `m365proxy login`.',
            Misconfigured,
        ),
        (7000215,): _Code("client_secret is wrong. Put in the secret's value, not its ID.", Misconfigured),
        (7000222,): _Code(
            "The client secret has expired. Make a new one in Entra under App registrations, Certificates & secrets, "
            "and put it into client_secret.",
            Misconfigured,
        ),
        (70002, 7000216): _Code("The client secret or certificate is refused. Check it in the config.", Misconfigured),
        (700025,): _Code(
            "The app registration is a public client, which must not have a secret. Take client_secret and "
            'client_certificate out of the config, or set "Allow public client flows" to No.',
            Misconfigured,
        ),
        (700027,): _Code(
            "The certificate is not one of the app registration's. Upload it there, or check "
            "client_certificate.private_key and thumbprint.",
            Misconfigured,
        ),
        (700024,): _Code("This machine's clock is wrong, so the certificate's signature is refused. Set the clock."),
        (700016,): _Code("The app is not known in this tenant. Check client_id and tenant_id.", Misconfigured),
        (70001, 7000112): _Code(
            "The app is disabled in this tenant. Enable it in Entra under Enterprise applications.", Misconfigured
        ),
        (90002,): _Code("There is no such tenant. Check tenant_id.", Misconfigured),
        (50059,): _Code("Microsoft cannot identify the tenant. Put its ID into tenant_id.", Misconfigured),
        (500011,): _Code("The tenant does not know this Microsoft Graph. Check cloud and graph_url.", Misconfigured),
    }.items()
    for number in numbers
}


def refusal(answer: Mapping[str, Any]) -> ProxyError:
    """The exception for an OAuth error answer: SignInNeeded, Misconfigured or Temporary, with the next step.

    An unknown error is Temporary: nobody is asked to sign in because of it.
    Of Entra's own description, only the AADSTS numbers are passed on.
    """
    error = str(answer.get("error", ""))
    numbers = _numbers(answer)
    code = next((_CODES[number] for number in numbers if number in _CODES), None)
    kind = (code and code.kind) or _KINDS.get(error, Temporary)
    names = [log.clean(error, 40)] if error else []
    reason = ", ".join(names + [f"AADSTS{number}" for number in numbers[:1]]) or "no reason given"
    if code:
        sentence = code.sentence
    elif error in _BY_ERROR:
        sentence = _BY_ERROR[error]
    elif kind is SignInNeeded:
        sentence = f"Microsoft requires a new sign-in. {_LOGIN}"
    elif kind is Misconfigured:
        sentence = "Microsoft refuses the app registration. Check client_id, tenant_id and its secret or certificate."
    else:
        sentence = "Microsoft refuses the sign-in for now."
    return kind(f"{sentence} ({reason})")


def _numbers(answer: Mapping[str, Any]) -> "list[int]":
    """The AADSTS numbers of an answer; those in error_codes come first."""
    listed = answer.get("error_codes")
    codes = [code for code in listed if isinstance(code, int)] if isinstance(listed, list) else []
    codes += map(int, re.findall(r"AADSTS([0-9]{5,9})\b", str(answer.get("error_description", ""))))
    return list(dict.fromkeys(codes))
