#!/usr/bin/env bash
# Runs the engine's shared memory under a checker that `make test` has no time for.
# Usage: bash scripts/sanitize.sh miri|thread|address
#
#   miri     the index and the arena under Miri: every race and every access outside of what was handed out.
#            Wants: rustup +nightly component add miri rust-src
#   thread   the same, and a whole engine with several threads, under ThreadSanitizer, with the standard library built for it.
#            Wants: rustup component add rust-src
#   address  the engine's tests under AddressSanitizer. Wants nothing more.
#
# For miri and thread, each of the changes below is then made to a copy of the sources, and must be found.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
host=$(rustc -vV | sed -n 's/^host: //p')
target=${CARGO_TARGET_DIR:-$root/target}
readers=readers_never_miss_what_was_written_before_they_began
birth=whoever_finds_a_new_version_finds_all_of_it

# File | the line's part | what it becomes | the test that must notice.
planted() {
    cat << END
engine/src/table/hash_index.rs|store(tagged, Ordering::Release)|store(tagged, Ordering::Relaxed)|$birth
engine/src/table/hash_index.rs|store(std::ptr::from_ref(slots).cast_mut(), Ordering::Release)|store(std::ptr::from_ref(slots).cast_mut(), Ordering::Relaxed)|$birth
engine/src/table/node.rs|.newest.store(ptr.as_ptr(), Ordering::Release)|.newest.store(ptr.as_ptr(), Ordering::Relaxed)|$birth
END
}

under_miri() {
    # Pointers carry tags in their upper bits; threads need no luck to race, so few rounds do, with many switches.
    MIRIFLAGS="-Zmiri-permissive-provenance -Zmiri-disable-isolation -Zmiri-ignore-leaks -Zmiri-preemption-rate=0.1" CARGO_TARGET_DIR=$target/miri \
        cargo +nightly miri test -p corering-engine --lib -- "$@"
}

under_thread() {
    # shellcheck disable=SC2086
    RUSTC_BOOTSTRAP=1 RUSTFLAGS="-Zsanitizer=thread" TSAN_OPTIONS="halt_on_error=1" CARGO_TARGET_DIR=$target/thread \
        cargo test -Zbuild-std --target "$host" -p corering-engine "$@"
}

under_address() {
    RUSTC_BOOTSTRAP=1 RUSTFLAGS="-Zsanitizer=address" ASAN_OPTIONS="detect_leaks=1" CARGO_TARGET_DIR=$target/address \
        cargo test --target "$host" -p corering-engine "$@"
}

# Make each planted change in a copy, and expect `$1 test` to fail there; `$2` is where the engine was built for it.
find_planted() {
    local copy file from to test
    # What was built of libraries serves again; the engine's is left out, since cargo takes two copies of it for one.
    copy=$target/planted
    rm -rf "$copy"
    mkdir -p "$copy/built"
    cp -al "$target/$2" "$copy/built/"
    target=$copy/built
    git ls-files -z | xargs -0 cp --parents -t "$copy"
    while IFS='|' read -r file from to test; do
        find "$target" \( -name 'corering[-_]engine-*' -o -name 'libcorering_engine-*' \) -prune -exec rm -rf {} +
        FROM=$from TO=$to perl -pi -e 's/\Q$ENV{FROM}\E/$ENV{TO}/' "$copy/$file"
        if cmp -s "$file" "$copy/$file"; then
            echo "sanitize: $file has no '$from' any more; mend the list" >&2
            exit 1
        fi
        if (cd "$copy" && "$1" "$test" > "$copy/log" 2>&1); then
            tail -n 5 "$copy/log"
            echo "sanitize: NOT FOUND: '$to' in $file" >&2
            exit 1
        fi
        grep -qE 'Undefined Behavior|ThreadSanitizer: data race' "$copy/log" || { cat "$copy/log"; exit 1; }
        echo "sanitize: found: '$to' in $file"
        cp "$file" "$copy/$file"
    done < <(planted)
    rm -rf "$copy"
}

thread_test() { under_thread --lib -- "$1"; }

case ${1:-} in
    miri)
        under_miri "$readers" "$birth"
        find_planted under_miri miri
        ;;
    thread)
        under_thread --lib -- "$readers" "$birth"
        under_thread --test real -- basics::
        find_planted thread_test thread
        ;;
    address)
        under_address --lib -- format table pending wal ring check
        under_address --test real -- basics::
        ;;
    *)
        sed -n '2,/^set/p' "$0" | sed '$d; s/^# \{0,1\}//'
        exit 2
        ;;
esac
