//! One connection.
//!
//! Guards: bytes are received and sent in order, each once. A receive whose future was dropped goes on, and its bytes
//! are given to the next call; a send whose future was dropped goes on, and the next one waits for it.
//! Dropping the stream cancels what is in flight and closes the socket once the kernel has let go of it.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::net::Shutdown;
use std::pin::Pin;
use std::rc::Rc;

use socket2::Socket;

use super::Address;
use super::turns::Turns;
use crate::runtime::uring::{NetOp, Op, Ring, Ticket};

/// Room that is made for a receive into a buffer that has none.
const ROOM: usize = 16 << 10;

pub struct Stream {
    ring: Ring,
    socket: Rc<Socket>,
    local: Address,
    peer: Address,
    receiving: Turns,
    sending: Turns,
    /// The operations in flight, whoever started them.
    receive: RefCell<Option<Ticket>>,
    send: RefCell<Option<Ticket>>,
    /// Received for a future that was dropped, and too much for the call that found it.
    left_over: RefCell<Vec<u8>>,
}

/// Wait for the operation in flight and take it.
async fn outcome(place: &RefCell<Option<Ticket>>) -> Option<NetOp> {
    let op = poll_fn(|context| match place.borrow_mut().as_mut() {
        None => std::task::Poll::Ready(None),
        Some(ticket) => Pin::new(ticket).poll(context).map(Some),
    })
    .await?;
    place.take();
    match op {
        Op::Net(op) => Some(op),
        _ => unreachable!("an operation keeps its kind"),
    }
}

impl Stream {
    pub(super) fn new(ring: Ring, socket: Socket) -> io::Result<Stream> {
        let (local, peer) = (Address::of(&socket.local_addr()?), Address::of(&socket.peer_addr()?));
        Ok(Stream {
            ring,
            socket: Rc::new(socket),
            local,
            peer,
            receiving: Turns::default(),
            sending: Turns::default(),
            receive: RefCell::new(None),
            send: RefCell::new(None),
            left_over: RefCell::new(Vec::new()),
        })
    }

    pub fn local(&self) -> &Address {
        &self.local
    }

    pub fn peer(&self) -> &Address {
        &self.peer
    }

    /// Append what has arrived to `buf`, at most its spare capacity (if it has none, some is made); waits until
    /// something has. Zero bytes: the peer has ended its side, or `shutdown` was called.
    pub async fn recv(&self, mut buf: Vec<u8>) -> (io::Result<usize>, Vec<u8>) {
        let _turn = self.receiving.take().await;
        if buf.len() == buf.capacity() {
            buf.reserve(ROOM);
        }
        let count = self.take_left_over(&mut buf);
        if count > 0 {
            return (Ok(count), buf);
        }
        if self.receive.borrow().is_none() {
            let op = NetOp::receive(&self.socket, buf);
            *self.receive.borrow_mut() = Some(self.ring.start(Op::Net(op)));
            return match outcome(&self.receive).await {
                Some(op) => op.into_moved(),
                None => (Ok(0), Vec::new()),
            };
        }
        // A receive that an earlier, dropped call began, with a buffer of its own.
        let Some(op) = outcome(&self.receive).await else { return (Ok(0), buf) };
        let (result, received) = op.into_moved();
        match result {
            Ok(count) => {
                let start = received.len() - count;
                *self.left_over.borrow_mut() = received[start..].to_vec();
                (Ok(self.take_left_over(&mut buf)), buf)
            }
            Err(error) => (Err(error), buf),
        }
    }

    fn take_left_over(&self, buf: &mut Vec<u8>) -> usize {
        let mut left_over = self.left_over.borrow_mut();
        let count = left_over.len().min(buf.capacity() - buf.len());
        buf.extend(left_over.drain(..count));
        count
    }

    /// Send all of `buf`; done when the kernel has taken it. Calls are served one after the other.
    pub async fn send_all(&self, buf: Vec<u8>) -> (io::Result<()>, Vec<u8>) {
        let _turn = self.sending.take().await;
        if let Some(earlier) = outcome(&self.send).await
            && let (Err(error), _) = earlier.into_moved()
        {
            return (Err(error), buf);
        }
        if buf.is_empty() {
            return (Ok(()), buf);
        }
        *self.send.borrow_mut() = Some(self.ring.start(Op::Net(NetOp::send(&self.socket, buf))));
        match outcome(&self.send).await {
            Some(op) => {
                let (result, buf) = op.into_moved();
                (result.map(drop), buf)
            }
            None => (Ok(()), Vec::new()),
        }
    }

    /// End this side: the peer reads to the end; it may still send.
    pub fn finish(&self) -> io::Result<()> {
        self.socket.shutdown(Shutdown::Write)
    }

    /// End both sides: a receive under way returns zero bytes, a send fails.
    pub fn shutdown(&self) {
        // It fails only where the peer has gone already.
        let _ = self.socket.shutdown(Shutdown::Both);
    }
}
