//! Commands on single strings. Each write is one atomic step on the shard that owns its key.

use corering_engine::{Expiry, Kind, ValueRef};

use super::cell::{Answer, Cell};
use super::errors::CommandError;
use super::expiry::{self, Unit};
use super::long_double::LongDouble;
use super::options::{StringOptions, When};
use super::spec::{Access, Categories, Command, Flags, Group, Handler, Keys, Outcome};
use crate::resp::{Reply, Request, parse_i64};
use crate::server::{KeyEvent, Session};

const READ: Flags = Flags::READONLY;
const READ_FAST: Flags = READ.or(Flags::FAST);
const WRITE: Flags = Flags::WRITE.or(Flags::DENYOOM);
const WRITE_FAST: Flags = WRITE.or(Flags::FAST);

const fn row(name: &'static str, arity: i32, since: &'static str, flags: Flags, handler: Handler) -> Command {
    Command::new(name, arity, Group::String, since, handler).flags(flags).categories(Categories::STRING)
}

const GET_KEY: &[Keys] = &[Keys::one(1, Access::RO.or(Access::ACCESS))];
const LEN_KEY: &[Keys] = &[Keys::one(1, Access::RO)];
const PUT_KEY: &[Keys] = &[Keys::one(1, Access::OW.or(Access::UPDATE))];
const NEW_KEY: &[Keys] = &[Keys::one(1, Access::OW.or(Access::INSERT))];
const CHANGE_KEY: &[Keys] = &[Keys::one(1, Access::RW.or(Access::ACCESS).or(Access::UPDATE))];
const REMOVE_KEY: &[Keys] = &[Keys::one(1, Access::RM.or(Access::ACCESS).or(Access::DELETE))];
const TAKE_KEY: &[Keys] = &[Keys::one(1, Access::RW.or(Access::ACCESS).or(Access::DELETE))];

pub const COMMANDS: &[Command] = &[
    row("get", 2, "1.0.0", READ_FAST, Handler::Now(get)).keys(GET_KEY).summary("Returns the string of a key."),
    row("set", -3, "1.0.0", WRITE, Handler::Now(set))
        .keys(&[Keys::one(1, Access::RW.or(Access::ACCESS).or(Access::UPDATE).or(Access::VARIABLE))
            .noted("RW and ACCESS due to the optional `GET` argument")])
        .usage("<key> <value> [NX | XX | IFEQ <value> | IFNE <value>] [GET] [EX s | PX ms | EXAT unix-s | PXAT unix-ms | KEEPTTL]")
        .summary("Sets the string of a key, whatever it held, with conditions and an expiry if asked for."),
    row("setnx", 3, "1.0.0", WRITE_FAST, Handler::Now(setnx))
        .keys(NEW_KEY)
        .summary("Sets the string of a key that does not exist."),
    row("setex", 4, "2.0.0", WRITE, Handler::Now(setex))
        .keys(PUT_KEY)
        .summary("Sets the string of a key and its expiry in seconds."),
    row("psetex", 4, "2.6.0", WRITE, Handler::Now(psetex))
        .keys(PUT_KEY)
        .summary("Sets the string of a key and its expiry in milliseconds."),
    row("getset", 3, "1.0.0", WRITE_FAST, Handler::Now(getset))
        .keys(CHANGE_KEY)
        .summary("Sets the string of a key and returns the one before."),
    row("getdel", 2, "6.2.0", Flags::WRITE.or(Flags::FAST), Handler::Now(getdel))
        .keys(TAKE_KEY)
        .summary("Returns the string of a key and deletes the key."),
    row("delifeq", 3, "9.0.0", Flags::WRITE.or(Flags::FAST), Handler::Now(delifeq))
        .keys(REMOVE_KEY)
        .usage("<key> <value>")
        .summary("Deletes a key if its string is the one given (as Valkey 9 does)."),
    row("delex", -2, "8.4.0", Flags::WRITE.or(Flags::FAST), Handler::Now(delex))
        .keys(&[Keys::one(1, Access::RW.or(Access::DELETE).or(Access::VARIABLE))])
        .usage("<key> [IFEQ <value> | IFNE <value>]")
        .summary("Deletes a key, if its string is (IFEQ) or is not (IFNE) the one given (as Redis 8.4 does)."),
    row("getex", -2, "6.2.0", Flags::WRITE.or(Flags::FAST), Handler::Now(getex))
        .keys(&[Keys::one(1, Access::RW.or(Access::ACCESS).or(Access::UPDATE))
            .noted("RW and UPDATE because it changes the TTL")])
        .summary("Returns the string of a key and changes its expiry."),
    row("append", 3, "2.0.0", WRITE_FAST, Handler::Now(append))
        .keys(&[Keys::one(1, Access::RW.or(Access::INSERT))])
        .complexity("O(N) where N is the length of the new string")
        .summary("Appends to the string of a key, or sets it."),
    row("strlen", 2, "2.2.0", READ_FAST, Handler::Now(strlen))
        .keys(LEN_KEY)
        .summary("Returns the length of a key's string."),
    row("getrange", 4, "2.4.0", READ, Handler::Now(getrange))
        .keys(GET_KEY)
        .complexity("O(N) where N is the length of the part")
        .summary("Returns a part of a key's string."),
    row("substr", 4, "1.0.0", READ, Handler::Now(getrange))
        .keys(GET_KEY)
        .complexity("O(N) where N is the length of the part")
        .summary("Returns a part of a key's string; the older name of GETRANGE."),
    row("setrange", 4, "2.2.0", WRITE, Handler::Now(setrange))
        .keys(&[Keys::one(1, Access::RW.or(Access::UPDATE))])
        .complexity("O(N) where N is the length of the new string")
        .summary("Writes over a part of a key's string, which grows as needed."),
    row("incr", 2, "1.0.0", WRITE_FAST, Handler::Now(incr))
        .keys(CHANGE_KEY)
        .summary("Adds one to the integer of a key; none counts as 0."),
    row("decr", 2, "1.0.0", WRITE_FAST, Handler::Now(decr))
        .keys(CHANGE_KEY)
        .summary("Subtracts one from the integer of a key; none counts as 0."),
    row("incrby", 3, "1.0.0", WRITE_FAST, Handler::Now(incrby))
        .keys(CHANGE_KEY)
        .summary("Adds to the integer of a key; none counts as 0."),
    row("decrby", 3, "1.0.0", WRITE_FAST, Handler::Now(decrby))
        .keys(CHANGE_KEY)
        .summary("Subtracts from the integer of a key; none counts as 0."),
    row("incrbyfloat", 3, "2.6.0", WRITE_FAST, Handler::Now(incrbyfloat))
        .keys(CHANGE_KEY)
        .summary("Adds to the number of a key; none counts as 0."),
];

/// The bytes of a string; other kinds of values are an error.
pub(super) fn string(value: ValueRef<'_>) -> Result<ValueRef<'_>, CommandError> {
    if value.kind == Kind::BYTES { Ok(value) } else { Err(CommandError::WRONG_TYPE) }
}

fn reply_string(found: Option<ValueRef<'_>>, reply: &mut Reply<'_>) -> Outcome {
    match found {
        Some(value) => reply.bulk(string(value)?.bytes),
        None => reply.null(),
    }
    Ok(())
}

fn get(session: &mut Session, request: Request<'_>) -> Outcome {
    session.read(request.arg(1), reply_string)
}

fn strlen(session: &mut Session, request: Request<'_>) -> Outcome {
    session.read(request.arg(1), |found, reply| {
        reply.integer(match found {
            Some(value) => string(value)?.bytes.len() as i64,
            None => 0,
        });
        Ok(())
    })
}

fn getrange(session: &mut Session, request: Request<'_>) -> Outcome {
    let start = integer(request.arg(2))?;
    let end = integer(request.arg(3))?;
    session.read(request.arg(1), move |found, reply| {
        let bytes = match found {
            Some(value) => string(value)?.bytes,
            None => &[],
        };
        reply.bulk(range(bytes, start, end));
        Ok(())
    })
}

/// Bytes from `start` to `end`, both included, counted from the end where negative.
fn range(bytes: &[u8], start: i64, end: i64) -> &[u8] {
    if start < 0 && end < 0 && start > end {
        return &[];
    }
    let len = bytes.len() as i64;
    let place = |at: i64| if at < 0 { (len.saturating_add(at)).max(0) } else { at };
    let (start, end) = (place(start), place(end).min(len - 1));
    if start > end {
        return &[];
    }
    bytes.get(start as usize..=end as usize).unwrap_or_default()
}

fn set(session: &mut Session, request: Request<'_>) -> Outcome {
    let (key, value) = (request.arg(1), request.arg(2));
    if request.len() == 3 {
        return session.put(key, value, Expiry::NEVER);
    }
    let options = StringOptions::parse_set(request)?;
    let expiry = options.expiry(session.wall_ms(), "set")?;
    if options.is_plain() {
        return session.put(key, value, expiry.unwrap_or(Expiry::NEVER));
    }
    let (value, options) = (value.to_vec(), options.detached());
    session.update(key, move |cell| set_if(cell, &value, &options, expiry))
}

fn set_if(
    cell: &mut Cell<'_, '_>,
    value: &[u8],
    options: &StringOptions<'_>,
    expiry: Option<Expiry>,
) -> Result<Answer, CommandError> {
    let found = cell.get()?;
    let before = match found {
        Some(value) if options.get => Some(string(value)?.bytes.to_vec()),
        _ => None,
    };
    if options.when.compares() {
        found.map(string).transpose()?;
    }
    let refused = !options.when.allows(found.map(|value| value.bytes));
    if !refused {
        let kept = found.filter(|_| options.keep_ttl).map_or(Expiry::NEVER, |value| value.expiry);
        cell.put(value, expiry.unwrap_or(kept))?;
        cell.tell_expire(expiry.unwrap_or(Expiry::NEVER));
    }
    Ok(match (options.get, before) {
        (true, Some(before)) => Answer::Bulk(before),
        (true, None) => Answer::Null,
        (false, _) if refused => Answer::Null,
        (false, _) => Answer::Ok,
    })
}

fn setnx(session: &mut Session, request: Request<'_>) -> Outcome {
    let value = request.arg(2).to_vec();
    session.update(request.arg(1), move |cell| {
        if cell.get()?.is_some() {
            return Ok(Answer::Integer(0));
        }
        cell.put(&value, Expiry::NEVER)?;
        Ok(Answer::Integer(1))
    })
}

fn setex(session: &mut Session, request: Request<'_>) -> Outcome {
    let expiry = expiry::from_now(request.arg(2), Unit::Seconds, session.wall_ms(), "setex")?;
    session.put(request.arg(1), request.arg(3), expiry)
}

fn psetex(session: &mut Session, request: Request<'_>) -> Outcome {
    let expiry = expiry::from_now(request.arg(2), Unit::Milliseconds, session.wall_ms(), "psetex")?;
    session.put(request.arg(1), request.arg(3), expiry)
}

fn getset(session: &mut Session, request: Request<'_>) -> Outcome {
    let value = request.arg(2).to_vec();
    session.update(request.arg(1), move |cell| {
        let before = match cell.get()? {
            Some(before) => Answer::Bulk(string(before)?.bytes.to_vec()),
            None => Answer::Null,
        };
        cell.put(&value, Expiry::NEVER)?;
        Ok(before)
    })
}

fn getdel(session: &mut Session, request: Request<'_>) -> Outcome {
    session.update(request.arg(1), |cell| {
        let Some(before) = cell.get()? else { return Ok(Answer::Null) };
        let before = string(before)?.bytes.to_vec();
        cell.delete()?;
        Ok(Answer::Bulk(before))
    })
}

/// Delete a key if its string is as asked; answers whether it was.
fn delete_if(session: &mut Session, key: &[u8], when: When) -> Outcome {
    session.update(key, move |cell| {
        let Some(found) = cell.get()? else { return Ok(Answer::Integer(0)) };
        if !when.allows(Some(string(found)?.bytes)) {
            return Ok(Answer::Integer(0));
        }
        cell.delete()?;
        Ok(Answer::Integer(1))
    })
}

fn delifeq(session: &mut Session, request: Request<'_>) -> Outcome {
    delete_if(session, request.arg(1), When::Equal(request.arg(2).to_vec()))
}

fn delex(session: &mut Session, request: Request<'_>) -> Outcome {
    let value = match request.len() {
        2 => return session.delete(request.arg(1)),
        4 => request.arg(3).to_vec(),
        _ => return Err(CommandError::arity("delex")),
    };
    let when = match request.arg(2).to_ascii_lowercase().as_slice() {
        b"ifeq" => When::Equal(value),
        b"ifne" => When::Different(value),
        _ => return Err(CommandError::fixed("ERR Invalid condition. Use IFEQ or IFNE")),
    };
    delete_if(session, request.arg(1), when)
}

fn getex(session: &mut Session, request: Request<'_>) -> Outcome {
    let options = StringOptions::parse_getex(request)?;
    // A bad expiry is an error only where there is a key to give it to.
    let expiry = options.expiry(session.wall_ms(), "getex");
    let persist = options.persist;
    if matches!(expiry, Ok(None)) && !persist {
        return session.read(request.arg(1), reply_string);
    }
    session.update(request.arg(1), move |cell| {
        let Some(found) = cell.get()? else { return Ok(Answer::Null) };
        let (bytes, current) = (string(found)?.bytes.to_vec(), found.expiry);
        let wanted = expiry.clone()?.unwrap_or(Expiry::NEVER);
        if wanted.is_past(cell.now_ms()) {
            cell.delete()?;
        } else if wanted != current {
            cell.set_expiry(wanted)?;
        }
        Ok(Answer::Bulk(bytes))
    })
}

fn append(session: &mut Session, request: Request<'_>) -> Outcome {
    let tail = request.arg(2).to_vec();
    let max = session.settings().value_len_max();
    session.update(request.arg(1), move |cell| {
        let Some(found) = cell.get()? else {
            cell.put_as(KeyEvent::Append, &tail, Expiry::NEVER)?;
            return Ok(Answer::Integer(tail.len() as i64));
        };
        let (head, expiry) = (string(found)?.bytes, found.expiry);
        if (head.len() + tail.len()) as u64 > max {
            return Err(CommandError::TOO_LONG);
        }
        let whole = [head, &tail].concat();
        // Redis appends nothing without a trace; so do we, at the price of a write that changes nothing.
        cell.put_as(KeyEvent::Append, &whole, expiry)?;
        Ok(Answer::Integer(whole.len() as i64))
    })
}

fn setrange(session: &mut Session, request: Request<'_>) -> Outcome {
    let offset = integer(request.arg(2))?;
    let Ok(offset) = u64::try_from(offset) else { return Err(CommandError::OFFSET) };
    let part = request.arg(3).to_vec();
    let max = session.settings().value_len_max();
    session.update(request.arg(1), move |cell| {
        let found = cell.get()?;
        let (bytes, expiry) = match found {
            Some(value) => (string(value)?.bytes, value.expiry),
            None => (&[][..], Expiry::NEVER),
        };
        if part.is_empty() {
            return Ok(Answer::Integer(bytes.len() as i64));
        }
        let end = offset.checked_add(part.len() as u64).filter(|end| *end <= max).ok_or(CommandError::TOO_LONG)?;
        let mut whole = bytes.to_vec();
        whole.resize(whole.len().max(end as usize), 0);
        if let Some(place) = whole.get_mut(offset as usize..end as usize) {
            place.copy_from_slice(&part);
        }
        cell.put_as(KeyEvent::SetRange, &whole, expiry)?;
        Ok(Answer::Integer(whole.len() as i64))
    })
}

fn incr(session: &mut Session, request: Request<'_>) -> Outcome {
    add(session, request.arg(1), 1)
}

fn decr(session: &mut Session, request: Request<'_>) -> Outcome {
    add(session, request.arg(1), -1)
}

fn incrby(session: &mut Session, request: Request<'_>) -> Outcome {
    let by = integer(request.arg(2))?;
    add(session, request.arg(1), by)
}

fn decrby(session: &mut Session, request: Request<'_>) -> Outcome {
    let by = integer(request.arg(2))?.checked_neg().ok_or(CommandError::DECREMENT_OVERFLOW)?;
    add(session, request.arg(1), by)
}

fn add(session: &mut Session, key: &[u8], by: i64) -> Outcome {
    session.update(key, move |cell| {
        let (number, expiry) = match cell.get()? {
            Some(value) => (parse_i64(string(value)?.bytes).ok_or(CommandError::NOT_AN_INTEGER)?, value.expiry),
            None => (0, Expiry::NEVER),
        };
        let sum = number.checked_add(by).ok_or(CommandError::OVERFLOW)?;
        cell.put_as(KeyEvent::IncrBy, itoa::Buffer::new().format(sum).as_bytes(), expiry)?;
        Ok(Answer::Integer(sum))
    })
}

fn incrbyfloat(session: &mut Session, request: Request<'_>) -> Outcome {
    let by = LongDouble::parse(request.arg(2));
    session.update(request.arg(1), move |cell| {
        let (number, expiry) = match cell.get()? {
            Some(value) => (LongDouble::parse(string(value)?.bytes).ok_or(CommandError::NOT_A_FLOAT)?, value.expiry),
            None => (LongDouble::ZERO, Expiry::NEVER),
        };
        let by = by.ok_or(CommandError::NOT_A_FLOAT)?;
        let sum = number.plus(by).print().ok_or(CommandError::NOT_FINITE)?;
        cell.put_as(KeyEvent::IncrByFloat, sum.as_bytes(), expiry)?;
        Ok(Answer::Bulk(sum.into_bytes()))
    })
}

pub(super) fn integer(text: &[u8]) -> Result<i64, CommandError> {
    parse_i64(text).ok_or(CommandError::NOT_AN_INTEGER)
}

#[cfg(test)]
mod tests {
    use super::range;

    #[test]
    fn ranges_count_from_either_end() {
        let text = b"This is a string";
        for (start, end, part) in [
            (0, 3, "This"),
            (-3, -1, "ing"),
            (0, -1, "This is a string"),
            (10, 100, "string"),
            (5, 3, ""),
            (-1, -3, ""),
            (-100, 0, "T"),
            (-100, -100, "T"),
            (100, 200, ""),
            (i64::MIN, i64::MAX, "This is a string"),
            (i64::MAX, i64::MIN, ""),
        ] {
            assert_eq!(range(text, start, end), part.as_bytes(), "{start} {end}");
        }
        assert_eq!(range(b"", 0, -1), b"");
    }
}
