"""The sample configuration."""

import json
import pathlib

from configs import HASHED, MINIMAL, problems

from m365proxy.config.options import OPTIONS
from m365proxy.config.sample import sample

ROOT = pathlib.Path(__file__).resolve().parents[3]


def test_the_sample_file_is_the_tables():
    assert (ROOT / "etc" / "m365proxy.json").read_bytes().decode() == sample()


def test_the_sample_has_every_key_with_its_help():
    seen = {}

    def walk(document, section):
        for name, value in document.items():
            if name == "#":
                continue
            path = f"{section}.{name.lstrip('#')}" if section else name.lstrip("#")
            if name.startswith("#") and not name.startswith("##"):
                seen[path] = value
            elif isinstance(value, list) and value and isinstance(value[0], dict):
                walk(value[0], path + "[]")
            elif isinstance(value, dict):
                walk(value, path)
            if not name.startswith("#") or name.startswith("##"):
                assert path in seen, f"{path} stands without a comment before it"

    walk(json.loads(sample()), "")
    assert seen == {option.path: option.help for option in OPTIONS}


def filled_in(text):
    document = json.loads(text)
    for key in ("tenant_id", "client_id"):
        document[key] = MINIMAL["client_id"]
    document["mailboxes"][0]["password"] = "s3cret"
    return document


def test_the_sample_asks_to_be_filled_in_and_nothing_else(load):
    assert [problem.split(" ")[0] for problem in problems(load, sample())] == ["tenant_id", "client_id", "mailboxes[0]"]
    plain = {**MINIMAL, "tenant_id": MINIMAL["client_id"], "state_dir": "/var/lib/m365proxy"}
    assert load(filled_in(sample())) == load(plain)


def test_the_samples_examples_are_right(load):
    """With the ## taken away they load too."""
    document = json.loads(json.dumps(filled_in(sample())).replace('"##', '"'))
    document["mailboxes"][0]["logins"][0]["password"] = HASHED["password"]
    document["tls"]["tls_cert"] = "auto"
    loaded = load(document)
    assert loaded.sockets[-1].address == "192.168.10.1"
    assert loaded.mailboxes[0].logins[0].login == "printer-2"
    assert loaded.client_certificate.thumbprint
    assert loaded.https_proxy
