"""Whether a tenant exists, and whose a domain is: what Microsoft answers to everybody (OpenID Connect discovery)."""

from __future__ import annotations

import difflib
import re
from typing import Any, Dict, Iterable, Optional

from ...entra.http import HttpClient, refusal
from ...errors import ProxyError, Temporary

_GUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)

# Entra's number for a tenant that does not exist (reference-error-codes.md).
_NO_TENANT = "AADSTS90002"


class NoTenant(Exception):
    """Microsoft knows no tenant of that name."""


class Tenants:
    """Remembers what was asked, and asks no more once Microsoft could not be reached."""

    def __init__(self, outbound: Any, authority_url: str):
        """`outbound`: a way to Microsoft; None: nobody is asked."""
        self._outbound = outbound
        self._authority = authority_url
        self._known: Dict[str, Optional[str]] = {}
        self.unreachable = "" if outbound else "not asked"  # why Microsoft could not be asked; "" if it could

    def id_of(self, name: str) -> Optional[str]:
        """The tenant's ID, by this or by a domain; None if Microsoft cannot be asked.  Raises NoTenant."""
        name = name.lower()
        if name not in self._known:
            if self.unreachable:
                return None
            try:
                self._known[name] = self._ask(name)
            except Temporary as error:
                self.unreachable = str(error)
                return None
        found = self._known[name]
        if found is None:
            raise NoTenant(name)
        return found

    def _ask(self, name: str) -> Optional[str]:
        """None if there is no such tenant.  Raises Temporary."""
        url = f"{self._authority}/{name}/v2.0/.well-known/openid-configuration"
        try:
            with HttpClient(self._outbound) as client:
                status, _, answer = client.exchange("GET", url)
        except ProxyError as error:
            raise Temporary(str(error)) from None
        if status == 200:
            found = _GUID.search(str(answer.get("issuer", "")))
            if found is None:
                raise Temporary("Microsoft does not return the tenant's ID.")
            return found.group().lower()
        refused = refusal(answer)
        if _NO_TENANT in str(refused) or answer.get("error") == "invalid_tenant":
            return None
        raise Temporary(str(refused))

    def are_same(self, one: str, other: str) -> Optional[bool]:
        """Whether two names are of one tenant; None if Microsoft cannot be asked."""
        if one.lower() == other.lower():
            return True
        try:
            found = self.id_of(one), self.id_of(other)
        except NoTenant:
            return False
        return None if None in found else found[0] == found[1]

    def doubt(self, address: str, tenant: str, others: Iterable[str] = ()) -> str:
        """Why a mailbox of this address is probably not in the tenant, with what was meant perhaps; "" if it may be.

        `tenant`: by ID or domain.  `others`: addresses that are in it.
        """
        local, _, domain = address.rpartition("@")
        domains = [one.rpartition("@")[2] for one in others]
        domains += [] if _GUID.fullmatch(tenant) else [tenant]
        if domain in domains:
            return ""
        try:
            own, theirs = self.id_of(tenant), self.id_of(domain)
        except NoTenant:
            reason = f"{domain} is no domain of Microsoft 365."
        else:
            if own is None or theirs is None:
                if not domains:
                    return ""
                reason = f"{domain} is not {domains[-1]}; it must be a domain of the same tenant."
            elif own == theirs:
                return ""
            else:
                reason = f"{domain} belongs to another tenant, so {address} cannot be a mailbox of yours."
        near = difflib.get_close_matches(domain, domains, 1)
        return f"{reason} Did you mean {local}@{near[0]}?" if near else reason
