//! What can be set, and where it came from: flags before environment before file before defaults.
//!
//! Guards: a name that no setting has is an error that says the name and its place; nothing is ignored.

mod layers;
mod settings;
mod table;
mod values;

pub use layers::{ConfigError, Source, load};
pub use settings::{LogFormat, LogLevel, OutputLimit, Settings};
pub use table::{Change, SETTINGS, Setting, find};
pub use values::BadValue;
