//! The programs of bindings/c and bindings/cpp, compiled and run against this build: every function, every misuse (plain, under
//! AddressSanitizer and valgrind), the examples. `matrix.rs` runs the matrix of all functions.

use std::path::Path;
use std::process::Command;

use crate::support::{address_sanitizer, compile, expect_success, valgrind, workplace};

fn run(program: &Path, dir: &Path) {
    let output = Command::new(program).arg(dir).current_dir(dir).output().expect("the program can be started");
    expect_success(&program.display().to_string(), &output);
}

#[test]
fn every_function_works_from_c() {
    let dir = workplace("basic-c");
    run(&compile("c/tests/basic.c", &[], dir.path()), dir.path());
}

#[test]
fn every_function_works_from_cpp() {
    let dir = workplace("basic-cpp");
    run(&compile("cpp/tests/basic.cpp", &[], dir.path()), dir.path());
}

/// The family of functions that do not throw is there without exceptions.
#[test]
fn cpp_without_exceptions_compiles() {
    let dir = workplace("noexcept-cpp");
    let source = dir.path().join("quiet.cpp");
    let text = r#"#include <corering.hpp>
int main() {
    auto db = corering::db::try_open("quiet");
    if (!db) return 1;
    if (!db->try_put("k", "v")) return 2;
    auto found = db->try_get("k");
    if (!found || !*found) return 3;
    return (*found)->view() == "v" && db->try_close() ? 0 : 4;
}
"#;
    std::fs::write(&source, text).expect("the source can be written");
    let output = dir.path().join("quiet-program");
    run(&crate::support::Program { source: &source, flags: &["-fno-exceptions"], output }.compile(), dir.path());
}

#[test]
fn every_misuse_gets_a_status() {
    let dir = workplace("misuse");
    run(&compile("c/tests/misuse.c", &[], dir.path()), dir.path());
}

/// The program's own memory and what it passes are watched; the library's code is not instrumented, its allocations are.
#[test]
fn every_misuse_gets_a_status_under_address_sanitizer() {
    let dir = workplace("misuse-asan");
    let output = address_sanitizer("c/tests/misuse.c", dir.path()).output().expect("the program can be started");
    expect_success("misuse under AddressSanitizer", &output);
}

/// The library's code too, which AddressSanitizer leaves alone.
#[test]
fn every_misuse_gets_a_status_under_valgrind() {
    let dir = workplace("misuse-valgrind");
    let program = compile("c/tests/misuse.c", &[], dir.path());
    let output = valgrind(&program, dir.path()).output().expect("valgrind is installed");
    expect_success("misuse under valgrind", &output);
}

#[test]
fn the_examples_work() {
    for source in [
        "c/examples/hello.c",
        "c/examples/poll.c",
        "cpp/examples/hello.cpp",
        "cpp/examples/locks.cpp",
        "cpp/examples/recipes.cpp",
    ] {
        let dir = workplace("examples");
        run(&compile(source, &[], dir.path()), dir.path());
    }
}
