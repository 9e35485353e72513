//! Reads for a check: in the caller's own thread, and nothing but reads.
//!
//! Guards: a check cannot change a byte, whatever the code that it shares with recovery asks for.

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::runtime::{Blocking, DurableWay, Executor, File, IoDone, IoOp, LocalFuture, TaskClass};

/// An executor whose transfers are done when they are asked for, and whose writes are all refused.
pub struct ReadOnly;

impl ReadOnly {
    pub fn executor() -> Rc<dyn Executor> {
        Rc::new(ReadOnly)
    }
}

fn perform(file: &Arc<dyn File>, op: IoOp) -> IoDone {
    let refused = || Err(io::Error::from_raw_os_error(libc::EROFS));
    match op {
        IoOp::Read { offset, mut buf } => {
            let result = file.read_blocking(offset, &mut buf);
            IoDone { result, buf: Some(buf) }
        }
        IoOp::Write { buf, .. } | IoOp::WriteDurable { buf, .. } => IoDone { result: refused(), buf: Some(buf) },
        IoOp::SyncData => IoDone { result: refused(), buf: None },
    }
}

impl Executor for ReadOnly {
    fn spawn(&self, _class: TaskClass, _task: LocalFuture<'static, ()>) {
        panic!("a check has no tasks beside itself");
    }

    fn sleep(&self, _time: Duration) -> LocalFuture<'static, ()> {
        panic!("a check waits for nothing");
    }

    fn yield_now(&self) -> LocalFuture<'static, ()> {
        Box::pin(std::future::ready(()))
    }

    fn io(&self, file: &Arc<dyn File>, op: IoOp) -> LocalFuture<'static, IoDone> {
        Box::pin(std::future::ready(perform(file, op)))
    }

    fn off_core(&self, work: Blocking) -> LocalFuture<'static, ()> {
        work();
        Box::pin(std::future::ready(()))
    }

    fn finish_off_core(&self) -> LocalFuture<'static, ()> {
        Box::pin(std::future::ready(()))
    }

    fn durable_way(&self, _len: usize, _waiting: usize) -> DurableWay {
        DurableWay::Blocking
    }
}
