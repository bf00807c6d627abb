"""Asking at a terminal until an answer fits, and taking answers from a file."""

import io
import json

import pytest
from cases import each
from init_harness import giving, typing

from m365proxy.admin.init.questions import Doubt, Question, read_answers
from m365proxy.errors import UsageError


def number(typed):
    if not typed.isdecimal():
        raise UsageError(f"{typed} is no number.")
    if typed == "13":
        raise Doubt("13 brings bad luck.", 13)
    return int(typed)


def question(default="7"):
    return Question("count", "How many?", number, default)


@each(
    "lines, answer, said",
    [
        ([""], 7, ["How many?", "[7]: "]),
        (["8"], 8, []),
        ([" 8 "], 8, []),
        (["x", "8"], 8, ["! x is no number."]),
        (["13", "8"], 8, ["! 13 brings bad luck. Type it again if it is right."]),
        (["13", "13"], 13, []),
        (["13", "x", "13"], 13, []),
        (["13", ""], 7, []),
    ],
)
def test_an_answer_is_asked_for_until_one_fits(lines, answer, said):
    questions, shown = typing(*lines)
    assert questions.ask(question()) == answer
    for one in said:
        assert one in shown.getvalue()


def test_without_a_default_something_must_be_typed():
    questions, shown = typing("", "4")
    assert questions.ask(question(None)) == 4
    assert "There is no default; type an answer." in shown.getvalue()


@pytest.mark.parametrize("lines", [[], ["x"]])
def test_the_end_of_the_input_is_no_answer(lines):
    questions, _ = typing(*lines)
    with pytest.raises(UsageError, match="nothing was written"):
        questions.ask(question())


@each("answers, answer", [({}, 7), ({"count": 8}, 8), ({"count": "8"}, 8), ({"count": 13}, 13), ({"#count": "x"}, 7)])
def test_answers_of_a_file(answers, answer):
    questions, shown = giving()
    questions = type(questions)(answers, ["count"], questions._terminal)
    assert questions.ask(question()) == answer
    questions.check_all_used()
    assert ("bad luck" in shown.getvalue()) == (answer == 13)


@each(
    "answers, sentence",
    [
        ({"count": "x"}, "The answer count: x is no number."),
        ({"count": [1, [2]]}, "The answer count must be text, a number, true or false, or a list or an object"),
        ({"coutn": 1}, 'The answers have "coutn", which is no key of theirs; did you mean count?'),
        ({"x\x1b": 1}, r'The answers have "x\\x1b", which is no key of theirs; the keys are count, other.'),
        ({"other": 1}, "The answer other has no effect together with the others; remove it."),
    ],
)
def test_mistakes_in_a_file_name_the_key(answers, sentence):
    _, shown = giving()
    with pytest.raises(UsageError) as caught:
        questions = type(giving()[0])(answers, ["count", "other"], giving()[0]._terminal)
        questions.ask(question())
        questions.check_all_used()
    assert str(caught.value).startswith(sentence)


def test_an_answer_without_default_must_be_there():
    questions, _ = giving()
    with pytest.raises(UsageError, match="The answer count is missing: How many?"):
        questions.ask(question(None))


@each(
    "value, typed",
    [
        (None, ""),
        (True, "yes"),
        (False, "no"),
        ([25, "465/tls"], "25 465/tls"),
        ([], "none"),
        ({}, "none"),
        ({"192.0.2.7": "scanner@contoso.com"}, "192.0.2.7=scanner@contoso.com"),
    ],
)
def test_values_of_a_file_are_read_as_if_they_were_typed(value, typed):
    questions, _ = giving(ids=value)
    assert questions.ask(Question("ids", "What?", str, "never")) == typed


def test_a_file_of_answers(tmp_path):
    path = tmp_path / "answers.json"
    path.write_text(json.dumps({"tenant": "contoso.com"}))
    assert read_answers(str(path)) == {"tenant": "contoso.com"}


def test_answers_on_standard_input(monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO('{"tenant": "contoso.com"}'))
    assert read_answers("-") == {"tenant": "contoso.com"}
    monkeypatch.setattr("sys.stdin", None)  # it was closed
    with pytest.raises(UsageError, match="cannot be read"):
        read_answers("-")


@pytest.mark.parametrize(
    "content, sentence",
    [
        (None, "There is no file"),
        (b"[]", "must hold one object"),
        (b'{"tenant": }', "is not valid JSON (line 1, column 12)"),
        (b'{"devices": "here", "devices": "any"}', 'has "devices" twice; keep one.'),
        (b"\xff\xfe\xfd", "is not valid JSON"),
        (b"[" * 100000, "is not valid JSON"),
    ],
)
def test_files_that_hold_no_answers(tmp_path, content, sentence):
    path = tmp_path / "answers.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UsageError) as caught:
        read_answers(str(path))
    assert sentence in str(caught.value) and "answers.json" in str(caught.value)


def test_a_directory_holds_no_answers(tmp_path):
    with pytest.raises(UsageError, match="cannot be read"):
        read_answers(str(tmp_path))
