# shellcheck shell=bash
# Debian roots for the package tests, made once by debootstrap and kept outside the checkout.
#
#   . tests/packaging/roots.sh
#   make_root bookworm full          # a root in the cache; returns 1, with a reason, where none can be had
#   use_root bookworm full DIRECTORY # a throw-away copy

ROOTS=${XDG_CACHE_HOME:-$HOME/.cache}/m365proxy-roots

# "bare" has what the single file asks for and nothing else; "full" what the .deb depends on, and the tests' tools,
# "boot" what the .deb depends on and systemd itself.  "plain" has nothing, not even Python; what the .deb depends on
# is downloaded, so that apt can install it without a network.  "windows" has wine, and what .ci/windows makes its Python of.
packages_of() {
  case $1 in
    bare) echo python3 python3-cryptography ;;
    plain) echo ca-certificates python3 python3-cryptography python3-msal python3-requests ;;
    boot) echo python3-cryptography python3-msal python3-requests systemd systemd-sysv dbus ;;
    windows) echo gcc-mingw-w64-x86-64-win32 libpython3.13-stdlib libpython3.13-testsuite wine wine64 ;;
    full) echo python3 python3-cryptography python3-msal python3-requests ca-certificates \
            python3-pytest python3-pytest-timeout python3-pytest-xdist swaks libnet-ssleay-perl libauthen-sasl-perl \
            libauthen-ntlm-perl curl msmtp mpop fetchmail ;;
  esac
}

# The mirror this machine's apt is set to; a root is made from the same one.
mirror() {
  apt-get indextargets --format '$(ORIGIN) $(REPO_URI)' 'Created-By: Packages' |
    awk '$1 == "Debian" && $2 !~ /security/ { print $2; exit }'
}

# A proxy that apt is set to use, for debootstrap and for apt in the root.
apt_proxy() {
  local proxy
  proxy=$(apt-config dump --format '%v' Acquire::http::Proxy)
  echo "${proxy:-${http_proxy:-}}"
}

in_root() {
  local root=$1
  shift
  env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive HOME=/root \
    http_proxy="$(apt_proxy)" chroot "$root" "$@"
}

make_root() {
  local suite=$1 kind=$2 root=$ROOTS/$1-$2 source
  if ! unshare --mount true 2>/dev/null; then
    echo "skipped: no mount namespaces here, as in an unprivileged container"
    return 1
  fi
  [ "$(cat "$root/.packages" 2>/dev/null)" = "$(packages_of "$kind")" ] && return 0
  source=$(mirror)
  if [ -z "$source" ] || ! http_proxy="$(apt_proxy)" curl -fsS --max-time 30 -o /dev/null "${source%/}/dists/$suite/Release"; then
    echo "skipped: no Debian mirror answers for $suite"
    return 1
  fi
  rm -rf "$root" "$root.new"
  mkdir -p "$ROOTS"
  http_proxy="$(apt_proxy)" debootstrap --variant=minbase "$suite" "$root.new" "$source" >"$root.log" 2>&1 ||
    { tail -n 5 "$root.log"; exit 1; }
  # No service is started in a root, and no downloaded package is kept.
  printf '#!/bin/sh\nexit 101\n' >"$root.new/usr/sbin/policy-rc.d"
  chmod +x "$root.new/usr/sbin/policy-rc.d"
  # shellcheck disable=SC2046
  if [ "$kind" = plain ]; then
    in_root "$root.new" apt-get clean
    in_root "$root.new" apt-get install -qq -y --download-only $(packages_of "$kind") >>"$root.log" 2>&1
  else
    in_root "$root.new" apt-get install -qq -y --no-install-recommends $(packages_of "$kind") >>"$root.log" 2>&1 &&
      in_root "$root.new" apt-get clean
  fi || { tail -n 5 "$root.log"; exit 1; }
  packages_of "$kind" >"$root.new/.packages"
  mv "$root.new" "$root"
}

use_root() {
  cp -a --reflink=auto "$ROOTS/$1-$2" "$3"
  printf '127.0.0.1 localhost\n::1 localhost\n' >"$3/etc/hosts"
}
