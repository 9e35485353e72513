#!/usr/bin/env bash
# Fuzzes the decoders guided by coverage (libFuzzer, AddressSanitizer), several targets at once, and prints a summary. First
# each target's planted mistake must be found. Usage: bash scripts/fuzz.sh [target ...]
#      bash scripts/fuzz.sh --again TARGET FILE     runs one input
#      bash scripts/fuzz.sh --minimise              takes found inputs that reach more into fuzz/corpus, as few as do
# The corpus of a target is fuzz/corpus/TARGET.hex, an input in each line.
#
# SECONDS_EACH: how long each target runs (60). JOBS: how many at once (one for each core).
# The stable compiler does it: RUSTC_BOOTSTRAP=1 admits -Zsanitizer, whose runtime the toolchain has.
set -uo pipefail
cd "$(dirname "$0")/.."

seconds=${SECONDS_EACH:-60}
jobs=${JOBS:-$(nproc)}
host=$(rustc -vV | sed -n 's/^host: //p')
# Its own directory: the flags would have everything else built again.
target_dir=${CARGO_TARGET_DIR:-target}/fuzz
found=$target_dir/found
corpus=$target_dir/corpus
program=$target_dir/$host/release/fuzz

build() {
    # Debug assertions and overflow checks as in a debug build.
    RUSTC_BOOTSTRAP=1 \
        RUSTFLAGS="-Zsanitizer=address -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares -Cdebug-assertions=yes -Coverflow-checks=yes -Ccodegen-units=16" \
        CARGO_PROFILE_RELEASE_LTO=off \
        cargo build --release --target "$host" --target-dir "$target_dir" -p corering-fuzz --features libfuzzer --bin fuzz
}

# Runs a target until it fails or its time is over. Prints: target, runs, edges reached, inputs, outcome.
run() {
    local target=$1 seconds=$2 status=0
    local name=${target#planted_}
    local log=$found/$target.log
    mkdir -p "$found/$target" "$found/crashes"
    FUZZ_TARGET=$target "$program" -max_total_time="$seconds" -max_len=4096 -timeout=20 -rss_limit_mb=2048 \
        -artifact_prefix="$found/crashes/$target-" -print_final_stats=1 \
        "$found/$target" "$corpus/$name" > "$log" 2>&1 || status=$?
    local runs cover inputs
    runs=$(awk '/^stat::number_of_executed_units/ { n = $2 } /^#[0-9]+/ { m = substr($1, 2) } END { print n ? n : m + 0 }' "$log")
    cover=$(grep -o 'cov: [0-9]*' "$log" | tail -1 | cut -d' ' -f2)
    inputs=$(grep -o 'corp: [0-9]*' "$log" | tail -1 | cut -d' ' -f2)
    local outcome=passed
    if [[ $target = planted_* ]]; then
        outcome="NOT FOUND in $seconds s"
        [ "$status" = 0 ] || outcome=found
    elif [ "$status" != 0 ]; then
        outcome="FAILED: $(sed -n 's/^Test unit written to //p; s/.*artifact_prefix.*Test unit written to //p' "$log" | tail -1), $log"
    fi
    printf '%-22s %10s runs %6s edges %5s inputs   %s\n' "$target" "$runs" "${cover:-0}" "${inputs:-0}" "$outcome"
}

all_targets() {
    for file in fuzz/corpus/*.hex; do basename "$file" .hex; done
}

# The committed corpus as the files that libFuzzer wants.
unpack() {
    rm -rf "$corpus"
    "${PYTHON:-python3}" - "$corpus" fuzz/corpus/*.hex << 'END'
import pathlib, sys
for path in map(pathlib.Path, sys.argv[2:]):
    place = pathlib.Path(sys.argv[1], path.stem)
    place.mkdir(parents=True)
    for number, line in enumerate(path.read_text().split()):
        (place / f"{number:04}").write_bytes(bytes.fromhex(line))
END
}

pack() {
    "${PYTHON:-python3}" - "$1" "$2" << 'END'
import pathlib, sys
inputs = sorted((path.read_bytes() for path in pathlib.Path(sys.argv[1]).iterdir()), key=lambda bytes: (len(bytes), bytes))
pathlib.Path(sys.argv[2]).write_text("".join(f"{bytes.hex()}\n" for bytes in inputs if bytes))
END
}

minimise() {
    local target
    for target in $(all_targets); do
        local merged
        merged=$(mktemp -d)
        mkdir -p "$found/$target"
        # Small inputs are taken first, so the corpus stays small.
        FUZZ_TARGET=$target "$program" -merge=1 -max_len="${LEN_MAX:-256}" "$merged" "$corpus/$target" "$found/$target" \
            > "$found/$target.merge.log" 2>&1 || { echo "fuzz: $target: see $found/$target.merge.log" >&2; exit 1; }
        pack "$merged" "fuzz/corpus/$target.hex"
        rm -r "$merged"
        printf '%-14s %4d inputs %7d bytes\n' "$target" $(wc -lc < "fuzz/corpus/$target.hex")
    done
}

build || exit 1
mkdir -p "$found"
unpack || exit 1
case ${1:-} in
    --again)
        FUZZ_TARGET=$2 exec "$program" "$3"
        ;;
    --minimise)
        minimise
        exit
        ;;
esac
[ $# != 0 ] || set -- $(all_targets)

export -f run
export program found corpus
summary=$found/summary
printf 'planted_%s\n' "$@" | xargs -P "$jobs" -I{} bash -c "run {} $seconds" > "$summary"
printf '%s\n' "$@" | xargs -P "$jobs" -I{} bash -c "run {} $seconds" >> "$summary"
sort "$summary"
failed=$(grep -c -e 'FAILED' -e 'NOT FOUND' "$summary")
echo "$(grep -c ' passed$' "$summary") targets passed, $(grep -c ' found$' "$summary") planted mistakes found, $failed failed"
[ "$failed" = 0 ]
