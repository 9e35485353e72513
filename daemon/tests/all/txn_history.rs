//! Histories of transactions recorded by clients over sockets, through kills, restarts and pauses of the daemon: strictly serializable by two
//! checkers.
//!
//! Clients append to lists, write registers, move money and add to a set: by TX.*, by MULTI and EXEC in one piece, by WATCH, by MGET and
//! by single reads. What was under way at a kill is asked about by TX.FATE where it has a name, and stays unknown where it has none.
//! `CORERING_TEST_TXNS` says how many transactions in all (6000).

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU16, AtomicU64, Ordering};
use std::time::Duration;

use crate::common::client::encode;
use crate::common::{Client, Server};
use corering_daemon::resp::Value;
use corering_proof::txn::load::{Course, Doing, Judged, Plan, Step, Way, judge};
use corering_proof::txn::{Outcome, Txn};

const CLIENTS: u32 = 6;
/// Of each client in one course.
const EACH: u32 = 40;

/// Why a transaction did not get to its end.
enum Ended {
    /// For certain, nothing was done.
    Refused,
    /// The connection went before it was asked to commit.
    Gone,
    /// It went behind that.
    Unknown,
}

impl From<std::io::Error> for Ended {
    fn from(_: std::io::Error) -> Ended {
        Ended::Gone
    }
}

/// One client; it connects again whenever the server is back.
struct Player<'a> {
    port: &'a AtomicU16,
    client: Option<Client>,
    number: u32,
    course: Course,
    values: &'a AtomicI64,
    ticks: &'a AtomicU64,
    random: fastrand::Rng,
    wrong: Option<String>,
}

fn bytes(value: &Value) -> Option<&[u8]> {
    match value {
        Value::Bulk(bytes) => Some(bytes),
        Value::Null => None,
        other => panic!("{other:?} is no string"),
    }
}

impl Player<'_> {
    fn tick(&self) -> u64 {
        self.ticks.fetch_add(1, Ordering::SeqCst)
    }

    fn connected(&mut self) -> &mut Client {
        while self.client.is_none() {
            self.client = Client::try_connect(self.port.load(Ordering::SeqCst)).ok();
            if self.client.is_none() {
                std::thread::sleep(Duration::from_millis(2));
            }
        }
        self.client.as_mut().expect("connected just now")
    }

    /// A reply that is not an error, unless it is one that says that nothing was done.
    fn call(&mut self, args: &[&[u8]]) -> Result<Value, Ended> {
        let reply = self.connected().try_call(args)?;
        Player::accept(reply)
    }

    fn accept(reply: Value) -> Result<Value, Ended> {
        match &reply {
            Value::Error(text) => {
                let code = text.split(|byte| *byte == b' ').next().unwrap_or_default();
                match code {
                    b"CONFLICT" | b"TRYAGAIN" | b"NOTX" | b"TXTOOOLD" => Err(Ended::Refused),
                    _ => panic!("{}", text.escape_ascii()),
                }
            }
            _ => Ok(reply),
        }
    }

    fn one(&mut self) -> Txn {
        let mut random = self.random.fork();
        let plan = self.course.plan(|n| random.u64(..n), self.values);
        self.connected();
        let asked = self.tick();
        let mut doing = Doing::new(self.course);
        let done = match (plan.way, self.course.workload) {
            (Way::ReadOnly, _) if random.bool() => self.read_all(&mut doing),
            (Way::Interactive | Way::ReadOnly, _) => self.interactive(&plan, &mut doing),
            (Way::AtOnce, corering_proof::txn::load::Workload::Bank) => self.watching(&plan, &mut doing),
            (Way::AtOnce, _) => self.at_once(&plan, &mut doing),
            (Way::Single, _) => self.single(&plan, &mut doing),
        };
        let outcome = match done {
            Ok(()) => Outcome::Committed { at: self.tick() },
            Err(Ended::Refused) => Outcome::Aborted,
            Err(Ended::Gone) => {
                self.client = None;
                Outcome::Aborted
            }
            Err(Ended::Unknown) => {
                self.client = None;
                Outcome::Unknown
            }
        };
        Txn { client: self.number, actions: doing.actions, asked, outcome }
    }

    fn single(&mut self, plan: &Plan, doing: &mut Doing) -> Result<(), Ended> {
        for step in &plan.steps {
            if let Step::Look { key, .. } = *step {
                let name = self.course.key(key);
                let found = self.call(&[b"GET", &name])?;
                doing.looked(key, bytes(&found));
            }
        }
        Ok(())
    }

    fn read_all(&mut self, doing: &mut Doing) -> Result<(), Ended> {
        let names: Vec<Vec<u8>> = (0..self.course.keys()).map(|key| self.course.key(key)).collect();
        let args: Vec<&[u8]> = std::iter::once(&b"MGET"[..]).chain(names.iter().map(|name| &name[..])).collect();
        let reply = self.call(&args)?;
        let values = reply.as_array().expect("MGET answers an array");
        let rows = names.iter().zip(values).filter_map(|(name, value)| Some((&name[..], bytes(value)?)));
        self.wrong = doing.looked_at_all(rows).err().or(self.wrong.take());
        Ok(())
    }

    fn interactive(&mut self, plan: &Plan, doing: &mut Doing) -> Result<(), Ended> {
        let begin: &[&[u8]] = if plan.way == Way::ReadOnly { &[b"TX.BEGIN", b"READONLY"] } else { &[b"TX.BEGIN"] };
        let id = bytes(&self.call(begin)?).expect("an id").to_vec();
        let mut wrong = None;
        for step in &plan.steps {
            match *step {
                Step::Look { key, keep } | Step::Change { key, keep, .. } => {
                    let name = self.course.key(key);
                    let get: &[u8] = if keep { b"TX.GETFORUPDATE" } else { b"TX.GET" };
                    let found = self.call(&[get, &id, &name])?;
                    match *step {
                        Step::Change { value, by, .. } => {
                            if let Some(write) = doing.change(key, bytes(&found), value, by) {
                                self.call(&[b"TX.SET", &id, &name, &write])?;
                            }
                        }
                        Step::Look { .. } | Step::LookAtAll => doing.looked(key, bytes(&found)),
                    }
                }
                Step::LookAtAll => {
                    let reply = self.call(&[b"TX.SCAN", &id, b"PREFIX", &self.course.prefix()])?;
                    let items = reply.as_array().expect("TX.SCAN answers an array");
                    let rows = items.chunks(2).map(|row| (bytes(&row[0]).unwrap(), bytes(&row[1]).unwrap()));
                    wrong = doing.looked_at_all(rows).err();
                }
            }
        }
        let commit = match self.connected().try_call(&[b"TX.COMMIT", &id[..]]) {
            Ok(reply) => Player::accept(reply)?.as_integer().expect("a commit's number"),
            Err(_) => self.fate(&id).ok_or(Ended::Refused)?,
        };
        // Now and then, what is told is told again.
        if commit > 0 && self.random.u32(..16) == 0 {
            assert_eq!(self.fate(&id), Some(commit), "the fate is not what was answered");
        }
        self.wrong = wrong.or(self.wrong.take());
        Ok(())
    }

    /// What became of a transaction of which nobody told.
    fn fate(&mut self, id: &[u8]) -> Option<i64> {
        loop {
            match self.connected().try_call(&[b"TX.FATE", id]) {
                Ok(Value::Null) => return None,
                Ok(Value::Integer(commit)) => return Some(commit),
                Ok(Value::Error(text)) if text.starts_with(b"TRYAGAIN ") => {}
                Ok(other) => panic!("TX.FATE answered {other:?}"),
                Err(_) => self.client = None,
            }
        }
    }

    /// MULTI, the commands and EXEC in one piece.
    fn at_once(&mut self, plan: &Plan, doing: &mut Doing) -> Result<(), Ended> {
        let lists = self.course.workload == corering_proof::txn::load::Workload::Lists;
        let set = self.course.workload == corering_proof::txn::load::Workload::Set;
        let mut sent = encode(&["MULTI"]);
        for step in &plan.steps {
            match *step {
                Step::Look { key, .. } => sent.extend(encode(&[&b"GET"[..], &self.course.key(key)])),
                Step::Change { key, value, .. } => {
                    let (name, value) = (self.course.key(key), value.to_le_bytes());
                    sent.extend(match (lists, set) {
                        (true, _) => encode(&[&b"APPEND"[..], &name, &value]),
                        (_, true) => encode(&[&b"SET"[..], &name, &value, b"NX", b"GET"]),
                        _ => encode(&[&b"SET"[..], &name, &value, b"GET"]),
                    });
                }
                Step::LookAtAll => unreachable!("only step by step"),
            }
        }
        sent.extend(encode(&["EXEC"]));
        doing.actions = Doing::unknown(self.course, plan);
        let client = self.connected();
        let replied = client.send_raw(&sent).and_then(|()| {
            for _ in 0..=plan.steps.len() {
                client.reply()?;
            }
            client.reply()
        });
        let reply = Player::accept(replied.map_err(|_| Ended::Unknown)?)?;
        let mut told = Doing::new(self.course);
        let parts = reply.as_array().expect("EXEC answers an array");
        assert_eq!(parts.len(), plan.steps.len());
        for (step, part) in plan.steps.iter().zip(parts) {
            match *step {
                Step::Change { key, value, by, .. } => {
                    let found = if lists { None } else { bytes(part) };
                    told.change(key, found, value, by);
                }
                Step::Look { key, .. } => told.looked(key, bytes(part)),
                Step::LookAtAll => {}
            }
        }
        *doing = told;
        Ok(())
    }

    /// WATCH, reads, and an EXEC that writes what follows from them.
    fn watching(&mut self, plan: &Plan, doing: &mut Doing) -> Result<(), Ended> {
        let keys: Vec<Vec<u8>> = plan.steps.iter().filter_map(changed).map(|key| self.course.key(key)).collect();
        let watch: Vec<&[u8]> = std::iter::once(&b"WATCH"[..]).chain(keys.iter().map(|key| &key[..])).collect();
        self.call(&watch)?;
        let mut sent = encode(&["MULTI"]);
        for (step, name) in plan.steps.iter().zip(&keys) {
            let Step::Change { key, value, by, .. } = *step else { continue };
            let found = self.call(&[b"GET", name])?;
            if let Some(write) = doing.change(key, bytes(&found), value, by) {
                sent.extend(encode(&[&b"SET"[..], name, &write]));
            }
        }
        sent.extend(encode(&["EXEC"]));
        let client = self.connected();
        let replied = client.send_raw(&sent).and_then(|()| {
            for _ in 0..=keys.len() {
                client.reply()?;
            }
            client.reply()
        });
        match Player::accept(replied.map_err(|_| Ended::Unknown)?)? {
            Value::Null => Err(Ended::Refused),
            _ => Ok(()),
        }
    }
}

fn changed(step: &Step) -> Option<u64> {
    match *step {
        Step::Change { key, .. } => Some(key),
        Step::Look { .. } | Step::LookAtAll => None,
    }
}

fn played(port: &AtomicU16, course: Course) -> Vec<Txn> {
    let (ticks, values) = (AtomicU64::new(0), AtomicI64::new(1));
    let player = |number: u32| Player {
        port,
        client: None,
        number,
        course,
        values: &values,
        ticks: &ticks,
        random: fastrand::Rng::with_seed(course.number << 8 | u64::from(number)),
        wrong: None,
    };
    let mut history = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|number| {
                let mut player = player(number);
                scope.spawn(move || {
                    let history: Vec<Txn> = (0..EACH).map(|_| player.one()).collect();
                    assert_eq!(player.wrong, None, "{course:?}");
                    history
                })
            })
            .collect();
        clients.into_iter().flat_map(|client| client.join().expect("a client")).collect::<Vec<Txn>>()
    });
    // What is there at the end belongs to the history.
    let mut last = player(CLIENTS);
    loop {
        last.connected();
        let (asked, mut doing) = (last.tick(), Doing::new(course));
        if last.read_all(&mut doing).is_ok() {
            let outcome = Outcome::Committed { at: last.tick() };
            history.push(Txn { client: CLIENTS, actions: doing.actions, asked, outcome });
            break;
        }
        last.client = None;
    }
    assert_eq!(last.wrong, None, "{course:?}");
    history
}

#[derive(Default)]
struct Disasters {
    kills: u32,
    stops: u32,
    pauses: u32,
}

/// Kills, stops and pauses the server, and starts it again, until told that it is over.
fn disasters(dir: &Path, port: &AtomicU16, over: &AtomicBool, life_ms_max: u64) -> Disasters {
    let flags = ["--shards", "2", "--memtable-bytes", "1mb", "--segment-bytes", "1mb"];
    let mut random = fastrand::Rng::with_seed(11);
    let mut told = Disasters::default();
    let mut server = Server::start_in(dir, &flags);
    port.store(server.port, Ordering::SeqCst);
    while !over.load(Ordering::SeqCst) {
        for _ in 0..random.u32(..4) {
            std::thread::sleep(Duration::from_millis(random.u64(20..150)));
            server.signal("STOP");
            std::thread::sleep(Duration::from_millis(random.u64(2..40)));
            server.signal("CONT");
            told.pauses += 1;
        }
        std::thread::sleep(Duration::from_millis(random.u64(20..life_ms_max)));
        // Whoever takes the port next is not ours.
        port.store(0, Ordering::SeqCst);
        match random.u32(..6) {
            0 => {
                assert!(server.stop().success());
                told.stops += 1;
            }
            1 => {
                server.signal("STOP");
                server.kill();
                told.kills += 1;
            }
            _ => {
                server.kill();
                told.kills += 1;
            }
        }
        server = Server::start_in(dir, &flags);
        port.store(server.port, Ordering::SeqCst);
    }
    assert!(server.stop().success());
    told
}

#[test]
fn transactions_over_sockets_are_strictly_serializable() {
    let wanted = std::env::var("CORERING_TEST_TXNS").map_or(6_000, |n| n.parse().expect("a number"));
    // A start takes as long as some hundred transactions.
    let life_ms_max = if wanted > 100_000 { 2500 } else { 400 };
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("data");
    let (port, over) = (AtomicU16::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let chaos = scope.spawn(|| disasters(&dir, &port, &over, life_ms_max));
        let ran = std::panic::catch_unwind(|| {
            let mut total = Judged::default();
            while total.transactions < wanted {
                let course = Course::of(total.courses);
                let history = played(&port, course);
                total.add(&judge(&history).unwrap_or_else(|why| panic!("{course:?}: {why}")));
            }
            total
        });
        over.store(true, Ordering::SeqCst);
        let Disasters { kills, stops, pauses } = chaos.join().expect("the server comes back");
        let total = ran.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        println!("{total}; {kills} kills, {stops} stops, {pauses} pauses");
        assert!(kills + stops > 1 && pauses > 1, "{kills} kills, {stops} stops, {pauses} pauses");
        assert!(total.committed * 2 > total.transactions, "{total}");
    });
}
