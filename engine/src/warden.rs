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

/// How often waits are looked at, while there are any; a circle is broken by the second look that sees it, within a second.
const LOOK: Duration = Duration::from_millis(200);
/// Not as often if looking takes long: a tenth of the time is enough for it, as long as two looks fit into a second.
const LOOK_MAX: Duration = Duration::from_millis(400);
/// The second look at what may be a circle.
const SECOND_LOOK: Duration = Duration::from_millis(20);

pub async fn watch(local: Local) {
    let Local { client, executor, .. } = local;
    let mut detector = Detector::default();
    // When to look at the waits again, while there are any.
    let mut next_look_ms = None;
    let mut is_second = false;
    loop {
        let Ok(unfinished) = end_sessions(&client).await else { return };
        let mut now_ms = client.now_ms();
        if next_look_ms.is_some_and(|at| at <= now_ms) {
            let Ok(suspects) = look_for_circles(&client, &mut detector).await else { return };
            let looked = Duration::from_millis(client.now_ms() - now_ms);
            now_ms = client.now_ms();
            is_second = suspects && !is_second;
            let pause = if is_second { SECOND_LOOK } else { (looked * 9).clamp(LOOK, LOOK_MAX) };
            next_look_ms = Some(now_ms + pause.as_millis() as u64);
        }
        // Who begins to wait when nobody did stirs; a wait that is over by the first look costs none.
        if !client.watch_waits(true) && !client.watch_waits(false) {
            next_look_ms = None;
            detector.see_nothing();
        } else {
            next_look_ms.get_or_insert(now_ms + LOOK.as_millis() as u64);
        }
        if unfinished {
            // Not before: what could not be done stirs, too.
            executor.sleep(LOOK).await;
            continue;
        }
        let due_ms = [client.next_session_due_ms(), next_look_ms].into_iter().flatten().min();
        let slept = async {
            match due_ms {
                Some(at_ms) => executor.sleep(Duration::from_millis(at_ms.saturating_sub(now_ms))).await,
                None => pending().await,
            }
        };
        or(client.lock_stir(), slept).await;
    }
}

/// End the sessions whose time is over. True: some could not be ended for now. An error: the engine closes.
async fn end_sessions(client: &Client) -> Result<bool> {
    let mut failed = false;
    for some in client.sessions_to_end().chunks(client.sessions_at_once()) {
        let ends: Vec<_> = some.iter().map(|id| (id, client.finish_session(*id))).collect();
        for (id, end) in ends {
            match end.await {
                Ok(()) => {}
                Err(Error::Closed) => return Err(Error::Closed),
                Err(error) => {
                    if !matches!(error, Error::Poisoned(_)) {
                        tracing::warn!(session = %id, %error, "a session's end could not be completed; will try again");
                    }
                    failed = true;
                }
            }
        }
    }
    Ok(failed)
}

/// End one wait of each circle that was seen before. True: there may be others.
async fn look_for_circles(client: &Client, detector: &mut Detector) -> Result<bool> {
    let entangled = client.entangled().await?;
    if entangled.is_empty() {
        detector.see_nothing();
        return Ok(false);
    }
    let blocked = client.blocked(entangled).await?;
    for Victim { wait, cycle } in detector.look(&blocked) {
        if let Some(name) = client.give_way(wait, cycle.clone()).await? {
            let name = String::from_utf8_lossy(&name).into_owned();
            tracing::info!(lock = %name, sessions = ?cycle, "a circle of waiting sessions is broken");
        }
    }
    Ok(detector.has_suspects())
}
