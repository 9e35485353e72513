//! Looks after what no single shard sees: sessions that were not kept alive are ended, circles of waiting sessions broken.
//!
//! Guards: a session's end, once begun, is carried through on every shard; a circle that stands loses its youngest wait within
//! two looks. While there is nothing to look after, nothing is done.

use std::time::Duration;

use futures_lite::future::{or, pending};

use crate::client::Client;
use crate::engine::Local;
use crate::error::{Error, Result};
use crate::lock::deadlock::{Detector, Victim};

/// How often waits are looked at, while there are any.
const LOOK: Duration = Duration::from_millis(200);

pub async fn watch(local: Local) {
    let Local { client, executor, .. } = local;
    let mut detector = Detector::default();
    loop {
        let unfinished = end_sessions(&client).await;
        let waiting = match look_for_circles(&client, &mut detector).await {
            Ok(waiting) => waiting,
            Err(_) => return,
        };
        let due_ms = client.next_session_due_ms().map(|at_ms| at_ms.saturating_sub(client.now_ms()));
        let pause = (waiting || unfinished).then_some(LOOK);
        let sleep = due_ms.map(Duration::from_millis).into_iter().chain(pause).min();
        let slept = async {
            match sleep {
                Some(time) => executor.sleep(time).await,
                None => pending().await,
            }
        };
        or(client.lock_stir(), slept).await;
    }
}

/// End the sessions whose time is over. True: some could not be ended for now.
async fn end_sessions(client: &Client) -> bool {
    let mut failed = false;
    for id in client.sessions_to_end() {
        if let Err(error) = client.finish_session(id).await
            && !matches!(error, Error::Closed | Error::Poisoned(_))
        {
            tracing::warn!(session = %id, %error, "a session's end could not be completed; will try again");
            failed = true;
        }
    }
    failed
}

/// Whether anybody waits.
async fn look_for_circles(client: &Client, detector: &mut Detector) -> Result<bool> {
    let edges = client.edges().await?;
    for Victim { wait, cycle } in detector.look(&edges) {
        let name = String::from_utf8_lossy(&wait.name).into_owned();
        tracing::info!(lock = %name, sessions = ?cycle, "a circle of waiting sessions is broken");
        client.give_way(wait, cycle).await?;
    }
    Ok(!edges.is_empty())
}
