//! One file for each decoder.

mod batch;
mod block;
mod bloom;
mod ephemeral;
mod footer;
mod frame;
mod glob;
mod hold;
mod index;
mod long_double;
mod manifest;
mod mirror;
mod number;
mod record;
mod reply;
mod request;
mod segment;
mod stage;
mod superblock;

use crate::Target;

macro_rules! targets {
    ($($name:ident),* $(,)?) => {
        &[$(Target { name: stringify!($name), check: $name::check, planted: $name::planted }),*]
    };
}

pub const TARGETS: &[Target] = targets![
    batch,
    block,
    bloom,
    ephemeral,
    footer,
    frame,
    glob,
    hold,
    index,
    long_double,
    manifest,
    mirror,
    number,
    record,
    reply,
    request,
    segment,
    stage,
    superblock,
];
