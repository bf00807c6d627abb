"""Access tokens for Graph: renewed in time, by one thread at a time, from the stored sign-in or by the app itself."""

from __future__ import annotations

import contextlib
import copy
import threading
import time
from typing import Any, Callable, List, Optional, Protocol, Tuple, TypedDict, Union

from ..errors import ProxyError, SignInNeeded, Temporary, TokenRefused
from ..system import log
from ..system.choices import Permissions
from ..system.threads import try_start
from .devicecode import DeviceCode, DeviceSignIn
from .http import Busy
from .registration import Registration
from .registration import endpoints as endpoints
from .renewer import NOBODY, Grant, Holder, Renewer
from .tokenfile import Identity, TokenFile

logger = log.get("oauth")

# Seconds before a token's end: when it is renewed, and when it is no longer handed out.
_EARLY_SECONDS, _LATE_SECONDS = 300.0, 30.0

# No token is believed to live longer (seconds), whatever its answer or a clock that jumped says.
_LONGEST_LIFE = 24 * 3600.0

# A token younger than this that Graph refuses is not renewed again (seconds): it would not help.
_FORCE_SECONDS = 60.0

# Seconds (the first, the longest; they double) until Entra is asked again after a failure.  "Passing": it may end by
# itself, and mail must flow within seconds of an outage's end.  "Person": somebody must sign in again or correct
# something; a new sign-in is noticed at once.
_PASSING_WAITS = (1.0, 10.0)
_PERSON_WAITS = (30.0, 900.0)

# Seconds that a thread waits for another thread's renewal; no renewal can take so long.
_RENEWAL_SECONDS = 240.0


class Renewing(Protocol):
    """Has Entra renew the sign-in: renewer.Renewer in this process, renewalprocess.RenewalProcess in another."""

    def renew(self, force: bool, note: Callable[[Holder], object]) -> Grant:
        """As renewer.Renewer.renew."""

    def holder(self) -> Optional[Holder]:
        """Who is signed in; None if only a renewal finds that out.  Raises SignInNeeded."""


class _Renewal:
    """One renewal: one thread does it, the others wait for it."""

    def __init__(self) -> None:
        self._done = threading.Event()
        self._outcome: Union[str, ProxyError] = ""

    def finish(self, outcome: Union[str, ProxyError]) -> None:
        """Set the outcome: the token, or why there is none."""
        self._outcome = outcome
        self._done.set()

    def wait(self) -> str:
        if not self._done.wait(_RENEWAL_SECONDS):
            raise Temporary("Microsoft's sign-in service has kept another request waiting for minutes.")
        if isinstance(self._outcome, ProxyError):
            raise copy.copy(self._outcome)
        return self._outcome


class SignInState(TypedDict):
    """The sign-in, as far as it is known here.  Times are seconds since 1970, 0: never."""

    user: str  # "": nobody is signed in
    signed_in_at: float
    last_refresh: float  # by this program or another; of an application by this one
    error: str  # a sentence; "" if there is none
    needs_sign_in: bool
    exit_status: int  # what a command ends with because of the error; 0 if there is none


class Tokens:
    """Hands out access tokens.  Any thread may call; one at a time asks Entra, without holding the lock."""

    def __init__(
        self,
        *,
        client_id: str,
        tenant_id: str,
        user: Optional[str],
        permissions: Permissions,
        token_file: TokenFile,
        outbound: Any,
        authority_url: str,
        graph_url: str,
        resource: str,
        client_secret: Optional[str] = None,
        client_certificate: Any = None,
        renewing: Callable[[Registration, str, TokenFile], Renewing] = Renewer,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
    ):
        """With a secret, or a certificate (.private_key: the path of a PEM file; .thumbprint: SHA-1 in hex), the
        app signs in by itself and `user` and `token_file` are not used.  The URLs are those of `endpoints`.
        `renewing`: Renewer renews in this process, RenewalProcess in another.
        """
        self._registration = Registration(
            client_id=client_id,
            tenant_id=tenant_id,
            permissions=permissions,
            outbound=outbound,
            authority_url=authority_url,
            resource=resource,
            client_secret=client_secret,
            client_certificate=client_certificate,
        )
        self._app_only = self._registration.app_only
        self._user = (user or "").lower()
        self._graph_url = graph_url
        self._file = token_file
        self._renewing = renewing(self._registration, self._user, token_file)
        self._clock, self._monotonic, self._sleep = clock, monotonic, sleep
        self._lock = threading.Lock()
        self._renewal: Optional[_Renewal] = None
        self._seen: Identity = None
        self._holder: Optional[Holder] = None  # of the file that was seen
        self._token = ""
        self._issued = self._renew_at = self._ends = 0.0  # monotonic
        self._error: Optional[ProxyError] = None
        self._failures = 0
        self._try_at = 0.0  # monotonic
        self._must_renew = False  # a token or the sign-in was refused: only a renewal proves that it is good again
        self._refreshed_at = 0.0
        self._scope: Optional[str] = None  # of the last token that Entra issued
        self._logged = ""

    # For callers of Graph.

    def access_token(self, refused: Optional[str] = None) -> str:
        """A token that is good for now; `refused`: the one Graph has just answered with 401.

        Raises SignInNeeded (with exit_status 78 if the app registration is at
        fault) until a person does something; Temporary for everything else.
        """
        identity = self._identity()
        with self._lock:
            self._notice(identity)
            now = self._monotonic()
            if self._token and self._token != refused and now < self._renew_at:
                return self._token
            if self._token and self._token == refused:
                if now - self._issued < _FORCE_SECONDS:
                    raise TokenRefused("Microsoft Graph refuses a token that Microsoft has only just issued.")
                self._token, self._must_renew = "", True
            ageing = self._token if now < self._ends else ""
            still_refused = self._error if now < self._try_at else None
        try:
            if still_refused is not None:
                raise copy.copy(still_refused)
            return self._renewed(force=refused is not None)
        except ProxyError:
            if not ageing:
                raise
            return ageing  # shortly before its end it is still used if there is no new one

    def renew(self) -> None:
        """Have Entra renew the sign-in now, even if there is a valid token.  Raises what `access_token` raises."""
        self._renewed(force=True)

    def permissions(self) -> Tuple[List[str], List[str]]:
        """After `renew`: the permissions that are needed and granted, and those that are needed and missing."""
        return self._registration.compare(self._scope)

    def refresh_daily(self) -> None:
        """Renew, so that the refresh token never gets old (90 idle days).  A failure is logged, not raised."""
        if self._app_only:
            return
        self._logged = ""
        with contextlib.suppress(ProxyError):
            self._renewed(force=True)

    def state(self) -> SignInState:
        """For `status`.  Reads only the file and asks no server.

        Where only a renewal finds out who is signed in, one is begun, and until it is done the user is the configured
        one, since an unknown time.
        """
        user, signed_in_at = f"application {self._registration.client_id}", 0.0
        trouble: Optional[ProxyError] = None
        if not self._app_only:
            user = ""
            try:
                user, signed_in_at = self._whose(self._identity())
            except SignInNeeded as error:
                trouble = error
        with self._lock:
            self._notice(self._identity())
            trouble = trouble or self._error
            # The file is written at each renewal.
            last_refresh = max(self._refreshed_at, self._seen[2] / 1e9 if self._seen else 0.0)
        return SignInState(
            user=user,
            signed_in_at=signed_in_at,
            last_refresh=last_refresh,
            error=str(trouble or ""),
            needs_sign_in=isinstance(trouble, SignInNeeded),
            exit_status=trouble.exit_status if trouble else 0,
        )

    def login(
        self,
        show: Callable[[DeviceCode], object],
        count_down: Callable[[float], object] = lambda seconds: None,
    ) -> str:
        """Sign in by device code, which `show` is given; returns the user's address, "" if the app needs no sign-in.

        `count_down` is given the seconds for which the code is still valid, every second.

        Nothing is stored before user, tenant and permissions are found to be right.
        Raises SignInNeeded (exit_status 77 or 78), Temporary, CannotCreate or
        InUse: the previous sign-in is then unchanged.
        """
        if self._app_only:
            return ""
        steps = DeviceSignIn(self._registration, self._user, self._graph_url, self._monotonic, self._sleep)
        tenant, cache = steps.run(show, count_down)
        self._file.sign_in(self._user, tenant, cache, self._clock())
        return self._user

    def logout(self) -> bool:
        """Forget the stored sign-in; returns whether there was one.  Raises CannotCreate if it cannot be removed."""
        return self._file.remove()

    # Renewal.

    def _identity(self) -> Identity:
        return None if self._app_only else self._file.identity()

    def _notice(self, identity: Identity) -> None:
        """Forget what was known if somebody else changed the file.  The caller holds the lock."""
        if identity != self._seen:
            self._seen = identity
            self._token, self._must_renew, self._holder = "", False, None
            self._error, self._failures, self._try_at = None, 0, 0.0

    def _whose(self, identity: Identity) -> Holder:
        """Whose sign-in the file holds; SignInNeeded if it is of no use."""
        if identity is None:
            raise SignInNeeded(NOBODY)
        with self._lock:
            self._notice(identity)
            if self._holder is not None:
                return self._holder
            if isinstance(self._error, SignInNeeded):
                raise copy.copy(self._error)
            is_begun = self._renewal is not None or self._monotonic() < self._try_at
        found = self._renewing.holder()
        if found is None:
            if not is_begun:
                try_start(threading.Thread(target=self._find_out, name="sign-in", daemon=True))
            return Holder(self._user, 0.0)
        return found

    def _find_out(self) -> None:
        with contextlib.suppress(ProxyError):  # it is logged
            self._renewed(force=True)

    def _renewed(self, force: bool) -> str:
        """The token of one renewal: ours, or one that is already under way."""
        with self._lock:
            self._notice(self._identity())
            renewal, ours = self._renewal or _Renewal(), self._renewal is None
            self._renewal = renewal
            force = force or self._must_renew
        if ours:
            self._run(renewal, force)
        return renewal.wait()

    def _run(self, renewal: _Renewal, force: bool) -> None:
        grant: Optional[Grant] = None
        error: ProxyError = Temporary("The renewal of the sign-in was interrupted.")
        try:
            grant = self._renewing.renew(force, self._note)
        except ProxyError as trouble:
            error = trouble
        finally:
            with self._lock:
                self._renewal = None
                if grant is not None:
                    self._take(grant)
                else:
                    self._put_off(error)
            renewal.finish(grant.token if grant else error)
            self._log("" if grant else str(error))
        if grant is not None and grant.unstored:
            logger.warning("the renewed sign-in cannot be stored: %s", grant.unstored)

    def _note(self, holder: Holder) -> None:
        with self._lock:
            self._holder = holder

    def _take(self, grant: Grant) -> None:
        now = self._monotonic()
        life = min(grant.seconds, _LONGEST_LIFE)
        self._token, self._seen, self._holder, self._must_renew = grant.token, grant.identity, grant.holder, False
        self._renew_at = now + max(life - _EARLY_SECONDS, life / 2)
        self._ends = now + life - _LATE_SECONDS
        self._error, self._failures, self._try_at = None, 0, 0.0
        if grant.fresh:
            self._issued, self._refreshed_at, self._scope = now, self._clock(), grant.scope
        else:
            self._issued = now - _FORCE_SECONDS

    def _put_off(self, error: ProxyError) -> None:
        first, longest = _PERSON_WAITS if isinstance(error, SignInNeeded) else _PASSING_WAITS
        wait = min(longest, first * 2 ** min(self._failures, 10))
        if isinstance(error, Busy):
            wait = max(wait, min(error.seconds, _PERSON_WAITS[1]))
        self._failures += 1
        # Otherwise msal would go on handing out the stored access token, which may not have expired yet.
        self._must_renew = self._must_renew or isinstance(error, SignInNeeded)
        self._error, self._try_at = error, self._monotonic() + wait

    def _log(self, trouble: str) -> None:
        """Log a change; the same trouble is logged only once."""
        if trouble and trouble != self._logged:
            logger.error("no access to Microsoft: %s", trouble)
        elif self._logged and not trouble:
            logger.info("access to Microsoft is back")
        self._logged = trouble
