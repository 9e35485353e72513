//! Makes the C side of the extension module: cffi writes it from include/corering.h, the C compiler compiles it, and it is
//! linked with the crate corering-ffi into one shared object. Without the feature `extension` there is nothing to do.

use std::path::{Path, PathBuf};
use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    if std::env::var_os("CARGO_FEATURE_EXTENSION").is_none() {
        return;
    }
    let here = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets it"));
    let include = here.join("../../include");
    let python = std::env::var("PYO3_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    for input in [here.join("emit.py"), here.join("src/helpers.h"), include.join("corering.h")] {
        println!("cargo:rerun-if-changed={}", input.display());
    }
    println!("cargo:rerun-if-env-changed=PYO3_PYTHON");

    let source = out.join("_native.c");
    run(Command::new(&python).arg(here.join("emit.py")).arg(&include).arg(here.join("src")).arg(&source));
    let python_include =
        run(Command::new(&python).args(["-c", "import sysconfig; print(sysconfig.get_path('include'))"]));
    let python_include = Path::new(python_include.trim());
    assert!(
        python_include.join("Python.h").exists(),
        "{} has no Python.h: install Python's headers (Debian: apt-get install python3-dev)",
        python_include.display()
    );
    cc::Build::new()
        .file(&source)
        .include(python_include)
        .include(&include)
        .include(here.join("src"))
        // A shared object made by rustc shows only what Rust exports; src/lib.rs exports the module's entry and calls this.
        .define("PyInit__native", "corering_python_init")
        .warnings(false)
        .compile("corering_python");
}

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(
        output.status.success(),
        "{command:?} failed; cffi must be installed for that Python:\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).expect("text")
}
