# What docs/CONTRIBUTING.md speaks of. The README's lines and those of .ci/ are the only ones; this calls them.
.PHONY: test fast lint demo deb

# The line of README.md that makes .venv and has this word.
readme = bash -euc "$$(grep -E '^python3 -m venv .*$(1)' README.md)"

test:
	$(call readme,pytest)

demo:
	$(call readme,demo)

fast: .venv/bin/ruff
	.venv/bin/python -m pytest -m "not slow" -n 2

lint: .venv/bin/mypy
	.ci/lint

# build/deb/m365proxy_VERSION_all.deb; Debian's build tools are named in .ci/packages.
deb:
	rm -rf build/deb
	tests/packaging/copy_source.sh build/deb/m365proxy
	.ci/deb build/deb/m365proxy

.venv/bin/ruff .venv/bin/mypy:
	python3 -m venv .venv
	.venv/bin/pip install -q '.[dev]'
