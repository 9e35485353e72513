//! A small closed database that holds something of every kind, and what every look at it must show.

use std::collections::BTreeMap;
use std::time::Duration;

use corering_engine::runtime::sim::{Disk, Sim, SimConfig};
use corering_engine::{
    Acquire, Client, CommitTs, Durability, Engine, Error, Expiry, Fate, FencingToken, Keyspace, Mode, NewSession,
    Options, ScanRange, SessionId, SessionInfo, TransactionId, TransactionOptions, Wait, WriteOptions,
};

use crate::support::text;

const KS: Keyspace = Keyspace::DEFAULT;
const KEYS: u64 = 14;
const LOCK: &[u8] = b"lock";
const EPHEMERAL: &[u8] = b"ephemeral";
const EXPIRING: &[u8] = b"expiring";
const HOUR: Duration = Duration::from_secs(3_600);

/// A closed database.
pub struct Closed {
    pub disk: Disk,
    pub right: Seen,
    transaction: TransactionId,
}

/// All that can be asked of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Seen {
    values: BTreeMap<Vec<u8>, (Vec<u8>, Expiry)>,
    sessions: Vec<(SessionId, Vec<u8>)>,
    /// Who holds the lock, how, and by which token.
    holds: Vec<(SessionId, Mode, FencingToken)>,
    /// Whose the ephemeral key is.
    owner: Option<SessionId>,
    fate: Option<CommitTs>,
}

pub fn options() -> Options {
    Options { shards: Some(2), segment_bytes: 64 << 10, memtable_bytes: 64 << 10, ..Options::default() }
}

fn name(key: u64) -> Vec<u8> {
    format!("key:{key:04}").into_bytes()
}

/// Long enough to be told from all else, in whatever log.
fn part(of: &[u8]) -> Vec<u8> {
    [b"a part of a commit over two shards, of ".as_slice(), of].concat()
}

/// Two keys of different shards.
fn apart(client: &Client) -> [Vec<u8>; 2] {
    let other = |n: &u64| client.shard_of(&name(*n)) != client.shard_of(&name(KEYS));
    [KEYS, (KEYS + 1..).find(other).expect("the ring has two shards")].map(name)
}

/// Two shards with tables of several runs, deletes and values of all sizes, and a log that was trimmed; then what is no plain value,
/// with a commit over both shards of which one part rides on the log of the other.
pub fn closed() -> Result<Closed, String> {
    let sim = Sim::with(3, SimConfig::of_seed(3), Disk::new());
    let host = sim.host();
    let filled = sim.block_on(async move {
        let engine = Engine::open_on(host, options()).await?;
        let client = engine.client();
        fill(&engine, &client).await?;
        let filled = add_all_kinds(&client).await?;
        engine.close_async().await?;
        Ok::<_, Error>(filled)
    });
    let (transaction, parts) = filled.map_err(text)?.map_err(text)?;
    let disk = sim.disk(|disk| disk.clone());
    sim.power_off();
    if !parts.iter().any(|value| logs_with(&disk, value) == 2) {
        return Err("no part of the commit rides on the log of another shard".to_owned());
    }
    let again = Sim::with(3, SimConfig::of_seed(3), disk.clone());
    let right = again.block_on(look(again.clone(), transaction)).map_err(text)?.map_err(text)?;
    again.power_off();
    let is_whole = right.sessions.len() == 1 && right.holds.len() == 1 && right.owner.is_some() && right.fate.is_some();
    let has = |key: &[u8]| right.values.contains_key(key);
    if !is_whole || ![EPHEMERAL, EXPIRING].into_iter().all(has) || right.values.len() < KEYS as usize {
        return Err(format!("something is missing: {right:?}"));
    }
    Ok(Closed { disk, right, transaction })
}

async fn fill(engine: &Engine, client: &Client) -> Result<(), Error> {
    for round in 0..3u64 {
        for key in (round..KEYS).step_by(1 + round as usize) {
            let options = WriteOptions { durability: Some(Durability::Sync), ..WriteOptions::default() };
            if (key + round) % 7 == 6 {
                client.delete(KS, &name(key), options).await?;
            } else {
                let len = [9, 60, 300, 1_500, 5_000][((key + round) % 5) as usize];
                client.put(KS, &name(key), &vec![(key * 3 + round) as u8; len], options).await?;
            }
        }
        if round < 2 {
            engine.checkpoint_async().await?;
        }
    }
    Ok(())
}

/// Gives the transaction that committed, and what it wrote on each shard.
async fn add_all_kinds(client: &Client) -> Result<(TransactionId, [Vec<u8>; 2]), Error> {
    let session = client.create_session(NewSession { ttl: HOUR, label: b"of the rot".to_vec() }).await?;
    let (mode, wait, lease) = (Mode::Exclusive, Wait::No, Some(HOUR));
    client.acquire(LOCK, Acquire { session, mode, wait, lease, durability: None }).await?;
    client.put(KS, EPHEMERAL, b"goes with its session", WriteOptions { session: Some(session), ..sync() }).await?;
    let expiry = Expiry::at_ms(client.clock().wall_ms() + HOUR.as_millis() as u64);
    client.put(KS, EXPIRING, b"is over in an hour", WriteOptions { expiry, ..sync() }).await?;
    let mut tx = client.begin(TransactionOptions { remember: HOUR, ..TransactionOptions::default() })?;
    let keys = apart(client);
    for key in &keys {
        tx.put(KS, key, &part(key))?;
    }
    let id = tx.id();
    tx.commit().await?;
    Ok((id, keys.map(|key| part(&key))))
}

fn sync() -> WriteOptions {
    WriteOptions { durability: Some(Durability::Sync), ..WriteOptions::default() }
}

/// How many shards have these bytes in their logs.
fn logs_with(disk: &Disk, bytes: &[u8]) -> usize {
    let has = |path: &str| {
        let content = disk.read(path).unwrap_or_default();
        path.ends_with(".seg") && content.windows(bytes.len()).any(|window| window == bytes)
    };
    let shard = |path: &str| path.split('/').next().unwrap_or_default().to_owned();
    let shards = disk.files().into_iter().filter(|(path, _)| has(path)).map(|(path, _)| shard(&path));
    shards.collect::<std::collections::BTreeSet<_>>().len()
}

impl Closed {
    /// Everything in what is left of it; a view of the machine that it is on.
    pub async fn look(&self, sim: Sim) -> Result<Seen, Error> {
        look(sim, self.transaction).await
    }
}

async fn look(sim: Sim, transaction: TransactionId) -> Result<Seen, Error> {
    let engine = Engine::open_on(sim.host(), options()).await?;
    let seen = look_at_all(&engine.client(), transaction).await;
    let closed = engine.close_async().await;
    seen.and_then(|seen| closed.map(|()| seen))
}

/// By key, and by scans in both directions, which must agree.
async fn look_at_all(client: &Client, transaction: TransactionId) -> Result<Seen, Error> {
    let mut values = BTreeMap::new();
    let keys = (0..KEYS).map(name).chain(apart(client)).chain([EPHEMERAL.to_vec(), EXPIRING.to_vec()]);
    for key in keys {
        if let Some(value) = client.get(KS, &key)? {
            values.insert(key, (value.bytes, value.expiry));
        }
    }
    for reverse in [false, true] {
        let snapshot = client.snapshot_async().await?;
        let mut scanned = BTreeMap::new();
        for entry in client.scan_async(&snapshot, ScanRange { reverse, ..ScanRange::all(KS) }).await? {
            let entry = entry?;
            scanned.insert(entry.key, (entry.value.bytes, entry.value.expiry));
        }
        if scanned != values {
            values = scanned;
            break;
        }
    }
    let sessions = client.sessions().into_iter().map(|SessionInfo { id, label, .. }| (id, label)).collect();
    let info = client.lock_info(LOCK).await?;
    let holds = info.map_or(Vec::new(), |info| info.holds.iter().map(|h| (h.session, h.mode, h.token)).collect());
    let owner = client.ephemeral_owner(KS, EPHEMERAL).await?;
    let fate = match client.fate(transaction).await? {
        Fate::Committed(commit) => Some(commit),
        Fate::NotCommitted => None,
    };
    Ok(Seen { values, sessions, holds, owner, fate })
}
