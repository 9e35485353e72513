#!/usr/bin/env bash
# Makes a Debian machine ready for `make test`: installs by apt-get, as root or by `sudo -n`, what is missing; where it may
# not, says what to install and how, and fails. When all is there it changes nothing and takes a second.
# Usage: bash scripts/prepare.sh
set -euo pipefail
cd "$(dirname "$0")/.."

say() { echo "prepare: $*"; }

python=${PYTHON:-python3}

has_program() { command -v "$1" > /dev/null 2>&1; }
has_venv() { "$python" -c 'import venv, ensurepip' 2> /dev/null; }
has_python_header() {
    [ -f "$("$python" -c 'import sysconfig; print(sysconfig.get_path("include"))' 2> /dev/null)/Python.h" ]
}
has_sanitizers() {
    local out
    out=$(mktemp)
    echo 'int main(void) { return 0; }' | cc -x c -fsanitize=address,undefined - -o "$out" 2> /dev/null
    local status=$?
    rm -f "$out"
    return "$status"
}

has_rocksdb() { [ -e /usr/include/rocksdb/c.h ]; }
has_lmdb() { [ -e /usr/include/lmdb.h ]; }

# Where a plain user's PATH does not look.
has_mkfs() { PATH=$PATH:/usr/sbin:/sbin command -v mkfs.ext4 > /dev/null 2>&1; }

# A check, Debian's package, what it is for.
needs() {
    cat << 'NEEDS'
has_program cc           |gcc            |C programs of the tests
has_program c++          |g++            |C++ programs of the tests
has_sanitizers           |gcc            |the C programs under AddressSanitizer
has_program make         |make           |this
has_program cmake        |cmake          |the test of the installed CMake package
has_program pkg-config   |pkg-config     |the test of the installed pkg-config file
has_program valgrind     |valgrind       |the C programs under valgrind
has_program redis-cli    |redis-tools    |the README's commands
has_program redis-server |redis-server   |the comparison of replies with Redis
has_mkfs                 |e2fsprogs      |the tests on full and failing disks, where they may mount one
has_program "$python"    |python3        |the Python binding and its tests
has_venv                 |python3-venv   |the environment in which the Python wheel is tested
has_rocksdb              |librocksdb-dev |the comparison with peers
has_lmdb                 |liblmdb-dev    |the comparison with peers
has_python_header        |python3-dev    |the C side of the Python binding
NEEDS
}

# Sets `packages` and `reasons` to what is missing.
look() {
    packages=() reasons=()
    local check package reason
    while IFS='|' read -r check package reason; do
        package=${package// /}
        if ! eval "$check"; then
            packages+=("$package")
            reasons+=("$package, for $reason")
        fi
    done < <(needs)
}

# Debian starts a service as soon as it is installed, unless this program says that it must not.
POLICY=/usr/sbin/policy-rc.d

install_packages() {
    as_root=("$@")
    if [ ! -e "$POLICY" ]; then
        # Also when it is interrupted.
        trap '"${as_root[@]}" rm -f "$POLICY"' EXIT
        printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee "$POLICY" > /dev/null
        "${as_root[@]}" chmod 755 "$POLICY"
    fi
    local status=0
    {
        "${as_root[@]}" apt-get update -qq &&
            "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
                "${packages[@]}" > /dev/null
    } || status=$?
    if [[ " ${packages[*]} " == *" redis-server "* ]]; then
        # Nor where another policy allowed it, nor at the next start of the machine: only the program is wanted.
        if [ -d /run/systemd/system ]; then
            "${as_root[@]}" systemctl disable --now redis-server.service > /dev/null 2>&1 || true
        else
            "${as_root[@]}" service redis-server stop > /dev/null 2>&1 || true
        fi
    fi
    return "$status"
}

if ! has_program cargo; then
    say "cargo is missing: install Rust 1.90 or later with rustup, and put ~/.cargo/bin into PATH" >&2
    exit 1
fi
for component in fmt clippy; do
    if ! cargo "$component" --version > /dev/null 2>&1; then
        name=${component/fmt/rustfmt}
        if ! { has_program rustup && rustup component add "$name"; }; then
            say "cargo $component is missing: rustup component add $name" >&2
            exit 1
        fi
    fi
done

look
if [ ${#packages[@]} -gt 0 ]; then
    if has_program apt-get && [ "$(id -u)" = 0 ]; then
        say "installing ${packages[*]}"
        install_packages env || say "apt-get failed" >&2
    elif has_program apt-get && has_program sudo && sudo -n true 2> /dev/null; then
        say "installing ${packages[*]} with sudo"
        install_packages sudo -n || say "apt-get failed" >&2
    fi
    look
fi
if [ ${#packages[@]} -gt 0 ]; then
    {
        say "missing:"
        printf '    %s\n' "${reasons[@]}"
        say "install it as root: apt-get install ${packages[*]}"
        has_venv && has_python_header || say "(for another interpreter than Debian's, name it: PYTHON=/usr/bin/python3 make test)"
    } >&2
    exit 1
fi

# What no package mends is said before a hundred tests fail of it.
if [ "$(cat /proc/sys/kernel/io_uring_disabled 2> /dev/null || echo 0)" = 2 ]; then
    say "io_uring is switched off: sysctl kernel.io_uring_disabled=0 (in a container: on the host)" >&2
    exit 1
fi
locked=$(ulimit -H -l)
if [ "$locked" != unlimited ] && [ "$locked" -lt 8192 ] && [ "$(id -u)" != 0 ]; then
    say "only $locked KiB of memory may be locked, too little for the rings of several shards: raise 'memlock' in" \
        "/etc/security/limits.conf to 65536, or give the container --ulimit memlock=67108864" >&2
    exit 1
fi
say "all that the tests need is here"
