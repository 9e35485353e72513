//! The daemon's `command/glob.rs` against a table over all pairs of pattern and text, filled in from their ends.

use corering_daemon::command::glob::{is_literal, literal_prefix, matches, matches_ignoring_case};

use crate::input::Input;
use crate::memory;

const LEN_MAX: usize = 200;

type Matches = fn(&[u8], &[u8]) -> bool;

pub fn check(input: &[u8]) {
    agree(input, matches);
}

/// Passes over a backslash that nothing follows.
pub fn planted(input: &[u8]) {
    agree(input, |pattern, text| matches(pattern.strip_suffix(b"\\").unwrap_or(pattern), text));
}

fn agree(input: &[u8], matches: Matches) {
    let mut input = Input::new(input);
    let pattern = input.short();
    let pattern = &pattern[..pattern.len().min(LEN_MAX)];
    let text = input.slice(LEN_MAX);
    let elements = parse(pattern);
    let matched = memory::at_most(0, "a match", || matches(pattern, text));
    assert_eq!(matched, table(&elements, text), "{} on {}", pattern.escape_ascii(), text.escape_ascii());
    if matched {
        assert!(text.starts_with(&literal_prefix(pattern)));
    }
    if is_literal(pattern) {
        assert_eq!(matched, pattern == text);
        assert_eq!(matches_ignoring_case(pattern, text), pattern.eq_ignore_ascii_case(text));
    }
}

enum Element {
    Any,
    One,
    Literal(u8),
    Class { negated: bool, ranges: Vec<(i8, i8)> },
}

fn parse(pattern: &[u8]) -> Vec<Element> {
    let mut elements = Vec::new();
    let mut i = 0;
    while i < pattern.len() {
        match pattern[i] {
            b'*' => elements.push(Element::Any),
            b'?' => elements.push(Element::One),
            b'\\' if i + 1 < pattern.len() => {
                i += 1;
                elements.push(Element::Literal(pattern[i]));
            }
            b'[' => {
                let (class, end) = class(pattern, i + 1);
                elements.push(class);
                i = end;
                continue;
            }
            byte => elements.push(Element::Literal(byte)),
        }
        i += 1;
    }
    elements
}

/// A class from behind its bracket to behind its end.
fn class(pattern: &[u8], mut i: usize) -> (Element, usize) {
    let negated = pattern.get(i) == Some(&b'^');
    i += usize::from(negated);
    let mut ranges = Vec::new();
    loop {
        match (pattern.get(i), pattern.get(i + 1), pattern.get(i + 2)) {
            (None, ..) => break,
            (Some(b']'), ..) => {
                i += 1;
                break;
            }
            (Some(b'\\'), Some(&byte), _) => {
                ranges.push((byte as i8, byte as i8));
                i += 2;
            }
            (Some(&from), Some(b'-'), Some(&to)) => {
                ranges.push(((from as i8).min(to as i8), (from as i8).max(to as i8)));
                i += 3;
            }
            (Some(&byte), ..) => {
                ranges.push((byte as i8, byte as i8));
                i += 1;
            }
        }
    }
    (Element::Class { negated, ranges }, i)
}

/// Whether the elements match the text: `fits[j]` says it for those from `i` on and the text from `j` on.
fn table(elements: &[Element], text: &[u8]) -> bool {
    let mut fits = vec![false; text.len() + 1];
    fits[text.len()] = true;
    for element in elements.iter().rev() {
        let mut next = vec![false; text.len() + 1];
        for j in (0..=text.len()).rev() {
            next[j] = match element {
                Element::Any => fits[j] || (j < text.len() && next[j + 1]),
                Element::One => j < text.len() && fits[j + 1],
                Element::Literal(byte) => text.get(j) == Some(byte) && fits[j + 1],
                Element::Class { negated, ranges } => text.get(j).is_some_and(|byte| {
                    let within = ranges.iter().any(|(low, high)| (*low..=*high).contains(&(*byte as i8)));
                    within != *negated && fits[j + 1]
                }),
            };
        }
        fits = next;
    }
    fits[0]
}
