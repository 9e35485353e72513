//! include/corering.h is what the crate says: generated again and compared; and it is C11 and C++17 without a warning.

use std::path::Path;
use std::process::Command;

use crate::support::root;

/// The files in the order in which a reader wants the header.
const FILES: [&str; 19] = [
    "version",
    "status",
    "error",
    "options",
    "db",
    "value",
    "op",
    "kv",
    "batch",
    "execute",
    "snapshot",
    "iterator",
    "queue",
    "session",
    "lock",
    "transaction",
    "transaction_keys",
    "stats",
    "watch",
];

fn generated() -> String {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    let config = cbindgen::Config::from_file(manifest.join("cbindgen.toml")).expect("cbindgen.toml is understood");
    let builder = FILES.iter().fold(cbindgen::Builder::new().with_config(config), |builder, file| {
        builder.with_src(manifest.join(format!("src/{file}.rs")))
    });
    let mut header = Vec::new();
    builder.generate().expect("the crate can be read").write(&mut header);
    String::from_utf8(header).expect("the header is text")
}

#[test]
fn the_committed_header_is_the_crates() {
    let (path, new) = (root().join("include/corering.h"), generated());
    if std::env::var_os("CORERING_BLESS").is_some() {
        std::fs::write(&path, &new).expect("the header can be written");
    }
    let old = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        old == new,
        "{} is not what ffi/ says; bring it up to date with CORERING_BLESS=1 cargo test -p corering-ffi --test all header",
        path.display()
    );
}

/// Every file with exported functions is among those that the header is made of.
#[test]
fn no_exporting_file_is_left_out_of_the_header() {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for entry in std::fs::read_dir(sources).expect("the crate has sources") {
        let path = entry.expect("readable").path();
        let text = std::fs::read_to_string(&path).expect("readable");
        let name = path.file_stem().expect("a file has a name").to_string_lossy().into_owned();
        assert!(
            FILES.contains(&name.as_str()) || !text.contains("#[unsafe(no_mangle)]"),
            "{name}.rs exports functions and is not in FILES"
        );
    }
}

/// Compiles `file` for its syntax alone; a compiler that is not there says nothing.
fn compile(compiler: &str, args: &[&str], file: &Path) {
    let mut command = Command::new(compiler);
    command.args(args).args(["-Wall", "-Wextra", "-Wpedantic", "-Wshadow", "-Werror", "-fsyntax-only", "-I"]);
    match command.arg(root().join("include")).arg(file).output() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && compiler.starts_with("clang") => {
            eprintln!("{compiler} is not installed: not tried");
        }
        Err(error) => panic!("{compiler}: {error}"),
        Ok(output) => {
            assert!(output.status.success(), "{compiler} {args:?}:\n{}", String::from_utf8_lossy(&output.stderr));
        }
    }
}

#[test]
fn the_headers_are_c11_and_cpp17_without_a_warning() {
    let dir = tempfile::tempdir().expect("a place for a file");
    let c = dir.path().join("only_the_header.c");
    std::fs::write(&c, "#include <corering.h>\n#include <corering.h>\nint main(void) { return (int)CORERING_OK; }\n")
        .unwrap();
    let cpp = dir.path().join("only_the_header.cpp");
    let text =
        "#include <corering.h>\n#include <corering.hpp>\n#include <corering.hpp>\nint main() { return CORERING_OK; }\n";
    std::fs::write(&cpp, text).unwrap();
    for compiler in ["cc", "clang"] {
        compile(compiler, &["-std=c11"], &c);
    }
    for compiler in ["c++", "clang++"] {
        compile(compiler, &["-std=c++17"], &cpp);
        compile(compiler, &["-std=c++17", "-fno-exceptions"], &cpp);
        compile(compiler, &["-std=c++20"], &cpp);
    }
}
