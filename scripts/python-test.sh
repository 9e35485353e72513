#!/bin/sh
# Builds the Python wheel, installs it into an empty virtual environment without looking at any index, and runs its tests
# and mypy --strict there; then those of redis-py against the daemon. Usage: sh scripts/python-test.sh [arguments of pytest]
#
# PYTHON names the interpreter. What is downloaded (maturin, cffi, pytest, mypy) comes through pip's own configuration.
set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
python=${PYTHON:-python3}
work=${CORERING_PYTHON_WORK:-$root/target/python-test}
binding=$root/bindings/python

"$python" -c 'import venv, ensurepip' 2> /dev/null || {
    echo "python-test: $python has no venv; on Debian: apt-get install python3-venv" >&2
    exit 1
}
include=$("$python" -c 'import sysconfig; print(sysconfig.get_path("include"))')
[ -f "$include/Python.h" ] || {
    echo "python-test: $include/Python.h is missing; on Debian: apt-get install python3-dev" >&2
    exit 1
}

# Tools first, kept between runs; the environment under test is new each time.
if [ ! -x "$work/tools/bin/pip" ]; then
    "$python" -m venv "$work/tools"
fi
rm -rf "$work/dist" "$work/clean"
mkdir -p "$work/dist"
PYO3_PYTHON=$work/tools/bin/python
export PYO3_PYTHON
CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$root/target}
export CARGO_TARGET_DIR
# The wheel and the wheels of what it needs.
"$work/tools/bin/pip" --disable-pip-version-check --quiet wheel --wheel-dir "$work/dist" "$binding"
"$work/tools/bin/pip" --disable-pip-version-check --quiet wheel --wheel-dir "$work/test-dist" \
    'pytest>=8,<9' 'mypy>=1.11,<2' 'redis>=5,<7'

"$python" -m venv "$work/clean"
install="$work/clean/bin/pip --disable-pip-version-check --quiet install --no-index"
$install --find-links "$work/dist" corering
"$work/clean/bin/python" -c 'import corering; print("corering", corering.__version__, "is installed from its wheel alone")'
$install --find-links "$work/test-dist" --find-links "$work/dist" pytest mypy redis

# Not in the sources' directory, where `import corering` would find the package without its library.
rm -rf "$work/run"
mkdir -p "$work/run/bindings/python"
cp -r "$binding/tests" "$binding/README.md" "$binding/pyproject.toml" "$work/run/bindings/python/"
[ ! -f "$root/README.md" ] || cp "$root/README.md" "$work/run/"
cd "$work/run/bindings/python"
"$work/clean/bin/python" -m pytest -q "$@"
"$work/clean/bin/python" -m mypy --strict -p corering -p tests

# Clients of Redis as they are, against the daemon, which the caller may have built.
if [ -z "${CORERING_TEST_SERVER:-}" ]; then
    cargo build --manifest-path "$root/Cargo.toml" -p corering
    CORERING_TEST_SERVER=$CARGO_TARGET_DIR/debug/corering
    export CORERING_TEST_SERVER
fi
cd "$root/daemon/tests/redis_py"
PYTHONDONTWRITEBYTECODE=1 "$work/clean/bin/python" -m pytest -q -p no:cacheprovider -W error
