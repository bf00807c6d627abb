import re
import socket

from m365proxy.admin.report import machine
from m365proxy.admin.report.pseudonyms import Pseudonyms


def test_versions():
    found = dict(machine.versions(Pseudonyms()))
    assert {"m365proxy", "Python", "OpenSSL", "msal", "requests", "cryptography", "urllib3", "system"} <= set(found)
    assert "source" in found["m365proxy"] and re.match(r"\d+\.\d+", found["requests"])


def test_names_of_the_machine_and_secrets_of_the_environment(monkeypatch):
    monkeypatch.setattr(socket, "gethostname", lambda: "gate-7.contoso.com")
    monkeypatch.setenv("HOME", "/home/mmueller")
    monkeypatch.setattr("getpass.getuser", lambda: "mmueller")
    pseudonyms = Pseudonyms()
    environ = {"SUDO_USER": "adele", "https_proxy": "http://me:pr0xyword@proxy:3128", "M365PROXY_KEY": "kkkk-eeee-yyyy"}
    machine.learn(pseudonyms, environ)
    text = pseudonyms.scrub("mmueller, adele: pr0xyword kkkk-eeee-yyyy in /home/mmueller/config.json")
    assert text == "user-1, user-2: <secret> <secret> in /home/user-1/config.json"
    assert "gate" not in pseudonyms.scrub("gate-7, GATE-7.contoso.com")


def test_the_package_s_own_user_says_nothing(monkeypatch):
    monkeypatch.setattr("getpass.getuser", lambda: "m365proxy")
    monkeypatch.setenv("HOME", "/root")
    pseudonyms = Pseudonyms()
    machine.learn(pseudonyms, {})
    assert pseudonyms.scrub("m365proxy as root") == "m365proxy as root"


def test_secrets_and_ids_of_the_state(tmp_path):
    (tmp_path / "token.key").write_text("a-key-of-fernet\n")
    (tmp_path / "installation").write_text("0123abcd\n")
    pseudonyms = Pseudonyms()
    machine.learn_state(pseudonyms, str(tmp_path))
    assert pseudonyms.scrub("A-KEY-OF-FERNET 0123abcd") == "<secret> <secret>"


def test_a_directory_that_was_removed_is_no_obstacle(monkeypatch):
    def fail(*path):
        raise FileNotFoundError

    monkeypatch.setattr("os.getcwd", fail)
    monkeypatch.setattr("sys.argv", ["m365proxy.py"])
    pseudonyms = Pseudonyms()
    machine.learn(pseudonyms, {"SUDO_USER": "adele"})
    assert pseudonyms.scrub("adele") != "adele"


def test_a_proxy_s_password_is_hidden_as_it_is_typed_too():
    pseudonyms = Pseudonyms()
    machine.learn(pseudonyms, {"https_proxy": "http://me:pr0xy%40word@proxy:3128"})
    assert pseudonyms.scrub("pr0xy@word, pr0xy%40word") == "<secret>, <secret>"
