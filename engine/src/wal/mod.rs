//! One write-ahead log per shard: segments, the stage, group commit, recovery, trimming. Knows no transaction and no table.

pub mod flush;
pub mod log;
pub mod marks;
pub mod recovery;
pub mod reread;
pub mod segments;
pub mod stage;
pub mod walk;

pub use log::{Appended, FlushPlan, Log, Next, Refused, Room};
pub use marks::Watermarks;
pub use recovery::{Recovered, recover};
pub use segments::{Segment, SegmentDir, SegmentSet, Spare};
pub use stage::LogIdentity;
pub use walk::{Known, LogReport};
