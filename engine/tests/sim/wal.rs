//! One shard's log in the simulation: died at everywhere, it gives back a prefix that holds every answered record.
//!
//! Records are numbers in the order of their appends. Some are answered once durable, the others at once: a killed
//! process may lose neither, a stopped machine only the latter. A checkpoint in the middle trims and recycles. A short durable write
//! reaches space that was never written only with zeros behind it.

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use corering_engine::format::batch::{Frames, HeaderAt, decode_header};
use corering_engine::mirror::MirrorFile;
use corering_engine::runtime::sim::harness::{Life, Plan, Summary, enumerate, run_seeds, seeds_asked};
use corering_engine::runtime::sim::{CrashKind, Rng, SimConfig};
use corering_engine::runtime::{Fs, LocalFuture, OpenMode};

use corering_engine::wal::stage::{SLOTS, stage_bytes};
use corering_engine::wal::{FlushPlan, Known, Log, LogIdentity, Next, Room, SegmentDir, flush, recover};
use corering_engine::{Lsn, ShardId};

const SEGMENT_BYTES: u64 = 64 << 10;

/// What the world outside knows.
#[derive(Clone, Default, Debug)]
struct Model {
    created: bool,
    tried: u64,
    answered: u64,
    answered_durable: u64,
}

/// What the root says: the life of the last opening, where replay starts, and how many records are before that.
#[derive(Clone, Copy)]
struct Root {
    life: u64,
    from: u64,
    before: u64,
}

impl Root {
    fn save(self, mirror: &mut MirrorFile) -> Result<(), String> {
        let words = [self.life, self.from, self.before].map(u64::to_le_bytes).concat();
        mirror.save(&words).map_err(|e| e.to_string())
    }

    fn load(bytes: &[u8]) -> Option<Root> {
        let mut words = bytes.chunks_exact(8).map(|w| u64::from_le_bytes(w.try_into().expect("8 bytes")));
        Some(Root { life: words.next()?, from: words.next()?, before: words.next()? })
    }
}

struct Open {
    log: Log,
    mirror: MirrorFile,
    root: Root,
    /// Records in all.
    records: u64,
    /// Up to here a record lies beside the stage, and those after it wait for its write.
    beside: Lsn,
    /// Up to where each file was written in this life or, if it is another's again, before.
    written: HashMap<PathBuf, u64>,
}

fn text(e: impl std::fmt::Display) -> String {
    e.to_string()
}

fn create(fs: &Arc<dyn Fs>) -> Result<(), String> {
    fs.create_dir(Path::new("log")).map_err(text)?;
    let mut mirror = MirrorFile::create(fs, Path::new("log/root")).map_err(text)?;
    Root { life: 1, from: 0, before: 0 }.save(&mut mirror)?;
    fs.sync_dir(Path::new("")).map_err(text)
}

async fn open(life: &Life<Model>) -> Result<Open, String> {
    let fs = life.host.fs();
    let (mut mirror, record) = MirrorFile::load(&fs, Path::new("log/root")).map_err(text)?;
    let mut root = record.as_deref().and_then(Root::load).ok_or("the root is empty")?;
    let id = LogIdentity { db_id: 7, shard: ShardId(0) };
    let dir =
        SegmentDir { fs: Arc::clone(&fs), path: "log".into(), id, segment_bytes: SEGMENT_BYTES, history_bytes: 0 };
    let stage_path = Path::new("log/stage");
    let mut stage = Vec::new();
    if fs.exists(stage_path).map_err(text)? {
        let file = fs.open(stage_path, OpenMode::Read).map_err(text)?;
        stage.resize(usize::try_from(file.size().map_err(text)?).map_err(text)?, 0);
        file.read_blocking(0, &mut stage).map_err(text)?;
    }
    let from = Lsn(root.from);
    let known = Known { from, durable_floor: from, life: corering_engine::Life(root.life) };
    let mut records = root.before;
    let mut wrong = None;
    let mut apply = |frames: Frames<'_>| {
        for (_, payload) in frames {
            if payload.get(..8) != Some(&records.to_le_bytes()[..]) {
                wrong.get_or_insert(records);
            }
            records += 1;
        }
        Ok(())
    };
    let recovered = recover(&life.executor, &dir, known, &stage, &mut apply).await.map_err(text)?;
    if let Some(record) = wrong {
        return Err(format!("something else in the place of record {record}"));
    }
    root.life += 1;
    root.save(&mut mirror)?;
    let region = fs.shared_region(stage_path, stage_bytes(SEGMENT_BYTES)).map_err(text)?;
    fs.sync_dir(Path::new("log")).map_err(text)?;
    let slots = region.take_slots(SLOTS);
    let log = Log::new(dir, corering_engine::Life(root.life), slots, recovered.segments, recovered.end, from);
    Ok(Open { log, mirror, root, records, beside: Lsn::ZERO, written: HashMap::new() })
}

impl Open {
    fn append(&mut self, model: &RefCell<Model>, len: usize) -> bool {
        let number = self.records;
        model.borrow_mut().tried = number + 1;
        let appended = self.log.append(len, Room::Ordinary, |out| {
            out.fill(number as u8);
            out[..8].copy_from_slice(&number.to_le_bytes());
        });
        match appended {
            Ok(appended) => {
                self.records += 1;
                if !appended.staged {
                    self.beside = appended.end;
                }
                if self.log.marks().written() >= self.beside {
                    model.borrow_mut().answered = self.records;
                }
                true
            }
            Err(_) => {
                model.borrow_mut().tried = number;
                false
            }
        }
    }

    /// Flush until there is nothing to do; more records arrive while a flush is out.
    async fn flush(&mut self, life: &Life<Model>, rng: &mut Rng) -> Result<(), String> {
        loop {
            match self.log.begin(life.host.clock().monotonic_ns()) {
                Next::Flush(plan) => {
                    self.look_at(&plan)?;
                    let clock = life.host.clock();
                    let performing = flush::perform(&life.executor, &*clock, plan, 1);
                    let appending = async {
                        life.executor.yield_now().await;
                        if rng.coin() {
                            self.append(&life.model, 40);
                        }
                    };
                    let (plan, ()) = futures_lite::future::zip(performing, appending).await;
                    self.log.finish(plan.map_err(text)?);
                }
                Next::Idle { .. } => break,
                Next::NeedsSpare => {}
            }
            if let Some((sequence, bytes)) = self.log.spare_wanted() {
                let spare = self.log.dir().make_spare(&life.executor, sequence, bytes).await.map_err(text)?;
                drop(self.log.set_spare(spare));
            }
        }
        Ok(())
    }

    /// What lies behind a batch must be zeros, and must be there where nothing was written before.
    fn look_at(&mut self, plan: &FlushPlan) -> Result<(), String> {
        let Some(write) = &plan.write else { return Ok(()) };
        let batch = write.batch_len;
        if write.buf[batch..].iter().any(|byte| *byte != 0) {
            return Err("not only zeros are written behind a batch".to_owned());
        }
        let HeaderAt::Valid(header) = decode_header(&write.buf) else { return Err("no batch is written".to_owned()) };
        if header.len() != batch || header.end() != write.end {
            return Err(format!("what is written is not the batch that ends at {}", write.end));
        }
        let size = write.file.size().map_err(text)?;
        let [end, whole] = [batch, write.buf.len()].map(|len| write.offset + len as u64);
        let written = self.written.entry(write.file.path().to_path_buf()).or_default();
        let is_short = batch <= 16 << 10 && (write.durable || plan.sync.is_some());
        let (is_first, has_zeros) = (end > *written && end < size, whole > end);
        if whole > size || is_short && is_first != has_zeros || !is_short && has_zeros {
            return Err(format!("a batch of {batch} bytes at {} of {size}, {written} written: {whole}", write.offset));
        }
        *written = whole.max(*written);
        Ok(())
    }

    async fn write(&mut self, life: &Life<Model>, rng: &mut Rng, durable: bool) -> Result<(), String> {
        for _ in 0..rng.between(1, 4) {
            let len = *rng.pick(&[8, 100, 700, 3_000, 9_000]);
            self.append(&life.model, len);
        }
        let records = self.records;
        if durable {
            self.log.want_durable(self.log.marks().appended());
        } else {
            self.log.write_by(0);
        }
        self.flush(life, rng).await?;
        let mut model = life.model.borrow_mut();
        model.answered = model.answered.max(records);
        if durable {
            model.answered_durable = records;
        }
        Ok(())
    }

    /// As if tables held everything so far.
    async fn checkpoint(&mut self, life: &Life<Model>, rng: &mut Rng) -> Result<(), String> {
        let (at, records) = (self.log.seal_building(), self.records);
        self.log.want_durable(at);
        self.flush(life, rng).await?;
        self.root = Root { from: at.0, before: records, ..self.root };
        self.root.save(&mut self.mirror)?;
        for segment in self.log.trim(at) {
            let next = self.log.spare_wanted().map(|(sequence, _)| sequence);
            let written = self.written.remove(segment.file.path());
            if let Some(spare) = self.log.dir().recycle(segment, next).map_err(text)? {
                self.written.extend(written.map(|written| (spare.file.path().to_path_buf(), written)));
                drop(self.log.set_spare(spare));
            }
        }
        Ok(())
    }
}

async fn scenario(life: Life<Model>, seed: u64) -> Result<(), String> {
    let mut rng = Rng::stream(seed, "records");
    create(&life.host.fs())?;
    life.model.borrow_mut().created = true;
    let mut open = open(&life).await?;
    for round in 0..12 {
        let durable = rng.coin();
        open.write(&life, &mut rng, durable).await?;
        if round == 7 {
            open.checkpoint(&life, &mut rng).await?;
        }
    }
    Ok(())
}

async fn check(life: Life<Model>, seed: u64) -> Result<(), String> {
    if life.died_of == Some(CrashKind::Machine) {
        // Noted at once: the next death may come before this recovery ends, and be of the milder kind.
        let mut model = life.model.borrow_mut();
        model.answered = model.answered_durable;
    }
    let before = life.model.borrow().clone();
    if !before.created {
        return Ok(());
    }
    let mut open = open(&life).await.map_err(|e| format!("{e} ({before:?})"))?;
    if !(before.answered..=before.tried).contains(&open.records) {
        return Err(format!("{} records came back of {before:?}", open.records));
    }
    // What was read once is there for good.
    let records = open.records;
    *life.model.borrow_mut() = Model { created: true, tried: records, answered: records, answered_durable: records };
    open.write(&life, &mut Rng::stream(seed, "after"), true).await
}

pub fn run(seed: u64) -> Result<Summary, String> {
    let mut plan = Plan::new("the_log_survives_every_death", seed);
    plan.config = SimConfig { step_budget: 100_000, ..plan.config };
    let scenario = move |life: Life<Model>| -> LocalFuture<'static, _> { Box::pin(scenario(life, seed)) };
    let check = move |life: Life<Model>| -> LocalFuture<'static, _> { Box::pin(check(life, seed)) };
    enumerate(&plan, Model::default(), scenario, check).map_err(|failure| failure.to_string())
}

#[test]
fn the_log_survives_every_death() {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let (summaries, failures) = run_seeds(seeds_asked(20..28), threads, 1, run, |_, _| ());
    if let Some(failure) = failures.first() {
        panic!("{}", failure.message);
    }
    let mut total = Summary::default();
    summaries.values().for_each(|summary| total.absorb(summary));
    println!("{} seeds: {total}", summaries.len());
    assert!(total.recoveries[0] > 0, "{total}");
}
