//! The options of SET and GETEX: which go together, and what each takes.

use corering_engine::Expiry;

use super::errors::CommandError;
use super::expiry::{self, Unit};
use crate::resp::Request;

/// On what a write depends.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum When {
    Always,
    Absent,
    Present,
    /// It is there and holds this.
    Equal(Vec<u8>),
    /// It holds something else, or is not there.
    Different(Vec<u8>),
}

impl When {
    /// Whether it allows a write over these bytes; `None`: there is no key.
    pub fn allows(&self, found: Option<&[u8]>) -> bool {
        match self {
            When::Always => true,
            When::Absent => found.is_none(),
            When::Present => found.is_some(),
            When::Equal(bytes) => found == Some(bytes),
            When::Different(bytes) => found != Some(bytes),
        }
    }

    /// Whether the key's bytes matter, and so must be a string's.
    pub fn compares(&self) -> bool {
        matches!(self, When::Equal(_) | When::Different(_))
    }
}

/// How a time was given: `EX`, `PX`, `EXAT`, `PXAT`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Time {
    unit: Unit,
    absolute: bool,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StringOptions<'a> {
    pub when: When,
    pub get: bool,
    pub keep_ttl: bool,
    pub persist: bool,
    time: Option<(Time, &'a [u8])>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Of {
    Set,
    Getex,
}

impl<'a> StringOptions<'a> {
    pub fn parse_set(request: Request<'a>) -> Result<StringOptions<'a>, CommandError> {
        StringOptions::parse(request, 3, Of::Set)
    }

    pub fn parse_getex(request: Request<'a>) -> Result<StringOptions<'a>, CommandError> {
        StringOptions::parse(request, 2, Of::Getex)
    }

    fn parse(request: Request<'a>, from: usize, of: Of) -> Result<StringOptions<'a>, CommandError> {
        let mut options = StringOptions { when: When::Always, get: false, keep_ttl: false, persist: false, time: None };
        let mut words = request.skip(from).iter();
        while let Some(word) = words.next() {
            let is = |name: &str| word.eq_ignore_ascii_case(name.as_bytes());
            match of {
                Of::Set if is("nx") && matches!(options.when, When::Always | When::Absent) => {
                    options.when = When::Absent
                }
                Of::Set if is("xx") && matches!(options.when, When::Always | When::Present) => {
                    options.when = When::Present
                }
                Of::Set if (is("ifeq") || is("ifne")) && options.when == When::Always => {
                    let value = words.next().ok_or(CommandError::SYNTAX)?.to_vec();
                    options.when = if is("ifeq") { When::Equal(value) } else { When::Different(value) };
                }
                Of::Set if is("get") => options.get = true,
                Of::Set if is("keepttl") && options.time.is_none() => options.keep_ttl = true,
                Of::Getex if is("persist") && options.time.is_none() => options.persist = true,
                _ => {
                    let time = time(word).ok_or(CommandError::SYNTAX)?;
                    // The same way of giving a time may come again, and the last one counts; another may not.
                    let other = options.time.is_some_and(|(before, _)| before != time);
                    let text = words.next().ok_or(CommandError::SYNTAX)?;
                    if other || options.keep_ttl || options.persist {
                        return Err(CommandError::SYNTAX);
                    }
                    options.time = Some((time, text));
                }
            }
        }
        Ok(options)
    }

    /// The date of expiry, if a time was given.
    pub fn expiry(&self, now_ms: u64, command: &str) -> Result<Option<Expiry>, CommandError> {
        let Some((time, text)) = self.time else { return Ok(None) };
        if time.absolute {
            expiry::at(text, time.unit, command).map(Some)
        } else {
            expiry::from_now(text, time.unit, now_ms, command).map(Some)
        }
    }

    /// Whether nothing of what the key holds matters.
    pub fn is_plain(&self) -> bool {
        self.when == When::Always && !self.get && !self.keep_ttl
    }

    /// Without what borrows the request, for a step on another thread.
    pub fn detached(&self) -> StringOptions<'static> {
        StringOptions {
            when: self.when.clone(),
            get: self.get,
            keep_ttl: self.keep_ttl,
            persist: self.persist,
            time: None,
        }
    }
}

fn time(word: &[u8]) -> Option<Time> {
    let is = |name: &str| word.eq_ignore_ascii_case(name.as_bytes());
    let (unit, absolute) = match () {
        () if is("ex") => (Unit::Seconds, false),
        () if is("px") => (Unit::Milliseconds, false),
        () if is("exat") => (Unit::Seconds, true),
        () if is("pxat") => (Unit::Milliseconds, true),
        () => return None,
    };
    Some(Time { unit, absolute })
}
