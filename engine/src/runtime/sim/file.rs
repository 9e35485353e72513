//! An open file, and transfers that complete later.
//!
//! A blocking call takes effect at once and keeps its core busy for as long as it takes. A transfer takes effect when it
//! completes; until then a crash may leave any part of it.

use std::any::Any;
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use xxhash_rust::xxh3::xxh3_64;

use super::disk::Ino;
use super::faults::Fault;
use super::points::OpKind;
use super::state::{Due, InFlight, IoSlot, OpInfo, Rules, Shared, State, dead};
use super::transfer::{check_rules, eio, enospc};
use crate::runtime::{File, IoDone, IoOp, Mapping};

pub(super) struct SimFile {
    pub shared: Arc<Shared>,
    pub life: u64,
    pub ino: Ino,
    pub path: Arc<Path>,
    pub rules: Rules,
    /// Its count says whether the file is open.
    pub token: Arc<()>,
}

impl SimFile {
    fn perform<T>(&self, op: OpInfo<'_>, apply: impl FnOnce(&mut State) -> io::Result<T>) -> io::Result<T> {
        self.shared.perform(self.life, &op, |state| {
            let ns = state.latency(op.kind, op.path, op.len);
            state.occupy(ns);
            apply(state)
        })
    }

    fn write(&self, kind: OpKind, offset: u64, buf: &[u8]) -> io::Result<()> {
        check_rules(self.rules, kind, &self.path, offset, buf);
        let op = OpInfo { kind, path: &self.path, offset, len: buf.len(), content: xxh3_64(buf) };
        let durable = kind == OpKind::WriteDurable;
        let done = self.perform(op, |state| state.write(self.ino, &self.path, offset, buf, durable))?;
        if done < buf.len() {
            return Err(io::Error::new(io::ErrorKind::WriteZero, format!("wrote {done} of {} bytes", buf.len())));
        }
        Ok(())
    }

    fn writable(&self, what: &str) {
        assert!(self.rules.writable, "{what} of {}, which was opened for reading", self.path.display());
    }
}

impl File for SimFile {
    fn path(&self) -> &Path {
        &self.path
    }

    fn size(&self) -> io::Result<u64> {
        let state = self.shared.lock();
        if state.is_dead(self.life) {
            return Err(dead());
        }
        Ok(state.disk.inode(self.ino).len())
    }

    fn read_blocking(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        check_rules(self.rules, OpKind::Read, &self.path, offset, buf);
        let op = OpInfo { kind: OpKind::Read, path: &self.path, offset, len: buf.len(), content: 0 };
        self.perform(op, |state| state.read(self.ino, &self.path, offset, buf))
    }

    fn write_blocking(&self, offset: u64, buf: &[u8]) -> io::Result<()> {
        self.write(OpKind::Write, offset, buf)
    }

    fn write_durable_blocking(&self, offset: u64, buf: &[u8]) -> io::Result<()> {
        self.write(OpKind::WriteDurable, offset, buf)
    }

    fn sync_data_blocking(&self) -> io::Result<()> {
        self.perform(OpInfo::name(OpKind::Sync, &self.path), |state| {
            let upto = state.disk.seq();
            state.sync(self.ino, &self.path, upto)
        })
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        self.writable("allocate");
        let op = OpInfo { offset: len, ..OpInfo::name(OpKind::Allocate, &self.path) };
        self.perform(op, |state| {
            let room = state.disk.inode(self.ino).space_for(0, len);
            if state.strike(OpKind::Allocate, &self.path).is_some() || !state.has_room(room) {
                return Err(enospc());
            }
            let seq = state.disk.next_seq();
            let inode = state.disk.inode_mut(self.ino);
            inode.reserve(len);
            inode.set_len(seq, len.max(inode.len()));
            Ok(())
        })
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.writable("set_len");
        let op = OpInfo { offset: len, ..OpInfo::name(OpKind::SetLen, &self.path) };
        self.perform(op, |state| {
            let longer = len > state.disk.inode(self.ino).len();
            if state.strike(OpKind::SetLen, &self.path).is_some() && longer {
                return Err(enospc());
            }
            let seq = state.disk.next_seq();
            state.disk.inode_mut(self.ino).set_len(seq, len);
            Ok(())
        })
    }

    fn map(&self) -> io::Result<Mapping> {
        self.perform(OpInfo::name(OpKind::Map, &self.path), |state| {
            match state.strike(OpKind::Map, &self.path) {
                Some(Fault::BitRot) => {
                    let len = state.disk.inode(self.ino).len();
                    state.rot(self.ino, 0, len);
                }
                Some(_) => return Err(eio()),
                None => {}
            }
            Ok(Mapping::new(Arc::new(state.disk.inode(self.ino).read_all())))
        })
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

fn facts(op: &IoOp) -> (OpKind, u64, &[u8]) {
    match op {
        IoOp::Read { offset, buf } => (OpKind::Read, *offset, buf),
        IoOp::Write { offset, buf } => (OpKind::Write, *offset, buf),
        IoOp::WriteDurable { offset, buf } => (OpKind::WriteDurable, *offset, buf),
        IoOp::SyncData => (OpKind::Sync, 0, &[]),
    }
}

/// A transfer that its task waits for; dropping it leaves the transfer going.
pub(super) struct Transfer {
    shared: Arc<Shared>,
    life: u64,
    /// Not submitted yet: a ring may take an operation when it is asked for, or only when the task first waits.
    waiting: Option<(SimFile, IoOp)>,
    id: Option<u64>,
}

impl Transfer {
    pub fn new(shared: &Arc<Shared>, life: u64, file: SimFile, op: IoOp) -> Transfer {
        let (kind, offset, bytes) = facts(&op);
        if kind != OpKind::Sync {
            check_rules(file.rules, kind, &file.path, offset, bytes);
        }
        let mut transfer = Transfer { shared: Arc::clone(shared), life, waiting: Some((file, op)), id: None };
        let at_once = shared.lock().rng_time.coin();
        if at_once {
            transfer.submit();
        }
        transfer
    }

    fn submit(&mut self) {
        let Some((file, op)) = self.waiting.take() else { return };
        let mut state = self.shared.lock();
        if state.is_dead(self.life) {
            return;
        }
        let (kind, offset, bytes) = facts(&op);
        let ns = state.latency(kind, &file.path, bytes.len());
        let id = state.new_id();
        let at = state.now + ns;
        state.trace.mix(&[0x10, kind as u64, offset, bytes.len() as u64, at], || {
            format!("     submit {id} {kind:?} {} {offset}+{}", file.path.display(), bytes.len())
        });
        let upto = state.disk.seq();
        let flight = InFlight { ino: file.ino, path: Arc::clone(&file.path), op, upto };
        state.in_flight.insert(id, flight);
        state.slots.insert(id, IoSlot::default());
        state.schedule(at, Due::Io(id));
        self.id = Some(id);
    }
}

impl Future for Transfer {
    type Output = IoDone;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<IoDone> {
        self.submit();
        let Some(id) = self.id else { return Poll::Pending };
        let mut state = self.shared.lock();
        let Some(slot) = state.slots.get_mut(&id) else { return Poll::Pending };
        match slot.done.take() {
            Some(done) => {
                state.slots.remove(&id);
                Poll::Ready(done)
            }
            None => {
                let replaced = slot.waker.replace(cx.waker().clone());
                drop(state);
                // Not under the lock: a waker may own futures, whose destructors take it.
                drop(replaced);
                Poll::Pending
            }
        }
    }
}

impl Drop for Transfer {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            let slot = self.shared.lock().slots.remove(&id);
            drop(slot);
        }
    }
}

/// The transfer's time has come: it takes effect, and its task is woken.
pub(super) fn complete(shared: &Shared, id: u64) {
    let (life, path, kind, offset, len, content) = {
        let state = shared.lock();
        let Some(flight) = state.in_flight.get(&id) else { return };
        let (kind, offset, bytes) = facts(&flight.op);
        let content = if kind == OpKind::Read { 0 } else { xxh3_64(bytes) };
        (state.life, Arc::clone(&flight.path), kind, offset, bytes.len(), content)
    };
    let op = OpInfo { kind, path: &path, offset, len, content };
    let waker = shared.perform(life, &op, |state| {
        let Some(flight) = state.in_flight.remove(&id) else { return Ok(None) };
        let done = take_effect(state, flight);
        let Some(slot) = state.slots.get_mut(&id) else { return Ok(None) };
        slot.done = Some(done);
        Ok(slot.waker.take())
    });
    if let Ok(Some(waker)) = waker {
        waker.wake();
    }
}

fn take_effect(state: &mut State, flight: InFlight) -> IoDone {
    let InFlight { ino, path, op, upto } = flight;
    match op {
        IoOp::Read { offset, mut buf } => {
            let result = state.read(ino, &path, offset, &mut buf);
            IoDone { result, buf: Some(buf) }
        }
        IoOp::Write { offset, buf } => {
            let result = state.write(ino, &path, offset, &buf, false);
            IoDone { result, buf: Some(buf) }
        }
        IoOp::WriteDurable { offset, buf } => {
            let result = state.write(ino, &path, offset, &buf, true);
            IoDone { result, buf: Some(buf) }
        }
        IoOp::SyncData => IoDone { result: state.sync(ino, &path, upto).map(|()| 0), buf: None },
    }
}

impl SimFile {
    /// Another handle of the same open file, for a transfer to hold.
    pub fn share(&self) -> SimFile {
        SimFile {
            shared: Arc::clone(&self.shared),
            life: self.life,
            ino: self.ino,
            path: Arc::clone(&self.path),
            rules: self.rules,
            token: Arc::clone(&self.token),
        }
    }

    pub fn open(shared: &Arc<Shared>, life: u64, state: &mut State, ino: Ino, path: PathBuf, rules: Rules) -> SimFile {
        let token = Arc::new(());
        state.handles.push((ino, Arc::downgrade(&token)));
        SimFile { shared: Arc::clone(shared), life, ino, path: path.into(), rules, token }
    }
}
