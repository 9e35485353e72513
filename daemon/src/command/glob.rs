//! Patterns as KEYS, SCAN and CONFIG GET take them: `*`, `?`, `[a-z]`, `[^…]`, `\x`.
//!
//! Guards: time is at most length of the pattern times length of the text, whatever the pattern (only the last `*`
//! is ever taken up again), and no call recurses.

/// Whether all of `text` matches `pattern`.
pub fn matches(pattern: &[u8], text: &[u8]) -> bool {
    matches_folded(pattern, text, |byte| byte)
}

/// The same, where upper and lower case ASCII letters are equal.
pub fn matches_ignoring_case(pattern: &[u8], text: &[u8]) -> bool {
    matches_folded(pattern, text, |byte| byte.to_ascii_lowercase())
}

/// The bytes that every text must begin with to match.
pub fn literal_prefix(pattern: &[u8]) -> Vec<u8> {
    let mut prefix = Vec::new();
    let mut rest = pattern;
    loop {
        match rest {
            [] | [b'*' | b'?' | b'[', ..] => return prefix,
            [b'\\', byte, tail @ ..] | [byte, tail @ ..] => {
                prefix.push(*byte);
                rest = tail;
            }
        }
    }
}

/// Whether the pattern is its own only match.
pub fn is_literal(pattern: &[u8]) -> bool {
    !pattern.iter().any(|byte| matches!(byte, b'*' | b'?' | b'[' | b'\\'))
}

fn matches_folded(pattern: &[u8], text: &[u8], fold: impl Fn(u8) -> u8) -> bool {
    let mut pattern_rest = pattern;
    let mut text_rest = text;
    // Where to go on when the part after the last `*` does not fit here: the same part, one byte further on.
    let mut retry: Option<(&[u8], &[u8])> = None;
    loop {
        let stepped = match (pattern_rest, text_rest) {
            ([b'*', tail @ ..], _) => {
                retry = Some((tail, text_rest));
                Some((tail, text_rest))
            }
            ([], []) => return true,
            ([], _) => None,
            // Only stars match nothing, and they were taken above.
            (_, []) => return false,
            (_, [byte, text_tail @ ..]) => one(pattern_rest, *byte, &fold).map(|tail| (tail, text_tail)),
        };
        (pattern_rest, text_rest) = match (stepped, &mut retry) {
            (Some(next), _) => next,
            (None, Some((tail, at))) => {
                let [_, further @ ..] = *at else { return false };
                *at = further;
                (*tail, further)
            }
            (None, None) => return false,
        };
    }
}

/// Match one byte with the first element of `pattern`, and give what follows that element.
fn one<'p>(pattern: &'p [u8], byte: u8, fold: &impl Fn(u8) -> u8) -> Option<&'p [u8]> {
    match pattern {
        [b'?', tail @ ..] => Some(tail),
        [b'[', class @ ..] => {
            let (matched, tail) = class_matches(class, byte, fold);
            matched.then_some(tail)
        }
        [b'\\', literal, tail @ ..] | [literal, tail @ ..] => (fold(*literal) == fold(byte)).then_some(tail),
        [] => None,
    }
}

/// A class after its `[`; one that is never closed ends with the pattern. Bytes order as C's signed `char`, as in Redis.
fn class_matches<'p>(class: &'p [u8], byte: u8, fold: &impl Fn(u8) -> u8) -> (bool, &'p [u8]) {
    let (negated, mut rest) = match class {
        [b'^', tail @ ..] => (true, tail),
        _ => (false, class),
    };
    let signed = |byte: u8| fold(byte) as i8;
    let mut matched = false;
    loop {
        match rest {
            [b'\\', literal, tail @ ..] => {
                matched |= *literal == byte;
                rest = tail;
            }
            [b']', tail @ ..] => return (matched != negated, tail),
            [] => return (matched != negated, rest),
            [from, b'-', to, tail @ ..] => {
                let (low, high) = if (*from as i8) <= (*to as i8) { (from, to) } else { (to, from) };
                matched |= (signed(*low)..=signed(*high)).contains(&signed(byte));
                rest = tail;
            }
            [literal, tail @ ..] => {
                matched |= fold(*literal) == fold(byte);
                rest = tail;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn patterns() {
        for (pattern, text, expected) in [
            ("*", "", true),
            ("*", "abc", true),
            ("", "", true),
            ("", "a", false),
            ("a*c", "abc", true),
            ("a*c", "ac", true),
            ("a*c", "acb", false),
            ("a**c", "abbc", true),
            ("*a*b*c", "xxaxxbxxc", true),
            ("?", "", false),
            ("?", "a", true),
            ("h?llo", "hello", true),
            ("h[ae]llo", "hallo", true),
            ("h[ae]llo", "hillo", false),
            ("h[^e]llo", "hallo", true),
            ("h[^e]llo", "hello", false),
            ("h[a-b]llo", "hbllo", true),
            ("h[b-a]llo", "hallo", true),
            ("h[\\]]llo", "h]llo", true),
            ("h[", "h", false),
            ("h[a", "ha", true),
            ("h[^", "ha", true),
            ("\\*", "*", true),
            ("\\*", "a", false),
            ("a\\", "a\\", true),
            ("[]", "a", false),
            ("[^]", "a", true),
            ("[a-]", "-", false),
            ("[a-]x]", "b", false),
            ("a*b", "aXbYb", true),
        ] {
            assert_eq!(matches(pattern.as_bytes(), text.as_bytes()), expected, "{pattern:?} on {text:?}");
        }
        assert!(matches_ignoring_case(b"MAX*", b"maxclients"));
        assert!(matches_ignoring_case(b"[A-C]x", b"bX"));
        assert!(!matches(b"MAX*", b"maxclients"));
    }

    #[test]
    fn prefixes() {
        assert_eq!(literal_prefix(b"user:\\*1*"), b"user:*1");
        assert_eq!(literal_prefix(b"*"), b"");
        assert_eq!(literal_prefix(b"abc"), b"abc");
        assert_eq!(literal_prefix(b"a[b]"), b"a");
        assert_eq!(literal_prefix(b"a\\"), b"a\\");
    }

    #[test]
    fn many_stars_take_no_time() {
        let pattern = b"*a".repeat(40);
        let text = b"b".repeat(60_000);
        assert!(!matches(&pattern, &text));
    }

    /// The textbook definition, exponential, for short texts only.
    fn slow(pattern: &[u8], text: &[u8]) -> bool {
        match pattern {
            [] => text.is_empty(),
            [b'*', tail @ ..] => (0..=text.len()).any(|i| slow(tail, &text[i..])),
            _ => match text {
                [] => false,
                [byte, rest @ ..] => one(pattern, *byte, &|b| b).is_some_and(|tail| slow(tail, rest)),
            },
        }
    }

    proptest! {
        #[test]
        fn as_the_definition(pattern in "[ab*?\\\\\\[\\]^-]{0,8}", text in "[ab\\]-]{0,8}") {
            prop_assert_eq!(matches(pattern.as_bytes(), text.as_bytes()), slow(pattern.as_bytes(), text.as_bytes()));
        }

        #[test]
        fn what_matches_begins_with_the_prefix(pattern in "[ab*?\\\\\\[\\]]{0,8}", text in "[ab*?\\[]{0,8}") {
            if matches(pattern.as_bytes(), text.as_bytes()) {
                prop_assert!(text.as_bytes().starts_with(&literal_prefix(pattern.as_bytes())));
            }
        }
    }
}
