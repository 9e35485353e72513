//! Texts to typed values and back; the complaints are those of Redis where it has them.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use corering_engine::Durability;

use super::settings::{LogFormat, LogLevel, OutputLimit};
use crate::resp::number::parse_bytes;
use crate::server::EventClasses;

/// Why a text is no value of a setting.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BadValue(pub String);

impl fmt::Display for BadValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn bad<T>(text: impl Into<String>) -> Result<T, BadValue> {
    Err(BadValue(text.into()))
}

pub(super) fn integer(text: &str, min: u64, max: u64) -> Result<u64, BadValue> {
    let Ok(n) = text.parse::<i128>() else { return bad("argument couldn't be parsed into an integer") };
    match u64::try_from(n) {
        Ok(n) if (min..=max).contains(&n) => Ok(n),
        _ => bad(format!("argument must be between {min} and {max} inclusive")),
    }
}

pub(super) fn bytes(text: &str, min: u64, max: u64) -> Result<u64, BadValue> {
    match parse_bytes(text) {
        None => bad("argument must be a memory value"),
        Some(n) if (min..=max).contains(&n) => Ok(n),
        Some(_) => bad(format!("argument must be between {min} and {max} inclusive")),
    }
}

pub(super) fn yes_no(text: &str) -> Result<bool, BadValue> {
    match text.to_ascii_lowercase().as_str() {
        "yes" | "true" | "on" | "1" => Ok(true),
        "no" | "false" | "off" | "0" => Ok(false),
        _ => bad("argument must be 'yes' or 'no'"),
    }
}

pub(super) fn print_yes_no(value: bool) -> String {
    if value { "yes" } else { "no" }.to_owned()
}

pub(super) fn optional_path(text: &str) -> Option<PathBuf> {
    (!text.is_empty()).then(|| PathBuf::from(text))
}

pub(super) fn print_optional_path(path: &Option<PathBuf>) -> String {
    path.as_ref().map(|path| path.display().to_string()).unwrap_or_default()
}

pub(super) fn permission(text: &str) -> Result<u32, BadValue> {
    match u32::from_str_radix(text, 8) {
        Ok(bits) if bits <= 0o777 => Ok(bits),
        _ => bad("argument must be an octal value between 0 and 777"),
    }
}

/// A time: milliseconds, or a number with `ms` or `s`.
fn milliseconds(text: &str) -> Option<u64> {
    if let Some(ms) = text.strip_suffix("ms") {
        return ms.trim().parse().ok();
    }
    match text.strip_suffix('s') {
        Some(seconds) => seconds.trim().parse::<u64>().ok()?.checked_mul(1000),
        None => text.trim().parse().ok(),
    }
}

pub(super) fn durability(text: &str) -> Result<Durability, BadValue> {
    const HELP: &str = "argument must be sync, none, interval or interval:<milliseconds>, with 1 ms to 1 hour";
    let lower = text.to_ascii_lowercase();
    match lower.as_str() {
        "sync" => Ok(Durability::Sync),
        "none" => Ok(Durability::None),
        "interval" => Ok(Durability::Interval(Duration::from_secs(1))),
        _ => match lower.strip_prefix("interval:").and_then(milliseconds) {
            Some(ms @ 1..=3_600_000) => Ok(Durability::Interval(Duration::from_millis(ms))),
            _ => bad(HELP),
        },
    }
}

pub(super) fn print_durability(value: Durability) -> String {
    match value {
        Durability::Sync => "sync".to_owned(),
        Durability::Interval(time) => format!("interval:{}", time.as_millis()),
        Durability::None => "none".to_owned(),
    }
}

/// Redis's name for a level of durability.
pub(super) fn appendfsync(text: &str) -> Result<Durability, BadValue> {
    match text.to_ascii_lowercase().as_str() {
        "always" => Ok(Durability::Sync),
        "everysec" => Ok(Durability::Interval(Duration::from_secs(1))),
        "no" => Ok(Durability::None),
        _ => bad("argument(s) must be one of the following: everysec, always, no"),
    }
}

pub(super) fn print_appendfsync(value: Durability) -> String {
    match value {
        Durability::Sync => "always",
        Durability::Interval(_) => "everysec",
        Durability::None => "no",
    }
    .to_owned()
}

pub(super) fn log_level(text: &str) -> Result<LogLevel, BadValue> {
    match text.to_ascii_lowercase().as_str() {
        "error" => Ok(LogLevel::Error),
        "warn" => Ok(LogLevel::Warn),
        "info" => Ok(LogLevel::Info),
        "debug" => Ok(LogLevel::Debug),
        "trace" => Ok(LogLevel::Trace),
        _ => bad("argument(s) must be one of the following: error, warn, info, debug, trace"),
    }
}

pub(super) fn print_log_level(value: LogLevel) -> String {
    match value {
        LogLevel::Error => "error",
        LogLevel::Warn => "warn",
        LogLevel::Info => "info",
        LogLevel::Debug => "debug",
        LogLevel::Trace => "trace",
    }
    .to_owned()
}

/// Redis's names for the levels.
pub(super) fn loglevel(text: &str) -> Result<LogLevel, BadValue> {
    match text.to_ascii_lowercase().as_str() {
        "debug" => Ok(LogLevel::Trace),
        "verbose" => Ok(LogLevel::Debug),
        "notice" => Ok(LogLevel::Info),
        "warning" => Ok(LogLevel::Warn),
        _ => bad("argument(s) must be one of the following: debug, verbose, notice, warning"),
    }
}

pub(super) fn print_loglevel(value: LogLevel) -> String {
    match value {
        LogLevel::Trace => "debug",
        LogLevel::Debug => "verbose",
        LogLevel::Info => "notice",
        LogLevel::Warn | LogLevel::Error => "warning",
    }
    .to_owned()
}

pub(super) fn log_format(text: &str) -> Result<LogFormat, BadValue> {
    match text.to_ascii_lowercase().as_str() {
        "auto" => Ok(LogFormat::Auto),
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => bad("argument(s) must be one of the following: auto, text, json"),
    }
}

pub(super) fn print_log_format(value: LogFormat) -> String {
    match value {
        LogFormat::Auto => "auto",
        LogFormat::Text => "text",
        LogFormat::Json => "json",
    }
    .to_owned()
}

/// `normal <hard> <soft> <seconds>` and `pubsub …`; the classes that we have no clients of are read and dropped.
pub(super) fn output_limits(text: &str, before: [OutputLimit; 2]) -> Result<[OutputLimit; 2], BadValue> {
    let words: Vec<&str> = text.split_ascii_whitespace().collect();
    if words.is_empty() || !words.len().is_multiple_of(4) {
        return bad("Wrong number of arguments in buffer limit configuration.");
    }
    let [mut normal, mut pubsub] = before;
    for group in words.chunks_exact(4) {
        let [class, hard, soft, seconds] = group else { continue };
        let class = class.to_ascii_lowercase();
        if !matches!(class.as_str(), "normal" | "slave" | "replica" | "pubsub") {
            return bad("Invalid client class specified in buffer limit configuration.");
        }
        let (Some(hard_bytes), Some(soft_bytes), Ok(soft_seconds)) =
            (parse_bytes(hard), parse_bytes(soft), seconds.parse())
        else {
            return bad("Error in hard, soft or soft_seconds setting in buffer limit configuration.");
        };
        let limit = OutputLimit { hard_bytes, soft_bytes, soft_seconds };
        match class.as_str() {
            "normal" => normal = limit,
            "pubsub" => pubsub = limit,
            _ => {}
        }
    }
    Ok([normal, pubsub])
}

pub(super) fn print_output_limits([normal, pubsub]: [OutputLimit; 2]) -> String {
    let print = |limit: OutputLimit| format!("{} {} {}", limit.hard_bytes, limit.soft_bytes, limit.soft_seconds);
    format!("normal {} slave 0 0 0 pubsub {}", print(normal), print(pubsub))
}

pub(super) fn event_classes(text: &str) -> Result<EventClasses, BadValue> {
    let classes = EventClasses::parse(text);
    classes.map_or_else(|| bad("Invalid event class character. Use 'Ag$lshzxeKEtmdn'."), Ok)
}

/// One line, as INFO shows it.
pub(super) fn word(text: &str) -> Result<String, BadValue> {
    if text.is_empty() || text.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return bad("argument must be one word");
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durability_levels() {
        assert_eq!(durability("sync"), Ok(Durability::Sync));
        assert_eq!(durability("NONE"), Ok(Durability::None));
        assert_eq!(durability("interval"), Ok(Durability::Interval(Duration::from_secs(1))));
        assert_eq!(durability("interval:250"), Ok(Durability::Interval(Duration::from_millis(250))));
        assert_eq!(durability("interval:250ms"), Ok(Durability::Interval(Duration::from_millis(250))));
        assert_eq!(durability("interval:2s"), Ok(Durability::Interval(Duration::from_secs(2))));
        for text in ["", "interval:", "interval:0", "interval:3600001", "always", "interval:-1"] {
            assert!(durability(text).is_err(), "{text}");
        }
        for level in [Durability::Sync, Durability::None, Durability::Interval(Duration::from_millis(7))] {
            assert_eq!(durability(&print_durability(level)), Ok(level));
        }
    }

    #[test]
    fn limits_of_numbers() {
        assert_eq!(integer("5", 1, 9), Ok(5));
        assert_eq!(integer("0", 1, 9).unwrap_err().0, "argument must be between 1 and 9 inclusive");
        assert_eq!(integer("-4", 1, 9).unwrap_err().0, "argument must be between 1 and 9 inclusive");
        assert_eq!(integer("x", 1, 9).unwrap_err().0, "argument couldn't be parsed into an integer");
        assert_eq!(bytes("1gb", 0, u64::MAX), Ok(1 << 30));
        assert_eq!(permission("770"), Ok(0o770));
        assert!(permission("778").is_err());
        assert!(permission("7777").is_err());
    }

    #[test]
    fn limits_of_output_by_class() {
        let none = OutputLimit { hard_bytes: 0, soft_bytes: 0, soft_seconds: 0 };
        let set = output_limits("normal 1mb 1kb 5 pubsub 1 2 3", [none; 2]).unwrap();
        let normal = OutputLimit { hard_bytes: 1 << 20, soft_bytes: 1 << 10, soft_seconds: 5 };
        assert_eq!(set, [normal, OutputLimit { hard_bytes: 1, soft_bytes: 2, soft_seconds: 3 }]);
        assert_eq!(output_limits(&print_output_limits(set), [none; 2]), Ok(set));
        assert!(output_limits("normal 1 2", [none; 2]).is_err());
        assert!(output_limits("odd 1 2 3", [none; 2]).is_err());
        assert!(output_limits("normal x 2 3", [none; 2]).is_err());
    }
}
