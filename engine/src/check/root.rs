//! Root records in their two copies: the superblock, and what is common to it and the manifests.

use std::path::Path;
use std::sync::Arc;

use super::Findings;
use crate::format::mirror::{COPY_LEN, CopyAt, MirrorState, judge};
use crate::format::superblock::Superblock;
use crate::mirror::MirrorFile;
use crate::root::{CREATING_FILE, SUPERBLOCK_FILE};
use crate::runtime::Fs;

/// The superblock, if it can be read.
pub fn check(fs: &Arc<dyn Fs>, out: &mut Findings<'_>) -> Option<Superblock> {
    let path = Path::new(SUPERBLOCK_FILE);
    let shown = fs.root().join(path);
    let creating = fs.exists(Path::new(CREATING_FILE)).unwrap_or(false);
    let interrupted = "the creation of the database was interrupted; the next opening begins it anew";
    if let Ok(false) = fs.exists(path) {
        if creating {
            out.note(shown, interrupted);
        } else {
            out.damage(shown, 0, "the superblock is missing, but shards are there");
        }
        return None;
    }
    let Some(bytes) = record(fs, path, out)? else {
        out.note(shown, interrupted);
        return None;
    };
    match Superblock::decode(&bytes) {
        Ok(superblock) => Some(superblock),
        Err(e) => {
            out.damage(shown, 0, e.to_string());
            None
        }
    }
}

/// A record in two copies: none if it cannot be read (damage), an inner none if it was never written.
#[allow(clippy::option_option)]
pub fn record(fs: &Arc<dyn Fs>, path: &Path, out: &mut Findings<'_>) -> Option<Option<Vec<u8>>> {
    let shown = fs.root().join(path);
    let copies = match MirrorFile::copies(fs, path) {
        Ok(copies) => copies,
        Err(error) => {
            out.damaged(error);
            return None;
        }
    };
    for (copy, name, at) in [(&copies[0], "A", 0), (&copies[1], "B", COPY_LEN as u64)] {
        match copy {
            CopyAt::Valid { payload, .. } => out.read(&shown, payload.len() as u64),
            CopyAt::NeverWritten => {}
            CopyAt::Unreadable => {
                out.damage(&shown, at, format!("copy {name} of the record is torn or damaged"));
            }
        }
    }
    let sequences = copies.each_ref().map(|copy| match copy {
        CopyAt::Valid { sequence, payload } => Some((*sequence, payload)),
        CopyAt::NeverWritten | CopyAt::Unreadable => None,
    });
    match sequences {
        [Some((a, of_a)), Some((b, of_b))] if a == b && of_a != of_b => {
            out.damage(&shown, COPY_LEN as u64, format!("copies A and B have the same number {a} and differ"));
        }
        [Some((a, _)), Some((b, _))] if a != b => {
            out.note(&shown, format!("copy A is record {a}, copy B record {b}; the next opening repairs the older"));
        }
        _ => {}
    }
    let [a, b] = copies;
    match judge(a, b) {
        MirrorState::NeverWritten => Some(None),
        MirrorState::Valid { payload, .. } => Some(Some(payload)),
        // Both copies, or the only one that was written, were named above.
        MirrorState::Unreadable => None,
    }
}
