//! The tree of files as an engine sees it.

use std::any::Any;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::faults::Fault;
use super::file::SimFile;
use super::points::OpKind;
use super::region::LiveRegion;
use super::state::{OpInfo, Rules, Shared, State, dead};
use super::transfer::{eio, enospc};
use crate::runtime::{File, Fs, LockError, OpenMode, SharedRegion};

pub(super) struct SimFs {
    pub shared: Arc<Shared>,
    pub life: u64,
}

impl SimFs {
    fn perform<T>(&self, kind: OpKind, path: &Path, apply: impl FnOnce(&mut State) -> io::Result<T>) -> io::Result<T> {
        let op = OpInfo { content: name_hash(path), ..OpInfo::name(kind, path) };
        self.shared.perform(self.life, &op, |state| {
            let ns = state.latency(kind, path, 0);
            state.occupy(ns);
            match state.strike(kind, path) {
                Some(Fault::NoSpace) => return Err(enospc()),
                Some(Fault::SyncDirError) => {
                    let dir = state.disk.names.dir(path)?;
                    state.disk.names.sync_failed(dir);
                    return Err(eio());
                }
                Some(_) => return Err(eio()),
                None => {}
            }
            apply(state)
        })
    }

    /// For what changes nothing and cannot fail by itself.
    fn look<T>(&self, look: impl FnOnce(&State) -> io::Result<T>) -> io::Result<T> {
        let state = self.shared.lock();
        if state.is_dead(self.life) {
            return Err(dead());
        }
        look(&state)
    }
}

fn name_hash(path: &Path) -> u64 {
    xxhash_rust::xxh3::xxh3_64(path.to_string_lossy().as_bytes())
}

fn rules(mode: OpenMode) -> Rules {
    match mode {
        OpenMode::Read => Rules { writable: false, direct: false },
        OpenMode::ReadWrite | OpenMode::CreateNew => Rules { writable: true, direct: false },
        OpenMode::Direct | OpenMode::CreateNewDirect => Rules { writable: true, direct: true },
    }
}

impl Fs for SimFs {
    fn root(&self) -> PathBuf {
        PathBuf::from("/simulated")
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.perform(OpKind::CreateDir, path, |state| state.disk.create_dir(path))
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        self.look(|state| state.disk.names.list(path))
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        self.look(|state| match state.disk.names.lookup(path) {
            Ok(_) => Ok(true),
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(false),
            Err(e) => Err(e),
        })
    }

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let kind = match mode {
            OpenMode::Read | OpenMode::ReadWrite | OpenMode::Direct => OpKind::Open,
            OpenMode::CreateNew | OpenMode::CreateNewDirect => OpKind::Create,
        };
        self.perform(kind, path, |state| {
            let ino = match kind {
                OpKind::Create => state.disk.create_file(path)?,
                _ => state.disk.names.file(path)?,
            };
            let file = SimFile::open(&self.shared, self.life, state, ino, path.to_path_buf(), rules(mode));
            Ok(Arc::new(file) as Arc<dyn File>)
        })
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.perform(OpKind::Rename, to, |state| {
            let seq = state.disk.next_seq();
            state.trace.mix(&[name_hash(from)], || format!("     from {}", from.display()));
            state.disk.names.rename(seq, from, to)
        })
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.perform(OpKind::Remove, path, |state| {
            let seq = state.disk.next_seq();
            state.disk.names.remove_file(seq, path)
        })
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.perform(OpKind::RemoveDir, path, |state| {
            let seq = state.disk.next_seq();
            state.disk.names.remove_dir(seq, path)
        })
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.perform(OpKind::SyncDir, path, |state| {
            let dir = state.disk.names.dir(path)?;
            state.disk.names.sync(dir);
            state.forget_unreachable();
            Ok(())
        })
    }

    fn shared_region(&self, path: &Path, len: usize) -> io::Result<Arc<SharedRegion>> {
        let missing = self.look(|state| Ok(state.disk.names.file(path).is_err()))?;
        let kind = if missing { OpKind::Create } else { OpKind::Open };
        self.perform(kind, path, |state| {
            let ino = if missing { new_region_file(state, path, len)? } else { state.disk.names.file(path)? };
            let mapped = state.regions.iter().any(|region| region.ino == ino);
            assert!(!mapped, "{} is mapped as a region twice", path.display());
            let len = usize::try_from(state.disk.inode(ino).len().max(len as u64)).expect("a region fits into memory");
            let (live, region) = LiveRegion::map(ino, state.disk.inode(ino), len);
            state.regions.push(live);
            Ok(region)
        })
    }

    fn lock(&self, path: &Path) -> Result<Box<dyn Any + Send + Sync>, LockError> {
        let mut state = self.shared.lock();
        if state.is_dead(self.life) {
            return Err(LockError::Io(dead()));
        }
        if state.locks.get(path).is_some_and(|guard| guard.strong_count() > 0) {
            return Err(LockError::Held { pid: Some(1) });
        }
        let guard = Arc::new(());
        state.locks.insert(path.to_path_buf(), Arc::downgrade(&guard));
        Ok(Box::new(guard))
    }
}

fn new_region_file(state: &mut State, path: &Path, len: usize) -> io::Result<u64> {
    if !state.has_room(len as u64) {
        return Err(enospc());
    }
    let ino = state.disk.create_file(path)?;
    let seq = state.disk.next_seq();
    let inode = state.disk.inode_mut(ino);
    inode.reserve(len as u64);
    inode.set_len(seq, len as u64);
    Ok(ino)
}
