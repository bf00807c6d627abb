"""Packaging.  `pip install .` or, for the tests, `pip install .[test]`.

`python3 setup.py single_file` makes dist/m365proxy.py: one file to copy, which
needs nothing but Python and its cryptography package.
"""

import pathlib
import re
import subprocess
import sys
import tempfile
import zipfile

from setuptools import Command, find_packages, setup
from setuptools.command.sdist import sdist

HERE = pathlib.Path(__file__).resolve().parent
VERSION = re.search(r'__version__ = "(.+?)"', (HERE / "m365proxy" / "__init__.py").read_text("utf-8")).group(1)

# What travels in the single file: pure Python, the newest that run on Python 3.9, and no other bytes than these.
VENDORED = """
certifi==2026.10.18 --hash=sha256:73191c47aaa79da394e8fee2dbc2ec827432cab56311122c9e47abf79e390f62
charset-normalizer==3.5.2 --hash=sha256:b6b751274acb69d77b3323d6b7dbaa3c7fdfc1eb829b7eb61d262f32e1af9685
idna==3.20 --hash=sha256:ab7ae7122974553370f0bdb919e1a960b2cd1bc1ef0276416d896db81c14582c
msal==1.39.0 --hash=sha256:2d2577886906cd7293850dffa2da29119966c213bfc6ec0cecf8bf7621e1ca77
PyJWT==2.15.1 --hash=sha256:42d59d631f7768a1028a64c7ff581a9bf7519804daf91fc5b6c56e30eec5e193
requests==2.32.5 --hash=sha256:2462f94637a34fd532264295e186976db0f5d453d1cdd31473c85a6a161affb6
typing_extensions==4.16.0 --hash=sha256:481caa481374e813c1b176ada14e97f1f67a4539ce9cfeb3f350d78d6370c2e8
urllib3==2.6.3 --hash=sha256:bf272323e553dfb2e87d9bfd225ca7b0f467b919d7bbd355436d3fd37cb0acd4
"""

SINGLE_FILE_MAIN = '''\
"""The single file's beginning: what it needs of the machine, then the program."""

import sys

try:
    import cryptography.fernet  # noqa: F401
except ImportError as error:
    print(
        f"m365proxy: Python's cryptography package is missing or broken ({error}): install python3-cryptography "
        "(Debian, OpenWrt) or py3-cryptography (Alpine).",
        file=sys.stderr,
    )
    sys.exit(69)

import atexit
import contextlib
import os
import tempfile

import certifi

from m365proxy.cli import main
from m365proxy.system.outbound import system_store


def remove(path):
    with contextlib.suppress(OSError):
        os.unlink(path)


def unpacked():
    """certifi's certificates as a file, which all may read: root may go on as somebody else."""
    handle, path = tempfile.mkstemp(".pem", "m365proxy-")
    atexit.register(remove, path)
    with open(handle, "w") as file:
        file.write(certifi.contents())
    os.chmod(path, 0o644)
    return path


# requests asks for this once, when it is imported.  No copy where the system has certificates: it would take memory
# on a router, and stay there after a kill.
certifi.where = lambda: system_store() or unpacked()

sys.exit(main())
'''

TEST = [
    *("setuptools", "pytest>=7", "pytest-timeout", "pytest-xdist", "pytest-cov", "hypothesis>=6", "pyyaml"),
    "ruff>=0.17,<0.18",
]


class SingleFile(Command):
    """dist/m365proxy.py: the package and its pure-Python dependencies in an executable zip."""

    description = "make dist/m365proxy.py, which needs only Python and cryptography"
    user_options = []

    def initialize_options(self):
        pass

    def finalize_options(self):
        pass

    def run(self):
        content = {"__main__.py": SINGLE_FILE_MAIN.encode(), "LICENSE": (HERE / "LICENSE").read_bytes()}
        for path in sorted((HERE / "m365proxy").rglob("*.py")):
            content[path.relative_to(HERE).as_posix()] = path.read_bytes()
        with tempfile.TemporaryDirectory() as directory:
            content.update(self._vendored(pathlib.Path(directory)))
        target = HERE / "dist" / "m365proxy.py"
        target.parent.mkdir(exist_ok=True)
        with open(target, "wb") as file:
            file.write(b"#!/usr/bin/env python3\n")
            self._write_zip(file, content)
        target.chmod(0o755)
        print(f"{target.relative_to(HERE)}: {target.stat().st_size} bytes")

    @staticmethod
    def _vendored(directory):
        """The dependencies' modules and licences by their path, from the wheels pip fetches."""
        requirements = directory / "requirements.txt"
        requirements.write_text(VENDORED, "utf-8")
        wheels = directory / "wheels"
        subprocess.run(
            [
                sys.executable,
                "-m",
                "pip",
                "download",
                "--quiet",
                "--disable-pip-version-check",
                "--no-deps",
                "--require-hashes",
                "--requirement",
                str(requirements),
                "--dest",
                str(wheels),
                "--only-binary",
                ":all:",
                "--platform",
                "any",
                "--implementation",
                "py",
                "--abi",
                "none",
                "--python-version",
                "3.9",
            ],
            check=True,
        )
        content = {}
        for wheel in sorted(wheels.glob("*.whl")):
            with zipfile.ZipFile(wheel) as archive:
                for name in archive.namelist():
                    if not name.endswith(("/", "/RECORD", "/WHEEL", "/INSTALLER", "/entry_points.txt", "/py.typed")):
                        content[name] = archive.read(name)
        return content

    @staticmethod
    def _write_zip(file, content):
        """The same bytes for the same content: sorted names, one date, no trace of this machine."""
        with zipfile.ZipFile(file, "a", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
            for name, data in sorted(content.items()):
                entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
                entry.compress_type = zipfile.ZIP_DEFLATED
                entry.create_system = 3
                entry.external_attr = 0o644 << 16
                archive.writestr(entry, data)


class WholeSdist(sdist):
    """The source archive holds everything somebody needs who has only it."""

    def make_release_tree(self, base_dir, files):
        names = ["CHANGELOG.md", "m365proxy.py", "mkdocs.yml", "Makefile", ".editorconfig", ".pre-commit-config.yaml"]
        for top in ("etc", "docs", "debian", "tests", ".ci"):
            names += [
                path.relative_to(HERE).as_posix()
                for path in sorted((HERE / top).rglob("*"))
                if path.is_file() and "__pycache__" not in path.parts
            ]
        super().make_release_tree(base_dir, [*files, *names])


setup(
    name="m365proxy",
    version=VERSION,
    description="SMTP and POP3 for old devices, relayed over Microsoft Graph",
    long_description=(HERE / "README.md").read_text("utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    url="https://m365proxy.contoso.com/",
    packages=find_packages(include=["m365proxy", "m365proxy.*"]),
    python_requires=">=3.9",
    install_requires=["msal>=1.21", "requests>=2.28", "cryptography>=38"],
    extras_require={
        "test": TEST,
        "dev": [*TEST, "mypy>=2,<3", "types-requests", "pre-commit"],
        "docs": ["mkdocs>=1.5,<2"],
    },
    entry_points={"console_scripts": ["m365proxy = m365proxy.cli:main"]},
    cmdclass={"single_file": SingleFile, "sdist": WholeSdist},
)
