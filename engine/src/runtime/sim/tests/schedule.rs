//! The executor: order, time, and runs that no longer make progress.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use super::*;
use crate::ids::ShardId;
use crate::runtime::{IoOp, TaskClass};

/// A bit of everything: three shards that write, sync, sleep and yield, and clients that wait for them.
fn busy_run(seed: u64) -> (u64, Counters, Vec<String>) {
    let sim = Sim::with(seed, SimConfig { processors: 3, ..SimConfig::of_seed(seed) }, Disk::new());
    let host = sim.host();
    let log = Arc::new(parking_lot::Mutex::new(Vec::new()));
    for shard in 0..3u16 {
        let fs = host.fs();
        let log = Arc::clone(&log);
        let main = Box::new(move |executor: Rc<dyn Executor>| -> LocalFuture<'static, ()> {
            Box::pin(async move {
                let file = create(&fs, &format!("log-{shard}"));
                let background = Rc::clone(&executor);
                let noted = Arc::clone(&log);
                let slow = async move {
                    for i in 0..5 {
                        background.yield_now().await;
                        noted.lock().push(format!("background {shard} {i}"));
                    }
                };
                executor.spawn(TaskClass::Background, Box::pin(slow));
                for i in 0..6u64 {
                    let op = IoOp::Write { offset: i * BLOCK as u64, buf: buf(i as u8, 1) };
                    assert_eq!(executor.io(&file, op).await.result.unwrap(), BLOCK);
                    executor.sleep(Duration::from_micros(30)).await;
                    executor.io(&file, IoOp::SyncData).await.result.unwrap();
                    log.lock().push(format!("wrote {shard} {i}"));
                }
            })
        });
        host.start_shard(ShardId(shard), Some(usize::from(shard)), main).unwrap();
    }
    sim.block_on(sim.shards_ended()).unwrap();
    let log = log.lock().clone();
    (sim.trace_hash(), sim.counters(), log)
}

#[test]
fn the_same_seed_does_the_same_and_others_do_something_else() {
    let mut hashes = std::collections::BTreeSet::new();
    let mut orders = std::collections::BTreeSet::new();
    for seed in 0..20 {
        let (hash, counters, log) = busy_run(seed);
        let (hash_again, counters_again, log_again) = busy_run(seed);
        assert_eq!((hash, &counters, &log), (hash_again, &counters_again, &log_again), "seed {seed}");
        hashes.insert(hash);
        orders.insert(log);
    }
    assert_eq!(hashes.len(), 20, "different seeds, different hashes");
    assert!(orders.len() > 15, "only {} different orders", orders.len());
}

/// Written down from a debug build; a release build that computes something else fails here.
#[test]
fn the_trace_hash_of_a_seed_is_the_same_in_every_build() {
    let hash = busy_run(42).0;
    assert_eq!(hash, 0x12b8_d226_12d3_fb99, "after a change of the simulation itself: write down {hash:#018x}");
}

#[test]
fn timers_fire_in_the_order_of_their_times_and_time_jumps() {
    for seed in 0..20 {
        let sim = Sim::new(seed);
        let order = Rc::new(RefCell::new(Vec::new()));
        let waits: Vec<_> = [30u64, 10, 20, 3_600]
            .into_iter()
            .map(|ms| {
                let (executor, order) = (sim.executor("sleeper"), Rc::clone(&order));
                sim.spawn(&format!("sleeper {ms}"), async move {
                    executor.sleep(Duration::from_millis(ms)).await;
                    order.borrow_mut().push(ms);
                })
            })
            .collect();
        sim.block_on(async {
            for wait in waits {
                wait.await;
            }
        })
        .unwrap();
        assert_eq!(*order.borrow(), [10, 20, 30, 3_600], "seed {seed}");
        assert!(sim.now_ns() >= 3_600_000_000);
    }
}

#[test]
fn a_dropped_timer_does_not_keep_the_run_alive() {
    let sim = Sim::new(1);
    let executor = sim.executor("x");
    drop(executor.sleep(Duration::from_secs(100)));
    let slept = async {
        let long = executor.sleep(Duration::from_secs(100));
        let short = executor.sleep(Duration::from_millis(1));
        futures_lite::future::or(long, short).await;
    };
    sim.block_on(slept).unwrap();
    assert!(sim.now_ns() < 1_000_000_000, "{}", sim.now_ns());
}

#[test]
fn a_deadlock_names_who_waits() {
    let sim = Sim::new(3);
    sim.spawn("the stuck one", std::future::pending::<()>());
    let stop = sim.block_on(std::future::pending::<()>()).unwrap_err();
    let Stop::Deadlock(stuck) = &stop else { panic!("{stop}") };
    assert_eq!(stuck.waiting, ["the stuck one", "driver"]);
    assert!(stop.to_string().contains("seed 3"), "{stop}");
}

#[test]
fn a_run_that_only_spins_or_only_sleeps_is_stopped() {
    let config = SimConfig { step_budget: 1_000, time_budget_ns: 1_000_000_000, ..SimConfig::of_seed(4) };
    for sleeps in [false, true] {
        let sim = Sim::with(4, config.clone(), Disk::new());
        let executor = sim.executor("spinner");
        sim.spawn("spinner", async move {
            loop {
                match sleeps {
                    true => executor.sleep(Duration::from_millis(100)).await,
                    false => executor.yield_now().await,
                }
            }
        });
        let stop = sim.block_on(std::future::pending::<()>()).unwrap_err();
        let Stop::Livelock(stuck) = &stop else { panic!("{stop}") };
        assert!(stuck.recent.contains(&"spinner".to_string()), "{stop}");
    }
}

#[test]
fn a_spinner_does_not_stop_time_for_others() {
    for seed in 0..30 {
        let sim = Sim::new(seed);
        let spinner = sim.executor("spinner");
        sim.spawn("spinner", async move {
            loop {
                spinner.yield_now().await;
            }
        });
        let executor = sim.executor("sleeper");
        sim.block_on(executor.sleep(Duration::from_micros(50))).unwrap();
    }
}

#[test]
fn a_panic_is_reported_with_its_task_and_seed() {
    let sim = Sim::new(5);
    sim.spawn("the hot-headed one", async { panic!("no {}", "way") });
    let stop = sim.run_until(|| false).unwrap_err();
    let Stop::Panicked { task, message, .. } = &stop else { panic!("{stop}") };
    assert_eq!((task.as_str(), message.as_str()), ("the hot-headed one", "no way"));
}

#[test]
fn the_end_of_a_shards_main_ends_its_tasks_and_join_drives_the_run() {
    let sim = Sim::new(6);
    let host = sim.host();
    let witness = Arc::new(());
    let held = Arc::clone(&witness);
    let main = Box::new(move |executor: Rc<dyn Executor>| -> LocalFuture<'static, ()> {
        Box::pin(async move {
            executor.spawn(
                TaskClass::Foreground,
                Box::pin(async move {
                    let _held = held;
                    std::future::pending::<()>().await;
                }),
            );
            executor.sleep(Duration::from_millis(1)).await;
        })
    });
    let thread = host.start_shard(ShardId(0), None, main).unwrap();
    thread.join();
    assert_eq!(Arc::strong_count(&witness), 1, "the shard's other task was dropped");
    thread.join();
}

#[test]
fn a_woken_task_may_be_woken_by_another_thread() {
    let sim = Sim::new(7);
    let (sender, receiver) = std::sync::mpsc::channel::<std::task::Waker>();
    let thread = std::thread::spawn(move || receiver.recv().unwrap().wake());
    let mut thread = Some(thread);
    let mut polled = 0;
    sim.block_on(std::future::poll_fn(move |cx| {
        polled += 1;
        if polled == 1 {
            sender.send(cx.waker().clone()).unwrap();
            thread.take().unwrap().join().unwrap();
            return std::task::Poll::Pending;
        }
        std::task::Poll::Ready(())
    }))
    .unwrap();
}

#[test]
fn blocking_calls_keep_only_their_own_core_busy() {
    let config = SimConfig { pace: Pace::Instant, ..SimConfig::of_seed(8) };
    let sim = Sim::with(8, config, Disk::new());
    let host = sim.host();
    let fs = host.fs();
    let clock = host.clock();
    let before = clock.monotonic_ns();
    let times = sim
        .block_on(async {
            let file = create(&fs, "a");
            file.write_durable_blocking(0, &buf(1, 1)).unwrap();
            let at_once = clock.monotonic_ns();
            sim.executor("x").yield_now().await;
            (at_once, clock.monotonic_ns())
        })
        .unwrap();
    assert_eq!(times.0, before, "time stands still within a step");
    assert!(times.1 > before, "the next step comes after the call's time");
}

#[test]
fn what_is_watched_at_every_step_stops_the_run_when_it_breaks() {
    let sim = Sim::new(9);
    let steps = Rc::new(RefCell::new(0));
    let watched = Rc::clone(&steps);
    sim.watch_steps(move || match *watched.borrow() {
        3 => Err("three is too many".to_string()),
        _ => Ok(()),
    });
    let executor = sim.executor("x");
    let counting = async {
        while *steps.borrow() < 100 {
            *steps.borrow_mut() += 1;
            executor.yield_now().await;
        }
    };
    let stop = sim.block_on(counting).unwrap_err();
    assert!(matches!(&stop, Stop::Broken { message, .. } if message == "three is too many"), "{stop}");
    assert_eq!(*steps.borrow(), 3);
}

#[test]
fn power_off_frees_tasks_that_hold_the_simulation() {
    let sim = Sim::new(10);
    let witness = Rc::new(());
    let held = (sim.clone(), Rc::clone(&witness));
    sim.spawn("a client", async move {
        let _held = held;
        std::future::pending::<()>().await
    });
    sim.power_off();
    assert_eq!(Rc::strong_count(&witness), 1);
}
