//! Times to live: from a client's number to a date, with every overflow that Redis detects.

use corering_engine::Expiry;

use super::errors::CommandError;
use super::strings::integer;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unit {
    Seconds,
    Milliseconds,
}

/// The date `text` units from now, which must lie in the future (SET, SETEX, GETEX).
pub fn from_now(text: &[u8], unit: Unit, now_ms: u64, command: &str) -> Result<Expiry, CommandError> {
    positive(text, unit, now_ms, command)
}

/// The date `text` units after 1970, which may have passed (SET EXAT).
pub fn at(text: &[u8], unit: Unit, command: &str) -> Result<Expiry, CommandError> {
    positive(text, unit, 0, command)
}

fn positive(text: &[u8], unit: Unit, base_ms: u64, command: &str) -> Result<Expiry, CommandError> {
    let number = integer(text)?;
    let ms = match unit {
        Unit::Seconds => number.checked_mul(1000),
        Unit::Milliseconds => Some(number),
    };
    ms.filter(|ms| *ms > 0)
        .and_then(|ms| ms.checked_add_unsigned(base_ms))
        .map(|ms| Expiry::at_ms(ms as u64))
        .ok_or_else(|| CommandError::invalid_expire(command))
}

/// The date of EXPIRE and its kin: numbers at or below zero are dates in the past.
pub fn any(text: &[u8], unit: Unit, base_ms: u64, command: &str) -> Result<i64, CommandError> {
    let number = integer(text)?;
    let ms = match unit {
        Unit::Seconds => number.checked_mul(1000),
        Unit::Milliseconds => Some(number),
    };
    ms.and_then(|ms| ms.checked_add_unsigned(base_ms)).ok_or_else(|| CommandError::invalid_expire(command))
}

/// The date as the engine keeps it.
pub fn date(unix_ms: i64) -> Expiry {
    Expiry::at_ms(u64::try_from(unix_ms).unwrap_or(0))
}

/// Milliseconds to seconds, to the nearest.
pub fn seconds(ms: u64) -> i64 {
    i64::try_from(ms.saturating_add(500) / 1000).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overflows_and_nonpositive_times_are_errors() {
        let max = i64::MAX.to_string();
        let seconds_max = (i64::MAX / 1000).to_string();
        let over = (i64::MAX / 1000 + 1).to_string();
        for (text, unit, base, ok) in [
            ("1", Unit::Seconds, 0, true),
            ("0", Unit::Seconds, 0, false),
            ("-1", Unit::Milliseconds, 5, false),
            (&*max, Unit::Milliseconds, 0, true),
            (&*max, Unit::Milliseconds, 1, false),
            (&*seconds_max, Unit::Seconds, 0, true),
            (&*over, Unit::Seconds, 0, false),
            ("1.5", Unit::Seconds, 0, false),
        ] {
            assert_eq!(positive(text.as_bytes(), unit, base, "set").is_ok(), ok, "{text} {unit:?} {base}");
        }
        assert_eq!(any(b"-5", Unit::Seconds, 1000, "expire"), Ok(-4000));
        assert!(any(i64::MIN.to_string().as_bytes(), Unit::Seconds, 0, "expire").is_err());
        assert_eq!(date(-4000), Expiry(1));
        assert_eq!((seconds(1499), seconds(1500), seconds(u64::MAX)), (1, 2, (u64::MAX / 1000) as i64));
    }
}
