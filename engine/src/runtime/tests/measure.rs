//! Numbers for docs/perf.md, printed and not judged: `cargo test --release -p corering-engine measure -- --ignored --nocapture`.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::net::{bound, serve};
use super::{machine, on_processor, on_shard};
use crate::runtime::buffer::Backing;
use crate::runtime::host::Machine;
use crate::runtime::{AlignedBuf, DurableWay, Executor, File, Host, IoBuf, IoOp, LocalFuture, OpenMode, TaskClass};

const FILE_LEN: usize = 32 << 20;

fn zeroed_file(host: &dyn Host) -> Arc<dyn File> {
    let file = host.fs().open(Path::new("f"), OpenMode::CreateNewDirect).unwrap();
    file.write_durable_blocking(0, &AlignedBuf::zeroed(FILE_LEN)).unwrap();
    file
}

/// Microseconds of durable writes of `len` bytes, made for `time`.
async fn durable_writes(
    executor: &Rc<dyn Executor>,
    file: &Arc<dyn File>,
    way: DurableWay,
    len: usize,
    time: Duration,
) -> Vec<f64> {
    let mut buf = AlignedBuf::zeroed(len);
    let mut took = Vec::new();
    let start = Instant::now();
    let mut offset = 0;
    while start.elapsed() < time {
        let begin = Instant::now();
        match way {
            DurableWay::Blocking => file.write_durable_blocking(offset as u64, &buf).unwrap(),
            DurableWay::Ring => {
                let op = IoOp::WriteDurable { offset: offset as u64, buf: IoBuf::heap(buf, len) };
                let done = executor.io(file, op).await;
                done.result.unwrap();
                let Backing::Heap(back) = done.buf.unwrap().into_backing() else { panic!("it was heap memory") };
                buf = back;
            }
        }
        took.push(begin.elapsed().as_secs_f64() * 1e6);
        offset = (offset + len) % FILE_LEN;
        executor.yield_now().await;
    }
    took
}

/// Both ways in turns, so that what else the machine does meets them alike.
fn compare_durable_writes(host: &Machine, file: &Arc<dyn File>, processor: Option<usize>, len: usize, label: &str) {
    let file = Arc::clone(file);
    let main = move |executor: Rc<dyn Executor>| -> LocalFuture<'static, _> {
        Box::pin(async move {
            let mut took = [Vec::new(), Vec::new()];
            for _ in 0..8 {
                for (way, took) in [DurableWay::Blocking, DurableWay::Ring].into_iter().zip(&mut took) {
                    took.extend(durable_writes(&executor, &file, way, len, Duration::from_millis(60)).await);
                }
            }
            took
        })
    };
    for (way, mut took) in ["blocking", "ring"].into_iter().zip(on_processor(host, processor, main)) {
        took.sort_unstable_by(f64::total_cmp);
        let at = |q: f64| took[((took.len() - 1) as f64 * q) as usize];
        let (kib, count, sum) = (len >> 10, took.len(), took.iter().sum::<f64>());
        println!(
            "durable {kib:>4} KiB, {label}, {way:>8}: p50 {:.0} us, p90 {:.0}, p99 {:.0}, mean {:.0} ({count} writes)",
            at(0.5),
            at(0.9),
            at(0.99),
            sum / count as f64
        );
    }
}

#[test]
#[ignore = "a measurement"]
fn measure_durable_writes() {
    let dir = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
    let host = machine(dir.path());
    let file = zeroed_file(&host);
    for busy in [0, 2] {
        let stop = Arc::new(AtomicBool::new(false));
        let spinners: Vec<_> = (0..busy)
            .map(|_| {
                let stop = Arc::clone(&stop);
                thread::spawn(move || while !stop.load(Ordering::Relaxed) {})
            })
            .collect();
        for len in [4 << 10, 64 << 10, 256 << 10, 1 << 20] {
            for processor in [None, Some(host.processors()[0])] {
                let label = format!("{busy} spinning, {}", if processor.is_some() { "pinned" } else { "not pinned" });
                compare_durable_writes(&host, &file, processor, len, &label);
            }
        }
        stop.store(true, Ordering::Relaxed);
        spinners.into_iter().for_each(|spinner| spinner.join().unwrap());
    }
}

#[test]
#[ignore = "a measurement"]
fn measure_task_and_file_costs() {
    let dir = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
    let host = machine(dir.path());
    let file = zeroed_file(&host);
    on_shard(&host, move |executor| {
        Box::pin(async move {
            const ROUNDS: u32 = 200_000;
            let start = Instant::now();
            for _ in 0..ROUNDS {
                executor.yield_now().await;
            }
            println!("yield: {:.0} ns", start.elapsed().as_nanos() as f64 / f64::from(ROUNDS));
            let start = Instant::now();
            for _ in 0..ROUNDS {
                executor.spawn(TaskClass::Foreground, Box::pin(async {}));
            }
            executor.yield_now().await;
            println!("spawn and run: {:.0} ns", start.elapsed().as_nanos() as f64 / f64::from(ROUNDS));
            for depth in [1_u64, 16, 64] {
                let mut under_way = std::collections::VecDeque::new();
                let start = Instant::now();
                let mut count = 0_u64;
                while start.elapsed() < Duration::from_millis(500) {
                    while under_way.len() < depth as usize {
                        let offset = count * 7919 % (FILE_LEN as u64 / 4096) * 4096;
                        let buf = IoBuf::heap(AlignedBuf::zeroed(4096), 4096);
                        under_way.push_back(executor.io(&file, IoOp::Read { offset, buf }));
                        count += 1;
                    }
                    under_way.pop_front().unwrap().await.result.unwrap();
                }
                println!("reads of 4 KiB at depth {depth}: {:.0}/s", count as f64 / start.elapsed().as_secs_f64());
                for io in under_way {
                    io.await;
                }
            }
        })
    });
}

fn thread_cpu() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(text.split(' ').next().unwrap().parse().unwrap())
}

/// Requests answered per second, and processor time of the shard's thread for each, over some connections that each
/// send some requests at once.
#[test]
#[ignore = "a measurement"]
fn measure_echo() {
    for (connections, pipeline) in [(1, 1), (8, 1), (50, 1), (50, 16)] {
        let dir = tempfile::tempdir().unwrap();
        let (bound, address) = bound();
        let client = thread::spawn(move || {
            let mut streams: Vec<_> = (0..connections).map(|_| TcpStream::connect(address).unwrap()).collect();
            streams.iter().for_each(|stream| stream.set_nodelay(true).unwrap());
            let (request, mut got) = (vec![b'x'; 64 * pipeline], vec![0; 64 * pipeline]);
            let (start, mut count) = (Instant::now(), 0);
            while start.elapsed() < Duration::from_secs(1) {
                streams.iter_mut().for_each(|stream| stream.write_all(&request).unwrap());
                streams.iter_mut().for_each(|stream| stream.read_exact(&mut got).unwrap());
                count += connections * pipeline;
            }
            (count as f64, start.elapsed().as_secs_f64())
        });
        let cpu = on_shard(&machine(dir.path()), move |executor| {
            Box::pin(async move {
                let listener = executor.net().unwrap().listener(bound);
                let before = thread_cpu();
                serve(executor, listener, connections).await;
                thread_cpu() - before
            })
        });
        let (count, seconds) = client.join().unwrap();
        println!(
            "echo, {connections} connections, {pipeline} at once: {:.0}/s, {:.2} us of the shard's processor each",
            count / seconds,
            cpu.as_secs_f64() * 1e6 / count
        );
    }
}
