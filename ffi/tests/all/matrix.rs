//! The matrix of bindings/c/tests/matrix.c: each function of the header with each misuse, in a C program, plain, under
//! AddressSanitizer and under valgrind. The rows it must have are read off the header, so that a new function or parameter cannot be left out.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Output};

use crate::support::{address_sanitizer, compile, expect_success, root, valgrind, workplace};

const SOURCE: &str = "c/tests/matrix.c";
const HANDLES: [&str; 7] = ["db", "batch", "snapshot", "iterator", "queue", "watch", "tx"];

/// A function's name, and its parameters as they are declared.
fn functions(header: &str) -> Vec<(String, Vec<String>)> {
    let code: String = header
        .lines()
        .filter(|line| !line.starts_with([' ', '*', '/', '#']) || line.starts_with("   "))
        .collect::<Vec<_>>()
        .join(" ");
    let declared = code.split(';').filter_map(|declaration| {
        // A type of functions is no function.
        let declaration = declaration.trim();
        if declaration.starts_with("typedef") {
            return None;
        }
        let (before, parameters) = declaration.strip_suffix(')')?.rsplit_once('(')?;
        let name = before.rsplit([' ', '*']).next()?;
        let parameters = parameters.split(',').map(|one| one.split_whitespace().collect::<Vec<_>>().join(" "));
        name.starts_with("corering_").then(|| (name.to_owned(), parameters.filter(|one| one != "void").collect()))
    });
    declared.collect()
}

/// The kind of the handle that a parameter is, if it is one.
fn is_handle(parameter: &str) -> bool {
    HANDLES.iter().any(|kind| parameter.starts_with(&format!("struct corering_{kind} *")) && !parameter.contains("**"))
}

fn name_of(parameter: &str) -> &str {
    parameter.rsplit([' ', '*']).next().unwrap_or(parameter)
}

/// Every row that the matrix must have.
fn rows_of(header: &str) -> BTreeSet<String> {
    let mut rows = BTreeSet::new();
    for (function, parameters) in functions(header) {
        let mut row = |what: &str, of: &str| rows.insert(format!("{function}: {what} {of}").trim_end().to_owned());
        for what in ["right", "thread", "fork"] {
            row(what, "");
        }
        for parameter in &parameters {
            let name = name_of(parameter);
            if parameter.contains('*') || parameter.starts_with("corering_tx_function ") {
                row("null", name);
            }
            if parameter.starts_with("size_t ") && !parameter.contains('*') {
                row("zero", name);
            }
            if is_handle(parameter) {
                row("closed", name);
                row("of another kind", name);
            }
        }
        if parameters.first().is_some_and(|first| is_handle(first)) {
            row("database closed before", "");
            row("pending at close", "");
            if function.ends_with("_free") || function.ends_with("_close") {
                row("twice", "");
            }
        }
    }
    rows
}

fn expect_every_row(what: &str, output: &Output) {
    expect_success(what, output);
    let header = std::fs::read_to_string(root().join("include/corering.h")).expect("the header is there");
    let wanted = rows_of(&header);
    let found: BTreeSet<String> = String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect();
    let missing: Vec<_> = wanted.difference(&found).collect();
    let unknown: Vec<_> = found.difference(&wanted).collect();
    assert!(missing.is_empty(), "bindings/c/tests/matrix.h has no row for {missing:#?}");
    assert!(unknown.is_empty(), "{unknown:#?} is in no header");
}

fn run(dir: &Path) -> Command {
    let mut command = Command::new(compile(SOURCE, &[], dir));
    command.arg(dir);
    command
}

#[test]
fn every_function_answers_every_misuse() {
    let dir = workplace("matrix");
    expect_every_row("the matrix", &run(dir.path()).output().expect("the program can be started"));
}

#[test]
fn every_function_answers_every_misuse_under_address_sanitizer() {
    let dir = workplace("matrix-asan");
    let output = address_sanitizer(SOURCE, dir.path()).output().expect("the program can be started");
    expect_every_row("the matrix under AddressSanitizer", &output);
}

#[test]
fn every_function_answers_every_misuse_under_valgrind() {
    let dir = workplace("matrix-valgrind");
    let program = compile(SOURCE, &[], dir.path());
    let output = valgrind(&program, dir.path()).output().expect("valgrind is installed");
    expect_every_row("the matrix under valgrind", &output);
}

/// Without threads valgrind finds leaks too, of the library's own code as well.
#[test]
fn what_needs_no_database_leaks_nothing_under_valgrind() {
    let dir = workplace("matrix-leaks");
    let program = compile(SOURCE, &[], dir.path());
    let output = Command::new("valgrind")
        .args(["-q", "--error-exitcode=9", "--leak-check=full", "--errors-for-leak-kinds=definite"])
        .arg(program)
        .arg(dir.path())
        .arg("without-database")
        .output()
        .expect("valgrind is installed");
    expect_success("the matrix under valgrind", &output);
    let functions = |text: &str| -> BTreeSet<String> {
        text.lines().filter_map(|row| row.split_once(':')).map(|(function, _)| function.to_owned()).collect()
    };
    let header = std::fs::read_to_string(root().join("include/corering.h")).expect("the header is there");
    let mut wanted: BTreeSet<String> = self::functions(&header).into_iter().map(|(name, _)| name).collect();
    wanted.remove("corering_open");
    assert_eq!(functions(&String::from_utf8_lossy(&output.stdout)), wanted);
}

/// A function that the matrix does not have yet is seen, and so are all of its parameters.
#[test]
fn a_new_function_needs_its_rows() {
    let header = "/** A comment (with brackets); */\n\
        corering_status corering_lock_free(struct corering_batch *batch,\n                     const void *key,\n\
        \x20                    size_t key_len);\n";
    let expected = [
        "closed batch",
        "database closed before",
        "fork",
        "null batch",
        "null key",
        "of another kind batch",
        "pending at close",
        "right",
        "thread",
        "twice",
        "zero key_len",
    ];
    assert!(rows_of(header).into_iter().eq(expected.map(|row| format!("corering_lock_free: {row}"))));
}

#[test]
fn every_exported_function_is_found_in_the_header() {
    let header = std::fs::read_to_string(root().join("include/corering.h")).expect("the header is there");
    let found: BTreeSet<String> = functions(&header).into_iter().map(|(name, _)| name).collect();
    let named: BTreeSet<String> = header
        .split(|c: char| !(c.is_ascii_alphanumeric() || "_(".contains(c)))
        .filter_map(|word| word.split_once('('))
        .filter(|(name, _)| name.starts_with("corering_"))
        .map(|(name, _)| name.to_owned())
        .collect();
    assert_eq!(found, named);
}
