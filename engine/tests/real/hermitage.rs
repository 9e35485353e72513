//! The anomalies of the Hermitage list, by their names, each tried with keys on different shards: none of them commits.

use corering_engine::{
    Client, CommitTs, Engine, Error, Isolation, Keyspace, Options, ScanRange, Transaction, TransactionOptions,
};

const KS: Keyspace = Keyspace::DEFAULT;

/// A database with the rows 1 = 10 and 2 = 20 on different shards.
struct Table {
    _dir: tempfile::TempDir,
    engine: Engine,
    rows: [Vec<u8>; 2],
}

impl Table {
    fn new() -> Table {
        let dir = tempfile::tempdir().unwrap();
        let options =
            Options { shards: Some(2), segment_bytes: 1 << 20, memtable_bytes: 1 << 20, ..Options::default() };
        let engine = Engine::open(dir.path(), options).unwrap();
        let client = engine.client();
        let on = |shard: u16| {
            (0..).map(|i: u32| format!("row{i}").into_bytes()).find(|key| client.shard_of(key).0 == shard).unwrap()
        };
        let table = Table { rows: [on(0), on(1)], _dir: dir, engine };
        for (row, value) in [(0, 10), (1, 20)] {
            let mut tx = table.begin();
            table.set(&mut tx, row, value);
            table.commits(tx);
        }
        table
    }

    fn client(&self) -> Client {
        self.engine.client()
    }

    fn begin(&self) -> Transaction {
        self.client().begin(TransactionOptions::default()).unwrap()
    }

    fn get(&self, tx: &mut Transaction, row: usize) -> u64 {
        u64::from_le_bytes(tx.get(KS, &self.rows[row]).unwrap().unwrap().bytes.try_into().unwrap())
    }

    fn set(&self, tx: &mut Transaction, row: usize, value: u64) {
        tx.put(KS, &self.rows[row], &value.to_le_bytes()).unwrap();
    }

    /// The values that stand, in the order of keys.
    fn all(&self, tx: &mut Transaction) -> Vec<u64> {
        let rows = tx.scan(ScanRange::prefix(KS, b"row"), 100).unwrap();
        rows.iter().map(|row| u64::from_le_bytes(row.value.bytes[..].try_into().unwrap())).collect()
    }

    fn now(&self, row: usize) -> u64 {
        self.get(&mut self.begin(), row)
    }

    #[track_caller]
    fn commits(&self, mut tx: Transaction) -> CommitTs {
        tx.commit().wait().unwrap()
    }

    #[track_caller]
    fn aborts(&self, mut tx: Transaction) {
        match tx.commit().wait() {
            Err(error @ Error::Tx(_)) => assert!(error.is_retryable(), "{error}"),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn g0_write_cycles() {
    let t = Table::new();
    let (mut one, mut two) = (t.begin(), t.begin());
    for (row, a, b) in [(0, 11, 12), (1, 21, 22)] {
        t.set(&mut one, row, a);
        t.set(&mut two, row, b);
    }
    t.commits(one);
    assert_eq!((t.now(0), t.now(1)), (11, 21));
    t.commits(two);
    assert_eq!((t.now(0), t.now(1)), (12, 22));
}

#[test]
fn g1a_aborted_reads() {
    let t = Table::new();
    let mut one = t.begin();
    t.set(&mut one, 0, 101);
    let mut two = t.begin();
    assert_eq!(t.get(&mut two, 0), 10);
    one.rollback().unwrap();
    assert_eq!(t.get(&mut two, 0), 10);
    t.commits(two);
}

#[test]
fn g1b_intermediate_reads() {
    let t = Table::new();
    let (mut one, mut two) = (t.begin(), t.begin());
    t.set(&mut one, 0, 101);
    assert_eq!(t.get(&mut two, 0), 10);
    t.set(&mut one, 0, 11);
    t.commits(one);
    assert_eq!(t.get(&mut two, 0), 10);
    t.commits(two);
    assert_eq!(t.now(0), 11);
}

#[test]
fn g1c_circular_information_flow() {
    let t = Table::new();
    let (mut one, mut two) = (t.begin(), t.begin());
    t.set(&mut one, 0, 11);
    t.set(&mut two, 1, 22);
    assert_eq!((t.get(&mut one, 1), t.get(&mut two, 0)), (20, 10));
    t.commits(one);
    t.aborts(two);
}

#[test]
fn otv_observed_transaction_vanishes() {
    let t = Table::new();
    let (mut one, mut two, mut three) = (t.begin(), t.begin(), t.begin());
    t.set(&mut one, 0, 11);
    t.set(&mut one, 1, 19);
    t.set(&mut two, 0, 12);
    t.commits(one);
    assert_eq!(t.get(&mut three, 0), 11);
    t.set(&mut two, 1, 18);
    t.commits(two);
    // It saw the first; nothing of the second, and nothing of the first has gone.
    assert_eq!((t.get(&mut three, 1), t.get(&mut three, 0)), (19, 11));
    t.commits(three);
}

#[test]
fn pmp_predicate_many_preceders() {
    let t = Table::new();
    let (mut one, mut two) = (t.begin(), t.begin());
    assert!(!t.all(&mut one).contains(&30));
    two.put(KS, b"row-new", &30u64.to_le_bytes()).unwrap();
    t.commits(two);
    assert!(!t.all(&mut one).contains(&30));
    one.put(KS, b"counted", b"0").unwrap();
    t.aborts(one);
}

#[test]
fn pmp_for_writes() {
    let t = Table::new();
    let (mut one, mut two) = (t.begin(), t.begin());
    // The first adds ten to every row; the second deletes those that have twenty.
    for (row, value) in [(0, 20), (1, 30)] {
        t.get(&mut one, row);
        t.set(&mut one, row, value);
    }
    let doomed: Vec<usize> = (0..2).filter(|row| t.get(&mut two, *row) == 20).collect();
    assert_eq!(doomed, [1]);
    two.delete(KS, &t.rows[1]).unwrap();
    t.commits(one);
    t.aborts(two);
    assert_eq!((t.now(0), t.now(1)), (20, 30));
}

#[test]
fn p4_lost_update() {
    let t = Table::new();
    let (mut one, mut two) = (t.begin(), t.begin());
    let (a, b) = (t.get(&mut one, 0), t.get(&mut two, 0));
    t.set(&mut one, 0, a + 1);
    t.set(&mut two, 0, b + 1);
    t.commits(one);
    t.aborts(two);
    assert_eq!(t.now(0), 11);
}

#[test]
fn g_single_read_skew() {
    let t = Table::new();
    let (mut one, mut two) = (t.begin(), t.begin());
    assert_eq!(t.get(&mut one, 0), 10);
    assert_eq!((t.get(&mut two, 0), t.get(&mut two, 1)), (10, 20));
    t.set(&mut two, 0, 12);
    t.set(&mut two, 1, 18);
    t.commits(two);
    assert_eq!(t.get(&mut one, 1), 20);
    t.commits(one);
}

#[test]
fn g_single_read_skew_with_a_write() {
    let t = Table::new();
    let (mut one, mut two) = (t.begin(), t.begin());
    assert_eq!(t.get(&mut one, 0), 10);
    t.set(&mut two, 0, 12);
    t.set(&mut two, 1, 18);
    t.commits(two);
    one.delete(KS, &t.rows[1]).unwrap();
    t.aborts(one);
    assert_eq!(t.now(1), 18);
}

/// Rows that a search would find once another has changed them are not found, and a transaction that writes does not commit on that.
#[test]
fn g_single_using_predicate_dependencies() {
    for writes in [false, true] {
        let t = Table::new();
        let (mut one, mut two) = (t.begin(), t.begin());
        assert_eq!(t.all(&mut one).iter().filter(|value| **value % 5 == 0).count(), 2);
        assert_eq!(t.get(&mut two, 0), 10);
        t.set(&mut two, 0, 12);
        t.commits(two);
        assert!(t.all(&mut one).iter().all(|value| value % 3 != 0), "12 is of the other");
        if writes {
            one.put(KS, b"counted", b"0").unwrap();
            t.aborts(one);
        } else {
            t.commits(one);
        }
        assert_eq!((t.now(0), t.now(1)), (12, 20));
    }
}

#[test]
fn g2_item_write_skew() {
    let t = Table::new();
    let (mut one, mut two) = (t.begin(), t.begin());
    for tx in [&mut one, &mut two] {
        assert_eq!((t.get(tx, 0), t.get(tx, 1)), (10, 20));
    }
    t.set(&mut one, 0, 11);
    t.set(&mut two, 1, 21);
    t.commits(one);
    t.aborts(two);
}

#[test]
fn g2_anti_dependency_cycles() {
    let t = Table::new();
    let (mut one, mut two) = (t.begin(), t.begin());
    for tx in [&mut one, &mut two] {
        assert!(t.all(tx).iter().all(|value| value % 3 != 0));
    }
    one.put(KS, b"row-a", &30u64.to_le_bytes()).unwrap();
    two.put(KS, b"row-b", &42u64.to_le_bytes()).unwrap();
    t.commits(one);
    t.aborts(two);
}

/// The example of Fekete and others: a transaction that only reads makes a circle of two that would else be in order.
#[test]
fn g2_two_anti_dependencies_with_a_reader() {
    let t = Table::new();
    let mut one = t.begin();
    assert_eq!(t.all(&mut one).len(), 2);
    let mut two = t.begin();
    let value = t.get(&mut two, 1);
    t.set(&mut two, 1, value + 5);
    t.commits(two);
    let mut three = t.begin();
    assert_eq!((t.get(&mut three, 0), t.get(&mut three, 1)), (10, 25));
    t.commits(three);
    t.set(&mut one, 0, 0);
    t.aborts(one);
}

/// What snapshot isolation is known to let through, so that the others are known to test something.
#[test]
fn write_skew_is_there_where_it_was_asked_for() {
    let t = Table::new();
    let options = TransactionOptions { isolation: Isolation::Snapshot, ..TransactionOptions::default() };
    let begin = || t.client().begin(options.clone()).unwrap();
    let (mut one, mut two) = (begin(), begin());
    for tx in [&mut one, &mut two] {
        assert_eq!((t.get(tx, 0), t.get(tx, 1)), (10, 20));
    }
    t.set(&mut one, 0, 11);
    t.set(&mut two, 1, 21);
    t.commits(one);
    t.commits(two);
}
