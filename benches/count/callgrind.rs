//! Runs this program under callgrind and reads what it counted in the functions whose names begin with `counted_`.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};

const PREFIX: &str = "counted_";

/// Instructions of each of these functions with all that it calls. `module` is their path; names are what follows the prefix.
pub fn count<'a>(
    arguments: &[&str],
    module: &str,
    names: impl Iterator<Item = &'a str>,
) -> Result<BTreeMap<String, u64>, String> {
    let dir = tempfile::tempdir().map_err(|error| error.to_string())?;
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let done = Command::new("valgrind")
        .args(["--tool=callgrind", "--collect-atstart=no", "--combine-dumps=no"])
        .arg(format!("--toggle-collect=*{PREFIX}*"))
        // One file for each function left, so that they can be told apart. It takes whole names only.
        .args(names.map(|name| format!("--dump-after={module}::{PREFIX}{name}")))
        .arg(format!("--callgrind-out-file={}", dir.path().join("out").display()))
        .arg(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("valgrind: {error}"))?;
    if !done.status.success() {
        return Err(format!("valgrind: {}\n{}", done.status, String::from_utf8_lossy(&done.stderr)));
    }
    let mut counted = BTreeMap::new();
    for entry in std::fs::read_dir(dir.path()).map_err(|error| error.to_string())? {
        let path = entry.map_err(|error| error.to_string())?.path();
        let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
        if let Some((name, instructions)) = read(&text) {
            *counted.entry(name).or_default() += instructions;
        }
    }
    Ok(counted)
}

/// The function that a dump is of, and its instructions. Others are what was left at the end of the program.
fn read(dump: &str) -> Option<(String, u64)> {
    let trigger = dump.lines().find(|line| line.starts_with("desc: Trigger:"))?;
    let name: String = trigger
        .split_once(PREFIX)?
        .1
        .chars()
        .take_while(|letter| letter.is_ascii_lowercase() || letter.is_ascii_digit() || *letter == '_')
        .collect();
    let totals =
        dump.lines().find_map(|line| line.strip_prefix("totals:").or_else(|| line.strip_prefix("summary:")))?;
    Some((name, totals.split_whitespace().next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dump_is_read() {
        let dump =
            "version: 1\ndesc: Trigger: --dump-after=count::steps::counted_get_hot\n\nevents: Ir\nsummary: 12345\n";
        assert_eq!(read(dump), Some(("get_hot".to_owned(), 12345)));
        assert_eq!(read("desc: Trigger: Program termination\nsummary: 5\n"), None);
    }
}
