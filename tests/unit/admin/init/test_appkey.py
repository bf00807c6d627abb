"""The application's key: what Entra shows of it is what the config says."""

import datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from m365proxy.admin.init import appkey
from m365proxy.entra import registration


def test_a_key_that_msal_can_sign_with(tmp_path):
    made = appkey.make("m365proxy")
    certificate = x509.load_pem_x509_certificate(made.certificate)
    assert certificate.fingerprint(hashes.SHA1()).hex().upper() == made.thumbprint
    assert 728 <= (made.end - datetime.date.today()).days <= 730
    (tmp_path / "key.pem").write_bytes(made.key)
    assert registration.private_key(str(tmp_path / "key.pem")).encode() == made.key
    assert b"PRIVATE" not in made.certificate
