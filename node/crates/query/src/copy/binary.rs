//! Rows in PostgreSQL's binary form.

use super::{CopyIn, Taken};
use crate::pg_catalog::values;

const SIGNATURE: &[u8; 11] = b"PGCOPY\n\xff\r\n\0";

/// Reads the header, then one row at a time.
pub(super) fn next(copy: &CopyIn, input: &[u8], begun: &mut bool) -> Result<Taken, String> {
    if !*begun {
        return header(input, begun);
    }
    let Some((count, mut rest)) = input.split_first_chunk::<2>() else {
        return Ok(Taken::More);
    };
    let count = i16::from_be_bytes(*count);
    if count == -1 {
        return Ok(Taken::End);
    }
    if usize::try_from(count) != Ok(copy.column_count()) {
        return Err(format!("a row has {count} values, {} are wanted", copy.column_count()));
    }
    let mut row = Vec::with_capacity(copy.column_count());
    for place in 0..copy.column_count() {
        let Some((length, after)) = rest.split_first_chunk::<4>() else {
            return Ok(Taken::More);
        };
        let length = i32::from_be_bytes(*length);
        if length == -1 {
            row.push(None);
            rest = after;
            continue;
        }
        let length = usize::try_from(length).map_err(|_| "a length is negative")?;
        let Some((bytes, after)) = after.split_at_checked(length) else {
            return Ok(Taken::More);
        };
        row.push(Some(values::text_of(copy.column_type(place), bytes)?));
        rest = after;
    }
    Ok(Taken::Row(input.len() - rest.len(), row))
}

fn header(input: &[u8], begun: &mut bool) -> Result<Taken, String> {
    const FIXED: usize = SIGNATURE.len() + 8;
    let Some(fixed) = input.get(..FIXED) else {
        return Ok(Taken::More);
    };
    if !fixed.starts_with(SIGNATURE) {
        return Err("this is not PostgreSQL's binary form: its signature is missing".into());
    }
    let length =
        |at: usize| fixed[at..at + 4].iter().fold(0_u32, |sum, byte| sum << 8 | u32::from(*byte));
    if length(SIGNATURE.len()) & 1 << 16 != 0 {
        return Err("rows with numbers of their own (oids) are not taken".into());
    }
    let extension = usize::try_from(length(SIGNATURE.len() + 4)).unwrap_or(usize::MAX);
    if 1 << 20 < extension {
        return Err("the header is longer than 1 MiB".into());
    }
    if input.len() < FIXED + extension {
        return Ok(Taken::More);
    }
    *begun = true;
    Ok(Taken::Nothing(FIXED + extension))
}
