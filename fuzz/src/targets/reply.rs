//! The daemon's `resp/reader.rs`: a server's replies, in whatever pieces they come; and that what `resp/reply.rs` writes
//! is read back.

use corering_daemon::resp::reader::BadReply;
use corering_daemon::resp::{Protocol, Reply, ReplyReader, Value};

use crate::input::Input;
use crate::memory;

/// Memory for each byte fed: the buffer doubles, and is copied once.
const FACTOR: usize = 4;
const ROOM: usize = 4 << 10;
const STREAM_LEN_MAX: usize = 4 << 10;

type Feed = fn(&mut ReplyReader, &[u8]);
type Read = (Vec<Vec<u8>>, Option<BadReply>);

pub fn check(input: &[u8]) {
    agree(input, ReplyReader::feed);
}

/// Loses a line's end that is cut in two.
pub fn planted(input: &[u8]) {
    agree(input, |reader, piece| reader.feed(piece.strip_suffix(b"\r").unwrap_or(piece)));
}

fn agree(input: &[u8], feed: Feed) {
    let mut input = Input::new(input);
    let pieces = input.short();
    let stream = input.slice(STREAM_LEN_MAX);
    let whole = read(stream, &[], ReplyReader::feed);
    assert_eq!(read(stream, pieces, feed), whole, "in pieces of {pieces:?}");
    assert!(stream.starts_with(&whole.0.concat()), "replies are what was fed");
    for raw in &whole.0 {
        let mut reader = ReplyReader::new();
        reader.feed(raw);
        let mut errors = ReplyReader::new();
        errors.feed(raw);
        let is_error = errors.next_is_error();
        if let Ok(value) = reader.next_value() {
            let value = value.expect("a raw reply is a whole one");
            assert_eq!(is_error, Ok(Some(value.is_error())));
            assert_eq!(reader.next_raw(), Ok(None), "nothing is left");
        }
    }
    written(stream);
}

fn read(stream: &[u8], pieces: &[u8], feed: Feed) -> Read {
    let mut reader = ReplyReader::new();
    let mut got = Vec::new();
    let (mut rest, mut pieces, mut fed) = (stream, pieces.iter(), 0);
    loop {
        match memory::at_most(FACTOR * fed + ROOM, "a reply", || reader.next_raw()) {
            Ok(Some(raw)) => got.push(raw),
            Err(bad) => return (got, Some(bad)),
            Ok(None) if rest.is_empty() => return (got, None),
            Ok(None) => {
                let len = pieces.next().map_or(rest.len(), |len| usize::from(*len).max(1)).min(rest.len());
                let (piece, tail) = rest.split_at(len);
                fed += len;
                memory::at_most(FACTOR * fed + ROOM, "a piece", || feed(&mut reader, piece));
                rest = tail;
            }
        }
    }
}

/// The input as texts and numbers in a reply.
fn written(input: &[u8]) {
    for protocol in [Protocol::Resp2, Protocol::Resp3] {
        let mut out = Vec::new();
        let mut input = Input::new(input);
        let (number, text) = (input.u64() as i64, input.short());
        let mut reply = Reply::new(&mut out, protocol);
        reply.array(4);
        reply.bulk(text);
        reply.integer(number);
        reply.error(text);
        reply.null();
        let mut reader = ReplyReader::new();
        reader.feed(&out);
        let value = reader.next_value().expect("our own reply").expect("all of it");
        let [bulk, integer, error, null] = value.as_array().expect("an array") else { panic!("{value:?}") };
        assert_eq!((bulk, integer), (&Value::Bulk(text.to_vec()), &Value::Integer(number)));
        assert!(error.is_error() && null == &Value::Null);
        assert_eq!(reader.next_raw(), Ok(None), "a text cannot end its reply");
    }
}
