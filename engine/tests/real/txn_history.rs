//! What threads see of transactions over shards is strictly serializable, by two checkers that know nothing of each other.
//!
//! Clients append to lists, write registers, move money and add to a set, of a few keys on different shards: in optimistic transactions,
//! with kept keys, in programs of one step, by single calls and by scans, while checkpoints run. Keys are new in each course, so that lists
//! stay short and each course is judged by itself. `CORERING_TEST_TXNS` says how many transactions in all.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use crate::course::{Player, Record};
use corering_engine::{Client, Engine, Options, WriteOptions};
use corering_proof::txn::load::{Course, Judged, judge};
use corering_proof::txn::second_opinion::{Opinion, strictly_serializable};
use corering_proof::txn::{Action, Outcome, Txn, check};

const CLIENTS: u32 = 6;
/// Of each client in one course.
const EACH: u64 = 40;

/// A generator that needs no crate: the seeds are what counts.
struct Draw(u64);

impl Draw {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}

fn played(client: &Client, course: Course) -> Vec<Txn> {
    let (ticks, values) = (AtomicU64::new(0), AtomicI64::new(1));
    std::thread::scope(|scope| {
        let play = |number: u32| {
            let (ticks, values, client) = (&ticks, &values, client.clone());
            scope.spawn(move || {
                let mut draw =
                    Draw((course.number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (u64::from(number + 1) << 32));
                let tick = || ticks.fetch_add(1, Ordering::SeqCst);
                let write = WriteOptions::default();
                let player = Player { client, number, course, values, tick: &tick, blocks: true, write };
                let record = RefCell::new(Record::default());
                for _ in 0..EACH {
                    let goes_on = futures_lite::future::block_on(player.one(&mut |n| draw.below(n), &record));
                    assert!(goes_on, "course {}: the engine failed", course.number);
                }
                let Record { done, wrong, .. } = record.into_inner();
                assert_eq!(wrong, None, "course {}", course.number);
                done
            })
        };
        let clients: Vec<_> = (0..CLIENTS).map(play).collect();
        clients.into_iter().flat_map(|client| client.join().expect("a client")).collect()
    })
}

#[test]
fn transactions_of_many_threads_are_strictly_serializable() {
    let wanted = std::env::var("CORERING_TEST_TXNS").map_or(6_000, |n| n.parse().expect("a number"));
    let dir = tempfile::tempdir().unwrap();
    let options = Options { shards: Some(3), segment_bytes: 1 << 20, memtable_bytes: 256 << 10, ..Options::default() };
    let engine = Engine::open(dir.path(), options).unwrap();
    let client = engine.client();
    let over = Arc::new(AtomicBool::new(false));
    let checkpoints = {
        let (engine, over) = (engine.clone(), Arc::clone(&over));
        std::thread::spawn(move || {
            while !over.load(Ordering::Relaxed) {
                engine.checkpoint().unwrap();
                std::thread::sleep(std::time::Duration::from_millis(50));
            }
        })
    };
    let mut total = Judged::default();
    while total.transactions < wanted {
        let course = Course::of(total.courses);
        let judged = judge(&played(&client, course)).unwrap_or_else(|why| panic!("{course:?}: {why}"));
        total.add(&judged);
    }
    over.store(true, Ordering::Relaxed);
    checkpoints.join().unwrap();
    println!("{total}");
    assert!(total.committed * 2 > total.transactions, "{total}");
}

/// One answer set back, and both checkers say so.
#[test]
fn a_stale_read_among_them_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { shards: Some(3), segment_bytes: 1 << 20, memtable_bytes: 256 << 10, ..Options::default() };
    let engine = Engine::open(dir.path(), options).unwrap();
    let mut history = played(&engine.client(), Course::of(0));
    let longest = history
        .iter_mut()
        .filter(|txn| matches!(txn.outcome, Outcome::Committed { .. }))
        .flat_map(|txn| &mut txn.actions);
    let list = longest.filter_map(|action| match action {
        Action::ReadList { values, .. } => Some(values),
        _ => None,
    });
    let list = list.max_by_key(|values| values.len()).expect("a list was read");
    assert!(list.len() > 3, "{list:?}");
    list.truncate(1);
    assert!(!check(&history).is_empty());
    assert!(matches!(strictly_serializable(&history), Opinion::Bad(_)));
}
