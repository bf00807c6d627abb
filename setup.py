"""Packaging.  `pip install .` or, for the tests, `pip install .[test]`."""

import pathlib
import re

from setuptools import setup

HERE = pathlib.Path(__file__).resolve().parent
VERSION = re.search(r'__version__ = "(.+?)"', (HERE / "m365proxy" / "__init__.py").read_text("utf-8")).group(1)

setup(
    name="m365proxy",
    version=VERSION,
    description="SMTP and POP3 for old devices, relayed over Microsoft Graph",
    long_description=(HERE / "README.md").read_text("utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    packages=["m365proxy", "m365proxy.sandbox"],
    python_requires=">=3.9",
    install_requires=["msal>=1.21", "requests>=2.28", "cryptography>=38"],
    extras_require={"test": ["pytest>=7", "pytest-timeout", "hypothesis>=6", "ruff"]},
    entry_points={"console_scripts": ["m365proxy = m365proxy.cli:main"]},
)
