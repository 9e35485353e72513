//! Transactions: YCSB-T's closed economy and the two commonest transactions of TPC-C, on every system that has transactions.
//!
//! Guards: after each workload the money, or the orders, are counted: a system that made or lost some has failed, however fast.
//!
//! YCSB-T (Dey, Fekete, Nambiar, Röhm: YCSB+T, 2014): accounts chosen by Zipf; half of the transactions read two, half move money
//! between two. TPC-C's new-order and payment (TPC-C 5.11, 2.4 and 2.5), half of each, with its rows but without its think times, remote
//! warehouses and look-up by names; it counts transactions, and is not tpmC.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use super::Size;
use crate::child::Reporter;
use crate::data::{Choice, Numbers};
use crate::measure::run;
use crate::store::Outcome;
use crate::tx::{self, Access, Session, Step, Stopped, Store, Tx};

const THREADS: u64 = 8;
const LOAD_BATCH: usize = 64;
const BALANCE: i64 = 1000;
const DISTRICTS: u64 = 10;
const CUSTOMERS: u64 = 300;

pub fn measure(system: &str, size: Size, dir: &Path, reporter: &mut Reporter) -> Outcome<()> {
    if reporter.wants("ycsbt") || reporter.wants("ycsbt_1") {
        let store = tx::open(system, dir)?;
        reporter.settings(store.settings());
        economy(&*store, size, reporter)?;
    }
    if reporter.wants("tpcc") || reporter.wants("tpcc_1") {
        let store = tx::open(system, dir)?;
        reporter.settings(store.settings());
        orders(&*store, size, reporter)?;
    }
    Ok(())
}

fn number(bytes: &[u8]) -> i64 {
    bytes.get(..8).and_then(|bytes| bytes.try_into().ok()).map_or(0, i64::from_le_bytes)
}

/// A row that begins with a number.
fn row(first: i64, len: usize) -> Vec<u8> {
    let mut row = vec![b'.'; len];
    row[..8].copy_from_slice(&first.to_le_bytes());
    row
}

fn there(found: Option<Vec<u8>>) -> Step<Vec<u8>> {
    found.ok_or_else(|| Stopped::Failed("a row is not there".to_owned()))
}

/// Add to the number at a row's begin.
fn add(tx: &mut dyn Tx, key: &[u8], by: i64) -> Step<i64> {
    let mut row = there(tx.get_for_update(key)?)?;
    let sum = number(&row) + by;
    row[..8].copy_from_slice(&sum.to_le_bytes());
    tx.put(key, &row)?;
    Ok(sum)
}

fn load(store: &dyn Store, rows: Vec<(Vec<u8>, Vec<u8>)>) -> Outcome<()> {
    let mut session = store.session()?;
    for rows in rows.chunks(LOAD_BATCH) {
        tx::run(&mut *session, Access::Writes, &mut |tx| rows.iter().try_for_each(|(key, value)| tx.put(key, value)))?;
    }
    Ok(())
}

/// The sum of the numbers of these rows, while nobody writes.
fn sum(store: &dyn Store, keys: &[Vec<u8>]) -> Outcome<i64> {
    let mut session = store.session()?;
    let mut total = 0;
    for keys in keys.chunks(LOAD_BATCH) {
        let mut part = 0;
        tx::run(&mut *session, Access::Reads, &mut |tx| {
            part = 0;
            keys.iter().try_for_each(|key| {
                part += number(&there(tx.get(key)?)?);
                Ok(())
            })
        })?;
        total += part;
    }
    Ok(total)
}

fn measured<'s, W: FnMut(&mut dyn Session) -> Outcome<()>>(
    store: &'s dyn Store,
    name: &str,
    threads: u64,
    size: Size,
    reporter: &mut Reporter,
    start: impl Fn(u64) -> W + Sync,
) {
    reporter.measure(name, || {
        let mut measured = run(threads, size.times(), |thread| {
            let (mut session, mut step): (Box<dyn Session + 's>, W) = (store.session()?, start(thread));
            Ok(move || step(&mut *session).map(|()| 1))
        })?;
        if !store.is_here() {
            measured.cpu_us = None;
        }
        Ok(Some(measured))
    });
}

// -- YCSB-T

fn account(i: u64) -> Vec<u8> {
    format!("account{i:08}").into_bytes()
}

fn economy(store: &dyn Store, size: Size, reporter: &mut Reporter) -> Outcome<()> {
    let count = size.accounts();
    load(store, (0..count).map(|i| (account(i), row(BALANCE, 100))).collect())?;
    for (name, threads) in [("ycsbt", THREADS), ("ycsbt_1", 1)] {
        measured(store, name, threads, size, reporter, |thread| {
            let mut numbers = Numbers::new(Choice::Zipf, count, thread);
            move |session: &mut dyn Session| transfer_or_read(session, &mut numbers, count)
        });
    }
    let keys: Vec<Vec<u8>> = (0..count).map(account).collect();
    let (found, made) = (sum(store, &keys)?, BALANCE * count as i64);
    if found == made { Ok(()) } else { Err(format!("the accounts hold {found}, not {made}")) }
}

fn transfer_or_read(session: &mut dyn Session, numbers: &mut Numbers, count: u64) -> Outcome<()> {
    let (a, mut b) = (numbers.draw(), numbers.draw());
    if a == b {
        b = (a + 1) % count;
    }
    let (a, b) = (account(a), account(b));
    if numbers.below(2) == 0 {
        tx::run(session, Access::Reads, &mut |tx| {
            let both = number(&there(tx.get(&a)?)?) + number(&there(tx.get(&b)?)?);
            std::hint::black_box(both);
            Ok(())
        })?;
    } else {
        tx::run(session, Access::Writes, &mut |tx| {
            add(tx, &a, -1)?;
            add(tx, &b, 1).map(drop)
        })?;
    }
    Ok(())
}

// -- TPC-C's new-order and payment

fn warehouse(w: u64) -> Vec<u8> {
    format!("w{w:04}").into_bytes()
}

fn district(w: u64, d: u64) -> Vec<u8> {
    format!("d{w:04}:{d:02}").into_bytes()
}

/// Its next order number; the money it took lies apart, as in many implementations, so that both transactions meet there less.
fn next_order(w: u64, d: u64) -> Vec<u8> {
    format!("n{w:04}:{d:02}").into_bytes()
}

fn customer(w: u64, d: u64, c: u64) -> Vec<u8> {
    format!("c{w:04}:{d:02}:{c:04}").into_bytes()
}

fn item(i: u64) -> Vec<u8> {
    format!("i{i:06}").into_bytes()
}

fn stock(w: u64, i: u64) -> Vec<u8> {
    format!("s{w:04}:{i:06}").into_bytes()
}

fn rows_of_orders(size: Size) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut rows: Vec<(Vec<u8>, Vec<u8>)> = (0..size.items()).map(|i| (item(i), row(1 + i as i64 % 100, 80))).collect();
    for w in 0..size.warehouses() {
        rows.push((warehouse(w), row(0, 90)));
        rows.extend((0..size.items()).map(|i| (stock(w, i), row(100, 300))));
        for d in 0..DISTRICTS {
            rows.push((district(w, d), row(0, 95)));
            rows.push((next_order(w, d), row(1, 8)));
            rows.extend((0..CUSTOMERS).map(|c| (customer(w, d, c), row(0, 600))));
        }
    }
    rows
}

fn orders(store: &dyn Store, size: Size, reporter: &mut Reporter) -> Outcome<()> {
    load(store, rows_of_orders(size))?;
    let (ordered, payments) = (AtomicU64::new(0), AtomicU64::new(0));
    for (name, threads) in [("tpcc", THREADS), ("tpcc_1", 1)] {
        measured(store, name, threads, size, reporter, |thread| {
            let mut numbers = Numbers::new(Choice::Uniform, size.items(), thread);
            let (ordered, payments) = (&ordered, &payments);
            move |session: &mut dyn Session| {
                if numbers.below(2) == 0 {
                    new_order(session, &mut numbers, size)?;
                    ordered.fetch_add(1, Ordering::Relaxed);
                } else {
                    payments.fetch_add(payment(session, &mut numbers, size)?, Ordering::Relaxed);
                }
                Ok(())
            }
        });
    }
    let warehouses: Vec<Vec<u8>> = (0..size.warehouses()).map(warehouse).collect();
    let of_all = |key: fn(u64, u64) -> Vec<u8>| -> Vec<Vec<u8>> {
        (0..size.warehouses()).flat_map(|w| (0..DISTRICTS).map(move |d| key(w, d))).collect()
    };
    let taken = [sum(store, &warehouses)?, sum(store, &of_all(district))?];
    let next = sum(store, &of_all(next_order))? - (size.warehouses() * DISTRICTS) as i64;
    let told = (payments.into_inner() as i64, ordered.into_inner() as i64);
    if (taken[0], next) != told || taken[0] != taken[1] {
        return Err(format!("warehouses and districts took {taken:?} and have {next} orders; told were {told:?}"));
    }
    Ok(())
}

fn new_order(session: &mut dyn Session, numbers: &mut Numbers, size: Size) -> Outcome<()> {
    let (w, d, c) = (numbers.below(size.warehouses()), numbers.below(DISTRICTS), numbers.below(CUSTOMERS));
    let mut lines: Vec<(u64, i64)> =
        (0..5 + numbers.below(11)).map(|_| (numbers.draw(), 1 + numbers.below(10) as i64)).collect();
    // In one order, so that those who lock do so in one order.
    lines.sort_unstable();
    lines.dedup_by_key(|line| line.0);
    tx::run(session, Access::Writes, &mut |tx| {
        there(tx.get(&warehouse(w))?)?;
        there(tx.get(&customer(w, d, c))?)?;
        let order = add(tx, &next_order(w, d), 1)? - 1;
        let name = format!("{w:04}:{d:02}:{order:08}");
        let mut total = 0;
        for (line, (i, quantity)) in lines.iter().enumerate() {
            let price = number(&there(tx.get(&item(*i))?)?);
            let mut in_stock = there(tx.get_for_update(&stock(w, *i))?)?;
            let left = number(&in_stock);
            let left = if left >= quantity + 10 { left - quantity } else { left - quantity + 91 };
            in_stock[..8].copy_from_slice(&left.to_le_bytes());
            tx.put(&stock(w, *i), &in_stock)?;
            total += price * quantity;
            tx.put(format!("l{name}:{line:02}").as_bytes(), &row(*quantity, 54))?;
        }
        tx.put(format!("o{name}").as_bytes(), &row(total, 24))?;
        tx.put(format!("q{name}").as_bytes(), &row(order, 8))
    })?;
    Ok(())
}

/// What was paid.
fn payment(session: &mut dyn Session, numbers: &mut Numbers, size: Size) -> Outcome<u64> {
    let (w, d, c) = (numbers.below(size.warehouses()), numbers.below(DISTRICTS), numbers.below(CUSTOMERS));
    let (amount, unique) = (1 + numbers.below(5000), crate::data::random());
    tx::run(session, Access::Writes, &mut |tx| {
        add(tx, &warehouse(w), amount as i64)?;
        add(tx, &district(w, d), amount as i64)?;
        add(tx, &customer(w, d, c), -(amount as i64))?;
        tx.put(format!("h{w:04}:{d:02}:{c:04}:{unique:016x}").as_bytes(), &row(amount as i64, 46))
    })?;
    Ok(amount)
}
