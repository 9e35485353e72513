//! The sorted tables of a shard: runs, newest first, each of tables side by side in key order.
//!
//! Guards: for one key, every version in a newer run is at least as new as all those in older runs, and the versions of
//! a key in one run lie in one table. `write_run` keeps both.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use super::Lookup;
use super::file::{Table, TableIdentity, file_name};
use crate::error::{Error, Result};
use crate::format::manifest::{Manifest, TableMeta};
use crate::ids::{CommitTs, Keyspace, ShardId};
use crate::runtime::{Fs, OpenMode};

/// Tables in key order that do not overlap. Cheap to clone.
#[derive(Clone)]
pub struct Run {
    tables: Arc<[Arc<Table>]>,
}

impl Run {
    /// The tables of one run, as `write_run` gave them.
    pub fn new(tables: Vec<Arc<Table>>) -> Run {
        Run { tables: tables.into() }
    }

    /// Opens the tables that a manifest, or `write_run`, has named; each must be what was said of it.
    pub fn open(fs: &dyn Fs, dir: &Path, db_id: u64, shard: ShardId, metas: &[TableMeta]) -> Result<Run> {
        let open = |meta| open_table(fs, dir, db_id, shard, meta).map(Arc::new);
        Ok(Run::new(metas.iter().map(open).collect::<Result<_>>()?))
    }

    pub fn tables(&self) -> &[Arc<Table>] {
        &self.tables
    }

    pub fn bytes(&self) -> u64 {
        self.tables.iter().map(|table| table.meta().bytes).sum()
    }

    pub fn metas(&self) -> Vec<TableMeta> {
        self.tables.iter().map(|table| table.meta().clone()).collect()
    }

    pub fn max_ts(&self) -> CommitTs {
        self.tables.iter().map(|table| table.meta().max_ts).max().unwrap_or(CommitTs::ZERO)
    }

    /// The first table that does not end before the key.
    pub(super) fn table_for(&self, keyspace: Keyspace, key: &[u8]) -> usize {
        self.tables.partition_point(|table| table.meta().upper.cmp_key(keyspace, key).is_lt())
    }

    /// Whether nobody else has the run or one of its tables.
    pub fn is_unshared(&mut self) -> bool {
        Arc::get_mut(&mut self.tables)
            .is_some_and(|tables| tables.iter_mut().all(|table| Arc::get_mut(table).is_some()))
    }

    fn is_same(&self, other: &Run) -> bool {
        Arc::ptr_eq(&self.tables, &other.tables)
    }

    fn get(&self, keyspace: Keyspace, key: &[u8], hash: u64, at: CommitTs) -> Result<Lookup<'_>> {
        // Bounds keep only the beginning of long keys, so that more than one table may have to be asked.
        for table in &self.tables[self.table_for(keyspace, key)..] {
            if !table.meta().may_hold(keyspace, key) {
                break;
            }
            let found = table.get(keyspace, key, hash, at)?;
            if found != Lookup::Missing {
                return Ok(found);
            }
        }
        Ok(Lookup::Missing)
    }
}

fn open_table(fs: &dyn Fs, dir: &Path, db_id: u64, shard: ShardId, meta: &TableMeta) -> Result<Table> {
    let path = dir.join(file_name(meta.id));
    let file = match fs.open(&path, OpenMode::Read) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(Error::corrupt(path, 0, "the manifest names this table, and it is not there"));
        }
        Err(error) => return Err(Error::io("open", path, error)),
    };
    let table = Table::open(&*file, TableIdentity { db_id, shard, id: meta.id })?;
    if table.meta() != meta {
        let what = format!("the table is {:?}, the manifest says {meta:?}", table.meta());
        return Err(Error::corrupt(path, 0, what));
    }
    Ok(table)
}

/// All tables of a shard at one moment; immutable.
#[derive(Clone, Default)]
pub struct TableSet {
    runs: Vec<Run>,
}

impl TableSet {
    /// Runs, newest first. Empty ones are left out.
    pub fn new(runs: Vec<Run>) -> TableSet {
        TableSet { runs: runs.into_iter().filter(|run| !run.tables.is_empty()).collect() }
    }

    /// Opens all tables of a manifest.
    pub fn open(fs: &dyn Fs, dir: &Path, manifest: &Manifest) -> Result<TableSet> {
        let open = |run: &Vec<TableMeta>| Run::open(fs, dir, manifest.db_id, manifest.shard, run);
        Ok(TableSet::new(manifest.runs.iter().map(open).collect::<Result<_>>()?))
    }

    pub fn runs(&self) -> &[Run] {
        &self.runs
    }

    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    pub fn bytes(&self) -> u64 {
        self.runs.iter().map(Run::bytes).sum()
    }

    pub fn table_count(&self) -> u64 {
        self.runs.iter().map(|run| run.tables.len() as u64).sum()
    }

    pub fn max_ts(&self) -> CommitTs {
        self.runs.iter().map(Run::max_ts).max().unwrap_or(CommitTs::ZERO)
    }

    /// What a manifest lists.
    pub fn metas(&self) -> Vec<Vec<TableMeta>> {
        self.runs.iter().map(Run::metas).collect()
    }

    /// The set with a run before all others, as after a checkpoint.
    #[must_use]
    pub fn with_newest(&self, run: Run) -> TableSet {
        TableSet::new(std::iter::once(run).chain(self.runs.iter().cloned()).collect())
    }

    /// The set with neighbouring runs replaced by what they were merged into. Runs that came meanwhile stay before it.
    #[must_use]
    pub fn with_merged(&self, old: &[Run], merged: Run) -> TableSet {
        let place = self.place_of(old).expect("runs that are merged stay in the set, side by side");
        let mut runs = self.runs.clone();
        runs.splice(place, [merged]);
        TableSet::new(runs)
    }

    fn place_of(&self, old: &[Run]) -> Option<Range<usize>> {
        let start = self.runs.iter().position(|run| old.first().is_some_and(|first| run.is_same(first)))?;
        let here = self.runs.get(start..start + old.len())?;
        here.iter().zip(old).all(|(a, b)| a.is_same(b)).then_some(start..start + old.len())
    }

    /// The newest version of the key not after `at`, newest run first.
    pub fn get(&self, keyspace: Keyspace, key: &[u8], at: CommitTs) -> Result<Lookup<'_>> {
        if self.runs.is_empty() {
            return Ok(Lookup::Missing);
        }
        let hash = Table::hash(keyspace, key);
        for run in &self.runs {
            let found = run.get(keyspace, key, hash, at)?;
            if found != Lookup::Missing {
                return Ok(found);
            }
        }
        Ok(Lookup::Missing)
    }
}
