//! Small programs over the engine's hand-over, in every interleaving (with three threads: in all with few interruptions); and each mistake of `unsound.rs` found by one of them.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;

use corering_models::error::Error;
use corering_models::{sound, unsound};
use loom::cell::UnsafeCell;
use loom::future::block_on;
use loom::sync::Arc;
use loom::sync::atomic::AtomicUsize;
use loom::thread;

/// Whether some interleaving fails; its panic is shown with the test's output.
fn is_found(program: impl Fn() + Send + Sync + 'static) -> bool {
    catch_unwind(AssertUnwindSafe(|| loom::model(program))).is_err()
}

/// Every interleaving in which at most three threads are interrupted: three threads have too many others.
fn model_with_few_interruptions(program: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(program);
}

/// One thread writes and sets, the other waits and reads what was written: loom fails on a read that the write does not
/// happen before, and on a wait that never ends.
macro_rules! event_hands_over {
    ($files:path) => {{
        use $files as files;
        || {
            let shared = Arc::new((files::event::Event::default(), UnsafeCell::new(0)));
            let setter = Arc::clone(&shared);
            let thread = thread::spawn(move || {
                setter.1.with_mut(write_seven);
                setter.0.set();
            });
            block_on(shared.0.wait());
            shared.1.with(expect_seven);
            thread.join().expect("the setter");
        }
    }};
}

fn write_seven(place: *mut i32) {
    // SAFETY: loom has checked that nobody else is at the cell.
    #[allow(unsafe_code)]
    unsafe {
        *place = 7;
    }
}

fn expect_seven(place: *const i32) {
    // SAFETY: as above.
    #[allow(unsafe_code)]
    let found = unsafe { *place };
    assert_eq!(found, 7);
}

/// Two threads send, one receives both.
macro_rules! mailbox_delivers {
    ($files:path) => {{
        use $files as files;
        || {
            let mailbox = Arc::new(files::mailbox::Mailbox::default());
            let senders = [1, 2].map(|letter| {
                let mailbox = Arc::clone(&mailbox);
                thread::spawn(move || mailbox.send(letter))
            });
            let received = block_on(async { mailbox.receive().await + mailbox.receive().await });
            assert_eq!(received, 3);
            senders.into_iter().for_each(|sender| sender.join().expect("a sender"));
        }
    }};
}

macro_rules! a_thread_waits_for_its_answer {
    ($files:path) => {{
        use $files as files;
        || {
            let (completer, pending) = files::pending::pending::<u32>(None);
            let thread = thread::spawn(move || completer.complete(Ok(5)));
            assert_eq!(pending.wait().expect("an answer"), 5);
            thread.join().expect("the completer");
        }
    }};
}

#[test]
fn an_event_hands_over_what_was_written_before_it_was_set() {
    loom::model(event_hands_over!(sound));
}

#[test]
fn a_mailbox_delivers_the_letters_of_two_senders() {
    model_with_few_interruptions(mailbox_delivers!(sound));
}

/// A set between two waits is not lost, and two sets may be one.
#[test]
fn no_set_of_two_threads_is_lost() {
    model_with_few_interruptions(|| {
        let shared = Arc::new((sound::event::Event::default(), AtomicUsize::new(0)));
        let setters = [(), ()].map(|()| {
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                shared.1.fetch_add(1, Ordering::Relaxed);
                shared.0.set();
            })
        });
        block_on(async {
            while shared.1.load(Ordering::Relaxed) < 2 {
                shared.0.wait().await;
            }
        });
        setters.into_iter().for_each(|setter| setter.join().expect("a setter"));
    });
}

#[test]
fn an_answer_reaches_a_waiting_thread() {
    loom::model(a_thread_waits_for_its_answer!(sound));
}

#[test]
fn an_answer_reaches_a_future() {
    loom::model(|| {
        let (completer, pending) = sound::pending::pending::<u32>(None);
        let thread = thread::spawn(move || completer.complete(Ok(5)));
        assert_eq!(block_on(pending).expect("an answer"), 5);
        thread.join().expect("the completer");
    });
}

/// The call comes exactly once, from one thread or the other, also when the completer is dropped.
#[test]
fn an_answer_is_called_with_once() {
    loom::model(|| {
        let calls = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let (completer, pending) = sound::pending::pending::<u32>(None);
        let thread = thread::spawn(move || drop(completer));
        let counted = std::sync::Arc::clone(&calls);
        pending.on_ready(move |answer| {
            assert!(matches!(answer, Err(Error::Closed)));
            counted.fetch_add(1, Ordering::Relaxed);
        });
        thread.join().expect("the completer");
        assert_eq!(calls.load(Ordering::Relaxed), 1);
    });
}

/// Whoever gives up waiting leaves nothing that the answer could trip over.
#[test]
fn an_answer_that_nobody_waits_for_is_dropped() {
    loom::model(|| {
        let (completer, pending) = sound::pending::pending::<u32>(None);
        let thread = thread::spawn(move || completer.complete(Ok(5)));
        drop(pending);
        thread.join().expect("the completer");
    });
}

#[test]
fn relaxed_atomics_are_found() {
    assert!(is_found(event_hands_over!(unsound::relaxed)));
}

#[test]
fn a_lost_wake_up_is_found() {
    assert!(is_found(mailbox_delivers!(unsound::forgetful)));
}

#[test]
fn a_missing_notification_is_found() {
    assert!(is_found(a_thread_waits_for_its_answer!(unsound::deaf)));
}
