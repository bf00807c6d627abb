"""Programs of others, which may be missing."""

import shutil
import subprocess

import pytest


def need(name, *more):
    """A program's path, or the test is skipped; `more`: a command that fails where a library is missing."""
    path = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")
    if path is None or (more and subprocess.run([path, *more], capture_output=True).returncode):
        pytest.skip(f"{' '.join([name, *more])} is not installed")
    return path
