#!/usr/bin/env bash
# Runs everything that is tested, step by step, and stops at the first that fails. The last line counts the steps:
# "N passed, N failed". Usage: bash scripts/test.sh [the name of a step ...]
#
# CORERING_JOBS: how many programs cargo compiles at once.
set -uo pipefail
cd "$(dirname "$0")/.."
root=$PWD

# No step may take longer, so that a test that hangs is named rather than waited for.
STEP_SECONDS_MAX=2400

target=${CARGO_TARGET_DIR:-$root/target}
logs=$target/test-logs
mkdir -p "$logs"
jobs=()
[ -z "${CORERING_JOBS:-}" ] || jobs=("-j$CORERING_JOBS")
# Several engines at once lock memory for their rings.
ulimit -S -l "$(ulimit -H -l)" 2> /dev/null || true
# Settings of the daemon that happen to be in the environment must not reach the servers under test.
for name in $(compgen -e CORERING_); do
    case $name in CORERING_TEST_* | CORERING_BENCH_DIR) ;; *) unset "$name" ;; esac
done
# A whole run builds everything once: what cargo would keep for the next change costs more to write than it gives.
export CARGO_INCREMENTAL=${CARGO_INCREMENTAL:-0}

step_prepare() { bash scripts/prepare.sh; }
step_format() { cargo fmt --all --check; }
step_clippy() { cargo clippy "${jobs[@]}" --workspace --all-targets -- -D warnings; }
# Always of the whole workspace: another choice of packages has other features of the libraries, and cargo would build those, the
# engine and the daemon again.
step_rust() { cargo test "${jobs[@]}" --workspace --no-fail-fast; }
# The daemon and the library as the tests have them.
build_debug() { cargo build "${jobs[@]}" --workspace --all-targets; }
# Mistakes planted in the engine, each of which the simulation must find.
step_canaries() {
    cargo test "${jobs[@]}" --workspace --features corering-sim/canaries --test canaries --test planted --no-fail-fast
}
step_benches() { cargo test "${jobs[@]}" --workspace --bench micro; }
# Instructions of the steps of a put and a get, which no busy machine changes.
step_count() {
    cargo build "${jobs[@]}" --release -p corering-benches --bin count && "${CARGO_TARGET_DIR:-target}/release/count"
}
step_python() { build_debug && CORERING_TEST_SERVER=$target/debug/corering sh scripts/python-test.sh; }
step_install() { sh scripts/install-test.sh; }
step_readme() {
    build_debug && "${PYTHON:-python3}" scripts/readme-test.py
}
# C and C++ are compiled and run by the tests of the crate corering-ffi, in the step `rust`.
all_steps=(prepare format clippy rust canaries benches count python install readme)

steps=("$@")
summary=()
[ $# != 0 ] || steps=("${all_steps[@]}")
for step in "${steps[@]}"; do
    if ! declare -F "step_$step" > /dev/null; then
        echo "test: there is no step '$step'; there are: ${all_steps[*]}" >&2
        exit 2
    fi
done

export -f build_debug step_prepare step_format step_clippy step_rust step_canaries step_benches step_count step_python step_install step_readme
export root target

# In a process group of its own, so that what it started ends with it.
running=
trap '[ -z "$running" ] || kill -TERM "$running" 2> /dev/null; exit 130' INT TERM

run() {
    # Arrays are not exported; and a job in the background would hand down that it ignores the keyboard's signals.
    timeout --kill-after=10 "$STEP_SECONDS_MAX" env --default-signal=INT,QUIT bash -c 'set -uo pipefail; jobs=('"${jobs[*]}"'); "step_$1"' bash "$1" \
        > >(tee "$logs/$1.log") 2>&1 < /dev/null &
    running=$!
    wait "$running"
    local status=$?
    running=
    return "$status"
}

# How many tests the step's log tells of, by cargo and by pytest.
tests_in() {
    awk '/^test result: / { for (i = 2; i <= NF; i++) if ($i ~ /^passed/) n += $(i - 1) }
         /^=* ?[0-9].* passed.* in [0-9.]+s/ { for (i = 2; i <= NF; i++) if ($i ~ /^passed/) n += $(i - 1) }
         END { print n + 0 }' "$1"
}

passed=0 failed=0 tests=0
began=$SECONDS
for step in "${steps[@]}"; do
    echo "== $step"
    start=$SECONDS
    run "$step"
    status=$?
    seconds=$((SECONDS - start))
    # What tee still writes.
    sleep 0.1
    count=$(tests_in "$logs/$step.log")
    tests=$((tests + count))
    line=$(printf '%-8s %5d s' "$step" "$seconds")
    [ "$count" = 0 ] || line+="   $count tests"
    if [ "$status" = 0 ]; then
        passed=$((passed + 1))
        summary+=("$line")
        echo "== $step: passed in $seconds s"
    else
        failed=1
        why="exit status $status"
        [ "$status" != 124 ] || why="stopped after $STEP_SECONDS_MAX s"
        summary+=("$line   FAILED, $why; its output: $logs/$step.log")
        break
    fi
done

echo "== summary"
printf '%s\n' "${summary[@]}"
echo "all      $(printf '%5d' $((SECONDS - began))) s   $tests tests"
if [ "$failed" = 1 ]; then
    left=$((${#steps[@]} - passed - 1))
    [ "$left" = 0 ] || echo "$left steps were not run"
    echo "test: step '$step' failed ($why); again: bash scripts/test.sh $step"
fi
echo "$passed passed, $failed failed"
exit "$failed"
