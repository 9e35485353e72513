//! `cargo run --release -p corering-benches --bin lock-bench`: what locks cost in this process, as text on standard error and JSON on
//! standard output. `benches/locks/compare.py` runs it beside Redis and etcd.
//!
//! Memory is what the allocator gave out, counted; the log and the memtable are not in it where the table is measured alone.

#![deny(unsafe_code)]

use std::alloc::System;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use corering_benches::data::{Database, options};
use corering_engine::lock::Mode;
use corering_engine::lock::table::{Ask, Decision, LockTable, Wanted};
use corering_engine::{
    Acquire, AskId, Client, Durability, FencingToken, LockHandle, NewSession, SessionId, SessionKey, Wait,
};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static COUNTED: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const CONTENDERS: [usize; 4] = [1, 2, 16, 64];
const LEVELS: [(Durability, &str); 2] = [(Durability::None, "none"), (Durability::Sync, "sync")];
const DAY: Duration = Duration::from_secs(86_400);

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// A line for people, and one for programs.
fn tell(what: &str, facts: &[(&str, f64)]) {
    let text: Vec<String> = facts.iter().map(|(name, value)| format!("{name} {value:.1}")).collect();
    eprintln!("{what:<48} {}", text.join(", "));
    let json: Vec<String> = facts.iter().map(|(name, value)| format!("\"{name}\":{value:.3}")).collect();
    println!("{{\"what\":\"{what}\",{}}}", json.join(","));
}

fn main() {
    let seconds = number("LOCK_BENCH_SECONDS", 2);
    table_steps();
    table_memory();
    let database = Database::create("locks", options());
    let client = database.engine.client();
    for (level, name) in LEVELS {
        for contenders in CONTENDERS {
            contend(&client, contenders, level, name, Duration::from_secs(seconds));
        }
    }
    crowd(&client, number("LOCK_BENCH_WAITERS", 1_000_000));
}

fn session(client: &Client) -> SessionKey {
    client.create_session(NewSession { ttl: DAY, label: Vec::new() }).wait().expect("a session")
}

fn ask(session: u64) -> Ask {
    Ask { session: SessionId(session), mode: Mode::Exclusive, lease_ms: None }
}

fn take(table: &mut LockTable<u64>, name: &[u8], ask: &Ask, token: u64) {
    let id = table.find_or_add(name);
    match table.decide(id, ask, 0, 0) {
        Ok(Decision::Grant(hold)) => table.enter(id, hold, FencingToken(token), 0),
        other => panic!("{other:?}"),
    }
}

fn drop_it(table: &mut LockTable<u64>, name: &[u8], ask: &Ask) {
    let id = table.find(name).expect("it is held");
    table.decide_release(id, ask.session, None, 0).expect("it is held");
    table.remove(id, ask.session);
    table.settle(id);
}

/// Acquire and release in the table alone: no log, no session's deadline, no thread.
fn table_steps() {
    const STEPS: u64 = 2_000_000;
    for (held, what) in
        [(0, "table: acquire+release, nothing else held"), (200_000, "table: the same beside 200,000 locks")]
    {
        let mut table: LockTable<u64> = LockTable::new(7);
        (0..held).for_each(|n| take(&mut table, format!("lock:{n:012}").as_bytes(), &ask(n % 1000), n + 1));
        let names: Vec<Vec<u8>> = (0..64).map(|n| format!("free:{n:012}").into_bytes()).collect();
        let asks: Vec<Ask> = (1..=4).map(ask).collect();
        let began = Instant::now();
        for n in 0..STEPS {
            let (name, ask) = (&names[n as usize % 64], &asks[n as usize % 4]);
            take(&mut table, name, ask, held + n + 1);
            drop_it(&mut table, name, ask);
        }
        tell(what, &[("ns", began.elapsed().as_nanos() as f64 / STEPS as f64)]);
    }
}

fn table_memory() {
    const N: u64 = 200_000;
    let live = |region: &Region<'_, System>| {
        let change = region.change();
        (change.bytes_allocated as f64 - change.bytes_deallocated as f64) / N as f64
    };
    let region = Region::new(COUNTED);
    let mut table: LockTable<u64> = LockTable::new(7);
    (0..N).for_each(|n| take(&mut table, format!("lock:{n:012}").as_bytes(), &ask(n % 1000), n + 1));
    tell("table: a lock of 17 bytes with its holder", &[("bytes", live(&region))]);
    let region = Region::new(COUNTED);
    let id = table.find_or_add(b"lock:000000000000");
    (0..N).for_each(|n| {
        let wanted = Wanted { ask: ask(500), until_ms: u64::MAX, id: None, reply: n };
        table.stand_in_line(id, wanted, 0);
    });
    tell("table: a waiter, all of one session", &[("bytes", live(&region))]);
    drop(table);
    let mut table: LockTable<u64> = LockTable::new(7);
    take(&mut table, b"one", &ask(0), 1);
    let id = table.find_or_add(b"one");
    let region = Region::new(COUNTED);
    (1..=N).for_each(|n| {
        let wanted = Wanted { ask: ask(n), until_ms: 1_000_000 + n, id: None, reply: n };
        table.stand_in_line(id, wanted, 0);
    });
    tell("table: a waiter with session and deadline of its own", &[("bytes", live(&region))]);
    drop(table);
    let mut table: LockTable<u64> = LockTable::new(7);
    let region = Region::new(COUNTED);
    (1..=N).for_each(|n| take(&mut table, b"one", &Ask { mode: Mode::Shared, ..ask(n) }, n));
    tell("table: a shared hold of one lock", &[("bytes", live(&region))]);
}

/// Threads that take one lock by turns, each with a session of its own.
fn contend(client: &Client, contenders: usize, level: Durability, level_name: &str, time: Duration) {
    let (begin, over) = (Barrier::new(contenders + 1), AtomicBool::new(false));
    let mut times: Vec<Vec<u32>> = Vec::new();
    let mut elapsed = 0.0;
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..contenders)
            .map(|_| {
                let (begin, over) = (&begin, &over);
                scope.spawn(move || {
                    let key = session(client);
                    let wait = Wait::AsLongAsTheSession;
                    let acquire =
                        Acquire { session: key, mode: Mode::Exclusive, wait, lease: None, durability: Some(level) };
                    let mut times = Vec::new();
                    begin.wait();
                    while !over.load(Ordering::Relaxed) {
                        let began = Instant::now();
                        let grant = client.acquire(b"contended", acquire).wait().expect("a lock");
                        let lock = LockHandle { name: b"contended", session: key, token: Some(grant.token) };
                        client.release(lock, Some(level)).wait().expect("a release");
                        times.push(u32::try_from(began.elapsed().as_nanos()).unwrap_or(u32::MAX));
                    }
                    client.end_session(key).wait().expect("the end of a session");
                    times
                })
            })
            .collect();
        begin.wait();
        let began = Instant::now();
        std::thread::sleep(time);
        over.store(true, Ordering::Relaxed);
        times = threads.into_iter().map(|thread| thread.join().expect("a contender")).collect();
        elapsed = began.elapsed().as_secs_f64();
    });
    let least = times.iter().map(Vec::len).min().unwrap_or(0);
    let most = times.iter().map(Vec::len).max().unwrap_or(0);
    let mut all: Vec<u32> = times.into_iter().flatten().collect();
    all.sort_unstable();
    let at = |part: f64| f64::from(all[((all.len() - 1) as f64 * part) as usize]) / 1000.0;
    tell(
        &format!("in process: {contenders} contenders, {level_name}"),
        &[
            ("per_s", all.len() as f64 / elapsed),
            ("p50_us", at(0.5)),
            ("p99_us", at(0.99)),
            ("least_per_most", least as f64 / most as f64),
        ],
    );
}

/// A million requests in one line, and what each step then costs.
fn crowd(client: &Client, waiters: u64) {
    let (holder, many) = (session(client), session(client));
    let ask = |session, wait| Acquire {
        session,
        mode: Mode::Exclusive,
        wait,
        lease: None,
        durability: Some(Durability::None),
    };
    client.acquire(b"crowd", ask(holder, Wait::No)).wait().expect("a free lock");
    let region = Region::new(COUNTED);
    let began = Instant::now();
    let ask_one = |n| {
        loop {
            let answer = client.acquire_as(AskId(n), b"crowd", ask(many, Wait::AsLongAsTheSession));
            if !answer.is_ready() {
                break answer;
            }
            // The shard's inbox is full for a moment.
            assert!(answer.wait().is_err_and(|error| error.is_retryable()), "nobody is granted it yet");
            std::thread::yield_now();
        }
    };
    let line: Vec<_> = (0..waiters).map(ask_one).collect();
    let each = began.elapsed().as_nanos() as f64 / waiters as f64;
    let change = region.change();
    let bytes = (change.bytes_allocated as f64 - change.bytes_deallocated as f64) / waiters as f64;
    tell(&format!("crowd of {waiters}: to stand in line"), &[("ns", each), ("bytes", bytes)]);

    let steps = 1000.min(waiters / 4);
    let timed = |what: &str, mut step: Box<dyn FnMut(u64) + '_>| {
        let (began, mut longest) = (Instant::now(), Duration::ZERO);
        for n in 0..steps {
            let one = Instant::now();
            step(n);
            longest = longest.max(one.elapsed());
        }
        let each = began.elapsed().as_nanos() as f64 / steps as f64;
        let name = format!("crowd of {waiters}: {what}");
        tell(&name, &[("ns", each), ("longest_us", longest.as_nanos() as f64 / 1000.0)]);
    };
    timed(
        "cancel one in the middle",
        Box::new(|n| assert!(client.cancel(AskId(waiters / 2 + n), b"crowd", many.id).wait().expect("a cancel"))),
    );
    timed(
        "inspect it",
        Box::new(|_| {
            let info = client.lock_info_of(b"crowd", 10).wait().expect("an inspection").expect("it is held");
            assert_eq!(info.waiters as u64, waiters - steps);
        }),
    );
    timed(
        "acquire+release of another lock",
        Box::new(|_| {
            let token = client.acquire(b"{crowd}other", ask(holder, Wait::No)).wait().expect("a lock").token;
            let lock = LockHandle { name: b"{crowd}other", session: holder, token: Some(token) };
            client.release(lock, Some(Durability::None)).wait().expect("a release");
        }),
    );
    let lock = LockHandle { name: b"crowd", session: holder, token: None };
    client.release(lock, Some(Durability::None)).wait().expect("a release");
    let began = Instant::now();
    let granted = line.into_iter().filter_map(|answer| answer.wait().ok()).count() as u64;
    // All are of one session, which then holds it as often as it asked.
    assert_eq!(granted, waiters - steps);
    let ns = began.elapsed().as_nanos() as f64 / granted as f64;
    tell(&format!("crowd of {waiters}: grants down the line"), &[("ns", ns)]);
    client.end_session(many).wait().expect("the end of a session");
}
