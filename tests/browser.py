"""Debian's browser without a window."""

import os
import pathlib
import shutil
import subprocess

import pytest

NAME = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

needed = pytest.mark.skipif(not NAME, reason="chromium is not installed")


class Browser:
    """Visits pages; `directory` is where it keeps its profile."""

    def __init__(self, directory):
        self._profile = str(pathlib.Path(directory) / "profile")

    def elements(self, address, *options):
        """(the page's elements as HTML once it has been shown, what the browser's console said)."""
        done = self._visit(address, "--dump-dom", *options)
        return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]

    def picture(self, address, path, width, height, *options):
        """Writes a PNG."""
        self._visit(address, f"--screenshot={path}", f"--window-size={width},{height}", *options)

    def _visit(self, address, *options):
        always = ("--headless=new", "--disable-gpu", "--hide-scrollbars", "--enable-logging=stderr")
        if os.geteuid() == 0:
            always += ("--no-sandbox",)  # it refuses to run as root otherwise
        command = [NAME, *always, f"--user-data-dir={self._profile}", *options, str(address)]
        return subprocess.run(command, capture_output=True, text=True, timeout=100, check=True)
