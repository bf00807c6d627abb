"""The source archive holds everything somebody needs who has only it."""

import pathlib
import shutil
import subprocess
import sys
import tarfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
TOPS = ("m365proxy", "docs", "etc", "debian", "tests", ".ci")
LOOSE = ("setup.py", "pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "mkdocs.yml", "m365proxy.py", "Makefile")
HIDDEN = (".editorconfig", ".pre-commit-config.yaml")


def test_everything_is_in_the_source_archive(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    for name in LOOSE + HIDDEN:
        shutil.copy(ROOT / name, source)
    for top in TOPS:
        shutil.copytree(ROOT / top, source / top, ignore=shutil.ignore_patterns("__pycache__", "man", ".*cache"))
    wanted = {path.relative_to(source).as_posix() for path in source.rglob("*") if path.is_file()}
    subprocess.run(
        [sys.executable, "setup.py", "-q", "sdist", "--dist-dir", str(tmp_path / "dist")],
        cwd=source,
        check=True,
        capture_output=True,
    )
    (archive,) = (tmp_path / "dist").iterdir()
    with tarfile.open(archive) as packed:
        names = {name.partition("/")[2] for name in packed.getnames()}
    assert not wanted - names
