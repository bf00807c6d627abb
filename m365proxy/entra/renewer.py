"""One renewal of the sign-in: from the stored refresh token, or by the app itself, to an access token.

msal does the protocol.  Each renewal uses an msal app of its own, so that
msal's hidden HTTP cache cannot repeat an old refusal and no connection gets old.
"""

from __future__ import annotations

from typing import Any, Callable, Dict, NamedTuple, Optional

from ..errors import CannotCreate, InUse, SignInNeeded, Temporary
from .http import refusal
from .registration import Registration, msal
from .tokenfile import Identity, SignIn, TokenFile

# There is no stored sign-in.
NOBODY = "Nobody is signed in. Run `m365proxy login`."


class Holder(NamedTuple):
    """Whose sign-in is stored, and since when (seconds since 1970)."""

    user: str
    signed_in_at: float


class Grant(NamedTuple):
    """A token; `seconds` it lives; `fresh`: Entra has just issued it.

    `identity`: of the file that holds the sign-in, `holder`: whose that is; None of an app.
    `scope`: what Entra says it grants, with blanks; None if it says nothing.
    `unstored`: why the renewed sign-in is not in the file; "" if it is.
    """

    token: str
    seconds: float
    fresh: bool
    identity: Identity = None
    holder: Optional[Holder] = None
    scope: Optional[str] = None
    unstored: str = ""


class Renewer:
    """Renews in this process.  For one thread at a time."""

    def __init__(self, registration: Registration, user: str, token_file: TokenFile):
        """`user`: the address whose sign-in is used, in lower case; of an app, neither it nor the file is."""
        self._registration = registration
        self._user = user
        self._file = token_file

    def renew(self, force: bool, note: Callable[[Holder], object]) -> Grant:
        """A token; `force`: a new one even if the stored one is still valid.  `note` is given whose it is, at once.

        Raises SignInNeeded (with exit_status 78 if the app registration is at
        fault) until a person does something; Temporary for everything else.
        """
        if self._registration.app_only:
            return self._granted_to_app()
        grant = self._granted_to_user(force, note) or self._granted_to_user(force, note)
        if grant is None:
            raise Temporary("Somebody is signing in just now.")
        return grant

    def holder(self) -> Holder:
        """Who is signed in, from the file; SignInNeeded if it is not the configured user."""
        stored = self._stored()
        return Holder(stored.user, stored.signed_in_at)

    def _granted_to_app(self) -> Grant:
        # A new app has an empty cache, so every version of msal asks Entra, once.
        with self._registration.confidential() as app:
            return _grant(app.acquire_token_for_client(self._registration.app_scopes), True)

    def _granted_to_user(self, force: bool, note: Callable[[Holder], object]) -> Optional[Grant]:
        """None if somebody signed in or out while Entra was being asked about the sign-in before."""
        identity = self._file.identity()
        stored = self._stored()
        holder = Holder(stored.user, stored.signed_in_at)
        note(holder)
        cache = msal().SerializableTokenCache()
        cache.deserialize(stored.cache)
        with self._registration.public(cache) as app:
            accounts = app.get_accounts()
            result = accounts and app.acquire_token_silent_with_error(
                self._registration.scopes, accounts[0], force_refresh=force
            )
            if not result:
                raise SignInNeeded("The stored sign-in is for another client_id or cloud. Run `m365proxy login`.")
            grant = _grant(result, cache.has_state_changed)._replace(identity=identity, holder=holder)
        if not grant.fresh:
            return grant
        try:
            current = self._file.refreshed(stored, cache.serialize())
        except (OSError, InUse, CannotCreate) as error:
            # The refresh token in the file still works; the sign-in is lost only if this goes on for a year.
            return grant._replace(unstored=str(error))
        if current is None or current.generation != stored.generation:
            return None
        return grant._replace(identity=self._file.identity())

    def _stored(self) -> SignIn:
        """The stored sign-in, if it is the configured one."""
        stored = self._file.load()
        if stored is None:
            raise SignInNeeded(NOBODY)
        if stored.user != self._user:
            raise SignInNeeded(f"{stored.user} is signed in, but user is {self._user}. Run `m365proxy login`.")
        if self._registration.known_tenant not in (None, stored.tenant):
            raise SignInNeeded("The stored sign-in is for another tenant than tenant_id. Run `m365proxy login`.")
        return stored


def _grant(result: Dict[str, Any], fresh: bool) -> Grant:
    if "access_token" not in result:
        raise refusal(result)
    return Grant(str(result["access_token"]), float(result["expires_in"]), fresh, scope=result.get("scope"))
