//! The task that carries what shards show to watches, and takes the feeds away when nobody has watched for a while.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use futures_lite::future::or;

use super::backlog::catch_up;
use super::expiry::{end_due, look_through};
use crate::engine::Local;
use crate::runtime::TaskClass;

/// How long the feeds stand for nobody, so that who comes back finds memory.
const LINGER: Duration = Duration::from_secs(10);

/// The longest sleep while something watched will expire: the wall clock may be set.
const CLOCK_LOOK: Duration = Duration::from_secs(1);

pub async fn dispatch(local: Local) {
    let Local { client, executor, .. } = local;
    let hub = Arc::clone(client.hub());
    let linger_ms = LINGER.as_millis() as u64;
    let mut idle_since_ms = None;
    // Keys that are over are ended a few hundred at a time.
    let ending = Rc::new(Cell::new(false));
    loop {
        let touched = hub.dispatch(client.shards().iter().map(|handle| &*handle.view));
        touched.iter().for_each(|queue| queue.signal());
        for backlog in hub.take_begun() {
            let task = catch_up(client.clone(), Rc::clone(&executor), Arc::clone(&hub), backlog);
            executor.spawn(TaskClass::Background, Box::pin(task));
        }
        for survey in hub.take_surveys() {
            let task = look_through(client.clone(), Rc::clone(&executor), Arc::clone(&hub), survey);
            executor.spawn(TaskClass::Background, Box::pin(task));
        }
        if !ending.get() {
            let due = hub.take_due(client.clock().wall_ms());
            if !due.is_empty() {
                ending.set(true);
                let (hub, ending) = (Arc::clone(&hub), Rc::clone(&ending));
                let end = end_due(client.clone(), Rc::clone(&executor), Arc::clone(&hub), due);
                let task = async move {
                    end.await;
                    ending.set(false);
                    hub.stir.set();
                };
                executor.spawn(TaskClass::Background, Box::pin(task));
            }
        }
        if !hub.is_idle() {
            idle_since_ms = None;
            match hub.next_expiry_ms().filter(|_| !ending.get()) {
                Some(at_ms) => {
                    let left_ms = at_ms.saturating_sub(client.clock().wall_ms());
                    let nap = Duration::from_millis(left_ms).min(CLOCK_LOOK);
                    or(hub.stir.wait(), executor.sleep(nap)).await;
                }
                None => hub.stir.wait().await,
            }
            continue;
        }
        let now_ms = client.now_ms();
        let until_ms = *idle_since_ms.get_or_insert(now_ms) + linger_ms;
        if now_ms < until_ms {
            or(hub.stir.wait(), executor.sleep(Duration::from_millis(until_ms - now_ms))).await;
        } else if let Some(round) = hub.turn_off() {
            client.shards().iter().for_each(|handle| handle.with_core(|core| core.end_feed(round)));
        }
    }
}
