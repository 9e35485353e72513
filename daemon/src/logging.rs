//! Log lines on standard error: text for people on a terminal, JSON with the field names of ECS for machines.
//!
//! Guards: one event is one line, written at once; the level can change while the server runs.

use std::fmt::{self, Write as _};
use std::io::{IsTerminal, Write as _};

use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::Registry;
use tracing_subscriber::reload;

use crate::config::{LogFormat, LogLevel};

/// The version of ECS whose names are used.
const ECS_VERSION: &str = "8.11";

/// Changes the level of a running log.
#[derive(Clone)]
pub struct LevelHandle(Option<reload::Handle<LevelFilter, Registry>>);

impl LevelHandle {
    /// Without a log there is no level to change.
    pub fn none() -> LevelHandle {
        LevelHandle(None)
    }

    pub fn set(&self, level: LogLevel) {
        if let Some(handle) = &self.0 {
            // It fails only when the log is gone, and then there is no level any more.
            let _ = handle.reload(filter(level));
        }
    }
}

fn filter(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    }
}

/// Start the process's log. A second start leaves the first one in place.
pub fn start(level: LogLevel, format: LogFormat) -> LevelHandle {
    let (filter, handle) = reload::Layer::new(filter(level));
    let terminal = std::io::stderr().is_terminal();
    let text = match format {
        LogFormat::Auto => terminal,
        LogFormat::Text => true,
        LogFormat::Json => false,
    };
    let registry = tracing_subscriber::registry().with(filter);
    let started = if text {
        let layer =
            tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_target(false).with_ansi(terminal);
        tracing::subscriber::set_global_default(registry.with(layer)).is_ok()
    } else {
        tracing::subscriber::set_global_default(registry.with(EcsLayer)).is_ok()
    };
    LevelHandle(started.then_some(handle))
}

/// Writes each event as one JSON object.
struct EcsLayer;

impl<S: Subscriber> Layer<S> for EcsLayer {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut line = render(event, &timestamp());
        line.push('\n');
        // A log that cannot be written must not stop the server.
        let _ = std::io::stderr().lock().write_all(line.as_bytes());
    }
}

fn timestamp() -> String {
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = SystemTime.format_time(&mut Writer::new(&mut text));
    text
}

fn render(event: &Event<'_>, timestamp: &str) -> String {
    let metadata = event.metadata();
    let mut fields = Fields::default();
    event.record(&mut fields);
    let mut line = Map::new();
    line.insert("@timestamp".to_owned(), timestamp.into());
    line.insert("log.level".to_owned(), level_name(metadata.level()).into());
    line.insert("message".to_owned(), fields.message.into());
    line.insert("ecs.version".to_owned(), ECS_VERSION.into());
    line.insert("service.name".to_owned(), "corering".into());
    line.insert("service.version".to_owned(), env!("CARGO_PKG_VERSION").into());
    line.insert("process.pid".to_owned(), std::process::id().into());
    line.insert("log.logger".to_owned(), metadata.target().into());
    line.extend(fields.others);
    Value::Object(line).to_string()
}

fn level_name(level: &Level) -> &'static str {
    match *level {
        Level::ERROR => "error",
        Level::WARN => "warn",
        Level::INFO => "info",
        Level::DEBUG => "debug",
        Level::TRACE => "trace",
    }
}

#[derive(Default)]
struct Fields {
    message: String,
    others: Map<String, Value>,
}

impl Fields {
    fn insert(&mut self, field: &Field, value: Value) {
        // Names with a point are ECS's own; others are ours, and stand in a name space of ours.
        let name = field.name();
        let name = if name.contains('.') { name.to_owned() } else { format!("corering.{name}") };
        self.others.insert(name, value);
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            let _ = write!(self.message, "{value:?}");
        } else {
            self.insert(field, format!("{value:?}").into());
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" { self.message.push_str(value) } else { self.insert(field, value.into()) }
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.insert(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.insert(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.insert(field, value.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Captured(Arc<Mutex<Vec<String>>>);

    impl<S: Subscriber> Layer<S> for Captured {
        fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
            self.0.lock().unwrap().push(render(event, "2025-01-01T00:00:00.000000Z"));
        }
    }

    #[test]
    fn events_have_the_names_of_ecs() {
        let captured = Captured::default();
        let subscriber = tracing_subscriber::registry().with(captured.clone());
        tracing::subscriber::with_default(subscriber, || {
            tracing::warn!(client.address = %"1.2.3.4:5", error.message = %"a \"b\"\nc", shard = 3u64, "it {}", "failed");
        });
        let lines = captured.0.lock().unwrap();
        let line: Value = serde_json::from_str(&lines[0]).unwrap();
        assert_eq!(line["@timestamp"], "2025-01-01T00:00:00.000000Z");
        assert_eq!(line["log.level"], "warn");
        assert_eq!(line["message"], "it failed");
        assert_eq!(line["client.address"], "1.2.3.4:5");
        assert_eq!(line["error.message"], "a \"b\"\nc");
        assert_eq!(line["corering.shard"], 3);
        assert_eq!(line["service.name"], "corering");
        assert!(!lines[0].contains('\n'));
    }

    #[test]
    fn a_timestamp_is_in_the_form_of_rfc_3339() {
        let text = timestamp();
        assert!(text.ends_with('Z') && text.len() >= 20 && text.as_bytes()[10] == b'T', "{text}");
    }
}
