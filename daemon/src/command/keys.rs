//! Commands on keys, whatever their values: expiry, type, names.

use corering_engine::{Expiry, Kind};

use super::cell::Answer;
use super::errors::CommandError;
use super::expiry::{self, Unit};
use super::spec::{Access, Categories, Command, Flags, Group, Handler, Keys, Outcome};
use super::{multi_key, scan};
use crate::resp::Request;
use crate::server::Session;

const READ: Flags = Flags::READONLY;
const READ_FAST: Flags = READ.or(Flags::FAST);
const WRITE: Flags = Flags::WRITE;
const WRITE_FAST: Flags = WRITE.or(Flags::FAST);

const fn row(name: &'static str, arity: i32, since: &'static str, flags: Flags, handler: Handler) -> Command {
    Command::new(name, arity, Group::Generic, since, handler).flags(flags).categories(Categories::KEYSPACE)
}

const LOOK: &[Keys] = &[Keys::one(1, Access::RO)];
const ACCESS: &[Keys] = &[Keys::one(1, Access::RO.or(Access::ACCESS))];
const CHANGE: &[Keys] = &[Keys::one(1, Access::RW.or(Access::UPDATE))];
const LOOK_ALL: &[Keys] = &[Keys::all(1, Access::RO)];
const REMOVE_ALL: &[Keys] = &[Keys::all(1, Access::RM.or(Access::DELETE))];
const MOVED: Access = Access::RW.or(Access::ACCESS).or(Access::DELETE);

const SUMMED: &[&str] = &["request_policy:multi_shard", "response_policy:agg_sum"];
const EVERY_SHARD: &[&str] = &["request_policy:all_shards", "response_policy:all_succeeded"];
const PER_KEY: &str = "O(N) where N is the number of keys given";
const ALL_KEYS: &str = "O(N) where N is the number of keys in the database";

pub const COMMANDS: &[Command] = &[
    row("del", -2, "1.0.0", WRITE, Handler::Now(multi_key::del))
        .keys(REMOVE_ALL)
        .tips(SUMMED)
        .complexity(PER_KEY)
        .summary("Deletes keys."),
    row("unlink", -2, "4.0.0", WRITE_FAST, Handler::Now(multi_key::del))
        .keys(REMOVE_ALL)
        .tips(SUMMED)
        .complexity(PER_KEY)
        .summary("Deletes keys, as DEL does."),
    row("exists", -2, "1.0.0", READ_FAST, Handler::Later(multi_key::exists))
        .keys(LOOK_ALL)
        .tips(SUMMED)
        .complexity(PER_KEY)
        .summary("Counts the keys given that exist."),
    row("touch", -2, "3.2.1", READ_FAST, Handler::Later(multi_key::exists))
        .keys(LOOK_ALL)
        .tips(SUMMED)
        .complexity(PER_KEY)
        .summary("Counts the keys given that exist; no time of access is kept."),
    row("type", 2, "1.0.0", READ_FAST, Handler::Now(type_of))
        .keys(LOOK)
        .summary("Returns what sort of value a key holds."),
    row("expire", -3, "1.0.0", WRITE_FAST, Handler::Now(expire))
        .keys(CHANGE)
        .summary("Sets a key's time to live in seconds."),
    row("pexpire", -3, "2.6.0", WRITE_FAST, Handler::Now(pexpire))
        .keys(CHANGE)
        .summary("Sets a key's time to live in milliseconds."),
    row("expireat", -3, "1.2.0", WRITE_FAST, Handler::Now(expireat))
        .keys(CHANGE)
        .summary("Sets the second since 1970 at which a key expires."),
    row("pexpireat", -3, "2.6.0", WRITE_FAST, Handler::Now(pexpireat))
        .keys(CHANGE)
        .summary("Sets the millisecond since 1970 at which a key expires."),
    row("ttl", 2, "1.0.0", READ_FAST, Handler::Now(ttl))
        .keys(ACCESS)
        .tips(&["nondeterministic_output"])
        .summary("Returns a key's time to live in seconds."),
    row("pttl", 2, "2.6.0", READ_FAST, Handler::Now(pttl))
        .keys(ACCESS)
        .tips(&["nondeterministic_output"])
        .summary("Returns a key's time to live in milliseconds."),
    row("persist", 2, "2.2.0", WRITE_FAST, Handler::Now(persist)).keys(CHANGE).summary("Takes away a key's expiry."),
    row("expiretime", 2, "7.0.0", READ_FAST, Handler::Now(expiretime))
        .keys(ACCESS)
        .summary("Returns the second since 1970 at which a key expires."),
    row("pexpiretime", 2, "7.0.0", READ_FAST, Handler::Now(pexpiretime))
        .keys(ACCESS)
        .summary("Returns the millisecond since 1970 at which a key expires."),
    row("rename", 3, "1.0.0", WRITE, Handler::Now(multi_key::rename))
        .keys(&[Keys::one(1, MOVED), Keys::one(2, Access::OW.or(Access::UPDATE))])
        .summary("Gives a key another name, over what had it."),
    row("renamenx", 3, "1.0.0", WRITE_FAST, Handler::Now(multi_key::renamenx))
        .keys(&[Keys::one(1, MOVED), Keys::one(2, Access::OW.or(Access::INSERT))])
        .summary("Gives a key another name, unless something has it."),
    row("copy", -3, "6.2.0", WRITE.or(Flags::DENYOOM), Handler::Now(multi_key::copy))
        .keys(&[Keys::one(1, Access::RO.or(Access::ACCESS)), Keys::one(2, Access::OW.or(Access::UPDATE))])
        .complexity("O(N) where N is the length of the string")
        .summary("Gives a second key what a key holds, unless something has that name."),
    row("keys", 2, "1.0.0", READ, Handler::Later(scan::keys))
        .categories(Categories::KEYSPACE.or(Categories::DANGEROUS))
        .tips(&["request_policy:all_shards", "nondeterministic_output_order"])
        .complexity(ALL_KEYS)
        .summary("Returns all keys that match a pattern."),
    row("scan", -2, "2.8.0", READ, Handler::Later(scan::scan))
        .tips(&["nondeterministic_output", "request_policy:special"])
        .complexity("O(1) for a call, O(N) for all of them")
        .summary("Walks over the keys, some at a time."),
    row("randomkey", 1, "1.0.0", READ, Handler::Later(scan::randomkey))
        .tips(&["request_policy:all_shards", "nondeterministic_output"])
        .complexity("O(log(N)) where N is the number of keys in the database")
        .summary("Returns some key."),
    Command::new("dbsize", 1, Group::Server, "1.0.0", Handler::Later(scan::dbsize))
        .flags(READ_FAST)
        .categories(Categories::KEYSPACE)
        .tips(&["request_policy:all_shards", "response_policy:agg_sum"])
        .complexity(ALL_KEYS)
        .summary("Counts the keys of the database."),
    Command::new("flushdb", -1, Group::Server, "1.0.0", Handler::Later(scan::flushdb))
        .flags(WRITE)
        .categories(Categories::KEYSPACE.or(Categories::DANGEROUS))
        .tips(EVERY_SHARD)
        .complexity(ALL_KEYS)
        .summary("Deletes all keys of the database."),
    Command::new("flushall", -1, Group::Server, "1.0.0", Handler::Later(scan::flushall))
        .flags(WRITE)
        .categories(Categories::KEYSPACE.or(Categories::DANGEROUS))
        .tips(EVERY_SHARD)
        .complexity("O(N) where N is the number of keys in all databases")
        .summary("Deletes all keys of all databases."),
];

/// What TYPE calls a kind of value.
pub(super) fn type_name(kind: Kind) -> &'static str {
    match kind {
        Kind::BYTES => "string",
        _ => "unknown",
    }
}

fn type_of(session: &mut Session, request: Request<'_>) -> Outcome {
    session.read(request.arg(1), |found, reply| {
        reply.simple(found.map_or("none", |value| type_name(value.kind)));
        Ok(())
    })
}

fn expire(session: &mut Session, request: Request<'_>) -> Outcome {
    let now = session.wall_ms();
    expire_at(session, request, Unit::Seconds, now, "expire")
}

fn pexpire(session: &mut Session, request: Request<'_>) -> Outcome {
    let now = session.wall_ms();
    expire_at(session, request, Unit::Milliseconds, now, "pexpire")
}

fn expireat(session: &mut Session, request: Request<'_>) -> Outcome {
    expire_at(session, request, Unit::Seconds, 0, "expireat")
}

fn pexpireat(session: &mut Session, request: Request<'_>) -> Outcome {
    expire_at(session, request, Unit::Milliseconds, 0, "pexpireat")
}

/// On which present expiry a new one is set.
#[derive(Clone, Copy, Default)]
struct ExpireIf {
    absent: bool,
    present: bool,
    greater: bool,
    less: bool,
}

impl ExpireIf {
    fn parse(request: Request<'_>) -> Result<ExpireIf, CommandError> {
        let mut condition = ExpireIf::default();
        for word in request.skip(3).iter() {
            match word.to_ascii_lowercase().as_slice() {
                b"nx" => condition.absent = true,
                b"xx" => condition.present = true,
                b"gt" => condition.greater = true,
                b"lt" => condition.less = true,
                _ => return Err(CommandError::bytes([b"ERR Unsupported option ", word].concat())),
            }
        }
        let ExpireIf { absent, present, greater, less } = condition;
        if absent && (present || greater || less) {
            return Err(CommandError::fixed("ERR NX and XX, GT or LT options at the same time are not compatible"));
        }
        if greater && less {
            return Err(CommandError::fixed("ERR GT and LT options at the same time are not compatible"));
        }
        Ok(condition)
    }

    /// A key that never expires counts as the latest of all.
    fn allows(self, current: Expiry, wanted: Expiry) -> bool {
        match current.unix_ms() {
            None => !self.present && !self.greater,
            Some(current) => {
                let wanted = wanted.unix_ms().unwrap_or(0);
                !(self.absent || self.greater && wanted <= current || self.less && wanted >= current)
            }
        }
    }
}

fn expire_at(session: &mut Session, request: Request<'_>, unit: Unit, base_ms: u64, name: &str) -> Outcome {
    let condition = ExpireIf::parse(request)?;
    let wanted = expiry::date(expiry::any(request.arg(2), unit, base_ms, name)?);
    session.update(request.arg(1), move |cell| {
        let Some(found) = cell.get()? else { return Ok(Answer::Integer(0)) };
        if !condition.allows(found.expiry, wanted) {
            return Ok(Answer::Integer(0));
        }
        if wanted.is_past(cell.now_ms()) {
            cell.delete()?;
        } else {
            cell.set_expiry(wanted)?;
        }
        Ok(Answer::Integer(1))
    })
}

fn persist(session: &mut Session, request: Request<'_>) -> Outcome {
    session.update(request.arg(1), |cell| match cell.get()? {
        Some(found) if !found.expiry.is_never() => {
            cell.set_expiry(Expiry::NEVER)?;
            Ok(Answer::Integer(1))
        }
        _ => Ok(Answer::Integer(0)),
    })
}

/// Answer a question about a key's expiry: -2 without a key, -1 without an expiry.
fn about_expiry(
    session: &mut Session,
    request: Request<'_>,
    answer: impl Fn(u64) -> i64 + Copy + Send + 'static,
) -> Outcome {
    session.read(request.arg(1), move |found, reply| {
        reply.integer(match found.map(|value| value.expiry.unix_ms()) {
            None => -2,
            Some(None) => -1,
            Some(Some(ms)) => answer(ms),
        });
        Ok(())
    })
}

fn ttl(session: &mut Session, request: Request<'_>) -> Outcome {
    let now = session.wall_ms();
    about_expiry(session, request, move |ms| expiry::seconds(ms.saturating_sub(now)))
}

fn pttl(session: &mut Session, request: Request<'_>) -> Outcome {
    let now = session.wall_ms();
    about_expiry(session, request, move |ms| ms.saturating_sub(now) as i64)
}

fn expiretime(session: &mut Session, request: Request<'_>) -> Outcome {
    about_expiry(session, request, expiry::seconds)
}

fn pexpiretime(session: &mut Session, request: Request<'_>) -> Outcome {
    about_expiry(session, request, |ms| ms as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_on_the_present_expiry() {
        let never = Expiry::NEVER;
        let at = Expiry::at_ms;
        let none = ExpireIf::default();
        let nx = ExpireIf { absent: true, ..none };
        let xx = ExpireIf { present: true, ..none };
        let gt = ExpireIf { greater: true, ..none };
        let lt = ExpireIf { less: true, ..none };
        for (condition, current, wanted, allowed) in [
            (none, never, at(5), true),
            (none, at(9), at(5), true),
            (nx, never, at(5), true),
            (nx, at(9), at(5), false),
            (xx, never, at(5), false),
            (xx, at(9), at(5), true),
            (gt, never, at(5), false),
            (gt, at(4), at(5), true),
            (gt, at(5), at(5), false),
            (lt, never, at(5), true),
            (lt, at(6), at(5), true),
            (lt, at(5), at(5), false),
        ] {
            assert_eq!(condition.allows(current, wanted), allowed);
        }
    }
}
