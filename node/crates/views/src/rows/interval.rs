//! Intervals from text, as PostgreSQL reads them and as it prints them.
//!
//! | form | example |
//! |---|---|
//! | quantities and units | `1 year 2 mons -3 days`, `1.5 hours`, `90 min`, `1 day ago` |
//! | with a time | `2 days 03:04:05.678`, `-01:30` |
//! | ISO 8601 | `P1Y2M3DT4H5M6.7S` |
//!
//! Months, days and nanoseconds stay apart: a month is no count of days, a day no count of hours. A
//! fraction of a day is a time; fractions of months and years are refused.

use arrow::datatypes::IntervalMonthDayNano;

const NANOS_PER_SECOND: i128 = 1_000_000_000;
const SECONDS_PER_DAY: i128 = 86_400;

/// An interval.
pub(super) fn interval(text: &str) -> Option<IntervalMonthDayNano> {
    let text = text.trim();
    let mut sum = Sum::default();
    match text.strip_prefix('P') {
        Some(iso) => sum.add_iso(iso)?,
        None => sum.add_words(text)?,
    }
    let months = i32::try_from(sum.months).ok()?;
    let days = i32::try_from(sum.days).ok()?;
    let nanoseconds = i64::try_from(sum.nanos).ok()?;
    Some(IntervalMonthDayNano { months, days, nanoseconds })
}

#[derive(Default)]
struct Sum {
    months: i128,
    days: i128,
    nanos: i128,
}

/// What one of a unit is.
enum Unit {
    Months(i128),
    Days(i128),
    Nanos(i128),
}

impl Sum {
    fn add_words(&mut self, text: &str) -> Option<()> {
        let mut words = text.split_ascii_whitespace().peekable();
        words.peek()?;
        while let Some(word) = words.next() {
            if word == "ago" && words.peek().is_none() {
                *self = Sum { months: -self.months, days: -self.days, nanos: -self.nanos };
            } else if word.contains(':') {
                self.nanos += time(word)?;
            } else {
                let (quantity, rest) = take_quantity(word)?;
                let unit = if rest.is_empty() { words.next()? } else { rest };
                self.add(quantity, unit_of(unit)?)?;
            }
        }
        Some(())
    }

    fn add_iso(&mut self, text: &str) -> Option<()> {
        let (date, time) = match text.split_once('T') {
            Some((_, "")) => return None,
            Some((date, time)) => (date, time),
            None => (text, ""),
        };
        if date.is_empty() && time.is_empty() {
            return None;
        }
        self.add_designated(date, |designator| {
            Some(match designator {
                'Y' => Unit::Months(12),
                'M' => Unit::Months(1),
                'W' => Unit::Days(7),
                'D' => Unit::Days(1),
                _ => return None,
            })
        })?;
        self.add_designated(time, |designator| {
            Some(match designator {
                'H' => Unit::Nanos(3_600 * NANOS_PER_SECOND),
                'M' => Unit::Nanos(60 * NANOS_PER_SECOND),
                'S' => Unit::Nanos(NANOS_PER_SECOND),
                _ => return None,
            })
        })
    }

    fn add_designated(&mut self, text: &str, unit: impl Fn(char) -> Option<Unit>) -> Option<()> {
        let mut rest = text;
        while !rest.is_empty() {
            let (quantity, after) = take_quantity(rest)?;
            let designator = after.chars().next()?;
            self.add(quantity, unit(designator)?)?;
            rest = &after[designator.len_utf8()..];
        }
        Some(())
    }

    /// Adds a quantity in billionths.
    fn add(&mut self, quantity: i128, unit: Unit) -> Option<()> {
        let (whole, fraction) = (quantity / NANOS_PER_SECOND, quantity % NANOS_PER_SECOND);
        match unit {
            Unit::Months(_) if fraction != 0 => return None,
            Unit::Months(months) => self.months += whole * months,
            Unit::Days(days) => {
                self.days += whole * days;
                self.nanos += fraction * days * SECONDS_PER_DAY;
            }
            Unit::Nanos(nanos) => self.nanos += whole * nanos + fraction * nanos / NANOS_PER_SECOND,
        }
        Some(())
    }
}

fn unit_of(name: &str) -> Option<Unit> {
    Some(match name.to_ascii_lowercase().as_str() {
        "y" | "yr" | "yrs" | "year" | "years" => Unit::Months(12),
        "mon" | "mons" | "month" | "months" => Unit::Months(1),
        "w" | "week" | "weeks" => Unit::Days(7),
        "d" | "day" | "days" => Unit::Days(1),
        "h" | "hr" | "hrs" | "hour" | "hours" => Unit::Nanos(3_600 * NANOS_PER_SECOND),
        "m" | "min" | "mins" | "minute" | "minutes" => Unit::Nanos(60 * NANOS_PER_SECOND),
        "s" | "sec" | "secs" | "second" | "seconds" => Unit::Nanos(NANOS_PER_SECOND),
        "ms" | "msec" | "msecs" | "millisecond" | "milliseconds" => Unit::Nanos(1_000_000),
        "us" | "usec" | "usecs" | "microsecond" | "microseconds" => Unit::Nanos(1_000),
        "ns" | "nanosecond" | "nanoseconds" => Unit::Nanos(1),
        _ => return None,
    })
}

/// `[-]hours:minutes[:seconds]` in nanoseconds.
fn time(word: &str) -> Option<i128> {
    let (is_negative, word) = take_sign(word);
    let mut parts = word.split(':');
    let hours: i128 = digits(parts.next()?)?;
    let minutes: i128 = digits(parts.next()?)?;
    let seconds = match parts.next() {
        None => 0,
        Some(seconds) => match take_quantity(seconds)? {
            (quantity, "") if seconds.starts_with(|c: char| c.is_ascii_digit()) => quantity,
            _ => return None,
        },
    };
    if parts.next().is_some() || 59 < minutes || 60 * NANOS_PER_SECOND <= seconds {
        return None;
    }
    let nanos = (hours * 3_600 + minutes * 60) * NANOS_PER_SECOND + seconds;
    Some(if is_negative { -nanos } else { nanos })
}

/// A number in billionths, and what follows it.
fn take_quantity(text: &str) -> Option<(i128, &str)> {
    let (is_negative, text) = take_sign(text);
    let whole_bytes = text.bytes().take_while(u8::is_ascii_digit).count();
    let (whole, rest) = text.split_at(whole_bytes);
    let mut quantity: i128 = digits(whole)? * NANOS_PER_SECOND;
    let mut after = rest;
    if let Some(rest) = rest.strip_prefix('.') {
        let fraction_bytes = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (fraction, rest) = rest.split_at(fraction_bytes);
        let kept = &fraction[..fraction.len().min(9)];
        let scale = 10_i128.pow(9 - u32::try_from(kept.len()).expect("at most 9"));
        quantity += digits(kept)? * scale;
        after = rest;
    }
    Some((if is_negative { -quantity } else { quantity }, after))
}

fn take_sign(text: &str) -> (bool, &str) {
    match text.strip_prefix('-') {
        Some(text) => (true, text),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    }
}

/// Few enough digits that no sum of quantities overflows.
fn digits(text: &str) -> Option<i128> {
    let is_good = !text.is_empty() && text.len() <= 15 && text.bytes().all(|b| b.is_ascii_digit());
    if is_good { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals() {
        let second = 1_000_000_000;
        let cases = [
            ("1 year 2 mons -3 days", Some((14, -3, 0))),
            ("1 mon 2 days 03:04:05", Some((1, 2, 11_045 * second))),
            ("-01:30", Some((0, 0, -5_400 * second))),
            ("100:00:00.5", Some((0, 0, 360_000 * second + second / 2))),
            ("1.5 hours", Some((0, 0, 5_400 * second))),
            ("1.5 days", Some((0, 1, 43_200 * second))),
            ("2 weeks", Some((0, 14, 0))),
            ("90min", Some((0, 0, 5_400 * second))),
            ("1 day 1 hour ago", Some((0, -1, -3_600 * second))),
            ("250 ms", Some((0, 0, second / 4))),
            ("P1Y2M3DT4H5M6.7S", Some((14, 3, 14_706 * second + second / 10 * 7))),
            ("PT-1H", Some((0, 0, -3_600 * second))),
            ("P2W", Some((0, 14, 0))),
            ("0 days", Some((0, 0, 0))),
            ("", None),
            ("P", None),
            ("PT", None),
            ("1", None),
            ("day", None),
            ("1.5 months", None),
            ("1 parsec", None),
            ("1:2:3:4", None),
            ("00:60", None),
            ("00:00:-1", None),
            ("99999999999 years", None),
            ("99999999999999999999 days", None),
        ];
        for (text, expected) in cases {
            let expected = expected.map(|(months, days, nanoseconds)| IntervalMonthDayNano {
                months,
                days,
                nanoseconds,
            });
            assert_eq!(interval(text), expected, "{text}");
        }
    }
}
