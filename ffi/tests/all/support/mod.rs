//! Compiles and runs programs against the shared library of this build.

#![allow(dead_code)] // each test file uses a part

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

/// The workspace's root.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate is in the workspace").to_path_buf()
}

/// Beside the test's own program: where cargo leaves the shared library of the same build.
pub fn library() -> PathBuf {
    let library = std::env::current_exe().expect("the test has a path").with_file_name("libcorering.so");
    assert!(library.exists(), "{} is not there: cargo builds the cdylib for a test of the crate", library.display());
    library
}

/// A directory for this test's files.
pub fn workplace(name: &str) -> tempfile::TempDir {
    tempfile::Builder::new().prefix(name).tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a place for files")
}

/// A directory that holds the library under the names that programs look for.
fn link_dir() -> &'static Path {
    static DIR: OnceLock<tempfile::TempDir> = OnceLock::new();
    DIR.get_or_init(|| {
        let dir = workplace("lib");
        for name in ["libcorering.so", "libcorering.so.0"] {
            std::os::unix::fs::symlink(library(), dir.path().join(name)).expect("a link can be made");
        }
        dir
    })
    .path()
}

/// How to compile: a C or C++ source by its extension.
pub struct Program<'a> {
    pub source: &'a Path,
    pub flags: &'a [&'a str],
    /// In which directory, under which name.
    pub output: PathBuf,
}

impl Program<'_> {
    pub fn compile(&self) -> PathBuf {
        let cpp = self.source.extension().is_some_and(|extension| extension == "cpp");
        let (compiler, standard) = if cpp { ("c++", "-std=c++17") } else { ("cc", "-std=c11") };
        let output = Command::new(compiler)
            .args([standard, "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-g", "-O1", "-pthread"])
            .args(self.flags)
            .arg("-I")
            .arg(root().join("include"))
            .arg(self.source)
            .arg("-o")
            .arg(&self.output)
            .arg("-L")
            .arg(link_dir())
            .arg(format!("-Wl,-rpath,{}", link_dir().display()))
            .arg("-lcorering")
            .output()
            .expect("a compiler is installed");
        assert!(output.status.success(), "{}:\n{}", self.source.display(), String::from_utf8_lossy(&output.stderr));
        self.output.clone()
    }
}

/// Compiles a source of the bindings, such as "c/tests/basic.c".
pub fn compile(source: &str, flags: &[&str], dir: &Path) -> PathBuf {
    let source = root().join("bindings").join(source);
    let name = source.with_extension("program");
    let name = name.file_name().expect("a source has a name");
    Program { source: &source, flags, output: dir.join(name) }.compile()
}

/// Fails with all that the program said.
pub fn expect_success(what: &str, output: &Output) {
    assert!(
        output.status.success(),
        "{what}: {}\n--- stdout\n{}\n--- stderr\n{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

/// The command that runs a C source of the bindings in `dir` under AddressSanitizer (with leaks) and
/// UndefinedBehaviorSanitizer.
pub fn address_sanitizer(source: &str, dir: &Path) -> Command {
    let flags = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer"];
    let mut command = Command::new(compile(source, &flags, dir));
    // The C library itself loses what is registered with it at the very end of a thread, where one test makes calls.
    let suppressions = dir.join("suppressions");
    std::fs::write(&suppressions, "leak:__cxa_thread_atexit_impl\n").expect("the file can be written");
    command
        .arg(dir)
        .env("ASAN_OPTIONS", "detect_leaks=1")
        .env("LSAN_OPTIONS", format!("suppressions={}:print_suppressions=0", suppressions.display()));
    command
}

/// The command that runs a program of the bindings in `dir` under valgrind, which looks at every access to memory. Not for leaks: a
/// child after fork ends with what the threads had that it has not. AddressSanitizer looks for those.
pub fn valgrind(program: &Path, dir: &Path) -> Command {
    let mut command = Command::new("valgrind");
    // Else a thread that turns round may keep all others from running.
    command.args(["-q", "--fair-sched=yes", "--error-exitcode=9", "--leak-check=no"]).arg(program).arg(dir);
    command
}
