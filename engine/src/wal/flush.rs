//! Performs the steps of a [`FlushPlan`], on a shard's core or in the thread of a caller that waits for it.
//!
//! Guards: the steps happen in order, each after the one before has returned; the first failure ends the plan and says at
//! which stage, and nothing is tried again.

use std::io;
use std::rc::Rc;
use std::sync::Arc;

use super::log::FlushPlan;
use crate::error::Stage;
use crate::runtime::{DurableWay, Executor, File, IoOp};

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

/// Perform the plan without blocking the core for long.
pub async fn perform(executor: &Rc<dyn Executor>, mut plan: FlushPlan) -> Result<FlushPlan, FlushError> {
    if let Some(roll) = &mut plan.roll {
        if let Some(old) = &roll.sync_old {
            executor.io(old, IoOp::SyncData).await.result.map_err(failed(Stage::Sync, old, 0))?;
        }
        let file = &roll.next.file;
        file.write_durable_blocking(0, &roll.header).map_err(failed(Stage::Write, file, 0))?;
    }
    if let Some(write) = plan.write.take() {
        let (file, offset) = (Arc::clone(&write.file), write.offset);
        if write.durable && executor.durable_way(write.buf.len()) == DurableWay::Blocking {
            file.write_durable_blocking(offset, &write.buf).map_err(failed(Stage::Sync, &file, offset))?;
            plan.write = Some(write);
        } else {
            let (op, stage) = if write.durable {
                (IoOp::WriteDurable { offset, buf: write.buf }, Stage::Sync)
            } else {
                (IoOp::Write { offset, buf: write.buf }, Stage::Write)
            };
            let done = executor.io(&file, op).await;
            done.result.map_err(failed(stage, &file, offset))?;
            let buf = done.buf.expect("a write gives its buffer back");
            plan.write = Some(super::log::BatchWrite { buf, ..write });
        }
    }
    if let Some(file) = &plan.sync {
        executor.io(file, IoOp::SyncData).await.result.map_err(failed(Stage::Sync, file, 0))?;
    }
    Ok(plan)
}

/// Perform the plan in the calling thread.
pub fn perform_blocking(plan: FlushPlan) -> Result<FlushPlan, FlushError> {
    if let Some(roll) = &plan.roll {
        if let Some(old) = &roll.sync_old {
            old.sync_data_blocking().map_err(failed(Stage::Sync, old, 0))?;
        }
        let file = &roll.next.file;
        file.write_durable_blocking(0, &roll.header).map_err(failed(Stage::Write, file, 0))?;
    }
    if let Some(write) = &plan.write {
        let file = &write.file;
        if write.durable {
            file.write_durable_blocking(write.offset, &write.buf).map_err(failed(Stage::Sync, file, write.offset))?;
        } else {
            file.write_blocking(write.offset, &write.buf).map_err(failed(Stage::Write, file, write.offset))?;
        }
    }
    if let Some(file) = &plan.sync {
        file.sync_data_blocking().map_err(failed(Stage::Sync, file, 0))?;
    }
    Ok(plan)
}
