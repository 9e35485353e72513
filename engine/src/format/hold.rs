//! What a session holds of a lock, and the session itself, as keys and values of the engine's own keyspaces.
//!
//! ```text
//!  key of a hold (0xff00):   | place ... | form of the place: 1 | session: 8, big-endian |
//!  value of a hold:          0         1      2        4       8       16         24           32      40
//!                            | version | mode | 0      | count | token | lease ms | permits    | since | units (4) | 0 (4)
//!  key of a session (0xff01): | session: 8, big-endian |
//!  value of a session:       0         1    8        24     32
//!                            | version | 0  | secret | ttl  | label ...
//! ```
//!
//! The place has a hash tag, so that all holds of a name lie on one shard: a name with a tag is its own place (form 0), another
//! is put between braces, and so lies where a key of that name does (1); if it has a closing brace itself, 16 digits of its
//! hash between braces stand before it (2). A token of zero means the commit that wrote the value. Times are in milliseconds; a lease of zero lasts as long as the session; `since` is Unix time.

use std::ops::Range;

use super::damage::Damage;
use super::le::{fixed_u32, fixed_u64, is_zero};
use crate::ids::{FencingToken, Keyspace, SessionId, Token};
use crate::lock::Mode;
use crate::ring::{hash_tag, token_of};

pub const HOLDS: Keyspace = Keyspace(0xff00);
pub const SESSIONS: Keyspace = Keyspace(0xff01);

const VERSION_NOW: u8 = 1;
const SESSION_LEN: usize = 8;

const MODE: Range<usize> = 1..2;
const COUNT: Range<usize> = 4..8;
const TOKEN: Range<usize> = COUNT.end..COUNT.end + 8;
const LEASE: Range<usize> = TOKEN.end..TOKEN.end + 8;
const PERMITS: Range<usize> = LEASE.end..LEASE.end + 8;
const SINCE: Range<usize> = PERMITS.end..PERMITS.end + 8;
const UNITS: Range<usize> = SINCE.end..SINCE.end + 4;
const HOLD_LEN: usize = 48;
const _: () = assert!(UNITS.end + 4 == HOLD_LEN);

const SECRET: Range<usize> = 8..24;
const TTL: Range<usize> = SECRET.end..SECRET.end + 8;
const LABEL_AT: usize = TTL.end;

const MODE_EXCLUSIVE: u8 = 1;
const MODE_SHARED: u8 = 2;
const MODE_SEMAPHORE: u8 = 3;

/// A hold as it is stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StoredHold {
    pub mode: Mode,
    pub count: u32,
    /// `None`: the commit that wrote this value.
    pub token: Option<FencingToken>,
    /// `None`: as long as the session lives.
    pub lease_ms: Option<u64>,
    pub since_unix_ms: u64,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StoredSession {
    pub secret: u128,
    pub ttl_ms: u64,
    pub label: Vec<u8>,
}

/// Bytes before the name in a place of form 2.
const HASHED_LEN: usize = 18;

/// Where a lock's holds lie: a key that is on the lock's shard.
pub fn place_of(name: &[u8]) -> Vec<u8> {
    let mut key = Vec::new();
    put_place(name, &mut key);
    key
}

fn put_place(name: &[u8], key: &mut Vec<u8>) {
    key.clear();
    key.reserve(name.len() + HASHED_LEN + 1 + SESSION_LEN);
    let form = if hash_tag(name).len() < name.len() {
        key.extend_from_slice(name);
        0
    } else if name.contains(&b'}') {
        key.extend_from_slice(format!("{{{:016x}}}", token_of(name).0).as_bytes());
        key.extend_from_slice(name);
        2
    } else {
        key.push(b'{');
        key.extend_from_slice(name);
        key.push(b'}');
        1
    };
    key.push(form);
}

/// The token of [`place_of`], which decides on which shard a lock is.
pub fn token_of_place(name: &[u8]) -> Token {
    // The tag of a place between braces is the name itself.
    if hash_tag(name).len() == name.len() && name.contains(&b'}') { token_of(&place_of(name)) } else { token_of(name) }
}

/// The key of a session's hold, in memory that is used again.
pub fn hold_key(name: &[u8], session: SessionId, key: &mut Vec<u8>) {
    put_place(name, key);
    key.extend_from_slice(&session.0.to_be_bytes());
}

/// The name and session of a hold's key. Under another place than its own a hold would be seen and never let go.
pub fn parse_hold_key(key: &[u8]) -> Result<(&[u8], SessionId), Damage> {
    let bad = || Damage::new(0, format!("{} bytes are no key of a hold", key.len()));
    let (place, session) = key.split_last_chunk::<SESSION_LEN>().ok_or_else(bad)?;
    let name = match place.split_last() {
        Some((0, name)) => name,
        Some((1, [b'{', name @ .., b'}'])) => name,
        Some((2, place)) if place.len() > HASHED_LEN => &place[HASHED_LEN..],
        Some(_) | None => return Err(bad()),
    };
    if place_of(name) != place {
        return Err(bad());
    }
    Ok((name, SessionId(u64::from_be_bytes(*session))))
}

pub fn session_key(session: SessionId) -> [u8; SESSION_LEN] {
    session.0.to_be_bytes()
}

pub fn parse_session_key(key: &[u8]) -> Result<SessionId, Damage> {
    let bytes = key.try_into().map_err(|_| Damage::new(0, format!("{} bytes are no key of a session", key.len())))?;
    Ok(SessionId(u64::from_be_bytes(bytes)))
}

impl StoredHold {
    pub fn encode(&self) -> [u8; HOLD_LEN] {
        let (mode, permits, units) = match self.mode {
            Mode::Exclusive => (MODE_EXCLUSIVE, 0, 0),
            Mode::Shared => (MODE_SHARED, 0, 0),
            Mode::Semaphore { permits, units } => (MODE_SEMAPHORE, permits, units),
        };
        let mut out = [0; HOLD_LEN];
        out[0] = VERSION_NOW;
        out[MODE][0] = mode;
        out[COUNT].copy_from_slice(&self.count.to_le_bytes());
        out[TOKEN].copy_from_slice(&self.token.map_or(0, |token| token.0).to_le_bytes());
        out[LEASE].copy_from_slice(&self.lease_ms.unwrap_or(0).to_le_bytes());
        out[PERMITS].copy_from_slice(&u64::from(permits).to_le_bytes());
        out[SINCE].copy_from_slice(&self.since_unix_ms.to_le_bytes());
        out[UNITS].copy_from_slice(&units.to_le_bytes());
        out
    }

    pub fn decode(bytes: &[u8]) -> Result<StoredHold, Damage> {
        if bytes.len() != HOLD_LEN || bytes[0] != VERSION_NOW {
            return Err(Damage::new(0, format!("{} bytes are no hold of a lock", bytes.len())));
        }
        let permits = u32::try_from(fixed_u64(bytes, PERMITS))
            .map_err(|_| Damage::new(PERMITS.start, "more permits than there may be".to_owned()))?;
        let mode = match (bytes[MODE][0], permits, fixed_u32(bytes, UNITS)) {
            (MODE_EXCLUSIVE, 0, 0) => Mode::Exclusive,
            (MODE_SHARED, 0, 0) => Mode::Shared,
            (MODE_SEMAPHORE, permits, units) if (1..=permits).contains(&units) => Mode::Semaphore { permits, units },
            (mode, ..) => return Err(Damage::new(MODE.start, format!("the mode {mode} of a hold makes no sense"))),
        };
        let count = fixed_u32(bytes, COUNT);
        if count == 0 || !is_zero(&bytes[MODE.end..COUNT.start]) || !is_zero(&bytes[UNITS.end..]) {
            return Err(Damage::new(MODE.end, "a hold's fields make no sense".to_owned()));
        }
        Ok(StoredHold {
            mode,
            count,
            token: Some(fixed_u64(bytes, TOKEN)).filter(|token| *token != 0).map(FencingToken),
            lease_ms: Some(fixed_u64(bytes, LEASE)).filter(|lease| *lease != 0),
            since_unix_ms: fixed_u64(bytes, SINCE),
        })
    }
}

impl StoredSession {
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![0; LABEL_AT];
        out[0] = VERSION_NOW;
        out[SECRET].copy_from_slice(&self.secret.to_le_bytes());
        out[TTL].copy_from_slice(&self.ttl_ms.to_le_bytes());
        out.extend_from_slice(&self.label);
        out
    }

    pub fn decode(bytes: &[u8]) -> Result<StoredSession, Damage> {
        let Some(header) = bytes.get(..LABEL_AT).filter(|h| h[0] == VERSION_NOW && is_zero(&h[1..SECRET.start])) else {
            return Err(Damage::new(0, format!("{} bytes are no session", bytes.len())));
        };
        let secret = header[SECRET].try_into().map(u128::from_le_bytes).expect("sixteen bytes");
        Ok(StoredSession { secret, ttl_ms: fixed_u64(header, TTL), label: bytes[LABEL_AT..].to_vec() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::{Ring, VNODES};
    use proptest::prelude::*;

    #[test]
    fn golden_bytes_of_a_hold_and_a_session() {
        let hold = StoredHold {
            mode: Mode::Semaphore { permits: 5, units: 2 },
            count: 3,
            token: Some(FencingToken(0x0102)),
            lease_ms: Some(1000),
            since_unix_ms: 7,
        };
        let expected: &[u8] = &[
            1, 3, 0, 0, 3, 0, 0, 0, 2, 1, 0, 0, 0, 0, 0, 0, // version, mode, count, token
            0xe8, 3, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, // lease, permits
            7, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, // since, units
        ];
        assert_eq!(hold.encode(), expected);
        let session = StoredSession { secret: 1, ttl_ms: 2, label: b"me".to_vec() };
        let mut expected = vec![0; 34];
        (expected[0], expected[8], expected[24], expected[32], expected[33]) = (1, 1, 2, b'm', b'e');
        assert_eq!(session.encode(), expected);
        let hold_key = |name: &[u8], session| {
            let mut key = vec![7; 3];
            hold_key(name, session, &mut key);
            key
        };
        assert_eq!(hold_key(b"a", SessionId(258)), b"{a}\x01\0\0\0\0\0\0\x01\x02");
        assert_eq!(hold_key(b"{t}a", SessionId(258)), b"{t}a\0\0\0\0\0\0\0\x01\x02");
        assert_eq!(hold_key(b"}", SessionId(258)), b"{285648a459bdb2b3}}\x02\0\0\0\0\0\0\x01\x02");
    }

    proptest! {
        #[test]
        fn keys_give_back_name_and_session_and_all_sessions_of_a_lock_lie_together(
            name in prop::collection::vec(prop::sample::select(b"ab{}\0\x01".to_vec()), 1..12),
            sessions in prop::array::uniform2(any::<u64>()),
        ) {
            let ring = Ring::new(7, VNODES);
            for session in sessions {
                let mut key = Vec::new();
                hold_key(&name, SessionId(session), &mut key);
                prop_assert_eq!(parse_hold_key(&key).unwrap(), (name.as_slice(), SessionId(session)));
                prop_assert_eq!(ring.owner_of_key(&key), ring.owner_of_key(&place_of(&name)));
            }
            // With a tag, or without any brace, a lock lies where a key of its name does.
            if hash_tag(&name).len() < name.len() || !name.contains(&b'}') {
                prop_assert_eq!(ring.owner_of_key(&place_of(&name)), ring.owner_of_key(&name));
            }
        }

        #[test]
        fn values_come_back(mode in 0u8..3, permits in 1u32.., count in 1u32.., token: u64, lease: u64, since: u64) {
            let mode = match mode {
                0 => Mode::Exclusive,
                1 => Mode::Shared,
                _ => Mode::Semaphore { permits, units: permits.div_ceil(2) },
            };
            let hold = StoredHold {
                mode,
                count,
                token: (token != 0).then_some(FencingToken(token)),
                lease_ms: (lease != 0).then_some(lease),
                since_unix_ms: since,
            };
            prop_assert_eq!(StoredHold::decode(&hold.encode()).unwrap(), hold);
        }

        #[test]
        fn other_keys_are_refused_or_say_the_same(
            name in prop::collection::vec(prop::sample::select(b"ab{}\0\x01".to_vec()), 0..12),
            form in 0u8..4,
            session: u64,
        ) {
            let key = [name.as_slice(), &[form], &session.to_be_bytes()].concat();
            if let Ok((name, session)) = parse_hold_key(&key) {
                let mut again = Vec::new();
                hold_key(name, session, &mut again);
                prop_assert_eq!(again, key);
            }
        }

        #[test]
        fn other_bytes_are_refused_or_say_the_same(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            if let Ok(hold) = StoredHold::decode(&bytes) {
                let encoded = hold.encode().to_vec();
                prop_assert_eq!(&encoded, &bytes);
            }
            if let Ok(session) = StoredSession::decode(&bytes) {
                prop_assert_eq!(session.encode(), bytes);
            }
        }
    }
}
