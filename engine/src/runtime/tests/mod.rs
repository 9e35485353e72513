//! The machine under test, from outside: only the traits of `runtime`.

mod executor;
mod files;
mod measure;
mod net;
mod processes;
mod seccomp;

use std::path::Path;
use std::rc::Rc;
use std::sync::mpsc;
use std::time::Duration;

use super::host::Machine;
use super::{Executor, Host, LocalFuture};
use crate::ids::ShardId;

/// Run `main` on a thread of its own shard and wait for its answer and the thread's end.
fn on_shard<T: Send + 'static>(
    host: &dyn Host,
    main: impl FnOnce(Rc<dyn Executor>) -> LocalFuture<'static, T> + Send + 'static,
) -> T {
    on_processor(host, None, main)
}

fn on_processor<T: Send + 'static>(
    host: &dyn Host,
    processor: Option<usize>,
    main: impl FnOnce(Rc<dyn Executor>) -> LocalFuture<'static, T> + Send + 'static,
) -> T {
    let (answer, result) = mpsc::channel();
    let body = Box::new(move |executor| {
        Box::pin(async move {
            let _ = answer.send(main(executor).await);
        }) as LocalFuture<'static, ()>
    });
    let thread = host.start_shard(ShardId(0), processor, body).expect("the shard starts");
    let result = result.recv_timeout(Duration::from_secs(60)).expect("the shard's main task answers");
    thread.join();
    result
}

fn machine(dir: &Path) -> Machine {
    Machine::new(dir, false).expect("the directory is there")
}
