"""The package's own source, parsed once for all tests that look into it."""

import ast
import functools
import gc
import importlib.machinery
import pathlib
from typing import List, NamedTuple

ROOT = pathlib.Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "m365proxy"


class Function(NamedTuple):
    name: str
    first: int  # its lines
    last: int


class Parsed(NamedTuple):
    """What tests want to know of a module.  The tree is not kept: it is large, and slows down every other test."""

    imports: List[ast.stmt]
    functions: List[Function]
    catching_all: List[int]  # the lines of what catches every exception


@functools.lru_cache(None)
def paths():
    return sorted(PACKAGE.rglob("*.py"))


@functools.lru_cache(None)
def text(path):
    return path.read_text("utf-8")


@functools.lru_cache(None)
def parsed(path):
    gc.disable()  # nothing of a tree is garbage before the end
    try:
        nodes = list(ast.walk(ast.parse(text(path))))
        return Parsed(
            [node for node in nodes if isinstance(node, (ast.Import, ast.ImportFrom))],
            [Function(node.name, node.lineno, node.end_lineno) for node in nodes if isinstance(node, ast.FunctionDef)],
            [node.lineno for node in nodes if _catches_all(node)],
        )
    finally:
        gc.enable()


def _catches_all(node):
    """Whether `except` or `suppress` takes every exception and does not raise it again."""
    if isinstance(node, ast.ExceptHandler):
        raises_again = isinstance(node.body[-1], ast.Raise) and node.body[-1].exc is None
        return not raises_again and (
            node.type is None or getattr(node.type, "id", "") in ("Exception", "BaseException")
        )
    suppresses = isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "suppress"
    return suppresses and any(getattr(kind, "id", "") in ("Exception", "BaseException") for kind in node.args)


def strings(path):
    """All texts in a module; of an f-string, those between what is filled in.  By its compiled code: that is quick."""
    return set(_strings(importlib.machinery.SourceFileLoader(path.stem, str(path)).get_code(path.stem)))


def _strings(constant):
    if isinstance(constant, str):
        yield constant
    elif isinstance(constant, (tuple, frozenset)):
        for one in constant:
            yield from _strings(one)
    elif hasattr(constant, "co_consts"):
        yield from _strings(constant.co_consts)
