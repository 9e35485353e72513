//! The task that carries what shards show to watches, and takes the feeds away when nobody has watched for a while.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use futures_lite::future::or;

use super::backlog::catch_up;
use crate::engine::Local;
use crate::runtime::TaskClass;

/// How long the feeds stand for nobody, so that who comes back finds memory.
const LINGER: Duration = Duration::from_secs(10);

pub async fn dispatch(local: Local) {
    let Local { client, executor, .. } = local;
    let hub = Arc::clone(client.hub());
    let linger_ms = LINGER.as_millis() as u64;
    let mut idle_since_ms = None;
    loop {
        let touched = hub.dispatch(client.shards().iter().map(|handle| &*handle.view));
        touched.iter().for_each(|queue| queue.signal());
        for backlog in hub.take_begun() {
            let task = catch_up(client.clone(), Rc::clone(&executor), Arc::clone(&hub), backlog);
            executor.spawn(TaskClass::Background, Box::pin(task));
        }
        if !hub.is_idle() {
            idle_since_ms = None;
            hub.stir.wait().await;
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
