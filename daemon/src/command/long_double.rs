//! The arithmetic of INCRBYFLOAT: x87's 80-bit numbers, as Redis on x86-64 reads, adds and prints them.
//!
//! Guards: results are bit for bit those of the hardware (64 bits of mantissa, round to nearest even), on any machine;
//! the work is bounded by the 5 KiB that a number's text may have.

use num_bigint::{BigInt, BigUint, Sign};
use num_traits::{One, ToPrimitive, Zero};

/// Bytes of text that Redis accepts, less its terminator.
const TEXT_LEN_MAX: usize = 5 * 1024 - 1;
const MANTISSA_BITS: u64 = 64;
/// The smallest exponent of the mantissa's last bit.
const EXP_MIN: i64 = -16445;
/// The exponent of the first bit.
const TOP_EXP_MAX: i64 = 16383;
/// Digits after the point that Redis prints.
const FRACTION_DIGITS: u32 = 17;
/// Beyond this power of ten a number is infinite or zero whatever its digits, of which there are fewer than this.
const DECIMAL_EXP_LIMIT: i64 = 20_000;

/// `mantissa * 2^exp`, or infinite.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LongDouble {
    negative: bool,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Finite { mantissa: u64, exp: i64 },
    Infinite,
}

impl LongDouble {
    pub const ZERO: LongDouble = LongDouble { negative: false, kind: Kind::Finite { mantissa: 0, exp: 0 } };

    pub fn is_finite(self) -> bool {
        matches!(self.kind, Kind::Finite { .. })
    }

    /// As C's `strtold` over all of the text; neither NaN nor what overflows or vanishes is a number.
    pub fn parse(text: &[u8]) -> Option<LongDouble> {
        if text.is_empty() || text.len() > TEXT_LEN_MAX {
            return None;
        }
        let (negative, rest) = match text {
            [b'-', rest @ ..] => (true, rest),
            [b'+', rest @ ..] => (false, rest),
            _ => (false, text),
        };
        if rest.eq_ignore_ascii_case(b"inf") || rest.eq_ignore_ascii_case(b"infinity") {
            return Some(LongDouble { negative, kind: Kind::Infinite });
        }
        let (kind, zero) = match rest {
            [b'0', b'x' | b'X', hex @ ..] => parse_hexadecimal(hex)?,
            _ => parse_decimal(rest)?,
        };
        match kind {
            Kind::Infinite => None,
            Kind::Finite { mantissa: 0, .. } if !zero => None,
            kind => Some(LongDouble { negative, kind }),
        }
    }

    /// The sum, rounded as the hardware does; infinite if it is too large, or if one of the two is.
    pub fn plus(self, other: LongDouble) -> LongDouble {
        let (Kind::Finite { mantissa: a, exp: a_exp }, Kind::Finite { mantissa: b, exp: b_exp }) =
            (self.kind, other.kind)
        else {
            return LongDouble { negative: self.negative, kind: Kind::Infinite };
        };
        let exp = a_exp.min(b_exp);
        let signed = |negative: bool, mantissa: u64, own: i64| {
            let magnitude = BigUint::from(mantissa) << (own - exp) as u64;
            BigInt::from_biguint(if negative { Sign::Minus } else { Sign::Plus }, magnitude)
        };
        let sum = signed(self.negative, a, a_exp) + signed(other.negative, b, b_exp);
        let (sign, magnitude) = sum.into_parts();
        let negative = if sign == Sign::NoSign { self.negative && other.negative } else { sign == Sign::Minus };
        LongDouble { negative, kind: round(magnitude, exp, false) }
    }

    /// Up to 17 digits after the point, without trailing zeros, never with an exponent. Nothing for an infinite number.
    pub fn print(self) -> Option<String> {
        let Kind::Finite { mantissa, exp } = self.kind else { return None };
        let scaled = BigUint::from(mantissa) * BigUint::from(10u8).pow(FRACTION_DIGITS);
        let scaled =
            if exp >= 0 { scaled << exp as u64 } else { shift_right_to_even(scaled, exp.unsigned_abs(), false) };
        let digits = scaled.to_string();
        let digits = format!("{digits:0>width$}", width = FRACTION_DIGITS as usize + 1);
        let (whole, fraction) = digits.split_at(digits.len() - FRACTION_DIGITS as usize);
        let fraction = fraction.trim_end_matches('0');
        let point = if fraction.is_empty() { "" } else { "." };
        let sign = if self.negative && (whole != "0" || !fraction.is_empty()) { "-" } else { "" };
        Some(format!("{sign}{whole}{point}{fraction}"))
    }
}

/// The number nearest to `magnitude * 2^exp`, plus a little where `sticky`.
fn round(magnitude: BigUint, exp: i64, sticky: bool) -> Kind {
    if magnitude.is_zero() {
        return Kind::Finite { mantissa: 0, exp: 0 };
    }
    let shift = (magnitude.bits() as i64 - MANTISSA_BITS as i64).max(EXP_MIN - exp);
    let (mut mantissa, mut exp) =
        if shift <= 0 { (magnitude, exp) } else { (shift_right_to_even(magnitude, shift as u64, sticky), exp + shift) };
    if mantissa.bits() > MANTISSA_BITS {
        mantissa >>= 1;
        exp += 1;
    }
    let Some(mantissa) = mantissa.to_u64() else { return Kind::Infinite };
    if mantissa == 0 {
        return Kind::Finite { mantissa, exp: 0 };
    }
    if exp + i64::from(mantissa.ilog2()) > TOP_EXP_MAX {
        return Kind::Infinite;
    }
    Kind::Finite { mantissa, exp }
}

fn shift_right_to_even(value: BigUint, bits: u64, sticky: bool) -> BigUint {
    if bits > value.bits() + 1 {
        return BigUint::zero();
    }
    let quotient = &value >> bits;
    let rest = value - (&quotient << bits);
    let half = BigUint::one() << (bits - 1);
    let up = match rest.cmp(&half) {
        std::cmp::Ordering::Greater => true,
        std::cmp::Ordering::Equal => sticky || quotient.bit(0),
        std::cmp::Ordering::Less => false,
    };
    if up { quotient + 1u8 } else { quotient }
}

/// The number, and whether its digits are all zero.
fn parse_decimal(text: &[u8]) -> Option<(Kind, bool)> {
    let (digits, fraction_len, rest) = split_digits(text, u8::is_ascii_digit)?;
    let exp10 = parse_exponent(rest, b'e')? - fraction_len;
    let number = BigUint::parse_bytes(&digits, 10)?;
    if number.is_zero() {
        return Some((Kind::Finite { mantissa: 0, exp: 0 }, true));
    }
    if exp10 > DECIMAL_EXP_LIMIT {
        return Some((Kind::Infinite, false));
    }
    if exp10 < -DECIMAL_EXP_LIMIT {
        return Some((Kind::Finite { mantissa: 0, exp: 0 }, false));
    }
    let power = BigUint::from(10u8).pow(exp10.unsigned_abs() as u32);
    if exp10 >= 0 {
        return Some((round(number * power, 0, false), false));
    }
    // Enough bits for the mantissa and one to round by; what the division leaves is told by `sticky`.
    let scale = (power.bits() + MANTISSA_BITS + 2).saturating_sub(number.bits());
    let scaled = number << scale;
    let quotient = &scaled / &power;
    let sticky = &quotient * &power != scaled;
    Some((round_with_remainder(quotient, -(scale as i64), sticky), false))
}

/// Where a division left a remainder, one more bit below the last tells it from a tie.
fn round_with_remainder(quotient: BigUint, exp: i64, sticky: bool) -> Kind {
    round((quotient << 1u8) + u8::from(sticky), exp - 1, false)
}

fn parse_hexadecimal(text: &[u8]) -> Option<(Kind, bool)> {
    let (digits, fraction_len, rest) = split_digits(text, u8::is_ascii_hexdigit)?;
    let exp2 = parse_exponent(rest, b'p')? - 4 * fraction_len;
    let number = BigUint::parse_bytes(&digits, 16)?;
    if number.is_zero() {
        return Some((Kind::Finite { mantissa: 0, exp: 0 }, true));
    }
    if exp2.abs() > 4 * DECIMAL_EXP_LIMIT {
        let kind = if exp2 > 0 { Kind::Infinite } else { Kind::Finite { mantissa: 0, exp: 0 } };
        return Some((kind, false));
    }
    Some((round(number, exp2, false), false))
}

/// Digits around at most one point, at least one of them: all digits, how many were behind the point, and the rest.
fn split_digits(text: &[u8], is_digit: fn(&u8) -> bool) -> Option<(Vec<u8>, i64, &[u8])> {
    let run = |text: &[u8]| text.iter().position(|byte| !is_digit(byte)).unwrap_or(text.len());
    let (whole, rest) = text.split_at(run(text));
    let (fraction, rest) = match rest {
        [b'.', tail @ ..] => tail.split_at(run(tail)),
        _ => (&[][..], rest),
    };
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    Some(([whole, fraction].concat(), fraction.len() as i64, rest))
}

/// What follows the digits: nothing, or the mark and a number, cut to a size that no digits make up for.
fn parse_exponent(text: &[u8], mark: u8) -> Option<i64> {
    let [first, rest @ ..] = text else { return Some(0) };
    if first.to_ascii_lowercase() != mark {
        return None;
    }
    let (negative, digits) = match rest {
        [b'-', tail @ ..] => (true, tail),
        [b'+', tail @ ..] => (false, tail),
        _ => (false, rest),
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let magnitude = digits.iter().fold(0i64, |n, digit| (n * 10 + i64::from(digit - b'0')).min(1 << 40));
    Some(if negative { -magnitude } else { magnitude })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(a: &str, b: &str) -> Option<String> {
        let sum = LongDouble::parse(a.as_bytes())?.plus(LongDouble::parse(b.as_bytes())?);
        Some(sum.print().unwrap_or_else(|| "infinite".to_owned()))
    }

    /// Expected values were printed by C on x86-64 with `long double` and `%.17Lf`.
    #[test]
    fn sums_as_the_hardware_gives_them() {
        for (a, b, expected) in [
            ("0", "0.1", "0.1"),
            ("0.1", "0.2", "0.3"),
            ("3.0e3", "200", "3200"),
            ("5.0e3", "2.0e2", "5200"),
            ("10.50", "0.1", "10.6"),
            ("1", "-1", "0"),
            ("-0", "-0", "0"),
            ("17179869184", "1.123456789", "17179869185.12345678918063641"),
            ("0.1", "1e-18", "0.1"),
            ("1e17", "0.3", "100000000000000000.296875"),
            ("9223372036854775807", "1", "9223372036854775808"),
            ("18446744073709551615", "1", "18446744073709551616"),
            ("18446744073709551616", "1", "18446744073709551616"),
            ("18446744073709551616", "3", "18446744073709551620"),
            ("0x10", "0x1.8p1", "19"),
            ("inf", "1", "infinite"),
            ("1e4932", "1e4932", "infinite"),
            (".5", "5.", "5.5"),
            ("1e-4950", "0", "0"),
        ] {
            assert_eq!(sum(a, b).as_deref(), Some(expected), "{a} + {b}");
        }
    }

    #[test]
    fn what_is_no_number() {
        for text in [
            "",
            " 1",
            "1 ",
            "abc",
            "1e",
            "1e+",
            "0x",
            ".",
            "e5",
            "nan",
            "-nan",
            "1e5000",
            "-1e5000",
            "1e-5000",
            "1..2",
            "1e99999999999999999999",
            "--1",
            "0x1p",
            "1_0",
            "0xg",
        ] {
            assert_eq!(LongDouble::parse(text.as_bytes()), None, "{text:?}");
        }
        assert!(LongDouble::parse("1".repeat(5119).as_bytes()).is_none(), "5119 digits overflow");
        assert!(LongDouble::parse("0".repeat(5119).as_bytes()).is_some());
        assert!(LongDouble::parse("0".repeat(5120).as_bytes()).is_none());
        assert!(LongDouble::parse(b"0e99999999999999").is_some());
    }
}
