//! What the benchmarks share: where their databases lie, and what is in them.

#![deny(unsafe_code)]

pub mod data;
pub mod place;

/// Whether each benchmark only runs once to show that it works, as `cargo test --benches` and `-- --test` ask for.
/// Then databases are small.
pub fn trial() -> bool {
    let given = |name: &str| std::env::args().any(|argument| argument == name);
    !given("--bench") || given("--test")
}
