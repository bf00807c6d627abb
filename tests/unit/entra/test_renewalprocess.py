"""The renewal in another process: the same tokens and refusals as in this one, and what may go wrong with a process."""

import contextlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import threading

import entra_harness
import pytest
from entra_harness import USER

import m365proxy
from m365proxy.entra import renewalprocess
from m365proxy.entra.http import Busy, Misconfigured
from m365proxy.entra.renewalprocess import RenewalProcess
from m365proxy.entra.tokenfile import KeyUnusable, TokenFile, TokenFileDamaged
from m365proxy.errors import ProxyError, SignInNeeded, Temporary
from m365proxy.system import files, ownprocess
from m365proxy.system.outbound import Outbound, Settings

harness = entra_harness.harness


def apart(harness, **other):
    return harness.tokens(renewing=RenewalProcess, **other)


@pytest.fixture
def standing_in(monkeypatch):
    """Puts a program in the place of the process; `put.begun` has a word for each time it was begun."""

    def put(code, seconds=60.0):
        def command(word):
            put.begun.append(word)
            return [sys.executable, "-c", code]

        monkeypatch.setattr(ownprocess, "command", command)
        return lambda *given: RenewalProcess(*given, seconds)

    put.begun = []
    return put


# The same as in this process


def test_a_token_is_renewed_and_stored(harness):
    harness.signed_in()
    before, content = harness.file.identity(), harness.content()
    tokens = apart(harness)
    tokens.renew()
    assert harness.accepts(tokens.access_token()) == USER
    assert harness.refreshes() == 1
    assert harness.file.identity() != before and harness.content() != content
    assert tokens.permissions()[1] == []
    tokens.access_token()  # the file is its own work: nothing is forgotten because of it
    assert harness.refreshes() == 1


def test_a_stored_token_is_used_again(harness):
    token = harness.signed_in().access_token()
    assert apart(harness).access_token() == token and harness.refreshes() == 0


def test_an_app_signs_in(harness):
    tokens = apart(harness, client_secret="sandbox-secret", user=None)
    assert tokens.access_token() != ""
    assert tokens.state()["user"].startswith("application ")


@pytest.mark.parametrize(
    "error, code, kind",
    [("invalid_grant", 50173, SignInNeeded), ("invalid_client", 7000222, Misconfigured), ("odd", 0, Temporary)],
)
def test_a_refusal_is_the_same(harness, error, code, kind):
    harness.signed_in()
    found = []
    for tokens in (harness.tokens(), apart(harness)):
        harness.sandbox.entra.refuse("refresh_token", error, code)
        with pytest.raises(kind) as caught:
            tokens.renew()
        found.append((type(caught.value), str(caught.value), caught.value.exit_status, tokens.state()))
    assert found[0] == found[1]


@pytest.mark.parametrize("fault", ["portal", "cut", "answer"])
def test_trouble_on_the_way_is_the_same(harness, fault):
    harness.signed_in()
    harness.sandbox.faults.add(fault, path="/token", times=None)
    found = []
    for tokens in (harness.tokens(), apart(harness)):
        with pytest.raises(Temporary) as caught:
            tokens.renew()
        found.append((type(caught.value), str(caught.value)))
    assert found[0] == found[1]


def test_how_long_entra_wants_to_be_left_alone(harness):
    harness.signed_in()
    harness.sandbox.faults.add("answer", status=429, path="/token", retry_after=77)
    with pytest.raises(Busy) as caught:
        apart(harness).renew()
    assert caught.value.seconds == 77


def test_nobody_signed_in_starts_nothing(harness, monkeypatch):
    monkeypatch.setattr(subprocess, "Popen", pytest.fail)
    with pytest.raises(SignInNeeded, match="Nobody is signed in"):
        apart(harness).access_token()
    assert apart(harness).state()["needs_sign_in"]


@pytest.mark.parametrize(
    "key, kind", [({}, TokenFileDamaged), ({"M365PROXY_KEY": "short"}, KeyUnusable)], ids=["damaged", "no key"]
)
def test_a_sign_in_that_cannot_be_read(harness, key, kind):
    harness.signed_in()
    if not key:
        files.replace(harness.file.path, b"garbage")
    tokens = apart(harness, token_file=TokenFile(harness.directory, key))
    with pytest.raises(kind) as caught:
        tokens.access_token()
    state = tokens.state()
    assert state["error"] == str(caught.value) and state["needs_sign_in"] and state["user"] == ""


def test_the_key_may_come_from_elsewhere(harness, monkeypatch):
    harness.signed_in()
    key = pathlib.Path(harness.directory, "token.key")
    given = {"M365PROXY_KEY": key.read_text()}
    key.unlink()
    monkeypatch.setenv("M365PROXY_KEY", "another")
    assert apart(harness, token_file=TokenFile(harness.directory, given)).access_token()


def test_a_sign_in_that_cannot_be_stored(harness, caplog, standing_in):
    harness.signed_in()
    grant = {"token": "t", "seconds": 3600, "fresh": True, "identity": None, "holder": None, "unstored": "No space."}
    tokens = harness.tokens(renewing=standing_in(f"print({json.dumps(json.dumps({'grant': grant}))})"))
    assert tokens.access_token() == "t"
    assert "cannot be stored: No space." in caplog.text


# Who is signed in


def test_who_is_signed_in_is_found_out_by_a_renewal(harness, wait_until):
    tokens = apart(harness)
    assert tokens.state()["user"] == ""
    harness.signed_in()
    assert tokens.state()["user"] == USER  # as configured, for now
    wait_until(lambda: tokens.state()["signed_in_at"] == 5_000_000.0)
    assert tokens.state()["error"] == ""
    wait_until(lambda: harness.refreshes() == 1)


def test_who_is_signed_in_is_known_while_entra_keeps_silent(harness, wait_until):
    harness.signed_in()
    tokens = apart(harness)
    hanging = harness.sandbox.faults.add("hang", path="/token")
    thread = threading.Thread(target=tokens.refresh_daily)
    thread.start()
    wait_until(lambda: hanging.hits == 1)
    assert tokens.state()["signed_in_at"] == 5_000_000.0
    hanging.release()
    thread.join(60)


def test_a_renewal_that_failed_is_not_begun_again_at_each_look(harness, standing_in, wait_until):
    harness.signed_in()
    tokens = harness.tokens(renewing=standing_in("raise SystemExit(3)"))
    with pytest.raises(Temporary):
        tokens.renew()
    for _ in range(3):
        state = tokens.state()
        assert state["user"] == USER and "died" in state["error"] and not state["needs_sign_in"]
    wait_until(lambda: not [thread for thread in threading.enumerate() if thread.name == "sign-in"])
    assert standing_in.begun == [ownprocess.RENEWAL]


# What may go wrong with a process


@pytest.mark.parametrize(
    "code, words",
    [
        ("raise SystemExit(3)", r"has died \(status 3\)"),
        ("import os; os.kill(os.getpid(), 9)", r"has died \(signal 9, perhaps for want of memory\)"),
        ("print('x' * 3_000_000)", "answers nonsense"),
        ("print('{}')", "answers nonsense"),
        ("print('[1]')", "answers nonsense"),
        ('print(\'{"refusal": "KeyError", "sentence": ""}\')', "answers nonsense"),
        ('print(\'{"grant": {"token": 1}}\')', "answers nonsense"),
        ("print('{\"holder\": 1}')", "answers nonsense"),
        ("import sys; sys.stdin.close(); print('[' * 100_000)", "answers nonsense"),
        ("import sys; sys.stderr.write('x' * 10_000_000); raise SystemExit(4)", r"has died \(status 4\)"),
    ],
)
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signals")
def test_a_process_that_goes_wrong_is_a_failed_renewal(harness, standing_in, caplog, monkeypatch, code, words):
    harness.signed_in()
    token, kept = harness.tokens().access_token(), harness.content()
    tokens = harness.tokens(renewing=standing_in(code))
    for _ in range(2):
        with pytest.raises(Temporary, match=words):
            tokens.access_token()
    assert len([line for line in caplog.records if "no access to Microsoft: " in line.getMessage()]) == 1
    assert harness.content() == kept
    harness.time.now += 10
    monkeypatch.undo()
    assert tokens.access_token() == token  # and the next one serves


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such look at a process")
def test_a_process_that_hangs_is_killed(harness, standing_in, tmp_path):
    harness.signed_in()
    place = tmp_path / "pid"
    code = f"import os, time; open({str(place)!r}, 'w').write(str(os.getpid())); time.sleep(1000)"
    tokens = harness.tokens(renewing=standing_in(code, 3.0))
    with pytest.raises(Temporary, match="did not end within 3 s, and was killed"):
        tokens.access_token()
    with pytest.raises(ProcessLookupError):
        os.kill(int(place.read_text()), 0)


GRANT = json.dumps({"grant": {"token": "t", "seconds": 3600, "fresh": True}})
REFUSAL = json.dumps({"refusal": "SignInNeeded", "sentence": "no", "seconds": 0.0})


def test_a_process_that_hangs_after_its_answer_is_not_waited_for(harness, standing_in, monkeypatch):
    monkeypatch.setattr(renewalprocess, "_END_SECONDS", 0.01)
    harness.signed_in()
    tokens = harness.tokens(renewing=standing_in(f"import time; print({GRANT!r}, flush=True); time.sleep(1000)"))
    assert tokens.access_token() == "t"


@pytest.mark.parametrize("answer", [GRANT, REFUSAL])
def test_a_process_may_tidy_up_after_its_answer(harness, standing_in, tmp_path, answer):
    """The single file does: without it a copy of certificates would be left by each renewal."""
    harness.signed_in()
    place = tmp_path / "left"
    place.touch()
    code = f"import os, time; print({answer!r}, flush=True); time.sleep(0.3); os.unlink({str(place)!r})"
    with contextlib.suppress(SignInNeeded):
        harness.tokens(renewing=standing_in(code)).access_token()
    assert not place.exists()


def test_a_process_that_cannot_be_started(harness, monkeypatch, tmp_path):
    harness.signed_in()
    monkeypatch.setattr(sys, "executable", str(tmp_path / "none"))
    with pytest.raises(Temporary, match=r"cannot be started: (No such file|.*not found|The system cannot find)"):
        apart(harness).access_token()
    monkeypatch.setattr(ownprocess, "is_possible", lambda: False)
    assert harness.tokens(renewing=renewalprocess.apart).access_token()


def test_no_thread_is_left_to_end_it(harness, monkeypatch):
    harness.signed_in()

    def refuse(thread):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Timer, "start", refuse)
    with pytest.raises(Temporary, match="no thread left"):
        apart(harness).access_token()


# The process itself


def process(text=""):
    one = subprocess.Popen(
        ownprocess.command(ownprocess.RENEWAL), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    one.stdin.write(text.encode() + b"\n")
    one.stdin.flush()
    return one


@pytest.mark.parametrize(
    "text, words",
    [
        ("", "cannot be renewed (JSONDecodeError)"),
        ("{}", "cannot be renewed (KeyError)"),
        (json.dumps({"version": "2.9.9"}), f"m365proxy was updated to {m365proxy.__version__} while it runs. Restart"),
    ],
)
def test_a_question_that_it_does_not_understand(text, words):
    one = process(text)
    answer = json.loads(one.stdout.readline())
    errors = one.communicate(timeout=60)[1]
    assert answer["refusal"] == "Temporary" and words in answer["sentence"] and errors == b""


def test_a_missing_library_is_named(harness, tmp_path, monkeypatch):
    harness.signed_in()
    (tmp_path / "cryptography.py").write_text("raise ImportError('S3cret', name='_cffi_backend')")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    with pytest.raises(Temporary, match=r"\(ImportError _cffi_backend\). `m365proxy check` may say why"):
        apart(harness).access_token()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signals")
def test_it_ends_with_its_parent_and_not_by_its_signals(harness, wait_until):
    harness.signed_in()
    hanging = harness.sandbox.faults.add("hang", path="/token")
    tokens = apart(harness)
    question = {
        "version": m365proxy.__version__,
        "registration": tokens._registration.settings(),
        "user": USER,
        "state_dir": harness.directory,
        "key": {},
        "force": True,
    }
    one = process(json.dumps(question))
    wait_until(lambda: hanging.hits == 1)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
        one.send_signal(number)
    with pytest.raises(subprocess.TimeoutExpired):
        one.wait(0.3)
    one.stdin.close()
    assert one.wait(60) == 0
    one.stdout.close()
    one.stderr.close()
    hanging.release()


def test_no_secret_is_in_arguments_and_environment(harness, monkeypatch):
    harness.sandbox.tenant.client_secrets.add("S3cret")
    started = []
    popen = subprocess.Popen
    monkeypatch.setattr(
        subprocess, "Popen", lambda *words, **more: started.append((words, more)) or popen(*words, **more)
    )
    monkeypatch.setenv("M365PROXY_KEY", "S3cret")
    outbound = Outbound(ca_file=harness.sandbox.ca_file, direct=True)
    outbound.settings = Settings("http://svc:S3cret@proxy.contoso.com", harness.sandbox.ca_file, "x", True)
    apart(harness, client_secret="S3cret", user=None, outbound=outbound).access_token()
    assert len(started) == 1 and "S3cret" not in repr(started)


def test_every_refusal_has_its_kind():
    for kind in renewalprocess._REFUSALS.values():
        assert (
            issubclass(kind, ProxyError) and type(renewalprocess._refusal(renewalprocess._refused(kind("x")))) is kind
        )


def test_nothing_heavy_is_loaded_by_a_renewal(harness):
    """msal and cryptography, with what they load, are in the other process only."""
    harness.signed_in()
    code = f"""
import json, sys
from m365proxy.entra import renewalprocess
from m365proxy.entra.registration import Registration
from m365proxy.entra.tokenfile import TokenFile
settings = json.loads({json.dumps(apart(harness)._registration.settings())!r})
renewer = renewalprocess.apart(Registration.of(settings), {USER!r}, TokenFile({harness.directory!r}))
print(type(renewer).__name__, len(renewer.renew(True, lambda holder: None).token) > 0)
print(sorted({{"msal", "jwt", "cryptography", "requests"}} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.split("\n")[:2] == ["RenewalProcess True", "[]"], done.stderr
