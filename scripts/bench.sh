#!/usr/bin/env bash
# The comparison with peers and with the machine's limits: builds what is measured, makes the Python environment, measures, prints the
# table, and writes benches/results/*.json, a drawing of each, and docs/performance.md.
#
# Usage: bash scripts/bench.sh quick|full [--resume] [--rounds N] [the name of a workload or group ...]
#
# What cannot be measured (a library, a server or the network is missing) is said in the table, and the rest goes on.
# CORERING_BENCH_DIR: where databases lie meanwhile; on a real disk.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
size=${1:-quick}
shift || true

target=${CARGO_TARGET_DIR:-$root/target}
# Several engines at once lock memory for their rings.
ulimit -S -l "$(ulimit -H -l)" 2> /dev/null || true
# Settings of the daemon that happen to be in the environment must not reach the servers that are measured.
for name in $(compgen -e CORERING_); do
    case $name in CORERING_BENCH_*) ;; *) unset "$name" ;; esac
done

cargo build --release -p corering -p corering-ffi
cargo build --release -p corering-peers || {
    echo "bench: it needs RocksDB's and LMDB's libraries: apt-get install librocksdb-dev liblmdb-dev" >&2
    exit 1
}

# Our binding beside those of the peers. Made anew only when ours has changed.
environment=$target/bench-python
built=$environment/corering-$(git rev-parse HEAD:engine HEAD:ffi HEAD:bindings 2> /dev/null | sha1sum | cut -c1-12)
if [ ! -e "$built" ]; then
    echo "bench: making the Python environment"
    if "${PYTHON:-python3}" -m venv "$environment" &&
        timeout 900 "$environment/bin/pip" --disable-pip-version-check --quiet install lmdb rocksdict &&
        CARGO_TARGET_DIR=$target timeout 1800 "$environment/bin/pip" --disable-pip-version-check --quiet install --force-reinstall --no-deps "$root/bindings/python" &&
        timeout 900 "$environment/bin/pip" --disable-pip-version-check --quiet install cffi; then
        rm -f "$environment"/corering-*
        touch "$built"
    else
        echo "bench: no Python environment; its workloads are left out" >&2
    fi
fi
[ ! -e "$built" ] || export CORERING_BENCH_PYTHON=$environment/bin/python

exec "$target/release/peers" run --size "$size" "$@"
