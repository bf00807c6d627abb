"""One renewal, and whose sign-in it is."""

import entra_harness
import pytest
from entra_harness import USER

from m365proxy.entra.registration import Registration
from m365proxy.entra.renewer import Holder, Renewer
from m365proxy.errors import SignInNeeded
from m365proxy.system.outbound import Outbound

harness = entra_harness.harness


def renewer(harness, user=USER, **other):
    settings = {
        "client_id": harness.sandbox.client_id,
        "tenant_id": harness.sandbox.tenant_id,
        "permissions": "full",
        "outbound": Outbound(ca_file=harness.sandbox.ca_file, direct=True),
        "authority_url": harness.sandbox.authority_url,
        "resource": harness.sandbox.graph_url,
    }
    return Renewer(Registration(**{**settings, **other}), user, harness.file)


def test_whose_it_is_is_known_before_entra_is_asked(harness):
    harness.signed_in()
    harness.sandbox.entra.refuse("refresh_token", "invalid_grant", 50173)
    noted = []
    with pytest.raises(SignInNeeded, match="AADSTS50173"):
        renewer(harness).renew(True, noted.append)
    assert noted == [Holder(USER, 5_000_000.0)] == [renewer(harness).holder()]


def test_what_a_renewal_gives(harness):
    harness.signed_in()
    old = renewer(harness).renew(False, lambda holder: None)
    new = renewer(harness).renew(True, lambda holder: None)
    assert not old.fresh and new.fresh and old.token != new.token
    assert new.identity == harness.file.identity() != old.identity
    assert old.holder == new.holder == Holder(USER, 5_000_000.0)
    assert harness.accepts(new.token) == USER and "Mail.Send" in new.scope and new.unstored == ""


def test_an_app_has_no_holder_and_no_file(harness):
    grant = renewer(harness, user="", client_secret="sandbox-secret").renew(True, pytest.fail)
    assert grant.fresh and grant.identity is None and grant.holder is None


@pytest.mark.parametrize("user, words", [(USER, "Nobody is signed in"), ("scans@contoso.com", "but user is scans@")])
def test_whose_it_is_not(harness, user, words):
    if user != USER:
        harness.signed_in()
    for ask in (lambda: renewer(harness, user).holder(), lambda: renewer(harness, user).renew(True, pytest.fail)):
        with pytest.raises(SignInNeeded, match=words):
            ask()
