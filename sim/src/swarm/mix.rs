//! What a seed draws: a machine, limits, operations, faults and ends of its own.
//!
//! A mix of everything at once makes every path as rare as its rarest ingredient; a mix that leaves most things out makes a
//! few paths common (Groce and others, "Swarm Testing", 2012).

use std::time::Duration;

use corering_engine::runtime::sim::{Fault, FaultRow, FaultRule, Faults, Rng, SimConfig, When, faults};
use corering_engine::{Durability, MEMTABLE_BYTES_MIN, Options, SEGMENT_BYTES_MIN};

/// What a client may do next.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Act {
    Put,
    PutExpiring,
    PutIf,
    Delete,
    Batch,
    /// A program: reads and writes of two keys in one step.
    Run,
    /// A batch of keys of any shards.
    BatchOver,
    /// A program that reads and writes keys of any shards.
    RunOver,
    /// A transaction that reads, keeps, scans and writes keys of any shards.
    Transact,
    /// One that only reads.
    ReadOver,
    /// Several writes under way at once.
    Burst,
    Count,
    Get,
    GetMany,
    TakeView,
    ReadView,
    Scan,
    ScanView,
    Sync,
    Checkpoint,
    Pause,
    /// Makes a session, keeps one alive, ends it.
    Session,
    /// Takes a lock or changes what is held.
    Lock,
    /// Writes under a token, held or lost.
    Guarded,
    /// Puts, deletes or reads a key of a session.
    Own,
    /// Makes a key for its number.
    Number,
    /// Watches a prefix, or takes what a watch has to tell.
    Watch,
}

impl Act {
    /// Whether it is one of the client's own keys that it writes.
    pub fn writes(self) -> bool {
        match self {
            Act::Put | Act::PutExpiring | Act::PutIf | Act::Delete | Act::Batch | Act::Run => true,
            Act::BatchOver | Act::RunOver | Act::Transact | Act::Burst => true,
            Act::Count | Act::Get | Act::GetMany | Act::TakeView | Act::ReadView | Act::ReadOver => false,
            Act::Scan | Act::ScanView | Act::Sync | Act::Checkpoint | Act::Pause => false,
            Act::Session | Act::Lock | Act::Guarded | Act::Own | Act::Number | Act::Watch => false,
        }
    }
}

const ACTS: [(Act, u64); 27] = [
    (Act::Put, 12),
    (Act::PutExpiring, 4),
    (Act::PutIf, 4),
    (Act::Delete, 5),
    (Act::Batch, 4),
    (Act::Run, 3),
    (Act::BatchOver, 4),
    (Act::RunOver, 4),
    (Act::Transact, 5),
    (Act::ReadOver, 2),
    (Act::Burst, 4),
    (Act::Count, 4),
    (Act::Get, 6),
    (Act::GetMany, 2),
    (Act::TakeView, 2),
    (Act::ReadView, 3),
    (Act::Scan, 2),
    (Act::ScanView, 2),
    (Act::Sync, 1),
    (Act::Checkpoint, 1),
    (Act::Pause, 2),
    (Act::Session, 3),
    (Act::Lock, 12),
    (Act::Guarded, 5),
    (Act::Own, 8),
    (Act::Number, 3),
    (Act::Watch, 4),
];

/// How clients and engine part.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// All is answered, then it is closed.
    Close,
    /// It is closed while clients are at work.
    CloseAtWork,
    /// The process ends as it is.
    Kill,
}

#[derive(Clone, Debug)]
pub struct Mix {
    pub machine: SimConfig,
    pub options: Options,
    /// Shard counts that openings ask for.
    pub shard_counts: Vec<u16>,
    pub clients: usize,
    pub keys_per_client: usize,
    pub acts_per_client: u64,
    pub acts: Vec<(Act, u64)>,
    pub levels: Vec<Durability>,
    pub value_lens: Vec<usize>,
    /// Lives, each ended by a death or a close.
    pub lives: u64,
    /// An operation at which a life dies is drawn below this.
    pub death_within: u64,
    /// One life in so many has faults.
    pub faults_one_in: u64,
    /// In one life in so many a write is lost or goes astray.
    pub lies_one_in: u64,
    /// One life in so many meets a full disk for a while.
    pub full_one_in: u64,
    pub ends: Vec<End>,
    /// One write in so many is waited for by a thread that helps to flush it.
    pub help_one_in: u64,
    /// One pause in so many sets the wall clock forward.
    pub jump_one_in: u64,
}

impl Mix {
    pub fn of_seed(seed: u64) -> Mix {
        let mut rng = Rng::stream(seed, "mix");
        let ms = Duration::from_millis;
        let levels = [Durability::Sync, Durability::None, Durability::Interval(ms(3)), Durability::Interval(ms(200))];
        let (one_count, counts) = (rng.between(1, 3) as u16, vec![1, 2, 3, 4]);
        Mix {
            machine: SimConfig { step_budget: 400_000, ..SimConfig::of_seed(seed) },
            options: Options {
                // The first has one block for records beside its header's.
                segment_bytes: *rng.pick(&[SEGMENT_BYTES_MIN, 16 << 10, 64 << 10, 64 << 10, 128 << 10, 1 << 20]),
                memtable_bytes: *rng.pick(&[MEMTABLE_BYTES_MIN, 16 << 10, 64 << 10, 64 << 10, 256 << 10, 8 << 20]),
                inbox_len: *rng.pick(&[2, 2, 4, 64]),
                ..Options::default()
            },
            shard_counts: if rng.one_in(3) { counts } else { vec![one_count] },
            clients: rng.between(1, 4) as usize,
            keys_per_client: rng.between(2, 9) as usize,
            acts_per_client: rng.between(6, 40),
            acts: some(&mut rng, &ACTS, 9),
            levels: some(&mut rng, &levels, 2),
            value_lens: some(&mut rng, &[8, 60, 200, 700, 3_000, 9_000, 20_000], 3),
            lives: rng.between(2, 4),
            death_within: *rng.pick(&[20, 60, 200, 600, 2_000]),
            faults_one_in: *rng.pick(&[1, 2, 4, 1_000]),
            full_one_in: *rng.pick(&[4, 1_000, 1_000]),
            ends: some(&mut rng, &[End::Close, End::CloseAtWork, End::Kill], 2),
            help_one_in: *rng.pick(&[1, 2, 1_000]),
            jump_one_in: *rng.pick(&[3, 1_000]),
            lies_one_in: *rng.pick(&[2, 1_000, 1_000]),
        }
    }
}

/// A few of them, at least one, on the average `wanted`.
fn some<T: Copy>(rng: &mut Rng, from: &[T], wanted: u64) -> Vec<T> {
    let chance = u32::try_from(wanted * 1_000_000 / from.len() as u64).unwrap_or(u32::MAX);
    let mut chosen: Vec<T> = from.iter().copied().filter(|_| rng.per_million(chance)).collect();
    if chosen.is_empty() {
        chosen.push(*rng.pick(from));
    }
    chosen
}

const fn row(kind: &'static str, files: &'static str, fault: Fault, why_we_survive: &'static str) -> FaultRow {
    FaultRow { kind, files, fault, chance: 20_000, why_we_survive }
}

/// What may strike a running engine or an opening, and why it survives. Bits that rot are `rot.rs`'s and `damage.rs`'s, which
/// know what was in the block; `LIES` are below.
pub const FAULTS: [FaultRow; 28] = [
    row("log segment", "*.seg", Fault::WriteError, "the shard stops; nobody who waits is answered"),
    row("log segment", "*.seg", Fault::SyncError, "the same; the sync is not tried again"),
    row("log segment", "*.seg", Fault::ShortWrite, "a failure like any other"),
    row("log segment", "*.seg", Fault::ReadError, "the opening is refused and can be tried again"),
    row("log segment", "*.seg", Fault::NoSpace, "puts are refused; a spare is made later"),
    row(
        "log segment",
        "*.seg",
        Fault::NameError,
        "a spare is made later, a trimmed segment removed at the next opening",
    ),
    row("log directory", "*/wal", Fault::SyncDirError, "the new segment is removed and made again"),
    row("table", "*.table", Fault::WriteError, "the checkpoint is tried again; the log still has all"),
    row("table", "*.table", Fault::ShortWrite, "the same"),
    row("table", "*.table", Fault::SyncError, "the same, in another file"),
    row("table", "*.table", Fault::NameError, "the same"),
    row("table", "*.table", Fault::NoSpace, "the same"),
    row("table", "*.table", Fault::ReadError, "the same: it was not named yet; or the opening is refused"),
    row("table directory", "*/tables", Fault::SyncDirError, "the shard stops; no manifest names them"),
    row("manifest", "*/manifest", Fault::WriteError, "the other copy stands; the checkpoint is tried again"),
    row("manifest", "*/manifest", Fault::ShortWrite, "the same"),
    row("manifest", "*/manifest", Fault::SyncError, "the shard stops"),
    row("manifest", "*/manifest", Fault::ReadError, "the opening is refused and can be tried again"),
    row("superblock", "superblock", Fault::WriteError, "the opening is refused; the other copy stands"),
    row("superblock", "superblock", Fault::SyncError, "the same"),
    row("superblock", "superblock", Fault::ReadError, "the same"),
    row("stage", "*/stage", Fault::ReadError, "the opening is refused and can be tried again"),
    row("log segment", "*.seg", Fault::ShortRead, "the opening is refused and can be tried again"),
    row("manifest", "*/manifest", Fault::ShortRead, "the same: it is not taken for a damaged copy"),
    row("superblock", "superblock", Fault::ShortRead, "the same"),
    row("stage", "*/stage", Fault::ShortRead, "the same: what it holds is not taken for less"),
    row("names", "*", Fault::NameError, "an error; nothing is lost"),
    row("anything", "*", Fault::Slow, "nobody is answered earlier, and nothing hangs"),
];

/// The faults of one life; none for most.
pub fn faults_of_life(mix: &Mix, rng: &mut Rng) -> Option<Faults> {
    if !rng.one_in(mix.faults_one_in) {
        return None;
    }
    if rng.coin() {
        return Some(faults::draw(&FAULTS, rng));
    }
    // One strike, at a place of its own.
    let row = rng.pick(&FAULTS);
    Some(Faults::new([FaultRule::new(row.files, row.fault, When::Nth(rng.below(60)))]))
}

/// Writes that are reported done and were not, or not there: at most one in a life, and what is owed then. The stage is not
/// written but stored to.
pub const LIES: [FaultRow; 8] = [
    row(
        "log segment",
        LOG,
        Fault::LostWrite,
        "a later batch or segment knows that it was durable: refused with file and byte; at the end of the log it is as if never \
         written, and all before it is there, unless another shard knows of a commit that stood there",
    ),
    row("log segment", LOG, Fault::MisdirectedWrite, "the same; a batch that lies at another place tells too"),
    row(
        "table",
        "*.table",
        Fault::LostWrite,
        "all of it is read back and verified before a manifest names it, and it is made again",
    ),
    row("table", "*.table", Fault::MisdirectedWrite, "the same"),
    row("manifest", "*/manifest", Fault::LostWrite, "the other copy stands, and repairs it at the next opening"),
    row("manifest", "*/manifest", Fault::MisdirectedWrite, "the same"),
    row("superblock", "superblock", Fault::LostWrite, "the same"),
    row("superblock", "superblock", Fault::MisdirectedWrite, "the same"),
];

/// The files of the log. What an opening itself writes there is spared: whatever it found counts from then on as known, and the
/// end of a log that is lost is as if never written.
pub const LOG: &str = "*.seg";

/// The lie of one life; none for most.
pub fn lie_of_life(mix: &Mix, rng: &mut Rng) -> Option<FaultRule> {
    if !rng.one_in(mix.lies_one_in) {
        return None;
    }
    let row = rng.pick(&LIES);
    Some(FaultRule::new(row.files, row.fault, When::Nth(rng.below(16))))
}
