//! The daemon's `command/long_double.rs`: its numbers against the standard library's 64-bit ones, and the laws of its own.

use corering_daemon::command::long_double::LongDouble;

use crate::input::Input;
use crate::memory;

/// Decimal digits behind the point that are printed.
const PRINTED: f64 = 1e-17;

type Print = fn(LongDouble) -> Option<String>;

pub fn check(input: &[u8]) {
    agree(input, LongDouble::print);
}

/// Forgets the sign of a number with a fraction.
pub fn planted(input: &[u8]) {
    agree(input, |number| {
        let text = number.print()?;
        Some(if text.contains('.') { text.trim_start_matches('-').to_owned() } else { text })
    });
}

fn agree(input: &[u8], print: Print) {
    let mut input = Input::new(input);
    let (a, b) = (input.short(), input.slice(64));
    // Powers of ten to 20,000 have 67,000 bits, and a few such numbers live at once.
    let parse = |text| memory::at_most(512 << 10, "a number", || LongDouble::parse(text));
    let Some(number) = parse(a) else {
        let known = std::str::from_utf8(a).ok().filter(|text| !text.to_ascii_lowercase().contains("nan"));
        let plain = known.and_then(|text| text.parse::<f64>().ok()).filter(|number| number.is_normal());
        assert_eq!(plain, None, "{} is a number", a.escape_ascii());
        return;
    };
    let Some(text) = print(number) else { return assert!(!number.is_finite()) };
    let again = LongDouble::parse(text.as_bytes()).expect("what is printed is a number");
    assert_eq!(print(again).as_deref(), Some(&*text), "printing what was printed");
    near(a, &text);
    assert_eq!(print(number.plus(LongDouble::ZERO)), Some(text), "nothing added");
    if let Some(other) = parse(b) {
        let sum = number.plus(other);
        // An infinite number keeps the sign of the first.
        if other.is_finite() {
            assert_eq!(sum, other.plus(number), "the order of two numbers");
        }
        if let (Some(sum), Ok(a), Ok(b)) = (print(sum), as_f64(a), as_f64(b)) {
            let (sum, bound) = (sum.parse::<f64>().expect("a number"), (a.abs() + b.abs()) * 4.0 * f64::EPSILON);
            assert!((sum - (a + b)).abs() <= bound + PRINTED || !(a + b).is_finite(), "{a} + {b} = {sum}");
        }
    }
}

fn as_f64(text: &[u8]) -> Result<f64, ()> {
    std::str::from_utf8(text).map_err(drop)?.parse().map_err(drop)
}

/// What was printed is what was read, as far as 64 bits and 17 digits show it.
fn near(read: &[u8], printed: &str) {
    let Ok(expected) = as_f64(read) else { return };
    let found: f64 = printed.parse().expect("a number");
    let bound = expected.abs() * 2.0 * f64::EPSILON + PRINTED;
    assert!(found == expected || (found - expected).abs() <= bound, "{expected} was read, {found} printed");
}
