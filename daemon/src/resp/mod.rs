//! The wire: requests in, replies out, and nothing of what they mean.
//!
//! Guards: whatever bytes a peer sends, and however they are cut into pieces, the memory held for it is bounded by
//! [`Limits`], no call recurses, and the same bytes give the same requests.
//! Knows no engine and no command.

mod inline;
pub mod number;
pub mod reader;
pub mod reply;
mod request;

pub use number::parse_i64;
pub use reader::{ReplyReader, Value};
pub use reply::{Protocol, Reply};
pub use request::{Decoder, KeptRequest, Limits, Next, ProtocolError, Refusal, Request};
