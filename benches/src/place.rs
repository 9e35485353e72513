//! Where the databases of the benchmarks lie.
//!
//! Guards: never in memory by accident. The temporary directory of many machines is a tmpfs, where a durable write costs
//! nothing; the build's own directory lies on a disk.

use std::path::PathBuf;

/// Names the directory to use instead of the build's.
pub const DIR_VARIABLE: &str = "CORERING_BENCH_DIR";

/// A new directory, removed when it is dropped.
pub fn new_dir(what: &str) -> tempfile::TempDir {
    let parent = std::env::var_os(DIR_VARIABLE).map_or_else(build_dir, PathBuf::from);
    std::fs::create_dir_all(&parent).unwrap_or_else(|e| panic!("cannot make {}: {e}", parent.display()));
    tempfile::Builder::new()
        .prefix(&format!("corering-bench-{what}-"))
        .tempdir_in(&parent)
        .unwrap_or_else(|e| panic!("cannot make a directory in {}: {e}", parent.display()))
}

/// `target/`, whatever it is called: the program lies in `target/PROFILE/deps`.
fn build_dir() -> PathBuf {
    let program = std::env::current_exe().expect("a running program has a path");
    let target = program.ancestors().nth(3).expect("cargo builds into target/PROFILE/deps");
    target.join("bench-data")
}
