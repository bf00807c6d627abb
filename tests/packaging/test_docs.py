"""The documentation says what the program does: commands run, configs load, error sentences are all explained."""

import ast
import functools
import json
import os
import pathlib
import re
import shlex
import subprocess
import sys

import firstmail
import pytest
from program import COMMAND, Program

from m365proxy import cli
from m365proxy.config import load
from m365proxy.delivery import outcome
from m365proxy.entra import http
from m365proxy.errors import UsageError
from m365proxy.graph import refusals
from m365proxy.logins import passwords

ROOT = pathlib.Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
README = ROOT / "README.md"
NOT_RUN = "# Not run by a test"
NIL = "00000000-0000-0000-0000-000000000000"
SHELLS = ("sh", "bash", "console")
# What pages write for what the program fills in
FILLED_IN = "MAILBOX|USER|APP|HOST|STATUS|CODE|FILE|DIRECTORY|KEY|PLACE|ADDRESS|REASON|PERMISSION|WHO"


def blocks(pages=None):
    """(page, line, language, text) of every fenced block."""
    for page in pages or sorted(DOCS.glob("*.md")):
        fence = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
        text = page.read_text("utf-8")
        for found in fence.finditer(text):
            indent = found.group(1)
            lines = [line[len(indent) :] for line in found.group(3).splitlines()]
            yield page.name, text.count("\n", 0, found.start()) + 1, found.group(2), "\n".join(lines)


def marked(*languages, pages=None):
    return pytest.mark.parametrize(
        "text",
        [
            pytest.param(text, id=f"{page}:{line}")
            for page, line, language, text in blocks(pages)
            if language in languages
        ],
    )


@pytest.fixture(scope="module")
def installation(tmp_path_factory):
    """A directory with m365proxy on PATH, and a config that is signed in to the stand-in tenant."""
    directory = tmp_path_factory.mktemp("docs")
    program = Program(directory, status_port=0).sign_in()
    (directory / "bin").mkdir()
    launcher = directory / "bin" / "m365proxy"
    launcher.write_text(f'#!/bin/sh\nexec {shlex.join(COMMAND)} "$@"\n')
    launcher.chmod(0o755)
    sudo = directory / "bin" / "sudo"
    sudo.write_text('#!/bin/sh\nexec "$@"\n')
    sudo.chmod(0o755)
    program.environ.update(PATH=f"{directory / 'bin'}:{os.environ['PATH']}", M365PROXY_CONFIG=str(program.config))
    program.start()  # the commands of the pages are for a running program
    yield program
    program.close()


@marked(*SHELLS)
def test_shell_blocks_run_or_say_that_they_do_not(text, installation):
    if text.startswith(NOT_RUN):
        pytest.skip(text.splitlines()[0].lstrip("# "))
    done = subprocess.run(
        ["sh", "-euc", text.replace(":8025/", f":{installation.port('status')}/")],
        env=installation.environ,
        cwd=installation.directory,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, (done.stdout, done.stderr)


@marked(*SHELLS, pages=[*sorted(DOCS.glob("*.md")), README])
def test_the_programs_own_commands_exist(text):
    """Also in blocks that are not run."""
    for line in text.replace("\\\n", " ").splitlines():
        found = re.search(r"(?:^|[|&;] *|sudo |bin/|python3 )m365proxy(?:\.py)? ([^|&;>#]+)", line)
        if found and not line.startswith("#") and "extract" not in line:
            parse(found.group(1))


def parse(words):
    """Whether the command line takes it; UsageError if not."""
    try:
        assert not cli.parser().parse_known_args(cli._corrected(shlex.split(words)))[1]
    except SystemExit as done:  # --version
        assert done.code == 0


@pytest.mark.parametrize("page", [README, *sorted(DOCS.glob("*.md"))], ids=lambda page: page.name)
def test_commands_named_in_the_text_exist(page):
    for words in re.findall(r"`(?:sudo )?m365proxy (?!ids: ?)([a-z-][^`]*)`", page.read_text("utf-8")):
        parse(words)


def test_commands_named_in_messages_exist():
    named = {words for text in own_texts() for words in re.findall(r"`(?:sudo )?m365proxy ([a-z][^`]*)`", text)}
    assert len(named) > 5
    for words in named:
        try:
            parse(words)
        except UsageError as error:
            # only the name of the command, or of its option
            assert re.search("arguments are required|expected one argument", str(error)), words


@marked("json")
def test_configs_load_and_serve_devices(text, tmp_path):
    document = filled_in(text)
    (tmp_path / "config.json").write_text(document)
    loaded = load.load(str(tmp_path / "config.json"), {})
    assert loaded.mailboxes
    assert not [warning for warning in loaded.warnings if "no device can log in" in warning]
    assert not [warning for warning in loaded.warnings if "is plain text" in warning]


@marked("json")
def test_configs_name_the_state_directory(text):
    """Else the service takes systemd's, and `sudo m365proxy login` root's own."""
    assert json.loads(text).get("state_dir")


@pytest.mark.parametrize("sample", ["etc/m365proxy.json", "debian/m365proxy.json"])
def test_samples_name_the_state_directory(sample):
    assert json.loads((ROOT / sample).read_text("utf-8"))["state_dir"] == "/var/lib/m365proxy"


def filled_in(text):
    """A sample with what an administrator puts in."""
    document = json.loads(text)
    for mailbox in document["mailboxes"]:
        for login in [mailbox, *mailbox.get("logins", [])]:
            if "password" in login:
                assert "hash-password" in login["password"], "a sample's password must be refused until it is replaced"
                login["password"] = passwords.hash_password("a password for the printer")
    return json.dumps(document).replace(NIL, "5f0c8d3a-7f3e-4a52-9a55-0d6a1c6f1b11")


def sentences():
    yield from (code.sentence for code in http._CODES.values())
    yield from http._BY_ERROR.values()
    for texts in (
        *refusals._TO_SEND.values(),
        refusals._UNKNOWN_TO_SEND,
        refusals._TOO_LARGE,
        refusals._NO_DRAFTS,
        refusals._MAY_NOT_READ,
        refusals._UNKNOWN_TO_READ,
    ):
        yield from texts
    yield from (outcome._NOT_GRAPH, outcome._TROUBLE, outcome._SWALLOWED)


def plain(text):
    """Without what is filled in, so that pages and code can be compared."""
    text = re.sub(r"\{\w+\}|\b(?:" + FILLED_IN + r")\b", "*", text)
    return re.sub(r"\s+", " ", text)


def text_of(node):
    """A text in the program, with * for what is filled in; empty if it is none."""
    if isinstance(node, ast.JoinedStr):
        return plain("".join(part.value if isinstance(part, ast.Constant) else "*" for part in node.values))
    return plain(node.value) if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def raised():
    """The first sentence of each error about the sign-in, its storage, ports and the state directory."""
    kinds = ("SignInNeeded", "TokenFileDamaged", "KeyUnusable", "InUse", "CannotCreate", "Temporary", "_damaged")
    for module in ("entra/devicecode", "entra/tokens", "entra/tokenfile", "server/listener"):
        for node in ast.walk(ast.parse((ROOT / "m365proxy" / f"{module}.py").read_text("utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", "")) in kinds:
                yield first_sentence(text_of(node.args[0]))


def first_sentence(text):
    return re.split(r"(?<=[.:]) |(?<=[.:])$", text)[0].rstrip(".:")


@pytest.mark.parametrize("sentence", sorted(set(raised()) - {"*"}))
def test_every_error_of_signing_in_and_ports_is_explained(sentence):
    assert f"| {sentence}" in plain((DOCS / "troubleshooting.md").read_text("utf-8"))


@pytest.mark.parametrize("sentence", sorted(set(sentences())))
def test_every_sentence_is_explained(sentence):
    assert plain(sentence) in plain((DOCS / "troubleshooting.md").read_text("utf-8"))


@functools.lru_cache(None)
def own_texts():
    """Every text in the program, with * for what is filled in."""
    trees = (ast.parse(path.read_text("utf-8")) for path in (ROOT / "m365proxy").rglob("*.py"))
    return {text_of(node) for tree in trees for node in ast.walk(tree)}


def test_no_sentence_is_explained_that_nobody_says():
    said = "\n".join(own_texts())
    page = (DOCS / "troubleshooting.md").read_text("utf-8")
    rows = re.findall(r"^\| ([A-Z][^|]*?) \|", page.split("## Exit status")[0], re.MULTILINE)
    assert len(rows) > 40
    known = {plain(sentence) for sentence in sentences()}
    for row in map(plain, rows):
        # a sentence with what fills its end, such as "Run `m365proxy login`.", stands in parts in the code
        first = re.split(r"(?<=[.:]) | \(", row)[0]
        assert row in known or first in said or first.rstrip(".") in said, row


def quoted():
    """The messages that Known issues quotes, and the log lines of the page on SMTP."""
    page = (DOCS / "knownissues.md").read_text("utf-8")
    for cell in re.findall(r"^\| ([^|]+) \|", page, re.MULTILINE):
        yield from re.findall(r"(?<!`)`((?:[^`]|(?<= )`[^`]*`)+[^` ])`(?!`)", cell)
    for page, _, language, text in blocks():
        if language == "text" and page == "smtp.md":
            yield from text.splitlines()


# What a quoted message is filled in with: by the program, or by the system.
FILLED = re.compile(
    r'"[^"]*"|\.\.\.|\b(?:ID|N|MAIL)\b|\S+@\S+|\S*\d\S*|\([A-Z_]+\)|\([a-z]+: [^)]*\)|\bUser-Agent\b|\bplain text\b'
)
SYSTEMS_OWN = ("No space left on device", "Input/output error", "Read-only file system")


@pytest.mark.parametrize("message", sorted(set(quoted())))
def test_quoted_messages_are_the_programs(message):
    """What stands between the parts that are filled in stands in the program; a reason elsewhere."""
    for clause in re.split(r"(?<=[\w\")]): (?![^()]*\))|; |, because ", plain(message)):
        parts = [re.escape(part.strip(" ,")) for part in FILLED.split(clause) if len(part.strip(" :,=")) > 2]
        pattern = re.compile(".*".join(parts))
        assert clause in SYSTEMS_OWN or any(map(pattern.search, own_texts())), clause


def screens():
    """What the README and the page on the first mail say that a terminal shows."""
    for page, line, language, text in blocks([README, DOCS / "first-mail.md"]):
        if language in ("", "text") and not re.match(r" +your network|root@gateway:~# apt", text):
            yield pytest.param(text, id=f"{page}:{line}")


def clauses(screen):
    """The words between what is filled in, where they are at least three; a line may go on in the next."""
    paragraphs, before = [], ""
    for line in firstmail.normalised(screen).splitlines():
        line = re.sub(r"(?<=\S)  +", " | ", line)
        goes_on = line and paragraphs and indent(line) >= indent(before) and not STARTS.match(line)
        after_mark = MARKED.match(paragraphs[-1]) and indent(line) == 0 if paragraphs else False
        if not goes_on or after_mark or before.isupper():
            paragraphs.append("")
        paragraphs[-1] = f"{paragraphs[-1]} {line.strip()}".strip()
        before = line
    for paragraph in paragraphs:
        for clause in SHOWN.split(paragraph) if "root@gateway" not in paragraph else ():
            if len(clause.split()) >= 3:
                yield clause.strip(" -✓!=")


def indent(line):
    return len(line) - len(line.lstrip())


MARKED = re.compile(r"[-✓!]")
STARTS = re.compile(r" *(?:[-✓!:[]|\d\.|N s|root@)|.* \| ")

# What a screen is filled in with, and what parts clauses.
SHOWN = re.compile(
    r"`[^`]*`|\[[^\]]*\]|\"[^\"]*\"|\bN(?: s)?\b|\bSMTP\b|\b[A-Z-]{4,}\b|\S*[\d@/]\S*|\S+\.\S+|[:;,.?()|]|={4,}"
)


@pytest.mark.parametrize("screen", list(screens()))
def test_screens_show_the_programs_words(screen):
    """Every time and in short; .ci/packages goes the whole way and compares all of it."""
    said = re.sub(r"\s+", " ", "\n".join(own_texts()))
    found = list(clauses(screen))
    assert len(found) > 5
    assert [clause for clause in found if clause not in said] == []


def test_the_manual_pages_name_every_option_and_command(tmp_path):
    done = subprocess.run(
        [sys.executable, str(ROOT / "debian" / "manpages.py"), str(tmp_path)],
        cwd=ROOT,
        env=dict(os.environ, PYTHONPATH=str(ROOT)),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    from m365proxy.config import options

    page = (tmp_path / "m365proxy.json.5").read_text("utf-8")
    for option in options.OPTIONS:
        assert f"\n.B {option.path}\n" in page
    command = (tmp_path / "m365proxy.1").read_text("utf-8").replace("\\-", "-")
    for name in cli.COMMANDS:
        assert re.search(rf"^\.B {name}\b", command, re.MULTILINE), name


def test_all_pages_are_in_the_navigation():
    navigation = (ROOT / "mkdocs.yml").read_text("utf-8")
    for page in DOCS.glob("*.md"):
        assert f": {page.name}\n" in navigation, page.name
