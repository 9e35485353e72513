use super::*;
use proptest::prelude::*;

const LIMITS: Limits =
    Limits { authenticated: true, bulk_len: 512 << 20, kept_bulk_len: 64 << 20, kept_request_len: 128 << 20 };
const STRANGER: Limits = Limits { authenticated: false, ..LIMITS };

#[derive(Clone, PartialEq, Eq, Debug)]
enum Got {
    Request(Vec<Vec<u8>>),
    Refused(Refusal),
    Error(ProtocolError),
}

/// Feed `bytes` in pieces of the lengths given (the rest at once) and collect everything.
fn decode_in_pieces(bytes: &[u8], pieces: &[usize], limits: &Limits) -> Vec<Got> {
    let mut decoder = Decoder::new();
    let mut got = Vec::new();
    let mut rest = bytes;
    let mut pieces = pieces.iter().copied();
    loop {
        match decoder.next(limits) {
            Ok(Next::Request(request)) => got.push(Got::Request(request.iter().map(<[u8]>::to_vec).collect())),
            Ok(Next::Refused(refusal)) => got.push(Got::Refused(refusal)),
            Err(error) => {
                got.push(Got::Error(error));
                assert_eq!(decoder.next(limits).unwrap_err(), error, "an error is for good");
                return got;
            }
            Ok(Next::Incomplete) => {
                if rest.is_empty() {
                    return got;
                }
                let len = pieces.next().unwrap_or(rest.len()).clamp(1, rest.len());
                let (piece, tail) = rest.split_at(len);
                let mut buf = decoder.lend();
                buf.extend_from_slice(piece);
                decoder.restore(buf, len);
                rest = tail;
            }
        }
    }
}

fn decode(bytes: &[u8]) -> Vec<Got> {
    let whole = decode_in_pieces(bytes, &[], &LIMITS);
    let single = decode_in_pieces(bytes, &vec![1; bytes.len()], &LIMITS);
    assert_eq!(whole, single, "byte by byte gives the same");
    whole
}

fn request(args: &[&str]) -> Got {
    Got::Request(args.iter().map(|arg| arg.as_bytes().to_vec()).collect())
}

fn encode(args: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", args.len()).into_bytes();
    for arg in args {
        bytes.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
        bytes.extend_from_slice(arg);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}

#[test]
fn arrays_and_lines_mix() {
    assert_eq!(
        decode(b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\nPING\r\n\r\n*0\r\n*-1\r\n  set \"a b\" 'c'\n*1\r\n$0\r\n\r\n"),
        [request(&["GET", "k"]), request(&["PING"]), request(&["set", "a b", "c"]), request(&[""])]
    );
}

#[test]
fn errors_have_the_texts_of_redis() {
    for (bytes, text) in [
        (&b"*x\r\n"[..], "ERR Protocol error: invalid multibulk length"),
        (b"*\r\n", "ERR Protocol error: invalid multibulk length"),
        (b"*1048577\r\n", "ERR Protocol error: invalid multibulk length"),
        (b"*99999999999999999999\r\n", "ERR Protocol error: invalid multibulk length"),
        (b"*1\r\n*1\r\n", "ERR Protocol error: expected '$', got '*'"),
        (b"*1\r\nPING\r\n", "ERR Protocol error: expected '$', got 'P'"),
        (b"*1\r\n\r\n", "ERR Protocol error: expected '$', got ' '"),
        (b"*1\r\n\0\r\n", "ERR Protocol error: expected '$', got '"),
        (b"*1\r\n$-1\r\n", "ERR Protocol error: invalid bulk length"),
        (b"*1\r\n$x\r\n", "ERR Protocol error: invalid bulk length"),
        (b"*1\r\n$536870913\r\n", "ERR Protocol error: invalid bulk length"),
        (b"*1\rx$1\r\na\r\n", "ERR Protocol error: invalid multibulk length"),
        (b"*1\r\n$4\r\nPINGxx", "ERR Protocol error: invalid bulk length"),
        (b"set \"k\r\n", "ERR Protocol error: unbalanced quotes in request"),
    ] {
        let got = decode(bytes);
        let [Got::Error(error)] = got.as_slice() else { panic!("{}: {got:?}", bytes.escape_ascii()) };
        assert_eq!(String::from_utf8(error.message()).unwrap(), text, "{}", bytes.escape_ascii());
    }
}

#[test]
fn a_peer_without_a_password_may_send_little() {
    let args: Vec<Vec<u8>> = (0..11).map(|_| b"x".to_vec()).collect();
    assert_eq!(decode_in_pieces(&encode(&args), &[], &STRANGER), [Got::Error(ProtocolError::UnauthenticatedCount)]);
    assert_eq!(
        decode_in_pieces(b"*1\r\n$16385\r\n", &[], &STRANGER),
        [Got::Error(ProtocolError::UnauthenticatedBulkLen)]
    );
    assert_eq!(decode_in_pieces(&encode(&args[..10]), &[], &STRANGER).len(), 1);
    assert_eq!(decode_in_pieces(&[b'x'; 20 << 10], &[], &STRANGER), [Got::Error(ProtocolError::InlineTooBig)]);
    assert_eq!(decode_in_pieces(&[b'x'; 20 << 10], &[], &LIMITS), []);
}

#[test]
fn lines_are_bounded_however_they_arrive() {
    for (start, error) in [
        (&b""[..], ProtocolError::InlineTooBig),
        (b"*1", ProtocolError::CountLineTooBig),
        (b"*1\r\n$1", ProtocolError::BulkLineTooBig),
    ] {
        let bytes = [start, &[b'1'; 65 << 10], b"\r\n"].concat();
        for pieces in [&[][..], &[1; 9000], &[4096; 20]] {
            assert_eq!(decode_in_pieces(&bytes, pieces, &LIMITS), [Got::Error(error)]);
        }
    }
    let longest = [b"x".repeat(64 << 10), b"\n".to_vec()].concat();
    assert!(matches!(decode_in_pieces(&longest, &[60_000], &LIMITS).as_slice(), [Got::Request(_)]));
}

#[test]
fn a_value_too_long_to_store_is_read_past_without_being_kept() {
    let limits = Limits { kept_bulk_len: 1000, kept_request_len: 4000, ..LIMITS };
    let mut decoder = Decoder::new();
    decoder.feed(b"*4\r\n$3\r\nSET\r\n$1\r\nk\r\n$300000\r\n");
    let mut peak = 0;
    for _ in 0..300 {
        assert!(matches!(decoder.next(&limits), Ok(Next::Incomplete)));
        let mut buf = decoder.lend();
        buf.extend_from_slice(&[b'v'; 1000]);
        decoder.restore(buf, 1000);
        peak = peak.max(decoder.capacity());
    }
    decoder.feed(b"\r\n$2\r\nNX\r\n*1\r\n$4\r\nPING\r\n");
    let Ok(Next::Refused(refusal)) = decoder.next(&limits) else { panic!("not refused") };
    assert_eq!(refusal, Refusal::Bulk { len: 300_000, max: 1000 });
    let Ok(Next::Request(next)) = decoder.next(&limits) else { panic!("the next request is lost") };
    assert_eq!(next.arg(0), b"PING");
    assert!(peak < 16 << 10, "{peak} bytes held");
}

#[test]
fn a_request_too_long_in_sum_is_refused() {
    let limits = Limits { kept_bulk_len: 1000, kept_request_len: 1500, ..LIMITS };
    let args = vec![vec![b'a'; 900]; 4];
    let bytes = [encode(&args), encode(&args[..1])].concat();
    assert_eq!(
        decode_in_pieces(&bytes, &[7; 40], &limits),
        [Got::Refused(Refusal::Request { max: 1500 }), Got::Request(args[..1].to_vec())]
    );
}

#[test]
fn an_announced_value_reserves_nothing() {
    let mut decoder = Decoder::new();
    decoder.feed(b"*2\r\n$3\r\nGET\r\n$60000000\r\nabc");
    assert!(matches!(decoder.next(&LIMITS), Ok(Next::Incomplete)));
    let buf = decoder.lend();
    assert!(buf.capacity() <= 4 << 10, "{} bytes", buf.capacity());
    decoder.restore(buf, 0);
}

#[test]
fn memory_is_given_back_after_a_long_value() {
    let mut decoder = Decoder::new();
    let bytes = encode(&[b"SET".to_vec(), b"k".to_vec(), vec![b'v'; 8 << 20]]);
    for piece in bytes.chunks(64 << 10) {
        assert!(matches!(decoder.next(&LIMITS), Ok(Next::Incomplete)));
        let mut buf = decoder.lend();
        buf.extend_from_slice(piece);
        decoder.restore(buf, piece.len());
    }
    assert!(matches!(decoder.next(&LIMITS), Ok(Next::Request(_))));
    assert!(matches!(decoder.next(&LIMITS), Ok(Next::Incomplete)));
    let buf = decoder.lend();
    assert!(buf.capacity() <= 128 << 10, "{} bytes", buf.capacity());
    decoder.restore(buf, 0);
}

#[test]
fn long_values_arrive_without_copying_them_again_and_again() {
    let mut decoder = Decoder::new();
    decoder.feed(b"*1\r\n$33554432\r\n");
    let mut moves = 0;
    let mut sent = 0;
    let mut place = std::ptr::null();
    while sent < (32 << 20) + 2 {
        assert!(matches!(decoder.next(&LIMITS), Ok(Next::Incomplete)));
        let mut buf = decoder.lend();
        moves += usize::from(!std::ptr::eq(buf.as_ptr(), place));
        place = buf.as_ptr();
        let piece = (16 << 10).min((32 << 20) + 2 - sent);
        buf.extend((sent..sent + piece).map(|i| b"\r\n"[i % 2]));
        sent += piece;
        decoder.restore(buf, piece);
    }
    assert!(matches!(decoder.next(&LIMITS), Ok(Next::Request(_))));
    assert!(moves < 40, "{moves} reallocations");
}

#[test]
fn a_million_deep_array_is_an_error_at_its_second_level() {
    let bytes = b"*1\r\n".repeat(1 << 20);
    assert_eq!(
        decode_in_pieces(&bytes, &[65536; 64], &LIMITS),
        [Got::Error(ProtocolError::ExpectedBulk { got: b'*' })]
    );
}

/// Streams that are mostly well formed, so that splits fall into every state.
fn stream() -> impl Strategy<Value = Vec<u8>> {
    let arg = prop_oneof![
        4 => proptest::collection::vec(any::<u8>(), 0..20),
        1 => proptest::collection::vec(any::<u8>(), 0..3000),
    ];
    let part = prop_oneof![
        6 => proptest::collection::vec(arg, 1..6).prop_map(|args| encode(&args)),
        2 => "[a-z \"'\\\\x0-9]{0,30}\r?\n".prop_map(String::into_bytes),
        1 => Just(b"*0\r\n".to_vec()),
        1 => Just(b"*-1\r\n".to_vec()),
        1 => "[*$0-9\r\n]{1,8}".prop_map(String::into_bytes),
        1 => proptest::collection::vec(any::<u8>(), 1..10),
    ];
    proptest::collection::vec(part, 0..8).prop_map(|parts| parts.concat())
}

proptest! {
    #[test]
    fn any_split_gives_the_same_requests(
        bytes in stream(),
        pieces in proptest::collection::vec(1usize..40, 0..400),
        authenticated: bool,
    ) {
        let limits = Limits { authenticated, bulk_len: 2900, kept_bulk_len: 2000, kept_request_len: 4000 };
        prop_assert_eq!(
            decode_in_pieces(&bytes, &pieces, &limits),
            decode_in_pieces(&bytes, &[], &limits)
        );
    }

    #[test]
    fn what_was_encoded_is_decoded(
        requests in proptest::collection::vec(
            proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..200), 1..8), 0..8),
        pieces in proptest::collection::vec(1usize..300, 0..60),
    ) {
        let bytes: Vec<u8> = requests.iter().flat_map(|args| encode(args)).collect();
        let expected: Vec<Got> = requests.into_iter().map(Got::Request).collect();
        prop_assert_eq!(decode_in_pieces(&bytes, &pieces, &LIMITS), expected);
    }

    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..500)) {
        decode_in_pieces(&bytes, &[3; 200], &LIMITS);
    }
}
