//! A shard's sorted tables: every byte, and every key against the ring.

use std::collections::HashSet;
use std::sync::Arc;

use super::shard::Place;
use super::{Findings, ShardCheck, list};
use crate::error::{Error, Result};
use crate::format::footer::FOOTER_LEN;
use crate::format::manifest::TableMeta;
use crate::ids::Keyspace;
use crate::runtime::OpenMode;
use crate::table::file::{Table, TableIdentity, file_name, parse_file_name};
use crate::table::source::{Cursor, Source};
use crate::table::table_set::Run;

pub fn check(place: &Place<'_>, found: &mut ShardCheck, out: &mut Findings<'_>) {
    check_names(place, out);
    for run in &place.manifest.runs {
        for meta in run {
            let path = place.fs.root().join(place.paths.tables.join(file_name(meta.id)));
            let in_force = place.superblock.ring_version;
            if meta.ring_version > in_force {
                // A whole run is dropped with it; its keys are still where they were.
                let at = meta.ring_version;
                let what = format!("copied for ring {at}, which did not come into force after {in_force}");
                out.note(path, format!("{what}; the next opening drops it"));
                continue;
            }
            found.tables += 1;
            match check_table(place, meta, out) {
                Ok(entries) => found.entries += entries,
                Err(error) => out.damaged(error),
            }
        }
    }
}

/// Files that the manifest does not name.
fn check_names(place: &Place<'_>, out: &mut Findings<'_>) {
    let named: HashSet<u64> = place.manifest.runs.iter().flatten().map(|table| table.id).collect();
    for name in list(place.fs, &place.paths.tables, out) {
        let path = place.fs.root().join(place.paths.tables.join(&name));
        match parse_file_name(&name) {
            Some(id) if named.contains(&id) => {}
            Some(_) => out.note(path, "no manifest names this table; the next opening removes it"),
            None => out.note(path, "no table"),
        }
    }
}

fn check_table(place: &Place<'_>, meta: &TableMeta, out: &mut Findings<'_>) -> Result<u64> {
    let path = place.paths.tables.join(file_name(meta.id));
    let shown = place.fs.root().join(&path);
    let file = place.fs.open(&path, OpenMode::Read).map_err(|e| Error::io("open", &shown, e))?;
    let table = Table::open(&*file, TableIdentity { db_id: place.superblock.db_id, shard: place.shard, id: meta.id })?;
    if table.meta() != meta {
        let what = format!("the footer says {:?}, the manifest {meta:?}", table.meta());
        return Err(Error::corrupt(shown, table.meta().bytes.saturating_sub(FOOTER_LEN as u64), what));
    }
    table.verify(&mut |bytes| out.read(&shown, bytes))?;
    if meta.ring_version == place.superblock.ring_version {
        check_owner(place, table)?;
    }
    Ok(meta.entries)
}

/// Each key of a table that is pure at the ring in force belongs to its shard.
fn check_owner(place: &Place<'_>, table: Table) -> Result<()> {
    let path = table.path().to_path_buf();
    let run = Run::new(vec![Arc::new(table)]);
    let mut cursor: Cursor = Source::Run(run).cursor()?;
    cursor.seek(Keyspace(0), &[])?;
    while let Some((keyspace, key)) = cursor.key() {
        if let Some(what) = place.misplaced(keyspace, key) {
            let what = format!("keyspace {}: {what}, though the table holds only its shard's keys", keyspace.0);
            return Err(Error::corrupt(path, 0, what));
        }
        cursor.next_key()?;
    }
    Ok(())
}
