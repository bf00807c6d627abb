"""The processes of a running program, on Linux."""

import pathlib


def tree_of(pid):
    """A process, and those that came from it."""
    found = [pid]
    for task in pathlib.Path(f"/proc/{pid}/task").glob("*/children"):
        for child in task.read_text().split():
            found += tree_of(int(child))
    return found


def receivers_of(pid):
    """The receivers of a program's main process."""
    return [receiver for forker in tree_of(pid)[1:2] for receiver in tree_of(forker)[1:]]
