//! Checkpoints that clients ask for: one at a time, away from the shards' threads.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use corering_engine::Engine;
use futures_channel::oneshot;

pub struct Saves {
    running: AtomicBool,
    failed: AtomicBool,
    last_unix_s: AtomicU64,
}

#[derive(Clone, Copy, Debug)]
pub struct SaveStatus {
    pub running: bool,
    pub last_failed: bool,
    pub last_unix_s: u64,
}

pub enum SaveStart {
    /// One is under way.
    Running,
    Started(SaveDone),
}

/// Resolves to what became of the checkpoint.
pub struct SaveDone(oneshot::Receiver<Result<(), String>>);

impl Future for SaveDone {
    type Output = Result<(), String>;

    fn poll(mut self: std::pin::Pin<&mut Self>, context: &mut std::task::Context<'_>) -> std::task::Poll<Self::Output> {
        std::pin::Pin::new(&mut self.0)
            .poll(context)
            .map(|done| done.unwrap_or_else(|_| Err("ERR the checkpoint was given up".to_owned())))
    }
}

impl Saves {
    /// The state on disk at the start counts as the last checkpoint.
    pub fn new() -> Arc<Saves> {
        Arc::new(Saves {
            running: AtomicBool::new(false),
            failed: AtomicBool::new(false),
            last_unix_s: AtomicU64::new(unix_s()),
        })
    }

    pub fn status(&self) -> SaveStatus {
        SaveStatus {
            running: self.running.load(Ordering::Acquire),
            last_failed: self.failed.load(Ordering::Relaxed),
            last_unix_s: self.last_unix_s.load(Ordering::Relaxed),
        }
    }

    pub fn start(self: &Arc<Saves>, engine: &Engine) -> SaveStart {
        if self.running.swap(true, Ordering::AcqRel) {
            return SaveStart::Running;
        }
        let (done, receiver) = oneshot::channel();
        let (saves, engine) = (Arc::clone(self), engine.clone());
        let thread = std::thread::Builder::new().name("corering-save".to_owned()).spawn(move || {
            let result = engine.checkpoint();
            saves.finish(result.is_ok());
            if let Err(error) = &result {
                tracing::error!(error.message = %error, "a checkpoint failed");
            }
            // The client may be gone; the checkpoint counts all the same.
            let _ = done.send(result.map_err(|error| format!("ERR {error}")));
        });
        if let Err(error) = thread {
            self.finish(false);
            tracing::error!(error.message = %error, "no thread for a checkpoint");
        }
        SaveStart::Started(SaveDone(receiver))
    }

    fn finish(&self, ok: bool) {
        self.failed.store(!ok, Ordering::Relaxed);
        if ok {
            self.last_unix_s.store(unix_s(), Ordering::Relaxed);
        }
        self.running.store(false, Ordering::Release);
    }
}

fn unix_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}
