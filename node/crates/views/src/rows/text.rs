//! Dates, times, booleans and bytes from text.
//!
//! | value | forms |
//! |---|---|
//! | boolean | `true`, `false`, `t`, `f`, `yes`, `no`, `on`, `off`, `1`, `0`, in any case |
//! | date | `2026-11-21` |
//! | time | `14:05`, `14:05:09`, `14:05:09.123456` |
//! | timestamp | a date; perhaps `T` or a space and a time; perhaps a zone |
//! | zone | `Z`, ` UTC`, `+01`, `+0100`, `+01:00` |
//! | bytes | `\x` and hex, as PostgreSQL prints them |
//!
//! A zone moves the timestamp to UTC; without one it is taken as it stands. Digits behind the
//! microseconds are dropped.

const MICROS_PER_SECOND: i64 = 1_000_000;
const SECONDS_PER_DAY: i64 = 86_400;
const MICROS_PER_DAY: i64 = SECONDS_PER_DAY * MICROS_PER_SECOND;

/// A boolean.
pub(super) fn boolean(text: &str) -> Option<bool> {
    const TRUE: [&str; 5] = ["true", "t", "yes", "on", "1"];
    const FALSE: [&str; 5] = ["false", "f", "no", "off", "0"];
    let is_one_of = |words: [&str; 5]| words.iter().any(|word| text.eq_ignore_ascii_case(word));
    if is_one_of(TRUE) {
        return Some(true);
    }
    is_one_of(FALSE).then_some(false)
}

/// Days since 1970-01-01.
pub(super) fn date(text: &str) -> Option<i32> {
    let mut rest = text.as_bytes();
    let days = take_date(&mut rest)?;
    rest.is_empty().then_some(days)
}

/// Microseconds since midnight.
pub(super) fn time(text: &str) -> Option<i64> {
    let mut rest = text.as_bytes();
    let micros = take_time(&mut rest)?;
    rest.is_empty().then_some(micros)
}

/// Microseconds since 1970-01-01T00:00:00, moved to UTC where there is a zone.
pub(super) fn timestamp(text: &str) -> Option<i64> {
    let mut rest = text.as_bytes();
    let days = i64::from(take_date(&mut rest)?);
    let midnight = days * MICROS_PER_DAY;
    let [b'T' | b't' | b' ', after @ ..] = rest else {
        return rest.is_empty().then_some(midnight);
    };
    rest = after;
    let micros = midnight + take_time(&mut rest)?;
    Some(micros - zone_seconds(rest)? * MICROS_PER_SECOND)
}

/// The bytes of `\x` and hex.
pub(super) fn bytes(text: &str) -> Option<Vec<u8>> {
    let digits = text.strip_prefix("\\x")?.as_bytes();
    if !digits.len().is_multiple_of(2) {
        return None;
    }
    digits
        .chunks_exact(2)
        .map(|pair| Some(hex_digit(pair[0])? << 4 | hex_digit(pair[1])?))
        .collect()
}

fn hex_digit(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

fn take_date(rest: &mut &[u8]) -> Option<i32> {
    let &[y0, y1, y2, y3, b'-', m0, m1, b'-', d0, d1, ref after @ ..] = *rest else {
        return None;
    };
    let year = i32::from(two(y0, y1)?) * 100 + i32::from(two(y2, y3)?);
    let month = two(m0, m1)?;
    let day = two(d0, d1)?;
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let last_day = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 if is_leap => 29,
        2 => 28,
        _ => return None,
    };
    if day == 0 || last_day < day {
        return None;
    }
    *rest = after;
    Some(days_since_1970(year, month.into(), day.into()))
}

/// Counts in years that begin in March, so that the leap day is the last of its year, and in eras
/// of 400 years, which are all of one length.
fn days_since_1970(year: i32, month: i32, day: i32) -> i32 {
    const DAYS_PER_ERA: i32 = 146_097;
    const DAYS_BEFORE_1970: i32 = 719_468;
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * DAYS_PER_ERA + day_of_era - DAYS_BEFORE_1970
}

fn take_time(rest: &mut &[u8]) -> Option<i64> {
    let &[h0, h1, b':', m0, m1, ref after @ ..] = *rest else {
        return None;
    };
    let (hour, minute) = (two(h0, h1)?, two(m0, m1)?);
    *rest = after;
    let mut second = 0;
    let mut micros = 0;
    if let &[b':', s0, s1, ref after @ ..] = *rest {
        second = two(s0, s1)?;
        *rest = after;
        micros = take_fraction(rest)?;
    }
    if 23 < hour || 59 < minute || 59 < second {
        return None;
    }
    let seconds = i64::from(hour) * 3_600 + i64::from(minute) * 60 + i64::from(second);
    Some(seconds * MICROS_PER_SECOND + micros)
}

fn take_fraction(rest: &mut &[u8]) -> Option<i64> {
    let [b'.', digits @ ..] = *rest else {
        return Some(0);
    };
    let count = digits.iter().take_while(|digit| digit.is_ascii_digit()).count();
    if count == 0 {
        return None;
    }
    let (fraction, after) = digits.split_at(count);
    let six = fraction.iter().chain(std::iter::repeat(&b'0')).take(6);
    let micros = six.fold(0, |micros, digit| micros * 10 + i64::from(digit - b'0'));
    *rest = after;
    Some(micros)
}

fn zone_seconds(zone: &[u8]) -> Option<i64> {
    let zone = zone.strip_prefix(b" ").unwrap_or(zone);
    let (is_west, digits) = match zone {
        b"" | b"Z" | b"z" | b"UTC" => return Some(0),
        [b'+', digits @ ..] => (false, digits),
        [b'-', digits @ ..] => (true, digits),
        _ => return None,
    };
    let (hours, minutes) = match *digits {
        [h0, h1] => (two(h0, h1)?, 0),
        [h0, h1, m0, m1] | [h0, h1, b':', m0, m1] => (two(h0, h1)?, two(m0, m1)?),
        _ => return None,
    };
    if 23 < hours || 59 < minutes {
        return None;
    }
    let seconds = i64::from(hours) * 3_600 + i64::from(minutes) * 60;
    Some(if is_west { -seconds } else { seconds })
}

fn two(tens: u8, ones: u8) -> Option<u8> {
    (tens.is_ascii_digit() && ones.is_ascii_digit()).then(|| (tens - b'0') * 10 + (ones - b'0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        let cases = [
            ("1970-01-01", Some(0)),
            ("1969-12-31", Some(-1)),
            ("2000-02-29", Some(11_016)),
            ("2026-11-21", Some(20_778)),
            ("0001-01-01", Some(-719_162)),
            ("9999-12-31", Some(2_932_896)),
            ("2100-02-29", None),
            ("2026-13-01", None),
            ("2026-00-01", None),
            ("2026-01-00", None),
            ("2026-1-1", None),
            ("2026-01-01x", None),
            ("", None),
        ];
        for (text, expected) in cases {
            assert_eq!(date(text), expected, "{text}");
        }
    }

    #[test]
    fn times() {
        let cases = [
            ("00:00", Some(0)),
            ("14:05:09", Some(50_709_000_000)),
            ("14:05:09.1", Some(50_709_100_000)),
            ("23:59:59.999999999", Some(MICROS_PER_DAY - 1)),
            ("24:00:00", None),
            ("14:60", None),
            ("14:05:60", None),
            ("14:05:09.", None),
            ("1405", None),
        ];
        for (text, expected) in cases {
            assert_eq!(time(text), expected, "{text}");
        }
    }

    #[test]
    fn timestamps() {
        let base = 20_778 * MICROS_PER_DAY;
        let hour = 3_600 * MICROS_PER_SECOND;
        let cases = [
            ("2026-11-21", Some(base)),
            ("2026-11-21T01:00:00Z", Some(base + hour)),
            ("2026-11-21 01:00:00", Some(base + hour)),
            ("2026-11-21 01:00:00 UTC", Some(base + hour)),
            ("2026-11-21T01:00:00.5+01:00", Some(base + 500_000)),
            ("2026-11-21T01:00:00-0130", Some(base + hour + hour + hour / 2)),
            ("2026-11-21T01:00+01", Some(base)),
            ("1969-12-31T23:59:59.999999Z", Some(-1)),
            ("2026-11-21T01:00:00 CET", None),
            ("2026-11-21T01:00:00+25", None),
            ("2026-11-21X01:00:00", None),
            ("2026-11-21T", None),
            ("soon", None),
        ];
        for (text, expected) in cases {
            assert_eq!(timestamp(text), expected, "{text}");
        }
    }

    #[test]
    fn booleans_and_bytes() {
        assert_eq!(boolean("TRUE"), Some(true));
        assert_eq!(boolean("off"), Some(false));
        assert_eq!(boolean("2"), None);
        assert_eq!(bytes("\\x00fF"), Some(vec![0, 255]));
        assert_eq!(bytes("\\x"), Some(vec![]));
        assert_eq!(bytes("00"), None);
        assert_eq!(bytes("\\x0"), None);
        assert_eq!(bytes("\\xgg"), None);
    }
}
