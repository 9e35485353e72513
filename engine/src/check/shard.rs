//! One shard: its manifest, the names in its directory, its tables, its log.

use std::path::Path;
use std::sync::Arc;

use super::{Findings, ShardCheck, list, log, root, tables};
use crate::format::ephemeral::placed_by;
use crate::format::manifest::Manifest;
use crate::format::superblock::Superblock;
use crate::ids::{Keyspace, ShardId};
use crate::ring::Ring;
use crate::runtime::Fs;
use crate::shard::recover::ShardPaths;

/// What the parts of a shard's check share.
pub struct Place<'a> {
    pub fs: &'a Arc<dyn Fs>,
    pub superblock: &'a Superblock,
    pub ring: &'a Ring,
    pub shard: ShardId,
    pub paths: ShardPaths,
    pub manifest: Manifest,
}

impl Place<'_> {
    /// Why the key should not be here.
    pub fn misplaced(&self, keyspace: Keyspace, key: &[u8]) -> Option<String> {
        let owner = self.ring.owner_of_key(placed_by(keyspace, key));
        (owner != self.shard).then(|| format!("a key of {} bytes that belongs to shard {owner}", key.len()))
    }
}

pub async fn check(
    fs: &Arc<dyn Fs>,
    superblock: &Superblock,
    ring: &Ring,
    shard: ShardId,
    out: &mut Findings<'_>,
) -> ShardCheck {
    let before = out.bytes_read;
    let mut found = ShardCheck { shard, ..ShardCheck::default() };
    let paths = ShardPaths::of(shard);
    check_names(fs, &paths, out);
    if let Some(manifest) = read_manifest(fs, superblock, shard, &paths, out) {
        let place = Place { fs, superblock, ring, shard, paths, manifest };
        tables::check(&place, &mut found, out);
        log::check(&place, &mut found, out).await;
    }
    found.bytes_read = out.bytes_read - before;
    found
}

fn check_names(fs: &Arc<dyn Fs>, paths: &ShardPaths, out: &mut Findings<'_>) {
    let known = [&paths.wal, &paths.tables, &paths.manifest, &paths.stage];
    for name in list(fs, &paths.dir, out) {
        let path = paths.dir.join(name);
        if !known.contains(&&path) {
            out.note(fs.root().join(path), "no file of a shard");
        }
    }
}

fn read_manifest(
    fs: &Arc<dyn Fs>,
    superblock: &Superblock,
    shard: ShardId,
    paths: &ShardPaths,
    out: &mut Findings<'_>,
) -> Option<Manifest> {
    let shown = fs.root().join(&paths.manifest);
    let Some(bytes) = root::record(fs, &paths.manifest, out)? else {
        out.damage(shown, 0, "the manifest was never written, though the superblock names the shard");
        return None;
    };
    let manifest = match Manifest::decode(&bytes) {
        Ok(manifest) => manifest,
        Err(damage) => {
            out.damaged(damage.in_file(&shown, 0));
            return None;
        }
    };
    if manifest.db_id != superblock.db_id || manifest.shard != shard {
        let what = format!(
            "the manifest belongs to shard {} of database {:016x}, not to shard {shard} of {:016x}",
            manifest.shard, manifest.db_id, superblock.db_id
        );
        out.damage(shown, 0, what);
        return None;
    }
    check_numbers(&manifest, &shown, out);
    Some(manifest)
}

/// What the numbers of a manifest promise of each other.
fn check_numbers(manifest: &Manifest, shown: &Path, out: &mut Findings<'_>) {
    let mut ids: Vec<u64> = manifest.runs.iter().flatten().map(|table| table.id).collect();
    ids.sort_unstable();
    if let Some(pair) = ids.windows(2).find(|pair| pair[0] == pair[1]) {
        out.damage(shown, 0, format!("table {} is named twice", pair[0]));
    }
    if let Some(last) = ids.last().filter(|last| **last >= manifest.next_file) {
        out.damage(shown, 0, format!("table {last} is named, but the next free number is {}", manifest.next_file));
    }
    let newest = manifest.runs.iter().flatten().map(|table| table.max_ts).max().unwrap_or_default();
    if newest > manifest.max_ts {
        let what = format!("its tables go up to commit {newest}, it says {}", manifest.max_ts);
        out.damage(shown, 0, what);
    }
}
