//! Answers to writes, on real threads. (On all interleavings: the crate corering-models.)

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use corering_engine::Error;
use corering_engine::pending::pending;

#[test]
fn an_answer_reaches_a_waiting_thread_a_future_and_a_call() {
    let (completer, waiting) = pending::<u32>(None);
    let thread = std::thread::spawn(move || waiting.wait());
    completer.complete(Ok(1));
    assert_eq!(thread.join().unwrap().unwrap(), 1);

    let (completer, future) = pending::<u32>(None);
    let thread = std::thread::spawn(move || futures_lite::future::block_on(future));
    completer.complete(Ok(2));
    assert_eq!(thread.join().unwrap().unwrap(), 2);

    let seen = Arc::new(AtomicU32::new(0));
    let (completer, called) = pending::<u32>(None);
    let seen_by_call = Arc::clone(&seen);
    called.on_ready(move |result| seen_by_call.store(result.unwrap(), Ordering::SeqCst));
    completer.complete(Ok(3));
    assert_eq!(seen.load(Ordering::SeqCst), 3);
}

#[test]
fn a_dropped_completer_answers_closed() {
    let (completer, waiting) = pending::<u32>(None);
    drop(completer);
    assert!(matches!(waiting.wait(), Err(Error::Closed)));
}
