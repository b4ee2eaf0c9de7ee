//! Numbers and times in the protocol's forms.

use std::fmt::{LowerExp, Write};

use arrow::array::{Array, AsArray};
use arrow::datatypes::{
    DataType, Time32MillisecondType, Time32SecondType, Time64MicrosecondType, Time64NanosecondType,
    TimeUnit, TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType,
    TimestampSecondType,
};
use bytes::{BufMut, BytesMut};

const MICROS_PER_SECOND: i64 = 1_000_000;
const MICROS_PER_DAY: i64 = 86_400 * MICROS_PER_SECOND;

/// Microseconds of a day.
pub fn time(array: &dyn Array, row: usize) -> Option<i64> {
    match array.data_type() {
        DataType::Time32(TimeUnit::Second) => {
            Some(i64::from(array.as_primitive::<Time32SecondType>().value(row)) * MICROS_PER_SECOND)
        }
        DataType::Time32(_) => {
            Some(i64::from(array.as_primitive::<Time32MillisecondType>().value(row)) * 1_000)
        }
        DataType::Time64(TimeUnit::Nanosecond) => {
            Some(array.as_primitive::<Time64NanosecondType>().value(row) / 1_000)
        }
        DataType::Time64(_) => Some(array.as_primitive::<Time64MicrosecondType>().value(row)),
        _ => None,
    }
}

/// Microseconds since 1970.
pub fn timestamp(array: &dyn Array, row: usize) -> Option<i64> {
    let DataType::Timestamp(unit, _) = array.data_type() else {
        return None;
    };
    match unit {
        TimeUnit::Second => {
            array.as_primitive::<TimestampSecondType>().value(row).checked_mul(MICROS_PER_SECOND)
        }
        TimeUnit::Millisecond => {
            array.as_primitive::<TimestampMillisecondType>().value(row).checked_mul(1_000)
        }
        TimeUnit::Microsecond => Some(array.as_primitive::<TimestampMicrosecondType>().value(row)),
        TimeUnit::Nanosecond => {
            Some(array.as_primitive::<TimestampNanosecondType>().value(row).div_euclid(1_000))
        }
    }
}

/// The shortest digits that give the same number; with an exponent where PostgreSQL has one.
pub fn put_float(out: &mut BytesMut, value: f64, shown: impl std::fmt::Display + LowerExp) {
    // A buffer that grows takes everything.
    let _ = if value.is_nan() {
        out.write_str("NaN")
    } else if value.is_infinite() {
        out.write_str(if value < 0.0 { "-Infinity" } else { "Infinity" })
    } else if value != 0.0 && !(1e-4..1e15).contains(&value.abs()) {
        let text = format!("{shown:e}");
        let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let (sign, exponent) = match exponent.strip_prefix('-') {
            Some(exponent) => ('-', exponent),
            None => ('+', exponent),
        };
        write!(out, "{digits}e{sign}{exponent:0>2}")
    } else {
        write!(out, "{shown}")
    };
}

/// The civil date of a day since 1970-01-01.
pub fn put_date(out: &mut BytesMut, days: i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let _ = write!(out, "{year:04}-{month:02}-{day:02}");
}

/// `14:05:09.5`: no more digits than are needed.
pub fn put_clock(out: &mut BytesMut, micros: i64) {
    let seconds = micros / MICROS_PER_SECOND;
    let (hour, minute, second) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    let _ = write!(out, "{hour:02}:{minute:02}:{second:02}");
    let fraction = micros % MICROS_PER_SECOND;
    if fraction != 0 {
        let digits = format!("{fraction:06}");
        let _ = write!(out, ".{}", digits.trim_end_matches('0'));
    }
}

/// A date and a time.
pub fn put_timestamp(out: &mut BytesMut, micros: i64) {
    put_date(out, micros.div_euclid(MICROS_PER_DAY));
    out.put_u8(b' ');
    put_clock(out, micros.rem_euclid(MICROS_PER_DAY));
}

/// `1 year 2 mons 3 days 04:05:06`
pub fn put_interval(out: &mut BytesMut, months: i32, days: i32, micros: i64) {
    let mut parts = Vec::new();
    let plural = |count: i32| if count == 1 { "" } else { "s" };
    for (count, name) in [(months / 12, "year"), (months % 12, "mon"), (days, "day")] {
        if count != 0 {
            parts.push(format!("{count} {name}{}", plural(count)));
        }
    }
    let mut clock = BytesMut::new();
    if micros != 0 || parts.is_empty() {
        if micros < 0 {
            clock.put_u8(b'-');
        }
        put_clock(&mut clock, micros.checked_abs().unwrap_or(i64::MAX));
        parts.push(String::from_utf8_lossy(&clock).into_owned());
    }
    out.put_slice(parts.join(" ").as_bytes());
}

/// The binary form of a number in digits: groups of four of them.
pub fn put_numeric(out: &mut BytesMut, digits: &str) {
    let (is_negative, digits) = match digits.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, digits),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let whole = whole.trim_start_matches('0');
    let lead = (4 - whole.len() % 4) % 4;
    let mut text = "0".repeat(lead) + whole + fraction;
    text.push_str(&"0".repeat((4 - text.len() % 4) % 4));
    let groups: Vec<i16> = text
        .as_bytes()
        .chunks_exact(4)
        .map(|group| group.iter().fold(0, |sum, digit| sum * 10 + i16::from(digit - b'0')))
        .collect();
    let short = |length: usize| i16::try_from(length).unwrap_or(i16::MAX);
    let mut weight = short(whole.len().div_ceil(4)) - 1;
    let leading = groups.iter().take_while(|group| **group == 0).count();
    weight -= short(leading);
    let groups = &groups[leading..];
    let trailing = groups.iter().rev().take_while(|group| **group == 0).count();
    let groups = &groups[..groups.len() - trailing];
    out.put_i16(short(groups.len()));
    out.put_i16(if groups.is_empty() { 0 } else { weight });
    out.put_u16(if is_negative { 0x4000 } else { 0 });
    out.put_i16(short(fraction.len()));
    groups.iter().for_each(|group| out.put_i16(*group));
}

#[cfg(test)]
mod tests {
    use super::*;
    use alluvium_core::schema::ColumnType;
    use alluvium_query::pg_catalog::values::text_of;

    fn written(write: impl FnOnce(&mut BytesMut)) -> String {
        let mut out = BytesMut::new();
        write(&mut out);
        String::from_utf8(out.to_vec()).unwrap()
    }

    #[test]
    fn floats_are_written_as_postgres_does() {
        let cases = [
            (0.0, "0"),
            (-2.5, "-2.5"),
            (1e20, "1e+20"),
            (1.5e-7, "1.5e-07"),
            (123_456_789.0, "123456789"),
            (f64::NEG_INFINITY, "-Infinity"),
        ];
        for (value, wanted) in cases {
            assert_eq!(written(|out| put_float(out, value, value)), wanted);
        }
    }

    #[test]
    fn times_are_written() {
        assert_eq!(written(|out| put_timestamp(out, -1)), "1969-12-31 23:59:59.999999");
        assert_eq!(written(|out| put_timestamp(out, 951_782_400_500_000)), "2000-02-29 00:00:00.5");
        assert_eq!(
            written(|out| put_interval(out, 14, 1, -60_000_000)),
            "1 year 2 mons 1 day -00:01:00"
        );
        assert_eq!(written(|out| put_interval(out, 0, 0, 0)), "00:00:00");
    }

    #[test]
    fn numbers_in_binary_are_read_back() {
        let numeric = ColumnType::Numeric { precision: 38, scale: 10 };
        for digits in ["0", "-1", "35.95", "10000", "123456789.000001", "0.00000001", "-0.50"] {
            let mut out = BytesMut::new();
            put_numeric(&mut out, digits);
            assert_eq!(text_of(&numeric, &out).as_deref(), Ok(digits));
        }
    }
}
