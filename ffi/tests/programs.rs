//! The programs of bindings/c and bindings/cpp, compiled and run against this build: every function, every misuse (plain,
//! under AddressSanitizer, under valgrind), the examples.

mod support;

use std::path::Path;
use std::process::Command;

use support::{compile, expect_success, workplace};

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
    run(&support::Program { source: &source, flags: &["-fno-exceptions"], output }.compile(), dir.path());
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
    let flags = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer"];
    let program = compile("c/tests/misuse.c", &flags, dir.path());
    // The C library itself loses what is registered with it at the very end of a thread, where one test makes calls.
    let suppressions = dir.path().join("suppressions");
    std::fs::write(&suppressions, "leak:__cxa_thread_atexit_impl\n").expect("the file can be written");
    let output = Command::new(&program)
        .arg(dir.path())
        .env("ASAN_OPTIONS", "detect_leaks=1")
        .env("LSAN_OPTIONS", format!("suppressions={}:print_suppressions=0", suppressions.display()))
        .output()
        .expect("the program can be started");
    expect_success("misuse under AddressSanitizer", &output);
}

#[test]
fn the_examples_work() {
    for source in ["c/examples/hello.c", "c/examples/poll.c", "cpp/examples/hello.cpp"] {
        let dir = workplace("examples");
        run(&compile(source, &[], dir.path()), dir.path());
    }
}
