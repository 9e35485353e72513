//! The daemon's `resp/number.rs` against the standard library's numbers.

use corering_daemon::resp::number::{parse_bytes, parse_i64};

use crate::memory;

type Parse = fn(&[u8]) -> Option<i64>;

pub fn check(input: &[u8]) {
    agree(input, parse_i64);
}

/// Takes a zero with a sign.
pub fn planted(input: &[u8]) {
    agree(input, |text| if text == b"-0" { Some(0) } else { parse_i64(text) });
}

fn agree(input: &[u8], parse: Parse) {
    let found = memory::at_most(0, "a number", || parse(input));
    let text = std::str::from_utf8(input).ok();
    let expected = text.and_then(|text| Some((text, text.parse::<i64>().ok()?)));
    // Canonical: the one spelling that printing it gives.
    let expected = expected.filter(|(text, number)| number.to_string() == *text).map(|(_, number)| number);
    assert_eq!(found, expected, "{}", input.escape_ascii());

    if let Some(text) = text
        && let Some(bytes) = parse_bytes(text)
    {
        let digits: u64 =
            text.trim_end_matches(|c: char| c.is_ascii_alphabetic()).parse().expect("begins with a number");
        assert!(bytes.checked_rem(digits).unwrap_or(0) == 0 && bytes >= digits, "{text}: {bytes}");
    }
}
