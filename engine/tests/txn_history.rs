//! What threads see of transactions over shards is strictly serializable, by two checkers that know nothing of each other.
//!
//! Clients append to lists and write registers of a few keys on different shards: in optimistic transactions, with kept keys, in programs of
//! one step, by single calls and by scans, while checkpoints run. Keys are new in each round, so that lists stay short and each round is
//! judged by itself. `CORERING_TEST_TXNS` says how many transactions in all.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use corering_engine::{
    Client, Engine, Error, Expiry, Keys, Keyspace, Kind, Options, ScanRange, Transaction, TransactionOptions,
    WriteOptions,
};
use corering_proof::txn::second_opinion::{Opinion, strictly_serializable};
use corering_proof::txn::{Action, Outcome, Txn, check};

const KS: Keyspace = Keyspace::DEFAULT;
const CLIENTS: u32 = 6;
const KEYS: u64 = 5;
/// Of each client in one round.
const ROUND: u64 = 40;

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

struct Round<'a> {
    client: &'a Client,
    number: u64,
    lists: bool,
    ticks: &'a AtomicU64,
    values: &'a AtomicI64,
}

impl Round<'_> {
    fn key(&self, key: u64) -> Vec<u8> {
        format!("round{}:{key}", self.number).into_bytes()
    }

    fn read(&self, key: u64, found: Option<&[u8]>) -> Action {
        let numbers = |bytes: &[u8]| bytes.chunks_exact(8).map(|c| i64::from_le_bytes(c.try_into().unwrap())).collect();
        match self.lists {
            true => Action::ReadList { key, values: found.map_or(Vec::new(), numbers) },
            false => Action::Read { key, value: found.map(|bytes| i64::from_le_bytes(bytes.try_into().unwrap())) },
        }
    }

    /// What stands under a key once `value` was written to it.
    fn after(&self, found: Option<&[u8]>, value: i64) -> Vec<u8> {
        let mut bytes = if self.lists { found.map_or(Vec::new(), <[u8]>::to_vec) } else { Vec::new() };
        bytes.extend(value.to_le_bytes());
        bytes
    }

    fn write(&self, key: u64, value: i64) -> Action {
        if self.lists { Action::Append { key, value } } else { Action::Write { key, value } }
    }

    fn interactive(&self, draw: &mut Draw, actions: &mut Vec<Action>) -> Result<(), Error> {
        let mut tx = self.client.begin(TransactionOptions::default())?;
        for _ in 0..1 + draw.below(4) {
            let key = draw.below(KEYS);
            let found = match draw.below(4) {
                0 => tx.get_for_update(KS, &self.key(key))?,
                _ => tx.get(KS, &self.key(key))?,
            };
            let found = found.map(|value| value.bytes);
            if draw.below(2) == 0 {
                actions.push(self.read(key, found.as_deref()));
                continue;
            }
            if !self.lists {
                actions.push(self.read(key, found.as_deref()));
            }
            let value = self.values.fetch_add(1, Ordering::Relaxed);
            tx.put(KS, &self.key(key), &self.after(found.as_deref(), value))?;
            actions.push(self.write(key, value));
        }
        if draw.below(8) == 0 {
            self.scan(&mut tx, actions)?;
        }
        tx.commit().wait().map(drop)
    }

    /// All keys that are there are read; those that are not are read as absent.
    fn scan(&self, tx: &mut Transaction, actions: &mut Vec<Action>) -> Result<(), Error> {
        let rows = tx.scan(ScanRange::prefix(KS, format!("round{}:", self.number).as_bytes()), 100)?;
        for key in 0..KEYS {
            let row = rows.iter().find(|row| row.key == self.key(key));
            actions.push(self.read(key, row.map(|row| &row.value.bytes[..])));
        }
        Ok(())
    }

    fn program(&self, draw: &mut Draw, actions: &mut Vec<Action>) -> Result<(), Error> {
        let (a, b) = (draw.below(KEYS), draw.below(KEYS));
        let (key_a, key_b) = (self.key(a), self.key(b));
        let value = self.values.fetch_add(1, Ordering::Relaxed);
        let lists = self.lists;
        let own = [key_a.clone(), key_b.clone()];
        let seen = self.client.run_over(Keys::Of(&[&key_a, &key_b]), Vec::new(), WriteOptions::default(), move |tx| {
            let seen = tx.get(KS, &own[0])?.map(|value| value.bytes.to_vec());
            let before = tx.get(KS, &own[1])?.map(|value| value.bytes.to_vec());
            let mut after = if lists { before.clone().unwrap_or_default() } else { Vec::new() };
            after.extend(value.to_le_bytes());
            tx.put(KS, &own[1], &after, Kind::BYTES, Expiry::NEVER)?;
            Ok((seen, before))
        });
        // What was asked for, should nobody hear the answer.
        actions.push(self.write(b, value));
        let (seen, before) = seen.wait()?;
        actions.insert(0, self.read(a, seen.as_deref()));
        if !self.lists {
            actions.insert(1, self.read(b, before.as_deref()));
        }
        Ok(())
    }

    fn one(&self, client: u32, draw: &mut Draw) -> Txn {
        let asked = self.ticks.fetch_add(1, Ordering::SeqCst);
        let mut actions = Vec::new();
        let done = match draw.below(10) {
            0..5 => self.interactive(draw, &mut actions),
            5..8 => self.program(draw, &mut actions),
            8 => {
                let options = TransactionOptions { read_only: true, ..TransactionOptions::default() };
                self.client.begin(options).and_then(|mut tx| self.scan(&mut tx, &mut actions))
            }
            _ => {
                let key = draw.below(KEYS);
                let found = self.client.get(KS, &self.key(key));
                found.map(|found| actions.push(self.read(key, found.map(|value| value.bytes).as_deref())))
            }
        };
        let outcome = match done {
            Ok(()) => Outcome::Committed { at: self.ticks.fetch_add(1, Ordering::SeqCst) },
            Err(error) if error.is_retryable() => Outcome::Aborted,
            Err(error) => panic!("{error}"),
        };
        Txn { client, actions, asked, outcome }
    }
}

fn played(client: &Client, number: u64) -> Vec<Txn> {
    let (ticks, values) = (AtomicU64::new(0), AtomicI64::new(1));
    let round = Round { client, number, lists: number.is_multiple_of(2), ticks: &ticks, values: &values };
    std::thread::scope(|scope| {
        let play = |n: u32| {
            let round = &round;
            scope.spawn(move || {
                let mut draw = Draw((number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (u64::from(n + 1) << 32));
                (0..ROUND).map(|_| round.one(n, &mut draw)).collect::<Vec<Txn>>()
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
    let (mut transactions, mut committed, mut rounds, mut undecided) = (0, 0, 0, 0);
    while transactions < wanted {
        let history = played(&client, rounds);
        transactions += history.len() as u64;
        committed += history.iter().filter(|txn| matches!(txn.outcome, Outcome::Committed { .. })).count();
        let anomalies = check(&history);
        assert!(anomalies.is_empty(), "round {rounds}: {anomalies:#?}");
        match strictly_serializable(&history) {
            Opinion::Good => {}
            Opinion::Undecided => undecided += 1,
            Opinion::Bad(names) => panic!("round {rounds}: {names:?}"),
        }
        rounds += 1;
    }
    over.store(true, Ordering::Relaxed);
    checkpoints.join().unwrap();
    println!(
        "{transactions} transactions in {rounds} rounds, {committed} committed, {undecided} rounds undecided by the second checker"
    );
    assert!(committed as u64 * 2 > transactions, "{committed} of {transactions} committed");
}

/// One answer set back, and both checkers say so.
#[test]
fn a_stale_read_among_them_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { shards: Some(3), segment_bytes: 1 << 20, memtable_bytes: 256 << 10, ..Options::default() };
    let engine = Engine::open(dir.path(), options).unwrap();
    let mut history = played(&engine.client(), 0);
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
