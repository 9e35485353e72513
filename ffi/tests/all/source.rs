//! Keeps the crate's own rules: where `unsafe` may be, and what the comment of an exported function says.

use std::fs;
use std::path::{Path, PathBuf};

fn sources() -> Vec<(PathBuf, String)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files: Vec<_> = fs::read_dir(dir)
        .expect("the crate has sources")
        .map(|entry| entry.expect("readable").path())
        .map(|path| (path.clone(), fs::read_to_string(path).expect("readable")))
        .collect();
    files.sort();
    files
}

/// C's pointers, the handles' slots, the page that fork wipes; and the one block in the guard's macro.
const ROOMS: [&str; 4] = ["raw.rs", "registry.rs", "process.rs", "guard.rs"];

#[test]
fn unsafe_blocks_are_in_the_rooms_made_for_them() {
    for (path, text) in sources() {
        if ROOMS.iter().any(|room| path.ends_with(room)) {
            continue;
        }
        for (number, line) in text.lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            let export =
                code.trim_start().starts_with("#[unsafe(no_mangle)]") || code.contains("pub unsafe extern \"C\" fn");
            assert!(
                !code.contains("unsafe") || export || code.contains("unsafe_code"),
                "{}:{}: `unsafe` outside of {ROOMS:?}: {line}",
                path.display(),
                number + 1
            );
        }
    }
}

#[test]
fn every_exported_function_has_the_five_headings_in_order() {
    let mut functions = 0;
    for (path, text) in sources() {
        let lines: Vec<&str> = text.lines().collect();
        for (number, line) in lines.iter().enumerate() {
            if line.trim() != "#[unsafe(no_mangle)]" {
                continue;
            }
            functions += 1;
            let place = format!("{}:{}", path.display(), number + 1);
            let comment: Vec<&str> =
                lines[..number].iter().rev().take_while(|line| line.starts_with("///")).copied().collect();
            let comment: String = comment.into_iter().rev().map(|line| line.trim_start_matches("///")).collect();
            let places: Vec<Option<usize>> =
                ["Owns: ", "Writes: ", "Threads: ", "Status: ", "Safety: "].map(|heading| comment.find(heading)).into();
            assert!(places.iter().all(Option::is_some), "{place}: a heading is missing");
            assert!(places.is_sorted(), "{place}: the headings are out of order");
            assert!(lines[number + 1].contains("extern \"C\" fn corering_"), "{place}: not in the family's name");
        }
    }
    assert!(functions > 30, "only {functions} exported functions were found: has the way to find them become blind?");
}
