//! The harness at its smallest: every system of this process does each kind of thing once, and what came can be read.
//!
//! Not here: servers and Python, which need more programs; the C ABI, whose library cargo does not build for a test.

use std::process::Command;

#[test]
fn every_system_is_measured_and_a_page_is_made() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory beside the build");
    let page = dir.path().join("page.md");
    let done = Command::new(env!("CARGO_BIN_EXE_peers"))
        .args(["run", "--size", "tiny", "--rounds", "1", "put_durable_1", "scan_1m", "multi_get16_1m", "recovery"])
        .args(["ycsbt", "tpcc"])
        .arg("--results")
        .arg(dir.path().join("results"))
        .arg("--page")
        .arg(&page)
        .arg("--data")
        .arg(dir.path().join("data"))
        .output()
        .expect("the program starts");
    let (table, log) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    assert!(done.status.success(), "{log}");
    // Nor is etcd, which is another program.
    let is_here = |line: &&str| !line.contains("corering-c ") && !line.contains("etcd ");
    let failed: Vec<&str> = table.lines().filter(|line| line.contains("failed")).filter(is_here).collect();
    assert!(failed.is_empty(), "{failed:#?}\n{log}");
    for (workload, system) in [
        ("put_durable_1", "corering"),
        ("put_durable_1", "disk"),
        ("scan_1m", "corering-tables"),
        ("scan_1m", "lmdb"),
        ("multi_get16_1m", "rocksdb"),
        ("multi_get16_1m", "memory"),
        ("ycsbt", "corering-kept"),
        ("ycsbt", "rocksdb"),
        ("tpcc", "corering"),
        ("tpcc", "rocksdb-optimistic"),
        ("recovery", "redb"),
        ("recovery", "fjall"),
    ] {
        let conditions = table.lines().filter(|line| {
            let mut words = line.split_whitespace();
            words.next() == Some(workload) && words.nth(1) == Some(system)
        });
        assert_eq!(
            conditions.count(),
            2,
            "{workload} of {system}, with free and with busy processors:\n{table}\n{log}"
        );
    }
    let page = std::fs::read_to_string(page).expect("a page");
    assert!(page.contains("| put_durable_1 | 1 x ") && page.contains("## recovery"), "{page}");
    let drawing = std::fs::read_to_string(dir.path().join("results/scan_1m.svg")).expect("a drawing");
    assert!(drawing.starts_with("<svg") && drawing.contains("rocksdb"));
    assert_eq!(std::fs::read_dir(dir.path().join("data")).expect("it was made").count(), 0, "databases are removed");
}
