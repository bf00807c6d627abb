"""The sign-in by device code: somebody types a code into a browser, anywhere; then it is checked who that was."""

from __future__ import annotations

import urllib.parse
from typing import Any, Callable, Dict, NamedTuple, Tuple

from ..errors import ProxyError, SignInNeeded, Temporary
from ..system import log
from .http import refusal
from .registration import Registration, msal

# Seconds before the second and the third try of a request that failed while a person is waiting.
_PAUSES = (1.0, 4.0)

_NOTHING_STORED = "Nothing was stored."


class DeviceCode(NamedTuple):
    """What the person needs: where to enter which code within how many `seconds`, and as whom to sign in there."""

    address: str
    code: str
    user: str
    seconds: float

    @property
    def minutes(self) -> int:
        return int(self.seconds) // 60

    def __str__(self) -> str:
        return (
            f"Open {self.address} in a browser and enter the code {self.code}. Sign in there as {self.user}. "
            f"The code is good for {self.minutes} minutes."
        )


class DeviceSignIn:
    """One sign-in, from the code to the proof that user, tenant and permissions are right.  For one thread."""

    def __init__(
        self,
        registration: Registration,
        user: str,
        graph_url: str,
        monotonic: Callable[[], float],
        sleep: Callable[[float], object],
    ):
        """`user`: the address that has to sign in, in lower case."""
        self._registration = registration
        self._user = user
        self._graph_url = graph_url
        self._monotonic = monotonic
        self._sleep = sleep

    def run(self, show: Callable[[DeviceCode], object], count_down: Callable[[float], object]) -> Tuple[str, str]:
        """Returns the tenant's ID and msal's serialized cache.

        `show` is given the code, `count_down` every second the seconds for
        which it is still valid.  Raises SignInNeeded and Misconfigured, which say what
        was wrong, and Temporary if Microsoft cannot be asked.
        """
        tenant = self._patiently(self._registration.tenant)
        cache = msal().SerializableTokenCache()
        with self._registration.public(cache) as app:
            flow = app.initiate_device_flow(self._registration.scopes)
            if "user_code" not in flow:
                raise refusal(flow)
            show(
                DeviceCode(
                    log.clean(flow["verification_uri"]), log.clean(flow["user_code"]), self._user, flow["expires_in"]
                )
            )
            result = self._polled(app, flow, count_down)
        self._check_permissions(result)
        self._check_tenant(result, tenant)
        self._patiently(lambda: self._check_user(result["access_token"]))
        return tenant, cache.serialize()

    def _patiently(self, ask: Callable[[], Any]) -> Any:
        for pause in _PAUSES:
            try:
                return ask()
            except Temporary:
                self._sleep(pause)
        return ask()

    def _polled(self, app: Any, flow: Dict[str, Any], count_down: Callable[[float], object]) -> Dict[str, Any]:
        """msal's answer once the person is done; one poll per call, so that a lost connection does not end it."""
        flow["interval"] = max(1, flow["interval"])  # with 0, msal would poll without a pause
        deadline = self._monotonic() + flow["expires_in"]
        while True:
            error: ProxyError = SignInNeeded("Nobody signed in before the code expired. Run `m365proxy login` again.")
            try:
                result: Dict[str, Any] = app.acquire_token_by_device_flow(flow, exit_condition=lambda _: True)
            except Temporary as trouble:
                error = trouble
            else:
                if "access_token" in result:
                    return result
                if result.get("error") not in ("authorization_pending", "slow_down"):
                    raise refusal(result)
            if self._monotonic() >= deadline:
                raise error
            self._pause(flow["interval"], deadline, count_down)

    def _pause(self, seconds: float, deadline: float, count_down: Callable[[float], object]) -> None:
        end = self._monotonic() + seconds
        left = seconds
        while left > 0:
            count_down(max(0.0, deadline - self._monotonic()))
            self._sleep(min(1.0, left))
            left = end - self._monotonic()

    def _check_permissions(self, result: Dict[str, Any]) -> None:
        _, missing = self._registration.compare(str(result.get("scope") or "") or None)
        if missing:
            raise SignInNeeded(
                f"Microsoft did not grant {', '.join(missing)}. {_NOTHING_STORED} In Entra under App registrations, "
                "API permissions, add this (Microsoft Graph, delegated) and grant consent. Then run `m365proxy login` "
                "again."
            )

    def _check_tenant(self, result: Dict[str, Any], tenant: str) -> None:
        claims = result.get("id_token_claims") or {}
        if str(claims.get("tid", "")).lower() != tenant:
            raise SignInNeeded(
                f"The account that signed in belongs to another tenant than tenant_id. {_NOTHING_STORED} "
                f"Run `m365proxy login` and sign in as {self._user}."
            )

    def _check_user(self, token: str) -> None:
        query = urllib.parse.urlencode({"$select": "userPrincipalName,mail"}, safe="$,")
        with self._registration.http() as client:
            status, _, me = client.exchange(
                "GET", f"{self._graph_url}/v1.0/me?{query}", "request-id", headers={"Authorization": "Bearer " + token}
            )
        if status != 200:
            raise SignInNeeded(
                f"Microsoft Graph does not say who signed in (HTTP status {status}). {_NOTHING_STORED} Check that the "
                "app registration has the permission User.Read, then run `m365proxy login` again."
            )
        names = [str(me.get(key) or "").lower() for key in ("userPrincipalName", "mail")]
        if self._user not in names:
            raise SignInNeeded(
                f"{log.clean(names[0] or names[1] or 'Somebody else')} signed in, but user is {self._user}. "
                f"{_NOTHING_STORED} Run `m365proxy login` and sign in as {self._user}, or correct user."
            )
