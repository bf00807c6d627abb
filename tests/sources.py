"""The package's own source, read and parsed once for all tests that look into it."""

import ast
import functools
import pathlib

ROOT = pathlib.Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "m365proxy"


@functools.lru_cache(None)
def paths():
    return sorted(PACKAGE.rglob("*.py"))


@functools.lru_cache(None)
def text(path):
    return path.read_text("utf-8")


@functools.lru_cache(None)
def nodes(path):
    """All nodes of a module's tree, as ast.walk gives them."""
    return list(ast.walk(ast.parse(text(path))))


def functions(path):
    return [node for node in nodes(path) if isinstance(node, ast.FunctionDef)]
