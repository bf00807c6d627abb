#!/usr/bin/env bash
# Builds etc/container/Containerfile on a base image made here, and runs it: container.sh WORK, with the source in
# WORK/source and a venv in WORK/venv, in a mount namespace of its own.  Ends with 77, and a reason, where no image or
# no container can be had.
set -euo pipefail
cd "$(dirname "$0")/../.."
# shellcheck source=tests/packaging/roots.sh
. tests/packaging/roots.sh
work=$1

# crun refuses cgroups of both versions at a time.
umount /sys/fs/cgroup/unified 2>/dev/null || true
mkdir -p "$work/container" "$work/tmp/container"
# Podman's own limits are more than an unprivileged machine may give.
printf '[containers]\ndefault_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]\n' >"$work/container/containers.conf"
export CONTAINERS_CONF=$work/container/containers.conf TMPDIR=$work/tmp/container
podman=(podman --root "$work/container/root" --runroot "$work/container/run" --storage-driver vfs
  --cgroup-manager cgroupfs)

make_root trixie bare || exit 77
tar -C "$ROOTS/trixie-bare" -c . | "${podman[@]}" import -q - localhost/base >"$work/container.log" 2>&1 ||
  { echo "skipped: podman takes no image here: $(tail -n 1 "$work/container.log")"; exit 77; }
"${podman[@]}" build --quiet --layers=false --isolation chroot --network host --format docker \
  --build-arg BASE=localhost/base --build-arg http_proxy="$(apt_proxy)" -t localhost/m365proxy \
  -f "$work/source/etc/container/Containerfile" "$work/source" >"$work/container.log" 2>&1 ||
  { tail -n 20 "$work/container.log"; exit 1; }
"${podman[@]}" run --rm --network host localhost/m365proxy --version 2>"$work/container.log" ||
  { echo "built, not run: podman starts no container here: $(tail -n 1 "$work/container.log")"; exit 77; }
cd "$work/source"
M365PROXY_CONTAINER="${podman[*]}" M365PROXY_IMAGE=localhost/m365proxy \
  "$work/venv/bin/python" -m pytest -rs -p no:cacheprovider --basetemp "$work/tmp/container/pytest" \
  tests/packaging/test_container.py
