"""One test for a whole table: a row that is cheap, and shows the same as the others, need not be a test.

What pytest does for a test takes a millisecond or two; many a row takes a hundredth of that.  A row that writes files,
starts something or takes time is better a test by itself: `pytest.mark.parametrize`.
"""

from __future__ import annotations

import functools
import inspect

import pytest


def each(names, rows, ids=None):
    """Like `pytest.mark.parametrize`, but within one test, which names all rows that fail.

    Fixtures are made once for all rows.
    """
    names = [name.strip() for name in names.split(",")]
    ids = ids if ids is None or callable(ids) else list(ids)
    cases = [_case(names, row, ids, number) for number, row in enumerate(rows)]
    assert cases, "without a row nothing is tested"

    def decorate(test):
        @functools.wraps(test)
        def test_all(**fixtures):
            wrong = _wrong(test, cases, fixtures)
            if wrong:
                # How the first one failed is shown at length, as of any test; of the others its first line.
                said = [f"{name}: {type(error).__name__}: {error}".partition("\n")[0] for name, error in wrong]
                raise AssertionError("\n  ".join([f"{len(wrong)} of {len(cases)} cases:", *said])) from wrong[0][1]

        parameters = inspect.signature(test).parameters
        assert set(names) <= set(parameters), f"{test.__name__} takes {[*parameters]}, and its rows have {names}"
        kept = [one for name, one in parameters.items() if name not in names]
        test_all.__signature__ = inspect.Signature(kept)
        return test_all

    return decorate


def _case(names, row, ids, number):
    """(what a row is called, its values by name)."""
    values = [row] if len(names) == 1 else list(row)
    assert len(values) == len(names), f"a row of {names} has {len(values)} values: {row!r}"
    if callable(ids):
        called = "-".join(map(str, map(ids, values)))
    else:
        called = str(ids[number]) if ids else ", ".join(map(repr, values))
    return called[:300], dict(zip(names, values))


def _wrong(test, cases, fixtures):
    """(name, error) of each case that fails."""
    wrong = []
    for name, values in cases:
        try:
            test(**values, **fixtures)
        except Exception as error:
            wrong.append((name, error))
        # Also what the time limit raises, which is there once only: no further case is tried.
        except (pytest.fail.Exception, pytest.skip.Exception) as error:
            wrong.append((name, error))
            break
    return wrong
