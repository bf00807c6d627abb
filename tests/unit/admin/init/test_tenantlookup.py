"""Whose a domain is, by what Microsoft answers to everybody."""

import pytest
from cases import each
from init_harness import OTHER, TENANT, KnownTenants

from m365proxy.admin.init import tenantlookup
from m365proxy.admin.init.tenantlookup import NoTenant, Tenants
from m365proxy.errors import Temporary


@each(
    "address, tenant, others, doubt",
    [
        ("scanner@contoso.com", "contoso.com", [], ""),
        ("scanner@contoso.de", "contoso.com", [], ""),
        ("scanner@contoso.de", TENANT, [], ""),
        ("scanner@fabrikam.com", "contoso.com", [], "fabrikam.com belongs to another tenant"),
        ("scanner@fabrikam.com", TENANT, [], "fabrikam.com belongs to another tenant"),
        ("scanner@contosso.com", "contoso.com", [], "Did you mean scanner@contoso.com?"),
        ("scanner@contosso.de", TENANT, ["relay@contoso.de"], "Did you mean scanner@contoso.de?"),
    ],
)
def test_a_mailbox_outside_the_tenant(address, tenant, others, doubt):
    found = KnownTenants().doubt(address, tenant, others)
    assert doubt in found and bool(found) == bool(doubt)


@each(
    "address, tenant, others, doubt",
    [
        ("scanner@contoso.com", "contoso.com", [], ""),
        ("scanner@contoso.de", "contoso.com", [], "contoso.de is not contoso.com"),
        ("scanner@contoso.de", TENANT, [], ""),
        ("scanner@contoso.de", TENANT, ["relay@contoso.com"], "contoso.de is not contoso.com"),
    ],
)
def test_without_microsoft_only_names_are_compared(address, tenant, others, doubt):
    tenants = KnownTenants(None)
    found = tenants.doubt(address, tenant, others)
    assert doubt in found and bool(found) == bool(doubt)
    assert len(tenants.asked) <= 1 and (not tenants.asked or "No connection" in tenants.unreachable)


def test_names_are_asked_about_once():
    tenants = KnownTenants()
    assert [tenants.id_of(name) for name in ("contoso.com", "Contoso.com", "fabrikam.com")] == [TENANT, TENANT, OTHER]
    for _ in range(2):
        with pytest.raises(NoTenant):
            tenants.id_of("contosso.com")
    assert tenants.asked == ["contoso.com", "fabrikam.com", "contosso.com"]


class Client:
    """Answers in place of Microsoft."""

    answer = (200, "", {})
    asked = ""

    def __init__(self, outbound):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def exchange(self, method, url):
        Client.asked = url
        return self.answer


@pytest.mark.parametrize(
    "status, answer, found",
    [
        (200, {"issuer": f"https://login.example/{TENANT.upper()}/v2.0"}, TENANT),
        (200, {"issuer": "https://login.example/"}, None),
        (400, {"error": "invalid_tenant", "error_description": "AADSTS90002: Tenant not found."}, NoTenant),
        (400, {"error": "invalid_request", "error_description": "AADSTS90002: Tenant not found."}, NoTenant),
        (400, {"error": "server_error", "error_description": "AADSTS90006"}, None),
    ],
)
def test_what_the_discovery_document_says(monkeypatch, status, answer, found):
    monkeypatch.setattr(tenantlookup, "HttpClient", Client)
    monkeypatch.setattr(Client, "answer", (status, "", answer))
    tenants = Tenants("a way out", "https://login.example")
    if found is NoTenant:
        with pytest.raises(NoTenant):
            tenants.id_of("contoso.com")
    else:
        assert tenants.id_of("contoso.com") == found
    assert Client.asked == "https://login.example/contoso.com/v2.0/.well-known/openid-configuration"
    assert bool(tenants.unreachable) == (found is None)


def test_a_way_that_is_closed(monkeypatch):
    def closed(self, method, url):
        raise Temporary("No connection.")

    monkeypatch.setattr(tenantlookup, "HttpClient", Client)
    monkeypatch.setattr(Client, "exchange", closed)
    tenants = Tenants("a way out", "https://login.example")
    assert tenants.id_of("contoso.com") is None and tenants.unreachable == "No connection."
