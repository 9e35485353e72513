//! What threads share of a shard (its inbox, the mark that readers look at, the sleep of its thread) in every
//! interleaving, or with three threads in all with few interruptions; and each mistake of `unsound.rs` found.

use std::collections::VecDeque;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::atomic::Ordering;
use std::task::{Context, Waker};

use corering_models::ids::CommitTs;
use corering_models::{sound, unsound};
use loom::sync::atomic::AtomicUsize;
use loom::sync::{Arc, Mutex};
use loom::thread;

/// Whether some interleaving fails; its panic is shown with the test's output.
fn is_found(program: impl Fn() + Send + Sync + 'static) -> bool {
    catch_unwind(AssertUnwindSafe(|| model(program))).is_err()
}

/// Every interleaving in which at most three threads are interrupted.
fn model(program: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(program);
}

/// Two shards show a commit of both. Whoever comes last moves both marks, each with its shard held. A reader looks at one shard, then at
/// the other.
macro_rules! a_commit_of_two_shards {
    ($files:path) => {{
        use $files as files;

        struct Gate(files::mark::Threshold);

        impl files::mark::HasThreshold for Gate {
            fn threshold(&self) -> &files::mark::Threshold {
                &self.0
            }
        }

        struct Shard {
            mark: files::mark::Mark<Gate>,
            /// Held by whoever runs the shard: whether the commit stands at the front of its line.
            stands: Mutex<bool>,
        }

        fn pass(shard: &Shard, gate: &Gate) {
            let mut stands = shard.stands.lock().expect("a model's panic ends it");
            if *stands && gate.0.is_open() {
                *stands = false;
                shard.mark.set(gate.0.commit());
            }
        }

        || {
            let shard = || Shard { mark: files::mark::Mark::new(CommitTs(1)), stands: Mutex::new(false) };
            let shards = Arc::new([shard(), shard()]);
            let gate = std::sync::Arc::new(Gate(files::mark::Threshold::new(CommitTs(2), 2)));
            let flushers = [0, 1].map(|at| {
                let (shards, gate) = (Arc::clone(&shards), std::sync::Arc::clone(&gate));
                thread::spawn(move || {
                    let own: &Shard = &shards[at];
                    let opened = {
                        let mut stands = own.stands.lock().expect("a model's panic ends it");
                        *stands = true;
                        own.mark.stand_at(&gate);
                        gate.0.arrive()
                    };
                    if opened {
                        shards.iter().for_each(|shard| pass(shard, &gate));
                    }
                })
            });
            let first = shards[0].mark.get();
            let second = shards[1].mark.get();
            assert!(second >= first, "the commit is on one shard ({first}) and not on the other ({second})");
            assert!(shards[0].mark.get() >= second, "nor the other way round");
            flushers.into_iter().for_each(|flusher| flusher.join().expect("a flusher"));
            assert_eq!(shards.each_ref().map(|shard| shard.mark.get()), [CommitTs(2); 2], "and at last it is there");
        }
    }};
}

#[test]
fn a_commit_appears_on_both_of_its_shards_at_once() {
    model(a_commit_of_two_shards!(sound));
}

#[test]
fn a_mark_on_relaxed_atomics_is_found() {
    assert!(is_found(a_commit_of_two_shards!(unsound::relaxed)));
}

#[test]
fn a_threshold_that_opens_too_early_is_found() {
    assert!(is_found(a_commit_of_two_shards!(unsound::hasty)));
}

struct Gate(sound::mark::Threshold);

impl sound::mark::HasThreshold for Gate {
    fn threshold(&self) -> &sound::mark::Threshold {
        &self.0
    }
}

/// One commit after the other waits at a threshold of its own; readers never take one for the other, and nothing goes back.
#[test]
fn a_mark_never_goes_back_from_gate_to_gate() {
    model(|| {
        let gates = [2, 3].map(|commit| std::sync::Arc::new(Gate(sound::mark::Threshold::new(CommitTs(commit), 2))));
        let mark = Arc::new(sound::mark::Mark::new(CommitTs(1)));
        let (own, own_gates) = (Arc::clone(&mark), gates.clone());
        let shard = thread::spawn(move || {
            for gate in own_gates {
                own.stand_at(&gate);
                gate.0.arrive();
                if gate.0.is_open() {
                    own.set(gate.0.commit());
                } else {
                    // It stays there; what comes later stands behind it.
                    return;
                }
            }
        });
        let other_gates = gates.clone();
        let other = thread::spawn(move || other_gates.iter().for_each(|gate| _ = gate.0.arrive()));
        let seen = [(); 3].map(|()| mark.get());
        assert!(seen.is_sorted(), "{seen:?}");
        for (gate, commit) in gates.iter().zip([2, 3]) {
            assert!(seen[2] < CommitTs(commit) || gate.0.is_open(), "{seen:?}: {commit} is not to be seen yet");
        }
        shard.join().expect("the shard");
        other.join().expect("the other shard");
    });
}

/// Work is put where a thread looks before it sleeps: it is seen, or the bell is rung.
macro_rules! work_for_a_sleeper {
    ($files:path) => {{
        use $files as files;
        || {
            let shared = Arc::new((files::sleep::Sleep::default(), AtomicUsize::new(0)));
            let worker = Arc::clone(&shared);
            let rings = thread::spawn(move || {
                worker.1.store(1, Ordering::Release);
                worker.0.must_ring()
            });
            let slept = shared.0.fall_asleep(|| shared.1.load(Ordering::Acquire) > 0);
            let rung = rings.join().expect("the worker");
            assert!(!slept || rung, "it sleeps, and nobody rings");
        }
    }};
}

#[test]
fn nobody_sleeps_over_work() {
    loom::model(work_for_a_sleeper!(sound));
}

#[test]
fn a_sleep_without_its_fences_is_found() {
    assert!(is_found(work_for_a_sleeper!(unsound::relaxed)));
}

/// One thread submits two requests, another runs the shard meanwhile; whatever waits at the end, the pump is told of.
macro_rules! two_requests {
    ($files:path) => {{
        use $files as files;

        type Core = Mutex<VecDeque<u32>>;

        fn drain(inbox: &files::inbox::Inbox<u32>, core: &Core) {
            let mut core = core.lock().expect("a model's panic ends it");
            while let Some((request, _)) = inbox.pop() {
                core.push_back(request);
            }
        }

        || {
            let shard = Arc::new((files::inbox::Inbox::<u32>::new(2), Core::default()));
            let submitter = Arc::clone(&shard);
            let submitter = thread::spawn(move || {
                let (inbox, core) = &*submitter;
                for request in [1, 2] {
                    let run = |request| match core.try_lock() {
                        Ok(mut core) => {
                            core.push_back(request);
                            Ok(())
                        }
                        Err(_) => Err(request),
                    };
                    let refuse = |_| panic!("it is not closed");
                    inbox.submit(request, run, || 0, refuse).expect("there is room for both");
                }
            });
            let runner = Arc::clone(&shard);
            let runner = thread::spawn(move || drain(&runner.0, &runner.1));
            submitter.join().expect("the submitter");
            runner.join().expect("the runner");
            let (inbox, core) = &*shard;
            if !inbox.is_empty() {
                let rung = pin!(inbox.pump.wait()).poll(&mut Context::from_waker(Waker::noop()));
                assert!(rung.is_ready(), "requests wait, and the pump sleeps");
                drain(inbox, core);
            }
            let executed = core.lock().expect("a model's panic ends it").clone();
            assert_eq!(executed, [1, 2]);
        }
    }};
}

#[test]
fn requests_are_executed_in_their_order_and_none_is_forgotten() {
    model(two_requests!(sound));
}

#[test]
fn a_pump_that_hears_nothing_is_found() {
    assert!(is_found(two_requests!(unsound::unheard)));
}

/// A request is submitted while its shard closes: nobody runs it, and it is refused, once.
macro_rules! a_request_at_the_close {
    ($files:path) => {{
        use $files as files;
        || {
            let shared = Arc::new((files::inbox::Inbox::<u32>::new(1), AtomicUsize::new(0)));
            let submitter = Arc::clone(&shared);
            let submitter = thread::spawn(move || {
                let refuse = |_| _ = submitter.1.fetch_add(1, Ordering::Relaxed);
                submitter.0.submit(7, Err, || 0, refuse).expect("there is room");
            });
            shared.0.close(|_| _ = shared.1.fetch_add(1, Ordering::Relaxed));
            submitter.join().expect("the submitter");
            assert_eq!(shared.1.load(Ordering::Relaxed), 1, "times it was answered");
        }
    }};
}

#[test]
fn a_request_that_comes_at_the_close_is_answered_once() {
    loom::model(a_request_at_the_close!(sound));
}

#[test]
fn a_close_that_nobody_hears_of_is_found() {
    assert!(is_found(a_request_at_the_close!(unsound::unheard)));
}
