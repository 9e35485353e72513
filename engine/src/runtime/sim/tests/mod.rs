//! Claims about the simulation itself: what it promises to those who test with it.

mod crashes;
mod disk_faults;
mod enumeration;
mod schedule;

use std::path::Path;
use std::sync::Arc;

use super::*;
use crate::runtime::{AlignedBuf, BLOCK, File, Fs, IoBuf, OpenMode};

/// A direct file of whole blocks, its name durable.
fn create(fs: &Arc<dyn Fs>, path: &str) -> Arc<dyn File> {
    let file = fs.open(Path::new(path), OpenMode::CreateNewDirect).unwrap();
    fs.sync_dir(Path::new("")).unwrap();
    file
}

fn buf(byte: u8, blocks: usize) -> IoBuf {
    let mut memory = AlignedBuf::zeroed(blocks * BLOCK);
    memory.fill(byte);
    IoBuf::heap(memory, blocks * BLOCK)
}
