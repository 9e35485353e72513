//! The daemon's `resp/request.rs` (and `resp/inline.rs` behind it): requests out of a stream, in whatever pieces it comes.

use corering_daemon::resp::{Decoder, Limits, Next, ProtocolError, Refusal};

use crate::input::Input;
use crate::memory;

/// Memory that a decoder may hold for each byte that it was fed: a buffer that doubles, and eight bytes for an argument
/// of which the shortest takes six, in a vector that doubles.
const FACTOR: usize = 6;
/// What it may hold for nothing: room for receiving.
const ROOM: usize = 160 << 10;
const STREAM_LEN_MAX: usize = 4 << 10;

#[derive(Clone, PartialEq, Eq, Debug)]
enum Got {
    Request(Vec<Vec<u8>>),
    Refused(Refusal),
    Error(ProtocolError),
}

type Feed = fn(&mut Decoder, &[u8]);

pub fn check(input: &[u8]) {
    agree(input, Decoder::feed);
}

/// Loses a line's end that is cut in two.
pub fn planted(input: &[u8]) {
    agree(input, |decoder, piece| decoder.feed(piece.strip_suffix(b"\r").unwrap_or(piece)));
}

/// The input: what a peer may send, the lengths of the pieces, the stream.
fn agree(input: &[u8], feed: Feed) {
    let mut input = Input::new(input);
    let sort = input.u8();
    // Small limits, so that small inputs pass them.
    let limits = Limits {
        authenticated: sort & 1 == 0,
        bulk_len: 200,
        kept_bulk_len: if sort & 2 == 0 { 40 } else { 200 },
        kept_request_len: if sort & 4 == 0 { 100 } else { 1000 },
    };
    let pieces = input.short();
    let stream = input.slice(STREAM_LEN_MAX);
    let whole = decode(stream, &[], &limits, Decoder::feed);
    assert_eq!(decode(stream, pieces, &limits, feed), whole, "in pieces of {pieces:?}");
    assert_eq!(decode(stream, pieces, &limits, receive), whole, "received in pieces of {pieces:?}");
    for got in whole {
        if let Got::Request(args) = got {
            assert!(!args.is_empty(), "a request has a name");
            reads_back(args);
        }
    }
}

/// As the server does it: into the buffer that the decoder lends.
fn receive(decoder: &mut Decoder, piece: &[u8]) {
    let mut buffer = decoder.lend();
    assert!(buffer.capacity() - buffer.len() >= piece.len(), "there is room to receive into");
    buffer.extend_from_slice(piece);
    decoder.restore(buffer, piece.len());
}

fn decode(stream: &[u8], pieces: &[u8], limits: &Limits, feed: Feed) -> Vec<Got> {
    let mut got = Vec::new();
    let mut decoder = Decoder::new();
    let (mut rest, mut pieces, mut fed) = (stream, pieces.iter(), 0);
    loop {
        match decoder.next(limits) {
            Ok(Next::Request(request)) => got.push(Got::Request(request.iter().map(<[u8]>::to_vec).collect())),
            Ok(Next::Refused(refusal)) => got.push(Got::Refused(refusal)),
            Err(error) => {
                assert_eq!(decoder.next(limits).expect_err("an error is for good"), error);
                got.push(Got::Error(error));
                return got;
            }
            Ok(Next::Incomplete) if rest.is_empty() => return got,
            Ok(Next::Incomplete) => {
                let len = pieces.next().map_or(rest.len(), |len| usize::from(*len).max(1)).min(rest.len());
                let (piece, tail) = rest.split_at(len);
                memory::at_most(FACTOR * (fed + len) + ROOM, "a piece", || feed(&mut decoder, piece));
                (rest, fed) = (tail, fed + len);
            }
        }
        let justified = FACTOR * fed + ROOM;
        assert!(decoder.capacity() <= justified, "{} bytes held for {fed}", decoder.capacity());
        assert!(decoder.buffered() <= fed);
    }
}

/// Arguments, written as an array, are the same arguments.
fn reads_back(args: Vec<Vec<u8>>) {
    let mut bytes = format!("*{}\r\n", args.len()).into_bytes();
    for arg in &args {
        bytes.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
        bytes.extend_from_slice(arg);
        bytes.extend_from_slice(b"\r\n");
    }
    let all = Limits { authenticated: true, bulk_len: 1 << 20, kept_bulk_len: 1 << 20, kept_request_len: 1 << 20 };
    assert_eq!(decode(&bytes, &[], &all, Decoder::feed), [Got::Request(args)]);
}
