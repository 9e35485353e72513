//! The targets under libFuzzer: `FUZZ_TARGET=name fuzz [libFuzzer's options] [corpus …]`. Built and run by `scripts/fuzz.sh`.

#![no_main]

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;

static TARGET: OnceLock<fn(&[u8])> = OnceLock::new();

fuzz_target!(init: {
    let name = std::env::var("FUZZ_TARGET").expect("FUZZ_TARGET names the target");
    let target = corering_fuzz::by_name(&name).unwrap_or_else(|| panic!("there is no target {name}"));
    TARGET.set(target).expect("set once");
}, |data: &[u8]| {
    TARGET.get().expect("set at the start")(data);
});
