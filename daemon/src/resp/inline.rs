//! Splits a line that a person typed into arguments: blanks separate, `"…"` takes escapes, `'…'` only `\'`.

/// The line's quotes do not pair up, or something follows a closing quote.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unbalanced;

/// Append the arguments' bytes to `text` and report where each begins and ends there.
pub(super) fn split(line: &[u8], text: &mut Vec<u8>, mut arg: impl FnMut(usize, usize)) -> Result<(), Unbalanced> {
    let mut rest = line;
    loop {
        while let [first, tail @ ..] = rest
            && is_blank(*first)
        {
            rest = tail;
        }
        if rest.is_empty() {
            return Ok(());
        }
        let start = text.len();
        rest = one(rest, text)?;
        arg(start, text.len());
    }
}

fn one<'a>(mut rest: &'a [u8], text: &mut Vec<u8>) -> Result<&'a [u8], Unbalanced> {
    loop {
        match rest {
            [] => return Ok(rest),
            [byte, ..] if is_blank(*byte) => return Ok(rest),
            [b'"', tail @ ..] => return closed(double_quoted(tail, text)?),
            [b'\'', tail @ ..] => return closed(single_quoted(tail, text)?),
            [byte, tail @ ..] => {
                text.push(*byte);
                rest = tail;
            }
        }
    }
}

/// After a closing quote comes a blank or the end.
fn closed(rest: &[u8]) -> Result<&[u8], Unbalanced> {
    match rest {
        [byte, ..] if !is_blank(*byte) => Err(Unbalanced),
        _ => Ok(rest),
    }
}

fn double_quoted<'a>(mut rest: &'a [u8], text: &mut Vec<u8>) -> Result<&'a [u8], Unbalanced> {
    loop {
        match rest {
            [b'\\', b'x', high, low, tail @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                text.push(hex(*high) << 4 | hex(*low));
                rest = tail;
            }
            [b'\\', escaped, tail @ ..] => {
                text.push(match escaped {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'b' => 8,
                    b'a' => 7,
                    other => *other,
                });
                rest = tail;
            }
            [b'"', tail @ ..] => return Ok(tail),
            [byte, tail @ ..] => {
                text.push(*byte);
                rest = tail;
            }
            [] => return Err(Unbalanced),
        }
    }
}

fn single_quoted<'a>(mut rest: &'a [u8], text: &mut Vec<u8>) -> Result<&'a [u8], Unbalanced> {
    loop {
        match rest {
            [b'\\', b'\'', tail @ ..] => {
                text.push(b'\'');
                rest = tail;
            }
            [b'\'', tail @ ..] => return Ok(tail),
            [byte, tail @ ..] => {
                text.push(*byte);
                rest = tail;
            }
            [] => return Err(Unbalanced),
        }
    }
}

fn hex(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        b'a'..=b'f' => digit - b'a' + 10,
        _ => digit - b'A' + 10,
    }
}

/// What C calls a space.
fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Result<Vec<Vec<u8>>, Unbalanced> {
        let mut text = Vec::new();
        let mut spans = Vec::new();
        split(line.as_bytes(), &mut text, |from, to| spans.push(from..to))?;
        Ok(spans.into_iter().map(|span| text[span].to_vec()).collect())
    }

    #[test]
    fn words_quotes_and_escapes() {
        assert_eq!(words("").unwrap(), Vec::<Vec<u8>>::new());
        assert_eq!(words("  \t ").unwrap(), Vec::<Vec<u8>>::new());
        assert_eq!(words("set  k v").unwrap(), [b"set".to_vec(), b"k".to_vec(), b"v".to_vec()]);
        assert_eq!(words(r#"a"b c""#).unwrap(), [b"ab c".to_vec()]);
        assert_eq!(words(r#""\x41\n\q\\" '\'\n'"#).unwrap(), [b"A\nq\\".to_vec(), b"'\\n".to_vec()]);
        assert_eq!(words(r#""" ''"#).unwrap(), [b"".to_vec(), b"".to_vec()]);
        assert_eq!(words(r#""\xZZ""#).unwrap(), [b"xZZ".to_vec()]);
    }

    #[test]
    fn quotes_must_pair_up_and_end_a_word() {
        for line in [r#""abc"#, "'abc", r#""a"b"#, "'a'b", r#""a\"#, r#"x""#] {
            assert_eq!(words(line), Err(Unbalanced), "{line}");
        }
    }
}
