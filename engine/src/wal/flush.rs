//! Performs the steps of a [`FlushPlan`], on a shard's core or in the thread of a caller that waits for it.
//!
//! Guards: the steps happen in order, each after the one before has returned; the first failure ends the plan and says at
//! which stage, and nothing is tried again.

use std::io;
use std::rc::Rc;
use std::sync::Arc;

use super::log::FlushPlan;
use crate::canary::{Canary, planted};
use crate::error::Stage;
use crate::runtime::{AlignedBuf, Clock, DurableWay, Executor, File, IoBuf, IoOp};

/// What ended a flush.
#[derive(Debug)]
pub struct FlushError {
    pub stage: Stage,
    pub file: String,
    pub offset: u64,
    pub source: io::Error,
}

impl std::fmt::Display for FlushError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} at byte {}: {}", self.file, self.offset, self.source)
    }
}

fn failed(stage: Stage, file: &Arc<dyn File>, offset: u64) -> impl FnOnce(io::Error) -> FlushError {
    let file = file.path().display().to_string();
    move |source| FlushError { stage, file, offset, source }
}

/// The answer of a sync stands: it is never tried again (law 3).
fn synced(answer: io::Result<()>, file: &Arc<dyn File>) -> io::Result<()> {
    match answer {
        Err(_) if planted(Canary::RetryFailedSync) => file.sync_data_blocking(),
        answer => answer,
    }
}

async fn sync(executor: &Rc<dyn Executor>, file: &Arc<dyn File>) -> Result<(), FlushError> {
    let answer = executor.io(file, IoOp::SyncData).await.result.map(drop);
    synced(answer, file).map_err(failed(Stage::Sync, file, 0))
}

fn sync_blocking(file: &Arc<dyn File>) -> Result<(), FlushError> {
    synced(file.sync_data_blocking(), file).map_err(failed(Stage::Sync, file, 0))
}

fn write_durable_blocking(file: &Arc<dyn File>, offset: u64, bytes: &[u8]) -> Result<(), FlushError> {
    synced(file.write_durable_blocking(offset, bytes), file).map_err(failed(Stage::Sync, file, offset))
}

/// Perform the plan, for which so many wait, without blocking the core for long.
pub async fn perform(
    executor: &Rc<dyn Executor>,
    clock: &dyn Clock,
    mut plan: FlushPlan,
    waiting: usize,
) -> Result<FlushPlan, FlushError> {
    if let Some(roll) = &mut plan.roll {
        if let Some(old) = &roll.sync_old {
            sync(executor, old).await?;
        }
        let file = &roll.next.file;
        let buf = std::mem::replace(&mut roll.header, IoBuf::heap(AlignedBuf::zeroed(0), 0));
        let done = executor.io(file, IoOp::WriteDurable { offset: 0, buf }).await;
        roll.header = done.written().map_err(failed(Stage::Write, file, 0))?;
    }
    if let Some(write) = plan.write.take() {
        let (file, offset) = (Arc::clone(&write.file), write.offset);
        let len = write.buf.len();
        let way = write.durable.then(|| (executor.durable_way(len, waiting), clock.monotonic_ns()));
        if let Some((DurableWay::Blocking, _)) = way {
            write_durable_blocking(&file, offset, &write.buf)?;
            plan.write = Some(write);
        } else {
            let (op, stage) = if write.durable {
                (IoOp::WriteDurable { offset, buf: write.buf }, Stage::Sync)
            } else {
                (IoOp::Write { offset, buf: write.buf }, Stage::Write)
            };
            let mut done = executor.io(&file, op).await;
            if write.durable {
                let len = done.buf.as_ref().map_or(0, |buf| buf.len());
                done.result = done.result.or_else(|e| synced(Err(e), &file).map(|()| len));
            }
            let buf = done.written().map_err(failed(stage, &file, offset))?;
            plan.write = Some(super::log::BatchWrite { buf, ..write });
        }
        if let Some((way, began_ns)) = way {
            executor.durable_took(way, len, clock.monotonic_ns().saturating_sub(began_ns));
        }
    }
    if let Some(file) = &plan.sync {
        sync(executor, file).await?;
    }
    Ok(plan)
}

/// Perform the plan in the calling thread.
pub fn perform_blocking(plan: FlushPlan) -> Result<FlushPlan, FlushError> {
    if let Some(roll) = &plan.roll {
        if let Some(old) = &roll.sync_old {
            sync_blocking(old)?;
        }
        let file = &roll.next.file;
        file.write_durable_blocking(0, &roll.header).map_err(failed(Stage::Write, file, 0))?;
    }
    if let Some(write) = &plan.write {
        let file = &write.file;
        if write.durable {
            write_durable_blocking(file, write.offset, &write.buf)?;
        } else {
            file.write_blocking(write.offset, &write.buf).map_err(failed(Stage::Write, file, write.offset))?;
        }
    }
    if let Some(file) = &plan.sync {
        sync_blocking(file)?;
    }
    Ok(plan)
}
