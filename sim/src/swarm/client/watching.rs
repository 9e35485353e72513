//! Watches: made, taken from, left and taken up again, over all lives.

use std::time::Duration;

use corering_engine::{CommitTs, Error, Keyspace, WatchEvent, WatchKeys, WatchOptions, What};

use super::Hands;
use crate::swarm::owned::{OWNED, PREFIXES};

/// Within this time a watch has told of everything, unless a fault or a limit is in the way.
const GETS_ON_MS: u64 = 30_000;
const LIMITS: [u64; 3] = [600, 6_000, 1 << 20];

impl Hands {
    /// What this client watches, all its lives.
    fn what_to_watch(&mut self) -> (Keyspace, Vec<u8>) {
        let keyspace = *self.rng.pick(&[Keyspace(0), Keyspace(1), OWNED]);
        let prefixes: [&[u8]; 2] = if keyspace == OWNED { [b"", PREFIXES[0]] } else { [b"", b"key:"] };
        (keyspace, self.rng.pick(&prefixes).to_vec())
    }

    fn begin_watch(&mut self) -> Result<(), String> {
        let what = self.what_to_watch();
        let (keyspace, prefix, from) = {
            let mut changes = self.world.changes.borrow_mut();
            let watcher = changes.watcher(self.number, || what);
            (watcher.keyspace, watcher.prefix.clone(), watcher.reached)
        };
        let options = WatchOptions { from, limit_bytes: *self.rng.pick(&LIMITS) };
        let watch = self.client.watch(keyspace, WatchKeys::Prefix(prefix), options);
        if let super::Outcome::Done(watch) = self.world.judge("watch", watch)? {
            match from {
                Some(_) => self.world.account.borrow_mut().act("watch taken up"),
                None => self.world.changes.borrow_mut().begins(self.number, watch.progress()),
            }
            self.watch = Some(watch);
        }
        Ok(())
    }

    pub(super) async fn watch_act(&mut self) -> Result<(), String> {
        if self.watch.is_none() {
            self.begin_watch()?;
        }
        let upto = if self.rng.one_in(3) { Some(self.client.last_commit()) } else { None };
        self.take_changes(upto).await?;
        if self.rng.one_in(4) {
            self.watch = None;
        }
        Ok(())
    }

    /// Take what is there still, at the end of all acts.
    pub(super) async fn end_watch(&mut self) -> Result<(), String> {
        self.take_changes(Some(self.client.last_commit())).await
    }

    /// Whether something may keep a watch from getting on.
    fn is_hindered(&self) -> bool {
        self.world.notice_lies();
        let lied = !self.world.lied_of.borrow().is_empty();
        self.world.faulty.get() || self.world.full.get() || self.world.closing.get() || lied
    }

    /// Take what the watch has to tell; everything up to a commit, if that is asked for.
    async fn take_changes(&mut self, upto: Option<CommitTs>) -> Result<(), String> {
        let give_up_ms = self.world.now_ms() + GETS_ON_MS;
        let mut taken = 0;
        loop {
            if self.rng.one_in(8) {
                self.executor.yield_now().await;
            }
            let Some(watch) = &self.watch else { return Ok(()) };
            match watch.try_next() {
                Ok(Some(event)) => {
                    self.told(&event)?;
                    taken += 1;
                    if upto.is_none() && taken == 10 {
                        return Ok(());
                    }
                }
                Ok(None) => {
                    let progress = watch.progress();
                    self.world.changes.borrow_mut().reached(self.number, progress)?;
                    if upto.is_none_or(|upto| progress >= upto) || self.is_hindered() {
                        return Ok(());
                    }
                    if self.world.now_ms() > give_up_ms {
                        return Err(format!("a watch does not get on from {progress} to {upto:?}"));
                    }
                    self.executor.sleep(Duration::from_millis(2)).await;
                }
                Err(error) => {
                    self.watch = None;
                    self.cut_off(error)?;
                    if upto.is_none() || self.is_hindered() {
                        return Ok(());
                    }
                    self.begin_watch()?;
                }
            }
        }
    }

    fn told(&self, event: &WatchEvent) -> Result<(), String> {
        self.world.notice_lies();
        self.world.account.borrow_mut().act("event");
        self.world.changes.borrow_mut().told(self.number, event)?;
        for change in &event.changes {
            if let What::Put { value, .. } = &change.what {
                let name = (change.keyspace, change.key.clone());
                self.world.model.borrow_mut().told(&name, value, event.at)?;
            }
        }
        Ok(())
    }

    fn cut_off(&self, error: Error) -> Result<(), String> {
        let mut changes = self.world.changes.borrow_mut();
        let reached = changes.watcher(self.number, || unreachable!("it was made")).reached;
        match error {
            Error::Lagged { resume } => {
                self.world.account.borrow_mut().refusal("lagged");
                changes.reached(self.number, resume)
            }
            Error::Compacted { oldest } if Some(oldest) > reached => {
                self.world.account.borrow_mut().refusal("compacted");
                changes.begins(self.number, oldest);
                Ok(())
            }
            error => {
                drop(changes);
                self.world.judge::<()>("a watch", Err(error)).map(drop)
            }
        }
    }
}
