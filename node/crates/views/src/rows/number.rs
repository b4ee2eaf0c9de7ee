//! Numbers from text, exactly.

/// Why digits are not a value of their column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BadNumber {
    /// Not a number at all.
    Malformed,
    /// Too large, or too small.
    OutOfRange,
    /// Digits after the point that the column does not keep.
    Inexact,
}

/// An integer of up to 64 bits.
pub(super) fn integer(digits: &[u8]) -> Result<i64, BadNumber> {
    let (is_negative, magnitude) = match digits {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        rest => (false, rest),
    };
    // 18 digits cannot overflow, so the loop of nearly every number has no check.
    if magnitude.is_empty() || 18 < magnitude.len() || !magnitude.iter().all(u8::is_ascii_digit) {
        return decimal(digits, 19, 0)
            .and_then(|value| i64::try_from(value).map_err(|_| BadNumber::OutOfRange));
    }
    let value = magnitude.iter().fold(0, |value, digit| value * 10 + i64::from(digit - b'0'));
    Ok(if is_negative { -value } else { value })
}

/// A number with a fixed count of digits after the point, as its unscaled value.
pub(super) fn decimal(text: &[u8], precision: u8, scale: u8) -> Result<i128, BadNumber> {
    let (mantissa, exponent) = split_exponent(text)?;
    let (is_negative, mantissa) = match mantissa {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        rest => (false, rest),
    };
    let point = mantissa.iter().position(|&byte| byte == b'.').unwrap_or(mantissa.len());
    let whole = &mantissa[..point];
    let fraction = mantissa.get(point + 1..).unwrap_or_default();
    if whole.is_empty() && fraction.is_empty() {
        return Err(BadNumber::Malformed);
    }
    let zeroes = fraction.iter().rev().take_while(|&&byte| byte == b'0').count();
    let fraction = &fraction[..fraction.len() - zeroes];
    let mut value = 0_i128;
    for byte in whole.iter().chain(fraction) {
        if !byte.is_ascii_digit() {
            return Err(BadNumber::Malformed);
        }
        let shifted = value.checked_mul(10).ok_or(BadNumber::OutOfRange)?;
        value = shifted.checked_add(i128::from(byte - b'0')).ok_or(BadNumber::OutOfRange)?;
    }
    let fraction_digits = i64::try_from(fraction.len()).map_err(|_| BadNumber::OutOfRange)?;
    let value = shift(value, exponent - fraction_digits + i64::from(scale))?;
    if power_of_ten(precision.into()).is_none_or(|limit| limit <= value) {
        return Err(BadNumber::OutOfRange);
    }
    Ok(if is_negative { -value } else { value })
}

/// The nearest double.
pub(super) fn double(text: &str) -> Result<f64, BadNumber> {
    let value: f64 = text.parse().map_err(|_| BadNumber::Malformed)?;
    if value.is_infinite() && has_digit(text) {
        return Err(BadNumber::OutOfRange);
    }
    Ok(value)
}

/// The nearest 32-bit float.
pub(super) fn real(text: &str) -> Result<f32, BadNumber> {
    let value: f32 = text.parse().map_err(|_| BadNumber::Malformed)?;
    if value.is_infinite() && has_digit(text) {
        return Err(BadNumber::OutOfRange);
    }
    Ok(value)
}

/// `Infinity` has none; a number that is too large has some.
fn has_digit(text: &str) -> bool {
    text.bytes().any(|byte| byte.is_ascii_digit())
}

fn split_exponent(text: &[u8]) -> Result<(&[u8], i64), BadNumber> {
    let Some(at) = text.iter().position(|byte| matches!(byte, b'e' | b'E')) else {
        return Ok((text, 0));
    };
    let (is_negative, digits) = match &text[at + 1..] {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        rest => (false, rest),
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(BadNumber::Malformed);
    }
    // Larger exponents than any column has digits are all alike.
    const EXPONENT_MAX: i64 = 1_000_000;
    let exponent = digits
        .iter()
        .fold(0_i64, |value, digit| (value * 10 + i64::from(digit - b'0')).min(EXPONENT_MAX));
    Ok((&text[..at], if is_negative { -exponent } else { exponent }))
}

/// `value` times ten to the power of `by`, exactly.
fn shift(value: i128, by: i64) -> Result<i128, BadNumber> {
    if value == 0 {
        return Ok(0);
    }
    let factor = power_of_ten(by.unsigned_abs());
    if 0 <= by {
        return factor.and_then(|factor| value.checked_mul(factor)).ok_or(BadNumber::OutOfRange);
    }
    match factor {
        Some(factor) if value % factor == 0 => Ok(value / factor),
        Some(_) | None => Err(BadNumber::Inexact),
    }
}

fn power_of_ten(exponent: u64) -> Option<i128> {
    10_i128.checked_pow(u32::try_from(exponent).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers() {
        for value in [0, 1, -1, 42, i64::MAX, i64::MIN, 999_999_999_999_999_999] {
            assert_eq!(integer(value.to_string().as_bytes()), Ok(value));
        }
        let cases: [(&str, Result<i64, BadNumber>); 10] = [
            ("5.0", Ok(5)),
            ("1e3", Ok(1_000)),
            ("+7", Ok(7)),
            ("000000000000000000000000000000000000000012", Ok(12)),
            ("5.5", Err(BadNumber::Inexact)),
            ("9223372036854775808", Err(BadNumber::OutOfRange)),
            ("1e99999999999", Err(BadNumber::OutOfRange)),
            ("", Err(BadNumber::Malformed)),
            ("-", Err(BadNumber::Malformed)),
            ("1x", Err(BadNumber::Malformed)),
        ];
        for (text, expected) in cases {
            assert_eq!(integer(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn decimals_are_exact() {
        let cases: [(&str, u8, u8, Result<i128, BadNumber>); 13] = [
            ("1.5", 10, 2, Ok(150)),
            ("-1.50", 10, 2, Ok(-150)),
            ("0.1", 10, 1, Ok(1)),
            (".5", 10, 1, Ok(5)),
            ("5.", 10, 0, Ok(5)),
            ("1.500000000000000000000000000000000000000000000", 10, 2, Ok(150)),
            ("12e-1", 10, 1, Ok(12)),
            ("99999999.99", 10, 2, Ok(9_999_999_999)),
            ("0e-999999999999", 10, 2, Ok(0)),
            ("1.005", 10, 2, Err(BadNumber::Inexact)),
            ("100000000", 10, 2, Err(BadNumber::OutOfRange)),
            ("1..5", 10, 2, Err(BadNumber::Malformed)),
            ("1e", 10, 2, Err(BadNumber::Malformed)),
        ];
        for (text, precision, scale, expected) in cases {
            assert_eq!(decimal(text.as_bytes(), precision, scale), expected, "{text}");
        }
        let largest = "9".repeat(38);
        assert_eq!(decimal(largest.as_bytes(), 38, 0), Ok(10_i128.pow(38) - 1));
    }

    #[test]
    fn floats_are_the_nearest() {
        assert_eq!(double("0.1"), Ok(0.1));
        assert_eq!(double("1e400"), Err(BadNumber::OutOfRange));
        assert_eq!(double("Infinity"), Ok(f64::INFINITY));
        assert!(double("NaN").unwrap().is_nan());
        assert_eq!(real("1e39"), Err(BadNumber::OutOfRange));
        assert_eq!(double("x"), Err(BadNumber::Malformed));
    }
}
