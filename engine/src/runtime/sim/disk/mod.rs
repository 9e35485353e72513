//! A disk that keeps its promises and nothing more: content, length and names each become durable by their own sync.
//!
//! Cloning a [`Disk`] is cheap (files are shared until one side writes), so a harness can keep the disk of every crash
//! point of a run and damage each in several ways.

pub mod crash;
pub mod inode;
pub mod names;

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

use self::crash::{CrashKind, Damage};
use self::inode::Inode;
use self::names::Names;
pub use self::names::{Ino, Node};
use super::rng::splitmix;
use crate::runtime::BLOCK;

/// The content of a simulated disk. The calls here are for harnesses: they go around clock, faults and crash points.
#[derive(Clone, Default)]
pub struct Disk {
    pub(super) names: Names,
    inodes: BTreeMap<Ino, Arc<Inode>>,
    next_id: u64,
    seq: u64,
    pub(super) capacity: Option<u64>,
    /// How often the machine was started: [`crate::runtime::Host::boot`].
    pub(super) boot: u64,
}

/// A write that was in flight when a run died.
#[derive(Clone)]
pub(super) struct Torn {
    pub ino: Ino,
    pub offset: u64,
    pub data: Arc<[u8]>,
}

impl Disk {
    pub fn new() -> Disk {
        Disk::default()
    }

    /// Number of the last change; syncs and crashes speak of changes up to a number.
    pub(super) fn seq(&self) -> u64 {
        self.seq
    }

    pub(super) fn next_seq(&mut self) -> u64 {
        self.seq += 1;
        self.seq
    }

    pub(super) fn inode(&self, ino: Ino) -> &Inode {
        self.inodes.get(&ino).expect("an open file has an inode")
    }

    pub(super) fn inode_mut(&mut self, ino: Ino) -> &mut Inode {
        Arc::make_mut(self.inodes.get_mut(&ino).expect("an open file has an inode"))
    }

    fn new_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    pub(super) fn create_file(&mut self, path: &Path) -> io::Result<Ino> {
        let (seq, ino) = (self.next_seq(), self.new_id());
        self.names.create(seq, path, Node::File(ino))?;
        self.inodes.insert(ino, Arc::new(Inode::default()));
        Ok(ino)
    }

    pub(super) fn create_dir(&mut self, path: &Path) -> io::Result<()> {
        let (seq, id) = (self.next_seq(), self.new_id());
        self.names.create(seq, path, Node::Dir(id))
    }

    /// Bytes in use by files that have a name or that `open` says are open.
    pub(super) fn used(&self, open: impl Fn(Ino) -> bool) -> u64 {
        let linked = self.names.linked();
        self.inodes.iter().filter(|(ino, _)| linked.contains(ino) || open(**ino)).map(|(_, inode)| inode.space()).sum()
    }

    /// Forget files that can never be seen again.
    pub(super) fn forget_unreachable(&mut self, open: impl Fn(Ino) -> bool) {
        let reachable = self.names.reachable();
        self.inodes.retain(|ino, _| reachable.contains(ino) || open(*ino));
    }

    /// What a crash of that kind leaves, by the choices of `seed`.
    pub(super) fn after_crash(&self, kind: CrashKind, seed: u64, in_flight: &[Torn]) -> Disk {
        let mut disk = self.clone();
        let mut damage = Damage::new(seed, disk.seq);
        for write in in_flight {
            let seq = disk.next_seq();
            for range in damage.torn(write.data.len()) {
                let at = write.offset + range.start as u64;
                disk.inode_mut(write.ino).write(seq, at, &write.data[range]);
            }
        }
        if kind == CrashKind::Machine {
            disk.boot += 1;
            disk.names.crash(&mut damage);
            for inode in disk.inodes.values_mut() {
                Arc::make_mut(inode).crash(&mut damage);
            }
        }
        disk.forget_unreachable(|_| false);
        disk
    }

    /// Every file with its length, sorted by path.
    pub fn files(&self) -> Vec<(String, u64)> {
        self.names.walk().into_iter().map(|(path, ino)| (path, self.inode(ino).len())).collect()
    }

    pub fn read(&self, path: impl AsRef<Path>) -> io::Result<Vec<u8>> {
        Ok(self.inode(self.names.file(path.as_ref())?).read_all())
    }

    /// Create or replace a file, durable with its name.
    pub fn write(&mut self, path: impl AsRef<Path>, bytes: &[u8]) -> io::Result<()> {
        let path = path.as_ref();
        let ino = match self.names.file(path) {
            Ok(ino) => ino,
            Err(_) => self.create_file(path)?,
        };
        let seq = self.next_seq();
        let inode = self.inode_mut(ino);
        inode.set_len(seq, 0);
        inode.write(seq, 0, bytes);
        inode.sync(seq);
        let parent = self.names.dir(path.parent().unwrap_or(Path::new("")))?;
        self.names.sync(parent);
        Ok(())
    }

    /// Make everything durable, as a clean shutdown of the machine does.
    pub fn settle(&mut self) {
        let seq = self.seq;
        for inode in self.inodes.values_mut() {
            if !inode.is_clean() {
                Arc::make_mut(inode).sync(seq);
            }
        }
        self.names.settle();
        self.forget_unreachable(|_| false);
    }

    /// Rot: flip one bit, on the medium and in every cache.
    pub fn flip_bit(&mut self, path: impl AsRef<Path>, byte: u64, bit: u8) -> io::Result<()> {
        let ino = self.names.file(path.as_ref())?;
        if byte >= self.inode(ino).len() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the bit lies behind the end of the file"));
        }
        self.inode_mut(ino).damage(byte, |b| b ^ (1 << bit));
        Ok(())
    }

    /// Exchange two blocks of two files (or one): what a confused disk does.
    pub fn swap_blocks(&mut self, a: (&Path, u64), b: (&Path, u64)) -> io::Result<()> {
        let files = [(self.names.file(a.0)?, a.1), (self.names.file(b.0)?, b.1)];
        let pages = files.map(|(ino, block)| {
            let mut page = vec![0; BLOCK];
            let n = self.inode(ino).read(block * BLOCK as u64, &mut page);
            page.truncate(n);
            page
        });
        if pages[0].len() != pages[1].len() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the blocks differ in length"));
        }
        for ((ino, block), page) in files.iter().zip([&pages[1], &pages[0]]) {
            let seq = self.next_seq();
            self.inode_mut(*ino).write_durable(seq, block * BLOCK as u64, page);
        }
        Ok(())
    }

    /// Names, lengths and bytes as the next opening sees them, as one number.
    pub fn fingerprint(&self) -> u64 {
        let dirs = self.names.dirs().into_iter().fold(0, |h, (_, name)| splitmix(h ^ text(&name)));
        self.names
            .walk()
            .iter()
            .fold(dirs, |h, (path, ino)| splitmix(h ^ text(path) ^ splitmix(self.inode(*ino).fingerprint())))
    }
}

fn text(name: &str) -> u64 {
    xxhash_rust::xxh3::xxh3_64(name.as_bytes())
}
