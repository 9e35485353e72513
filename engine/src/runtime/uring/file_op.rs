//! A transfer between memory and a file, from its submission to its last completion.
//!
//! Guards: short transfers are continued; the bytes of a durable write are under a sync that began after the last of
//! them was written; a sync that failed is reported and not made again.

use std::io;
use std::os::fd::RawFd;
use std::sync::Arc;

use io_uring::{opcode, squeue, types};

use super::disk::RingSync;
use super::op::{Entries, Part};
use crate::runtime::host::{HostFile, PIECE_MAX, read_met_end, wrote_nothing};
use crate::runtime::{File, IoBuf, IoDone, IoOp};

/// Transfers that the kernel turned away without a reason that will last are tried so many times.
const TRIES_MAX: u32 = 64;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Read,
    Write,
    WriteDurable(RingSync),
    Sync,
}

/// What the kernel answered to the entries of one submission.
#[derive(Clone, Copy, Default)]
struct Answers {
    transfer: Option<i32>,
    sync: Option<i32>,
}

pub struct FileOp {
    kind: Kind,
    fd: RawFd,
    direct: bool,
    offset: u64,
    buf: Option<IoBuf>,
    done: usize,
    tries: u32,
    answers: Answers,
    result: Option<io::Result<usize>>,
    /// Keeps `fd` open.
    _file: Arc<dyn File>,
}

impl FileOp {
    /// Gives the operation back where the file is none of the machine's.
    pub fn new(file: &Arc<dyn File>, op: IoOp, ring_sync: RingSync) -> Result<FileOp, IoDone> {
        let (kind, offset, buf) = match op {
            IoOp::Read { offset, buf } => (Kind::Read, offset, Some(buf)),
            IoOp::Write { offset, buf } => (Kind::Write, offset, Some(buf)),
            IoOp::WriteDurable { offset, buf } => (Kind::WriteDurable(ring_sync), offset, Some(buf)),
            IoOp::SyncData => (Kind::Sync, 0, None),
        };
        let Some(own) = file.as_any().downcast_ref::<HostFile>() else {
            let what = format!("{} was not opened on this machine", file.path().display());
            return Err(IoDone { result: Err(io::Error::new(io::ErrorKind::InvalidInput, what)), buf });
        };
        Ok(FileOp {
            kind,
            fd: own.fd(),
            direct: own.is_direct(),
            offset,
            buf,
            done: 0,
            tries: 0,
            answers: Answers::default(),
            result: None,
            _file: Arc::clone(file),
        })
    }

    fn len(&self) -> usize {
        self.buf.as_ref().map_or(0, |buf| buf.len())
    }

    /// Bytes that the next submission transfers, at most.
    fn piece(&self) -> usize {
        (self.len() - self.done).min(PIECE_MAX)
    }

    /// What to submit next. The pointers in the entries are into `self.buf`, which must stay untouched until every
    /// entry has completed.
    pub fn entries(&mut self) -> Entries {
        self.answers = Answers::default();
        let (fd, piece) = (types::Fd(self.fd), self.piece());
        let at = self.offset + self.done as u64;
        let sync = || opcode::Fsync::new(fd).flags(types::FsyncFlags::DATASYNC).build();
        let Some(buf) = self.buf.as_mut() else { return (sync(), None) };
        let memory = buf[self.done..].as_mut_ptr();
        let write = || opcode::Write::new(fd, memory, piece as u32).offset(at);
        match self.kind {
            Kind::Read => (opcode::Read::new(fd, memory, piece as u32).offset(at).build(), None),
            Kind::Write | Kind::Sync => (write().build(), None),
            Kind::WriteDurable(RingSync::WriteThrough) => (write().rw_flags(libc::RWF_DSYNC).build(), None),
            Kind::WriteDurable(RingSync::LinkedSync) if self.done + piece < buf.len() => (write().build(), None),
            Kind::WriteDurable(RingSync::LinkedSync) => (write().build().flags(squeue::Flags::IO_LINK), Some(sync())),
        }
    }

    pub fn completed(&mut self, part: Part, answer: i32) {
        match part {
            Part::Transfer => self.answers.transfer = Some(answer),
            Part::Sync => self.answers.sync = Some(answer),
        }
    }

    /// All entries of a submission have completed: is there more to submit?
    pub fn wants_more(&mut self) -> bool {
        self.result = self.judge();
        self.result.is_none()
    }

    fn judge(&mut self) -> Option<io::Result<usize>> {
        let answer = self.answers.transfer.unwrap_or(0);
        if self.kind == Kind::Sync {
            return Some(if answer < 0 { Err(io::Error::from_raw_os_error(-answer)) } else { Ok(0) });
        }
        let Ok(moved) = usize::try_from(answer) else { return self.judge_refusal(-answer) };
        let piece = self.piece();
        self.done += moved;
        if self.kind == Kind::Read {
            let over = self.done == self.len() || read_met_end(self.direct, moved);
            return over.then_some(Ok(self.done));
        }
        if moved == 0 && piece > 0 {
            return Some(Err(wrote_nothing()));
        }
        if self.done < self.len() {
            return None;
        }
        match self.answers.sync {
            Some(error) if error < 0 => Some(Err(io::Error::from_raw_os_error(-error))),
            _ => Some(Ok(self.done)),
        }
    }

    /// The transfer itself failed; a sync linked to it did not run.
    fn judge_refusal(&mut self, code: i32) -> Option<io::Result<usize>> {
        match code {
            libc::EINTR | libc::EAGAIN if self.tries < TRIES_MAX => {
                self.tries += 1;
                None
            }
            libc::EOPNOTSUPP if self.kind == Kind::WriteDurable(RingSync::WriteThrough) => {
                self.kind = Kind::WriteDurable(RingSync::LinkedSync);
                None
            }
            _ => Some(Err(io::Error::from_raw_os_error(code))),
        }
    }

    pub fn into_done(mut self) -> IoDone {
        let result = self.result.take().unwrap_or_else(|| Err(io::Error::other("the transfer has not ended")));
        IoDone { result, buf: self.buf.take() }
    }
}
