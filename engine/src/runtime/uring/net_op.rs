//! Accept, receive and send, from submission to completion.
//!
//! Guards: the socket stays open and the buffer stays whole until the kernel has answered; a send goes on until all
//! is sent; a connection that was accepted for nobody is closed.

#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::rc::Rc;

use io_uring::{opcode, squeue, types};
use socket2::Socket;

/// The most that one call sends or receives.
const PIECE_MAX: usize = 1 << 30;

enum Kind {
    Accept {
        accepted: Option<OwnedFd>,
    },
    /// Bytes are appended to `buf`.
    Receive {
        buf: Vec<u8>,
        received: usize,
    },
    Send {
        buf: Vec<u8>,
        sent: usize,
    },
}

pub struct NetOp {
    socket: Rc<Socket>,
    kind: Kind,
    answer: i32,
    failure: Option<io::Error>,
}

impl NetOp {
    fn new(socket: &Rc<Socket>, kind: Kind) -> NetOp {
        NetOp { socket: Rc::clone(socket), kind, answer: 0, failure: None }
    }

    pub fn accept(socket: &Rc<Socket>) -> NetOp {
        NetOp::new(socket, Kind::Accept { accepted: None })
    }

    /// Receive into the spare capacity of `buf`, of which there must be some.
    pub fn receive(socket: &Rc<Socket>, buf: Vec<u8>) -> NetOp {
        assert!(buf.len() < buf.capacity(), "an empty receive would look like the end of the stream");
        NetOp::new(socket, Kind::Receive { buf, received: 0 })
    }

    pub fn send(socket: &Rc<Socket>, buf: Vec<u8>) -> NetOp {
        NetOp::new(socket, Kind::Send { buf, sent: 0 })
    }

    pub fn entry(&mut self) -> squeue::Entry {
        let fd = types::Fd(self.socket.as_raw_fd());
        match &mut self.kind {
            Kind::Accept { .. } => {
                opcode::Accept::new(fd, std::ptr::null_mut(), std::ptr::null_mut()).flags(libc::SOCK_CLOEXEC).build()
            }
            Kind::Receive { buf, .. } => {
                let spare = buf.spare_capacity_mut();
                let len = spare.len().min(PIECE_MAX) as u32;
                opcode::Recv::new(fd, spare.as_mut_ptr().cast(), len).build()
            }
            Kind::Send { buf, sent } => {
                let rest = &buf[*sent..];
                let len = rest.len().min(PIECE_MAX) as u32;
                // With MSG_WAITALL the kernel itself goes on after a short send.
                opcode::Send::new(fd, rest.as_ptr(), len).flags(libc::MSG_NOSIGNAL | libc::MSG_WAITALL).build()
            }
        }
    }

    pub fn completed(&mut self, answer: i32) {
        self.answer = answer;
    }

    pub fn wants_more(&mut self) -> bool {
        if self.answer == -libc::EINTR {
            return true;
        }
        let Ok(count) = usize::try_from(self.answer) else {
            self.failure = Some(io::Error::from_raw_os_error(-self.answer));
            return false;
        };
        match &mut self.kind {
            Kind::Accept { accepted } => {
                // SAFETY: the kernel made this descriptor for this operation and told nobody else.
                *accepted = Some(unsafe { OwnedFd::from_raw_fd(self.answer) });
                false
            }
            Kind::Receive { buf, received } => {
                *received = count;
                // SAFETY: the kernel has written `count` bytes, at most what was spare, behind the buffer's end.
                unsafe { buf.set_len(buf.len() + count) };
                false
            }
            Kind::Send { buf, sent } => {
                *sent += count;
                if count == 0 && *sent < buf.len() {
                    self.failure = Some(io::ErrorKind::WriteZero.into());
                    return false;
                }
                *sent < buf.len()
            }
        }
    }

    /// The connection, if this was an accept.
    pub fn into_accepted(self) -> io::Result<OwnedFd> {
        match (self.failure, self.kind) {
            (Some(error), _) => Err(error),
            (None, Kind::Accept { accepted: Some(fd) }) => Ok(fd),
            (None, _) => Err(io::Error::other("the operation accepted nothing")),
        }
    }

    /// Bytes moved by a receive or a send, and the buffer back.
    pub fn into_moved(self) -> (io::Result<usize>, Vec<u8>) {
        let (count, buf) = match self.kind {
            Kind::Accept { .. } => (0, Vec::new()),
            Kind::Receive { buf, received } => (received, buf),
            Kind::Send { buf, sent } => (sent, buf),
        };
        (self.failure.map_or(Ok(count), Err), buf)
    }
}
