#!/bin/sh
# Sets up everything that `make demo` and `make test` need; a second run does nothing and needs no
# network. Debian 12 or 13 or Ubuntu, Python 3.11 or newer.
set -eu
cd "$(dirname "$0")"

packages="debian-archive-keyring iproute2 mmdebstrap mount openssh-client util-linux zstd"
say() { printf '%s\n' "$*" >&2; }
refuse() { say "testbed: $*"; exit 2; }

[ "$(uname -s)" = Linux ] || refuse "the lab's hosts are Linux namespaces, and this is $(uname -s): \
run it on Debian 12 or 13 or Ubuntu, for example in a virtual machine"
if [ "${1:-}" = --root ] && [ "$(id -u)" != 0 ]; then
    refuse "making network namespaces, mounts and checkpoints needs root: run it with sudo"
fi

python=
for candidate in python3 python3.13 python3.12 python3.11; do
    if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        python=$candidate
        break
    fi
done
[ -n "$python" ] || refuse "Python 3.11 or newer is needed: apt-get install python3"

missing=
for package in $packages; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing="$missing $package"
done
"$python" -c 'import venv, ensurepip' 2>/dev/null || missing="$missing python3-venv"
if [ -n "$missing" ]; then
    if [ "$(id -u)" = 0 ]; then
        say "[1/2] system packages:$missing"
        export DEBIAN_FRONTEND=noninteractive
        apt-get -qq update >&2
        # shellcheck disable=SC2086 # a list of words
        apt-get -qq install --no-install-recommends --yes $missing >&2
    else
        say "[1/2] not root: going on without$missing (tests that need them are skipped)"
    fi
else
    say "[1/2] system packages: there"
fi

wanted=$(cat pyproject.toml constraints.txt | sha256sum | cut -c1-16)
if [ "$(cat .venv/testbed-setup 2>/dev/null || true)" = "$wanted" ]; then
    say "[2/2] Python environment: there"
    exit 0
fi
say "[2/2] Python environment in .venv (about a minute)"
[ -x .venv/bin/python ] || "$python" -m venv .venv
quiet=
[ -t 2 ] || quiet=--quiet
.venv/bin/python -m pip install $quiet --disable-pip-version-check -c constraints.txt -e '.[dev]' >&2
printf '%s' "$wanted" > .venv/testbed-setup
