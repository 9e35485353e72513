//! `corering bench --disk DIR`: what a disk can do, and which settings follow.
//!
//! Guards: files are made in a new directory below DIR and removed; nothing else there is touched. Writes go the engine's own ways, so
//! that what is measured is what it would get.

use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use corering_engine::ShardId;
use corering_engine::runtime::buffer::Backing;
use corering_engine::runtime::host::Machine;
use corering_engine::runtime::{
    AlignedBuf, BLOCK, DurableWay, Executor, File, Host, IoBuf, IoOp, LocalFuture, OpenMode,
};
use hdrhistogram::Histogram;

use super::disk_report::{self, Figure, Findings};
use super::measure::{histogram, record};
use crate::exit::{self, Failure};

const FILE_LEN: u64 = 64 << 20;
/// Reads are spread over a file that no disk's own cache holds.
const READ_LEN: u64 = 256 << 20;
const PIECE: usize = 1 << 20;
/// Enough that an asynchronous write whose flush waits for a timer tick is seen.
const ROUNDS: u32 = 4;

pub fn run(dir: &Path, time: Duration, json: bool) -> Result<(), Failure> {
    let room = tempfile::Builder::new()
        .prefix("corering-disk-")
        .tempdir_in(dir)
        .map_err(|error| Failure::new(exit::DISK, format!("no directory to measure in {}: {error}", dir.display())))?;
    let machine = Machine::new(room.path(), false)?;
    let findings = measure(&machine, time).map_err(|error| Failure::new(exit::DISK, error))?;
    if json {
        println!("{}", disk_report::as_json(&findings));
    } else {
        println!("{}", disk_report::as_text(&findings));
    }
    Ok(())
}

/// `time` is for each figure.
fn measure(machine: &Machine, time: Duration) -> Result<Findings, String> {
    let mut findings = Findings { facts: machine.disk_facts().clone(), direct: true, figures: Vec::new() };
    let written = file(machine, "written", FILE_LEN, true, &mut findings)?;
    let other = file(machine, "other", FILE_LEN, true, &mut findings)?;
    let reserved = file(machine, "reserved", FILE_LEN, false, &mut findings)?;
    let large = file(machine, "large", READ_LEN, true, &mut findings)?;
    let mut add = |name: &str, bytes: u64, depth: u32, latencies: Histogram<u64>, per_second: f64| {
        findings.figures.push(Figure { name: name.to_owned(), bytes, depth, latencies, per_second });
    };
    for len in [BLOCK, 4 * BLOCK, 16 * BLOCK, 64 * BLOCK] {
        let [blocking, ring] = durable_both_ways(machine, &written, len, time)?;
        add("durable_blocking", len as u64, 1, blocking.0, blocking.1);
        add("durable_ring", len as u64, 1, ring.0, ring.1);
    }
    let it = repeat(time, FILE_LEN, BLOCK, |at, buf| written.write_blocking(at, buf))?;
    add("write", BLOCK as u64, 1, it.0, it.1);
    let it = repeat(time, FILE_LEN, BLOCK, |at, buf| {
        // The first half of each pair gives the second something to do.
        written.write_blocking(at, buf)?;
        written.sync_data_blocking()
    })?;
    add("write_and_sync", BLOCK as u64, 1, it.0, it.1);
    // Each block once, or it would not be reserved only.
    let it = repeat_once(time, FILE_LEN, BLOCK, |at, buf| reserved.write_durable_blocking(at, buf))?;
    add("durable_reserved", BLOCK as u64, 1, it.0, it.1);
    let it = two_at_once(time, [&written, &other])?;
    add("durable_two_files", BLOCK as u64, 2, it.0, it.1);
    for depth in [1, 4, 16, 64] {
        let it = on_ring(machine, {
            let file = Arc::clone(&large);
            move |executor| Box::pin(async move { reads(&executor, &file, depth, BLOCK, time).await })
        })?;
        add("read", BLOCK as u64, depth, it.0, it.1);
    }
    let it = on_ring(machine, {
        let file = Arc::clone(&large);
        move |executor| Box::pin(async move { reads(&executor, &file, 8, 32 * BLOCK, time).await })
    })?;
    add("read", 32 * BLOCK as u64, 8, it.0, it.1);
    let it = repeat(time, FILE_LEN, PIECE, |at, buf| written.write_blocking(at, buf))?;
    add("write", PIECE as u64, 1, it.0, it.1);
    Ok(findings)
}

/// Latencies, and how many a second.
type Timed = (Histogram<u64>, f64);

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// A file of `len` bytes, written or only reserved.
fn file(
    machine: &Machine,
    name: &str,
    len: u64,
    written: bool,
    findings: &mut Findings,
) -> Result<Arc<dyn File>, String> {
    let made = machine.fs().open(Path::new(name), OpenMode::CreateNewDirect);
    let file = match made {
        Ok(file) => file,
        // The engine then does without, too.
        Err(_) => {
            findings.direct = false;
            machine.fs().open(Path::new(name), OpenMode::CreateNew).map_err(text)?
        }
    };
    file.allocate(len).map_err(|error| format!("cannot reserve {} MiB: {error}", len >> 20))?;
    if written {
        let mut piece = AlignedBuf::zeroed(PIECE);
        piece.fill(0x5a);
        for at in (0..len).step_by(PIECE) {
            file.write_blocking(at, &piece).map_err(text)?;
        }
    }
    file.sync_data_blocking().map_err(text)?;
    Ok(file)
}

/// Do `step` at one place after the other, and again from the start, until the time is over.
fn repeat(
    time: Duration,
    file_len: u64,
    len: usize,
    mut step: impl FnMut(u64, &[u8]) -> std::io::Result<()>,
) -> Result<Timed, String> {
    repeat_from(time, file_len, len, true, &mut step)
}

/// As `repeat`, to the end of the file at most.
fn repeat_once(
    time: Duration,
    file_len: u64,
    len: usize,
    mut step: impl FnMut(u64, &[u8]) -> std::io::Result<()>,
) -> Result<Timed, String> {
    repeat_from(time, file_len, len, false, &mut step)
}

fn repeat_from(
    time: Duration,
    file_len: u64,
    len: usize,
    again: bool,
    step: &mut dyn FnMut(u64, &[u8]) -> std::io::Result<()>,
) -> Result<Timed, String> {
    let mut buf = AlignedBuf::zeroed(len);
    buf.fill(0x5a);
    let mut latencies = histogram();
    let (start, mut at) = (Instant::now(), 0);
    while start.elapsed() < time && (again || at < file_len) {
        let began = Instant::now();
        step(at % file_len, &buf).map_err(text)?;
        record(&mut latencies, began);
        at += len as u64;
    }
    let rate = latencies.len() as f64 / start.elapsed().as_secs_f64();
    Ok((latencies, rate))
}

/// Two threads, each with its own file, as two shards have.
fn two_at_once(time: Duration, files: [&Arc<dyn File>; 2]) -> Result<Timed, String> {
    let mut both = (histogram(), 0.0);
    let results: Vec<Result<Timed, String>> = std::thread::scope(|scope| {
        let start = |file: &Arc<dyn File>| {
            let file = Arc::clone(file);
            scope.spawn(move || repeat(time, FILE_LEN, BLOCK, |at, buf| file.write_durable_blocking(at, buf)))
        };
        let threads = files.map(start);
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|_| Err("a thread panicked".to_owned())))
            .collect()
    });
    for result in results {
        let (latencies, rate) = result?;
        both.0.add(latencies).map_err(text)?;
        both.1 += rate;
    }
    Ok(both)
}

/// Run `main` on a shard's thread, whose ring the engine would use.
fn on_ring<T: Send + 'static>(
    machine: &Machine,
    main: impl FnOnce(Rc<dyn Executor>) -> LocalFuture<'static, Result<T, String>> + Send + 'static,
) -> Result<T, String> {
    let (answer, result) = channel();
    let body = Box::new(move |executor| {
        Box::pin(async move {
            let _ = answer.send(main(executor).await);
        }) as LocalFuture<'static, ()>
    });
    let processor = machine.processors().first().copied();
    let thread = machine.start_shard(ShardId(0), processor, body).map_err(text)?;
    let result = result.recv().map_err(text)?;
    thread.join();
    result
}

/// A durable write by a call that blocks and by the ring, in turns, so that what else the disk does meets both alike.
fn durable_both_ways(
    machine: &Machine,
    file: &Arc<dyn File>,
    len: usize,
    time: Duration,
) -> Result<[Timed; 2], String> {
    let file = Arc::clone(file);
    on_ring(machine, move |executor| {
        Box::pin(async move {
            let mut both = [(histogram(), 0.0), (histogram(), 0.0)];
            for _ in 0..ROUNDS {
                for (way, timed) in [DurableWay::Blocking, DurableWay::Ring].into_iter().zip(&mut both) {
                    let (latencies, rate) = durable(&executor, &file, way, len, time / ROUNDS).await?;
                    timed.0.add(latencies).map_err(text)?;
                    timed.1 += rate / f64::from(ROUNDS);
                }
            }
            Ok(both)
        })
    })
}

async fn durable(
    executor: &Rc<dyn Executor>,
    file: &Arc<dyn File>,
    way: DurableWay,
    len: usize,
    time: Duration,
) -> Result<Timed, String> {
    let mut buf = AlignedBuf::zeroed(len);
    buf.fill(0x5a);
    let mut latencies = histogram();
    let (start, mut at) = (Instant::now(), 0);
    while start.elapsed() < time {
        let began = Instant::now();
        match way {
            DurableWay::Blocking => file.write_durable_blocking(at, &buf).map_err(text)?,
            DurableWay::Ring => {
                let op = IoOp::WriteDurable { offset: at, buf: IoBuf::heap(buf, len) };
                buf = back(executor.io(file, op).await.written().map_err(text)?)?;
            }
        }
        record(&mut latencies, began);
        at = (at + len as u64) % FILE_LEN;
        executor.yield_now().await;
    }
    let rate = latencies.len() as f64 / start.elapsed().as_secs_f64();
    Ok((latencies, rate))
}

fn back(buf: IoBuf) -> Result<AlignedBuf, String> {
    match buf.into_backing() {
        Backing::Heap(buf) => Ok(buf),
        Backing::Slot(..) => Err("a buffer came back as another one".to_owned()),
    }
}

async fn reads(
    executor: &Rc<dyn Executor>,
    file: &Arc<dyn File>,
    depth: u32,
    len: usize,
    time: Duration,
) -> Result<Timed, String> {
    let mut latencies = histogram();
    let mut under_way = std::collections::VecDeque::new();
    let (start, mut count) = (Instant::now(), 0_u64);
    while start.elapsed() < time {
        while under_way.len() < depth as usize {
            // A prime visits all places, in no order that a disk foresees.
            let offset = count.wrapping_mul(7919) % (READ_LEN / len as u64) * len as u64;
            let op = IoOp::Read { offset, buf: IoBuf::heap(AlignedBuf::zeroed(len), len) };
            under_way.push_back((executor.io(file, op), Instant::now()));
            count += 1;
        }
        if let Some((oldest, began)) = under_way.pop_front() {
            oldest.await.result.map_err(text)?;
            record(&mut latencies, began);
        }
    }
    let rate = latencies.len() as f64 / start.elapsed().as_secs_f64();
    for (rest, _) in under_way {
        rest.await.result.map_err(text)?;
    }
    Ok((latencies, rate))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_measured_and_its_files_are_gone() {
        let dir = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).expect("a directory on the build's disk");
        let room = dir.path().join("room");
        std::fs::create_dir(&room).expect("a new directory");
        let machine = Machine::new(&room, false).expect("it is there");
        let findings = measure(&machine, Duration::from_millis(8)).expect("a disk that works");
        for (name, bytes, depth) in [("durable_blocking", 4096, 1), ("durable_ring", 262_144, 1), ("read", 4096, 64)] {
            let figure = findings.find(name, bytes, depth).unwrap_or_else(|| panic!("{name} was not measured"));
            assert!(figure.per_second > 0.0 && !figure.latencies.is_empty(), "{name}");
        }
        let text = disk_report::as_text(&findings);
        assert!(text.contains("durable puts of one thread") && text.contains("shards"), "{text}");
        run(dir.path(), Duration::from_millis(2), true).expect("again, as a user would");
        let left: Vec<_> =
            std::fs::read_dir(dir.path()).expect("it is there").flatten().map(|it| it.file_name()).collect();
        assert_eq!(left, ["room"]);
    }
}
