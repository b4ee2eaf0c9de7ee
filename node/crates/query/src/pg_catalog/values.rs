//! Values in PostgreSQL's binary form, as text.

use alluvium_core::schema::ColumnType;

const MICROS_PER_DAY: i64 = 86_400_000_000;
/// Days and microseconds count from 2000-01-01 there.
const EPOCH_DAYS: i64 = 10_957;

/// The text of a value that came in binary; an error where it is not one of this type.
pub fn text_of(column_type: &ColumnType, bytes: &[u8]) -> Result<String, String> {
    let misfit = || format!("{} bytes are no {column_type}", bytes.len());
    let whole = |width: usize| signed(bytes).filter(|_| bytes.len() == width).ok_or_else(misfit);
    Ok(match column_type {
        ColumnType::Boolean => match bytes {
            [flag] => if *flag == 0 { "false" } else { "true" }.into(),
            _ => return Err(misfit()),
        },
        ColumnType::SmallInt | ColumnType::Integer | ColumnType::BigInt => match bytes.len() {
            2 | 4 | 8 => signed(bytes).ok_or_else(misfit)?.to_string(),
            _ => return Err(misfit()),
        },
        ColumnType::Real => float(bytes).ok_or_else(misfit)?,
        ColumnType::Double => float(bytes).ok_or_else(misfit)?,
        ColumnType::Numeric { .. } => numeric(bytes).ok_or_else(misfit)?,
        ColumnType::Text => utf8(bytes)?,
        // The newer of its two forms has a version before the text.
        ColumnType::Json => utf8(bytes.strip_prefix(&[1]).unwrap_or(bytes))?,
        ColumnType::Bytes => {
            let mut text = String::from("\\x");
            bytes.iter().for_each(|byte| text.push_str(&format!("{byte:02x}")));
            text
        }
        ColumnType::Date => date(whole(4)? + EPOCH_DAYS),
        ColumnType::Time => clock(whole(8)?).ok_or_else(misfit)?,
        ColumnType::Timestamp => timestamp(whole(8)?),
        ColumnType::TimestampTz => format!("{}+00", timestamp(whole(8)?)),
        ColumnType::Interval => interval(bytes).ok_or_else(misfit)?,
        ColumnType::List(item) => list(item, bytes)?,
        ColumnType::Struct(_) => return Err("a struct has no binary form here".into()),
    })
}

fn signed(bytes: &[u8]) -> Option<i64> {
    match bytes.len() {
        2 => Some(i64::from(i16::from_be_bytes(bytes.try_into().ok()?))),
        4 => Some(i64::from(i32::from_be_bytes(bytes.try_into().ok()?))),
        8 => Some(i64::from_be_bytes(bytes.try_into().ok()?)),
        _ => None,
    }
}

fn float(bytes: &[u8]) -> Option<String> {
    match bytes.len() {
        4 => Some(f32::from_be_bytes(bytes.try_into().ok()?).to_string()),
        8 => Some(f64::from_be_bytes(bytes.try_into().ok()?).to_string()),
        _ => None,
    }
}

fn utf8(bytes: &[u8]) -> Result<String, String> {
    String::from_utf8(bytes.to_vec()).map_err(|_| "a text is not UTF-8".into())
}

/// Groups of four decimal digits with the weight of the first.
fn numeric(bytes: &[u8]) -> Option<String> {
    let words: Vec<i16> =
        bytes.chunks_exact(2).map(|pair| i16::from_be_bytes([pair[0], pair[1]])).collect();
    let [count, weight, sign, scale, digits @ ..] = words.as_slice() else {
        return None;
    };
    let scale = usize::try_from(*scale).ok().filter(|scale| *scale <= 1_000)?;
    if usize::try_from(*count).ok()? != digits.len() || !bytes.len().is_multiple_of(2) {
        return None;
    }
    let weight = i32::from(*weight);
    if !(-300..300).contains(&weight) || !matches!(*sign, 0 | 0x4000) {
        return None;
    }
    // The group whose first digit stands for 10000 to this power; nothing there is zeros.
    let group = |power: i32| {
        let place = usize::try_from(weight - power).ok()?;
        digits.get(place).copied()
    };
    let mut text = String::new();
    for power in (0..=weight.max(0)).rev() {
        text.push_str(&format!("{:04}", group(power).unwrap_or(0)));
    }
    let whole = text.trim_start_matches('0');
    let whole = if whole.is_empty() { "0" } else { whole };
    let mut fraction = String::new();
    let mut power = -1;
    while fraction.len() < scale {
        fraction.push_str(&format!("{:04}", group(power).unwrap_or(0)));
        power -= 1;
    }
    fraction.truncate(scale);
    let minus = if *sign == 0 { "" } else { "-" };
    let point = if scale == 0 { "" } else { "." };
    Some(format!("{minus}{whole}{point}{fraction}"))
}

/// The civil date of a day since 1970-01-01.
fn date(days: i64) -> String {
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
    format!("{year:04}-{month:02}-{day:02}")
}

fn clock(micros: i64) -> Option<String> {
    if !(0..=MICROS_PER_DAY).contains(&micros) {
        return None;
    }
    let seconds = micros / 1_000_000;
    let (hour, minute, second) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    Some(format!("{hour:02}:{minute:02}:{second:02}.{:06}", micros % 1_000_000))
}

fn timestamp(micros: i64) -> String {
    let days = micros.div_euclid(MICROS_PER_DAY) + EPOCH_DAYS;
    let of_day = clock(micros.rem_euclid(MICROS_PER_DAY)).unwrap_or_default();
    format!("{} {of_day}", date(days))
}

fn interval(bytes: &[u8]) -> Option<String> {
    let (micros, rest) = bytes.split_first_chunk::<8>()?;
    let (days, rest) = rest.split_first_chunk::<4>()?;
    let (months, rest) = rest.split_first_chunk::<4>()?;
    if !rest.is_empty() {
        return None;
    }
    let micros = i64::from_be_bytes(*micros);
    let (days, months) = (i32::from_be_bytes(*days), i32::from_be_bytes(*months));
    let sign = if micros < 0 { "-" } else { "" };
    let micros = micros.unsigned_abs();
    let seconds = format!("{sign}{}.{:06}", micros / 1_000_000, micros % 1_000_000);
    Some(format!("{months} months {days} days {seconds} seconds"))
}

/// One dimension, written `{…,…}`.
fn list(item: &ColumnType, bytes: &[u8]) -> Result<String, String> {
    let misfit = || "an array of one dimension was expected".to_string();
    let mut rest = bytes;
    let mut take = || {
        let (word, after) = rest.split_first_chunk::<4>().ok_or_else(misfit)?;
        rest = after;
        Ok::<i32, String>(i32::from_be_bytes(*word))
    };
    let (dimensions, _has_nulls, _item) = (take()?, take()?, take()?);
    if dimensions == 0 {
        return Ok("{}".into());
    }
    let (count, _first) = (take()?, take()?);
    if dimensions != 1 {
        return Err(misfit());
    }
    let mut items = Vec::new();
    for _ in 0..count {
        let (length, after) = rest.split_first_chunk::<4>().ok_or_else(misfit)?;
        let length = i32::from_be_bytes(*length);
        rest = after;
        let Ok(length) = usize::try_from(length) else {
            items.push("NULL".to_string());
            continue;
        };
        let (value, after) = rest.split_at_checked(length).ok_or_else(misfit)?;
        rest = after;
        let text = text_of(item, value)?;
        items.push(format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"")));
    }
    Ok(format!("{{{}}}", items.join(",")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn binary_values_are_read() {
        let numeric_type = ColumnType::Numeric { precision: 38, scale: 10 };
        let words = |words: &[i16]| -> Vec<u8> {
            words.iter().flat_map(|word| word.to_be_bytes()).collect()
        };
        let cases: &[(ColumnType, Vec<u8>, &str)] = &[
            (numeric_type.clone(), words(&[2, 0, 0, 2, 35, 9_500]), "35.95"),
            (numeric_type.clone(), words(&[2, 1, 0x4000, 0, 12, 3_456]), "-123456"),
            (numeric_type.clone(), words(&[1, -2, 0, 6, 4_200]), "0.000042"),
            (numeric_type, words(&[0, 0, 0, 0]), "0"),
            (ColumnType::Date, 9_000_i32.to_be_bytes().to_vec(), "2024-08-22"),
            (ColumnType::Timestamp, (-1_i64).to_be_bytes().to_vec(), "1999-12-31 23:59:59.999999"),
            (ColumnType::Bytes, vec![0, 255], "\\x00ff"),
            (ColumnType::Boolean, vec![1], "true"),
        ];
        for (column_type, bytes, wanted) in cases {
            assert_eq!(text_of(column_type, bytes).as_deref(), Ok(*wanted), "{column_type}");
        }
        assert!(text_of(&ColumnType::Date, &[1, 2]).is_err());
    }
}
