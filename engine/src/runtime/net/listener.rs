//! Connections to one thread.
//!
//! Guards: a connection accepted for a future that was dropped is given to the next call.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;

use socket2::Socket;

use super::bound::{Bound, SocketFile};
use super::stream::Stream;
use super::turns::Turns;
use super::{Address, TcpOptions};
use crate::runtime::uring::{NetOp, Op, Ring, Ticket};

pub struct Listener {
    ring: Ring,
    socket: Rc<Socket>,
    address: Address,
    tcp: Option<TcpOptions>,
    accepting: Turns,
    /// The accept in flight, whoever started it.
    under_way: RefCell<Option<Ticket>>,
    _file: Option<Arc<SocketFile>>,
}

impl Listener {
    pub(super) fn new(ring: Ring, bound: Bound) -> Listener {
        Listener {
            ring,
            socket: Rc::new(bound.socket),
            address: bound.address,
            tcp: bound.tcp,
            accepting: Turns::default(),
            under_way: RefCell::new(None),
            _file: bound.file,
        }
    }

    pub fn local_address(&self) -> &Address {
        &self.address
    }

    /// The next connection. An error is about that connection, or says that descriptors or memory have run out
    /// (EMFILE, ENFILE, ENOMEM): wait a little and call again. After `close` it is EINVAL.
    pub async fn accept(&self) -> io::Result<Stream> {
        let _turn = self.accepting.take().await;
        let op = poll_fn(|context| {
            let mut under_way = self.under_way.borrow_mut();
            let ticket = under_way.get_or_insert_with(|| self.ring.start(Op::Net(NetOp::accept(&self.socket))));
            Pin::new(ticket).poll(context)
        })
        .await;
        self.under_way.take();
        let Op::Net(op) = op else { unreachable!("an operation keeps its kind") };
        let socket = Socket::from(op.into_accepted()?);
        if let Some(options) = &self.tcp {
            options.apply(&socket)?;
        }
        Stream::new(self.ring.clone(), socket)
    }

    /// Accept no more: calls under way end with an error.
    pub fn close(&self) {
        // On a listening socket this wakes whoever accepts; it fails only for one that is closed already.
        let _ = self.socket.shutdown(std::net::Shutdown::Both);
    }
}
