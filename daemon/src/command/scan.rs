//! Commands that walk over keys. Each gives other tasks of its core their turn, whatever it finds.

use std::ops::Bound;
use std::sync::Arc;

use corering_engine::runtime::LocalFuture;
use corering_engine::{Expiry, Keyspace, Scan, ScanRange, Snapshot, ValueRef, WriteBatch};

use super::cell::Answer;
use super::cursors::Place;
use super::errors::CommandError;
use super::spec::Outcome;
use super::strings::integer;
use super::{DATABASES, glob, keys::type_name};
use crate::resp::{Protocol, Reply, Request};
use crate::server::{Session, Told};

/// Entries looked at between two turns of other tasks.
const ENTRIES_PER_TURN: usize = 256;
/// Keys and bytes deleted by one batch of FLUSHDB.
const FLUSH_BATCH_LEN: usize = 1024;
const FLUSH_BATCH_BYTES: usize = 1 << 20;
/// Keys that one SCAN looks at, whatever COUNT says.
const COUNT_MAX: i64 = 1 << 20;

/// Walks entries of one snapshot, yielding between chunks of them.
struct Walk {
    scan: Scan,
    seen: usize,
}

impl Walk {
    async fn new(session: &Session, snapshot: &Snapshot, range: ScanRange) -> Result<Walk, CommandError> {
        Ok(Walk { scan: session.client().scan_async(snapshot, range).await?, seen: 0 })
    }

    /// The next key and its value, lent where they lie.
    async fn next(&mut self, session: &Session) -> Result<Option<(&[u8], ValueRef<'_>)>, CommandError> {
        self.seen += 1;
        if self.seen.is_multiple_of(ENTRIES_PER_TURN) {
            session.yield_now().await;
        }
        Ok(self.scan.next_ref()?)
    }
}

/// All keys that begin with `prefix`, after or from `place` on.
fn range(keyspace: Keyspace, prefix: &[u8], place: Place) -> ScanRange {
    let mut range = ScanRange::prefix(keyspace, prefix);
    match place {
        Place::Start => {}
        Place::After(key) if key.as_slice() >= prefix => range.lower = Bound::Excluded(key),
        Place::From(key) if key.as_slice() >= prefix => range.lower = Bound::Included(key),
        Place::After(_) | Place::From(_) => {}
    }
    range
}

/// Keys that match a pattern, as they are replied. The reply begins with their number, so they are gathered first.
struct Matching {
    pattern: Vec<u8>,
    protocol: Protocol,
    max: u64,
    bytes: Vec<u8>,
    count: usize,
}

impl Matching {
    fn new(session: &Session, pattern: &[u8]) -> Matching {
        let (protocol, max) = (session.protocol(), session.reply_bytes_max());
        Matching { pattern: pattern.to_vec(), protocol, max, bytes: Vec::new(), count: 0 }
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.count = 0;
    }

    fn is_too_long(&self) -> bool {
        self.bytes.len() as u64 > self.max
    }

    /// False once they are too many.
    fn take(&mut self, key: &[u8]) -> bool {
        if glob::matches(&self.pattern, key) {
            Reply::new(&mut self.bytes, self.protocol).bulk(key);
            self.count += 1;
        }
        !self.is_too_long()
    }

    fn check(&self) -> Outcome {
        if !self.is_too_long() {
            return Ok(());
        }
        Err(CommandError::text(format!(
            "ERR the reply would be longer than {} bytes (client-output-buffer-limit); use SCAN",
            self.max
        )))
    }

    fn reply(&self) -> Vec<u8> {
        let mut reply = Vec::new();
        Reply::new(&mut reply, self.protocol).array(self.count);
        reply.extend_from_slice(&self.bytes);
        reply
    }
}

pub fn keys<'a>(session: &'a mut Session, request: Request<'a>) -> LocalFuture<'a, Outcome> {
    Box::pin(async move {
        let mut found = Matching::new(session, request.arg(1));
        let all = range(session.keyspace(), &glob::literal_prefix(request.arg(1)), Place::Start);
        if session.is_gathering() {
            session.submit_over_all(move |tx| {
                found.clear();
                tx.scan(all.clone(), |key, _| found.take(key))?;
                Ok((found.check().map_or_else(Answer::Failed, |()| Answer::Raw(found.reply())), Vec::new()))
            });
            return Ok(());
        }
        let snapshot = session.client().view()?;
        let mut walk = Walk::new(session, &snapshot, all).await?;
        while let Some((key, _)) = walk.next(session).await? {
            if !found.take(key) {
                break;
            }
        }
        found.check()?;
        session.reply().array(found.count);
        for chunk in found.bytes.chunks(1 << 20) {
            session.reply().raw(chunk);
            session.relieve().await?;
        }
        Ok(())
    })
}

struct ScanOptions {
    pattern: Option<Vec<u8>>,
    count: usize,
    type_name: Option<Vec<u8>>,
}

impl ScanOptions {
    fn wants(&self, key: &[u8], value: ValueRef<'_>) -> bool {
        let matched = self.pattern.as_ref().is_none_or(|pattern| glob::matches(pattern, key));
        let name = type_name(value.kind).as_bytes();
        matched && self.type_name.as_ref().is_none_or(|wanted| wanted.eq_ignore_ascii_case(name))
    }
}

fn scan_options(request: Request<'_>) -> Result<ScanOptions, CommandError> {
    let mut options = ScanOptions { pattern: None, count: 10, type_name: None };
    let mut words = request.skip(2).iter();
    while let Some(word) = words.next() {
        let value = words.next().ok_or(CommandError::SYNTAX)?;
        match word.to_ascii_lowercase().as_slice() {
            b"count" => match integer(value)? {
                count @ 1.. => options.count = count.min(COUNT_MAX) as usize,
                _ => return Err(CommandError::SYNTAX),
            },
            b"match" => options.pattern = Some(value.to_vec()),
            b"type" => options.type_name = Some(value.to_vec()),
            _ => return Err(CommandError::SYNTAX),
        }
    }
    Ok(options)
}

/// A cursor as C's `strtoul` reads it, which is how Redis does.
pub(super) fn cursor(text: &[u8]) -> Option<u64> {
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        [] => return Some(0),
        _ => (false, text),
    };
    let number: u64 =
        std::str::from_utf8(digits).ok().filter(|d| d.bytes().all(|b| b.is_ascii_digit()))?.parse().ok()?;
    Some(if negative { number.wrapping_neg() } else { number })
}

pub fn scan<'a>(session: &'a mut Session, request: Request<'a>) -> LocalFuture<'a, Outcome> {
    Box::pin(async move {
        let cursor = cursor(request.arg(1)).ok_or(CommandError::INVALID_CURSOR)?;
        let options = scan_options(request)?;
        let prefix = options.pattern.as_deref().map(glob::literal_prefix).unwrap_or_default();
        let from = range(session.keyspace(), &prefix, session.cursors().place(cursor));
        if session.is_gathering() {
            return scan_in_step(session, options, from);
        }
        let snapshot = session.client().view()?;
        let mut walk = Walk::new(session, &snapshot, from).await?;
        let mut found = Vec::new();
        let mut next = 0;
        for looked_at in 1..=options.count {
            let Some((key, value)) = walk.next(session).await? else { break };
            if looked_at == options.count {
                next = session.cursors().after(key, || session.random());
            }
            if options.wants(key, value) {
                found.push(key.to_vec());
            }
        }
        session.reply().array(2);
        session.reply().bulk(itoa::Buffer::new().format(next).as_bytes());
        session.reply().array(found.len());
        for key in found {
            session.reply().bulk(&key);
            session.relieve_if_full().await?;
        }
        Ok(())
    })
}

fn scan_in_step(session: &mut Session, options: ScanOptions, from: ScanRange) -> Outcome {
    let (shared, protocol, random) = (Arc::clone(session.shared()), session.protocol(), session.random());
    session.submit_over_all(move |tx| {
        let (mut found, mut count, mut looked_at, mut next) = (Vec::new(), 0, 0, 0);
        tx.scan(from.clone(), |key, value| {
            looked_at += 1;
            if looked_at == options.count {
                next = shared.cursors.after(key, || random);
            }
            if options.wants(key, value) {
                Reply::new(&mut found, protocol).bulk(key);
                count += 1;
            }
            looked_at < options.count
        })?;
        let mut bytes = Vec::new();
        let mut reply = Reply::new(&mut bytes, protocol);
        reply.array(2);
        reply.bulk(itoa::Buffer::new().format(next).as_bytes());
        reply.array(count);
        bytes.extend(found);
        Ok((Answer::Raw(bytes), Vec::new()))
    });
    Ok(())
}

pub fn randomkey<'a>(session: &'a mut Session, _: Request<'a>) -> LocalFuture<'a, Outcome> {
    Box::pin(async move {
        if session.is_gathering() {
            let (all, mut random) = (ScanRange::all(session.keyspace()), fastrand::Rng::with_seed(session.random()));
            session.submit_over_all(move |tx| {
                let (mut chosen, mut seen) = (None, 0_u64);
                tx.scan(all.clone(), |key, _| {
                    // Each of those seen so far is the one with the same chance.
                    seen += 1;
                    if random.u64(..seen) == 0 {
                        chosen = Some(key.to_vec());
                    }
                    true
                })?;
                Ok((chosen.map_or(Answer::Null, Answer::Bulk), Vec::new()))
            });
            return Ok(());
        }
        let snapshot = session.client().view()?;
        match random_key(session, &snapshot).await? {
            Some(key) => session.reply().bulk(&key),
            None => session.reply().null(),
        }
        Ok(())
    })
}

/// Bytes of a prefix that [`random_key`] chooses at random; below that it takes the first key.
const RANDOM_BYTES_MAX: usize = 64;

/// Walk down the tree of the keys' bytes, at each fork along a branch that has keys. Each fork's branches are about as
/// likely as each other, so keys in sparse regions come more often than those in dense ones.
async fn random_key(session: &Session, snapshot: &Snapshot) -> Result<Option<Vec<u8>>, CommandError> {
    let mut prefix = Vec::new();
    for _ in 0..RANDOM_BYTES_MAX {
        let all = ScanRange::prefix(session.keyspace(), &prefix);
        let Some(first) = first_key(session, snapshot, all.clone()).await? else { return Ok(None) };
        let Some(last) = first_key(session, snapshot, ScanRange { reverse: true, ..all }).await? else {
            return Ok(None);
        };
        if first == last {
            return Ok(Some(first));
        }
        let shared = first.iter().zip(&last).take_while(|(a, b)| a == b).count();
        // The first key may end where the last goes on: it is a branch of its own.
        let (low, high) = (first.get(shared).copied(), last.get(shared).copied().unwrap_or(u8::MAX));
        let branches = u64::from(high - low.unwrap_or(0)) + 1 + u64::from(low.is_none());
        let chosen = session.random() % branches;
        if low.is_none() && chosen == 0 {
            return Ok(Some(first));
        }
        let byte = low.unwrap_or(0) + (chosen - u64::from(low.is_none())) as u8;
        let from = [last.get(..shared).unwrap_or_default(), &[byte]].concat();
        let lower = Bound::Included(from);
        let above =
            ScanRange { lower, ..ScanRange::prefix(session.keyspace(), last.get(..shared).unwrap_or_default()) };
        let Some(next) = first_key(session, snapshot, above).await? else { return Ok(Some(last)) };
        prefix = next.get(..=shared).unwrap_or(&next).to_vec();
    }
    first_key(session, snapshot, ScanRange::prefix(session.keyspace(), &prefix)).await
}

async fn first_key(session: &Session, snapshot: &Snapshot, range: ScanRange) -> Result<Option<Vec<u8>>, CommandError> {
    Ok(session.client().scan_async(snapshot, range).await?.next_ref()?.map(|(key, _)| key.to_vec()))
}

pub fn dbsize<'a>(session: &'a mut Session, _: Request<'a>) -> LocalFuture<'a, Outcome> {
    Box::pin(async move {
        if session.is_gathering() {
            let all = ScanRange::all(session.keyspace());
            session.submit_over_all(move |tx| {
                let mut count = 0;
                tx.scan(all.clone(), |_, _| {
                    count += 1;
                    true
                })?;
                Ok((Answer::Integer(count), Vec::new()))
            });
            return Ok(());
        }
        let count = count_keys(session, session.keyspace()).await?.keys;
        session.reply().integer(count as i64);
        Ok(())
    })
}

#[derive(Clone, Copy, Default, Debug)]
pub struct KeyCount {
    pub keys: u64,
    /// Those that expire some day.
    pub expiring: u64,
    /// Milliseconds to live of all of these together.
    pub ttl_ms: u64,
}

/// Count the keys of one database.
pub async fn count_keys(session: &Session, keyspace: Keyspace) -> Result<KeyCount, CommandError> {
    let snapshot = session.client().view()?;
    let mut walk = Walk::new(session, &snapshot, ScanRange::all(keyspace)).await?;
    let now = session.wall_ms();
    let mut count = KeyCount::default();
    while let Some((_, value)) = walk.next(session).await? {
        count.keys += 1;
        if let Some(ms) = value.expiry.unix_ms() {
            count.expiring += 1;
            count.ttl_ms = count.ttl_ms.saturating_add(ms.saturating_sub(now));
        }
    }
    Ok(count)
}

/// ASYNC and SYNC mean the same here: the keys are gone with the answer, and nobody is kept waiting for them.
fn flush_mode(request: Request<'_>) -> Outcome {
    let known = |word: &[u8]| word.eq_ignore_ascii_case(b"async") || word.eq_ignore_ascii_case(b"sync");
    match request.len() {
        1 => Ok(()),
        2 if known(request.arg(1)) => Ok(()),
        _ => Err(CommandError::SYNTAX),
    }
}

pub fn flushdb<'a>(session: &'a mut Session, request: Request<'a>) -> LocalFuture<'a, Outcome> {
    Box::pin(async move {
        flush_mode(request)?;
        let keyspace = session.keyspace();
        if session.is_gathering() {
            return flush_in_step(session, Some(keyspace));
        }
        flush(session, keyspace).await?;
        session.reply().ok();
        Ok(())
    })
}

pub fn flushall<'a>(session: &'a mut Session, request: Request<'a>) -> LocalFuture<'a, Outcome> {
    Box::pin(async move {
        flush_mode(request)?;
        if session.is_gathering() {
            return flush_in_step(session, None);
        }
        for database in 0..DATABASES {
            flush(session, Keyspace(database)).await?;
        }
        session.reply().ok();
        Ok(())
    })
}

/// Delete the keys that are there now, in batches: a reader may see some of them gone and some not.
async fn flush(session: &Session, keyspace: Keyspace) -> Outcome {
    let snapshot = session.client().view()?;
    let mut walk = Walk::new(session, &snapshot, ScanRange::all(keyspace)).await?;
    let shards = usize::from(session.shard_count());
    let mut batches: Vec<(WriteBatch, usize)> = (0..shards).map(|_| (WriteBatch::new(), 0)).collect();
    let mut sent = std::collections::VecDeque::new();
    while let Some((key, _)) = walk.next(session).await? {
        let Some((batch, bytes)) = batches.get_mut(session.client().shard_of(key).index()) else { continue };
        batch.delete(keyspace, key);
        *bytes += key.len();
        if batch.len() < FLUSH_BATCH_LEN && *bytes < FLUSH_BATCH_BYTES {
            continue;
        }
        *bytes = 0;
        sent.push_back(session.client().write_batch(std::mem::take(batch), session.write_options(Expiry::NEVER)));
        if sent.len() > 2 * shards
            && let Some(oldest) = sent.pop_front()
        {
            oldest.await?;
        }
    }
    for (batch, _) in batches {
        if !batch.is_empty() {
            sent.push_back(session.client().write_batch(batch, session.write_options(Expiry::NEVER)));
        }
    }
    for pending in sent {
        pending.await?;
    }
    if let Some(shared) = session.shared_for_events() {
        shared.expiries.clear(Some(keyspace));
    }
    Ok(())
}

/// Delete the keys of a database, or of all, in the step that an EXEC is.
fn flush_in_step(session: &mut Session, keyspace: Option<Keyspace>) -> Outcome {
    let databases = keyspace.map_or(0..DATABASES, |Keyspace(database)| database..database + 1);
    session.submit_over_all(move |tx| {
        let mut keys = Vec::new();
        for keyspace in databases.clone().map(Keyspace) {
            tx.scan(ScanRange::all(keyspace), |key, _| {
                keys.push((keyspace, key.to_vec()));
                true
            })?;
        }
        keys.iter().try_for_each(|(keyspace, key)| tx.delete(*keyspace, key))?;
        Ok((Answer::Ok, vec![Told::Flushed(keyspace)]))
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_as_strtoul_reads_them() {
        for (text, expected) in [
            ("0", Some(0)),
            ("", Some(0)),
            ("18446744073709551615", Some(u64::MAX)),
            ("18446744073709551616", None),
            ("-1", Some(u64::MAX)),
            ("+7", Some(7)),
            ("abc", None),
            ("1x", None),
            (" 1", None),
            ("-", None),
        ] {
            assert_eq!(cursor(text.as_bytes()), expected, "{text:?}");
        }
    }
}
