//! `format/hold.rs`: holds and sessions, and the keys that they lie under.

use corering_engine::SessionId;
use corering_engine::format::damage::Damage;
use corering_engine::format::hold::{
    StoredHold, StoredSession, hold_key, parse_hold_key, parse_session_key, session_key,
};

use crate::input::Input;
use crate::{memory, seal};

const HOLD_LEN: usize = 48;
const MODES: u8 = 3;
const PERMITS_HIGH_AT: usize = 28;
const HOLD_REST_AT: usize = 44;
const SESSION_HEADER_LEN: usize = 32;
const SESSION_LEN: usize = 8;
/// What a place has besides the name: braces, the digits of a hash, the form; and the session.
const KEY_ROOM: usize = 64;

type ParseKey = for<'a> fn(&'a [u8]) -> Result<(&'a [u8], SessionId), Damage>;

pub fn check(input: &[u8]) {
    agree(input, parse_hold_key);
}

/// Takes a name for its own place, though it has no tag.
pub fn planted(input: &[u8]) {
    agree(input, |key| {
        parse_hold_key(key).or_else(|damage| match key.split_last_chunk::<SESSION_LEN>() {
            Some(([name @ .., 0], session)) => Ok((name, SessionId(u64::from_be_bytes(*session)))),
            _ => Err(damage),
        })
    });
}

fn agree(input: &[u8], parse_key: ParseKey) {
    hold(input);
    let mut bytes = input.to_vec();
    bytes.resize(HOLD_LEN, 0);
    seal::put(&mut bytes, 0, &[1, 1 + input.first().map_or(0, |mode| mode % MODES), 0, 0]);
    seal::put(&mut bytes, PERMITS_HIGH_AT, &[0; 4]);
    seal::put(&mut bytes, HOLD_REST_AT, &[0; 4]);
    hold(&bytes);

    session(input);
    let mut bytes = input.to_vec();
    bytes.resize(bytes.len().max(SESSION_HEADER_LEN), 0);
    seal::put(&mut bytes, 0, &[1, 0, 0, 0, 0, 0, 0, 0]);
    assert!(session(&bytes), "every secret, time and label make a session");
    assert_eq!(parse_session_key(input).map(session_key).is_ok_and(|key| key == input), input.len() == SESSION_LEN);

    key(input, parse_key);
    made_key(input, parse_key);
}

fn hold(bytes: &[u8]) {
    match memory::at_most(memory::TEXT, "a hold", || StoredHold::decode(bytes)) {
        Ok(hold) => {
            assert_eq!(hold.encode().as_slice(), bytes, "what is accepted is what would be written");
            assert!(hold.count > 0, "a hold of nothing");
        }
        Err(damage) => assert!(damage.at <= HOLD_LEN as u64),
    }
}

fn session(bytes: &[u8]) -> bool {
    let decoded = memory::at_most(bytes.len() + memory::TEXT, "a session", || StoredSession::decode(bytes));
    if let Ok(session) = &decoded {
        assert_eq!(session.encode(), bytes, "what is accepted is what would be written");
    }
    decoded.is_ok()
}

fn key(bytes: &[u8], parse: ParseKey) {
    // Its place is made again to be compared.
    let room = 2 * (bytes.len() + KEY_ROOM) + memory::TEXT;
    if let Ok((name, session)) = memory::at_most(room, "a hold's key", || parse(bytes)) {
        let mut again = Vec::new();
        hold_key(name, session, &mut again);
        assert_eq!(again, bytes, "a hold lies at the one place of its name");
    }
}

/// A key as it would be written is read, whatever the name; with a byte of it changed it is another or none.
fn made_key(input: &[u8], parse: ParseKey) {
    let mut input = Input::new(input);
    let (session, at, change) = (SessionId(input.u64()), usize::from(input.u16()), input.u8());
    let name = input.rest();
    let mut bytes = Vec::new();
    hold_key(name, session, &mut bytes);
    assert_eq!(parse(&bytes), Ok((name, session)));
    let at = at % bytes.len();
    bytes[at] ^= change;
    key(&bytes, parse);
}
