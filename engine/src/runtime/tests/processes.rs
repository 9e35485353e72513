//! What two processes see of one directory. The other process is this test program, told by its environment to play
//! a part.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::rc::Rc;

use super::{machine, seccomp};
use crate::ids::ShardId;
use crate::runtime::{BLOCK, Executor, Fs, Host, LocalFuture, LockError};

const PART: &str = "CORERING_TEST_PLAYS";
const DIR: &str = "CORERING_TEST_DIR";

/// The other process's side; does nothing in an ordinary run.
#[test]
fn the_other_process() {
    let (Ok(part), Ok(dir)) = (std::env::var(PART), std::env::var(DIR)) else { return };
    let host = machine(Path::new(&dir));
    let fs = host.fs();
    let guard: Box<dyn std::any::Any> = match part.as_str() {
        "holder" => fs.lock(Path::new("LOCK")).unwrap(),
        "storer" => {
            let region = fs.shared_region(Path::new("region"), 8 * BLOCK).unwrap();
            let mut slots = region.take_slots(4);
            for (i, slot) in slots.iter_mut().enumerate() {
                slot.fill(i as u8 + 1);
            }
            Box::new(slots)
        }
        "blocked" => {
            seccomp::forbid_rings();
            println!("{}", refusal(&host));
            return;
        }
        "short of locked memory" => {
            println!("{}", refusal(&host));
            return;
        }
        other => panic!("no such part: {other}"),
    };
    println!("ready");
    // Until it is killed, or the test is.
    let _ = std::io::stdin().lines().next();
    drop(guard);
}

/// Why a shard cannot start.
fn refusal(host: &dyn Host) -> String {
    let main = Box::new(|_: Rc<dyn Executor>| -> LocalFuture<'static, ()> { Box::pin(async {}) });
    match host.start_shard(ShardId(0), None, main) {
        Ok(thread) => {
            thread.join();
            "it started".to_string()
        }
        Err(error) => format!("refused: {error}"),
    }
}

#[test]
fn a_shard_that_may_not_start_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let me = std::env::current_exe().unwrap();
    let mut limited = Command::new("sh");
    limited.args(["-c", "ulimit -l 64; exec \"$0\" \"$@\""]).arg(&me);
    let cases = [
        ("blocked", Command::new(&me), ["io_uring is blocked", "seccomp"]),
        ("short of locked memory", limited, ["the limit is 64 KiB", "ulimit -l 8192"]),
    ];
    for (part, command, texts) in cases {
        let output = play(command, part, dir.path()).stdin(Stdio::null()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        for text in texts {
            assert!(said.contains("refused: ") && said.contains(text), "{part}: {said}");
        }
    }
}

fn play(mut command: Command, part: &str, dir: &Path) -> Command {
    command
        .args(["--exact", "runtime::tests::processes::the_other_process", "--nocapture"])
        .env(PART, part)
        .env(DIR, dir);
    command
}

fn start(part: &str, dir: &Path) -> Child {
    let mut child = play(Command::new(std::env::current_exe().unwrap()), part, dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let said = BufReader::new(child.stdout.take().unwrap()).lines();
    let ready = said.map_while(Result::ok).any(|line| line.contains("ready"));
    assert!(ready, "the other process plays its part");
    child
}

fn lock(fs: &dyn Fs) -> Result<Box<dyn std::any::Any + Send + Sync>, LockError> {
    fs.lock(Path::new("LOCK"))
}

#[test]
fn a_directory_is_locked_by_one_process_until_it_dies() {
    let dir = tempfile::tempdir().unwrap();
    let fs = machine(dir.path()).fs();
    let mut holder = start("holder", dir.path());
    match lock(&*fs) {
        Err(LockError::Held { pid }) => assert_eq!(pid, Some(holder.id())),
        other => panic!("locked twice: {:?}", other.map(drop)),
    }
    holder.kill().unwrap();
    holder.wait().unwrap();
    drop(lock(&*fs).unwrap());
}

#[test]
fn a_directory_is_locked_by_one_handle_of_a_process() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = (machine(dir.path()).fs(), machine(dir.path()).fs());
    let held = lock(&*one).unwrap();
    for fs in [&one, &two] {
        match lock(&**fs) {
            Err(LockError::Held { pid }) => assert_eq!(pid, Some(std::process::id())),
            other => panic!("locked twice: {:?}", other.map(drop)),
        }
    }
    drop(held);
    drop(lock(&*two).unwrap());
}

#[test]
fn what_was_stored_in_a_shared_region_outlives_a_kill() {
    for place in [None, Some("/dev/shm")] {
        let dir = match place {
            None => tempfile::tempdir().unwrap(),
            Some(place) => tempfile::tempdir_in(place).unwrap(),
        };
        let mut storer = start("storer", dir.path());
        storer.kill().unwrap();
        storer.wait().unwrap();
        let region = machine(dir.path()).fs().shared_region(Path::new("region"), 8 * BLOCK).unwrap();
        for (i, slot) in region.take_slots(4).iter().enumerate() {
            assert!(slot.len() == 2 * BLOCK && slot.iter().all(|b| *b == i as u8 + 1), "slot {i}");
        }
    }
}

#[test]
fn a_shared_region_has_all_its_blocks() {
    use std::os::unix::fs::MetadataExt;
    let dir = tempfile::tempdir().unwrap();
    let fs = machine(dir.path()).fs();
    // Shorter, and with a hole, as a tool that copies files may leave it.
    std::fs::File::create(dir.path().join("region")).unwrap().set_len(3 * BLOCK as u64).unwrap();
    let region = fs.shared_region(Path::new("region"), 64 * BLOCK).unwrap();
    assert_eq!(region.len(), 64 * BLOCK);
    let meta = std::fs::metadata(dir.path().join("region")).unwrap();
    assert_eq!(meta.len(), 64 * BLOCK as u64);
    assert!(meta.blocks() * 512 >= meta.len(), "{} blocks of 512 bytes", meta.blocks());
    for len in [0, 100, BLOCK + 1] {
        assert!(fs.shared_region(Path::new("odd"), len).is_err());
    }
}
