//! Rows as lines: PostgreSQL's text form, and CSV.

use super::{CopyIn, Form, Taken};

/// Reads one row from the beginning of `input`; `is_end`: nothing comes after it.
pub(super) fn next(copy: &CopyIn, input: &[u8], is_end: bool) -> Result<Taken, String> {
    if input.is_empty() {
        return Ok(Taken::More);
    }
    match copy.form {
        Form::Csv => csv(copy, input, is_end),
        Form::Text | Form::Binary => text(copy, input, is_end),
    }
}

fn text(copy: &CopyIn, input: &[u8], is_end: bool) -> Result<Taken, String> {
    let (line, length) = match input.iter().position(|byte| *byte == b'\n') {
        Some(end) => (&input[..end], end + 1),
        None if is_end => (input, input.len()),
        None => return Ok(Taken::More),
    };
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if line == b"\\." {
        return Ok(Taken::End);
    }
    let mut row = Vec::with_capacity(copy.column_count());
    let mut value = Vec::new();
    let mut raw_start = 0;
    let mut at = 0;
    loop {
        match line.get(at) {
            Some(b'\\') if at + 1 < line.len() => at += escaped(&line[at + 1..], &mut value) + 1,
            Some(byte) if *byte != copy.delimiter => {
                value.push(*byte);
                at += 1;
            }
            end => {
                let is_null = &line[raw_start..at] == copy.null.as_bytes();
                row.push(if is_null { None } else { Some(utf8(std::mem::take(&mut value))?) });
                value.clear();
                if end.is_none() {
                    return Ok(Taken::Row(length, row));
                }
                at += 1;
                raw_start = at;
            }
        }
    }
}

/// What follows a backslash; says how many bytes it was.
fn escaped(rest: &[u8], value: &mut Vec<u8>) -> usize {
    let digits = |rest: &[u8], base: u32, max: usize| {
        let is_digit = |byte: &&u8| char::from(**byte).is_digit(base);
        rest.iter().take(max).take_while(is_digit).count()
    };
    let number = |rest: &[u8], base: u32| {
        let text = std::str::from_utf8(rest).unwrap_or_default();
        // Three octal digits may be more than a byte has; PostgreSQL takes the low bits too.
        u32::from_str_radix(text, base).unwrap_or(0).to_le_bytes()[0]
    };
    match rest[0] {
        b'b' => value.push(8),
        b'f' => value.push(12),
        b'n' => value.push(b'\n'),
        b'r' => value.push(b'\r'),
        b't' => value.push(b'\t'),
        b'v' => value.push(11),
        b'x' if 0 < digits(&rest[1..], 16, 2) => {
            let count = digits(&rest[1..], 16, 2);
            value.push(number(&rest[1..=count], 16));
            return 1 + count;
        }
        b'0'..=b'7' => {
            let count = digits(rest, 8, 3);
            value.push(number(&rest[..count], 8));
            return count;
        }
        other => value.push(other),
    }
    1
}

fn csv(copy: &CopyIn, input: &[u8], is_end: bool) -> Result<Taken, String> {
    let mut row = Vec::with_capacity(copy.column_count());
    let mut value = Vec::new();
    let mut was_quoted = false;
    let mut at = 0;
    loop {
        let Some(&byte) = input.get(at) else {
            if !is_end {
                return Ok(Taken::More);
            }
            push(copy, &mut row, &mut value, was_quoted)?;
            return Ok(Taken::Row(at, row));
        };
        at += 1;
        if byte == copy.quote && (value.is_empty() || was_quoted) {
            was_quoted = true;
            match quoted(copy, &input[at..], &mut value) {
                Some(length) => at += length,
                None if is_end => return Err("a quote is not closed".into()),
                None => return Ok(Taken::More),
            }
        } else if byte == copy.delimiter {
            push(copy, &mut row, &mut value, was_quoted)?;
            was_quoted = false;
        } else if byte == b'\n' {
            let is_mark = row.is_empty() && value == b"\\." && !was_quoted;
            if is_mark {
                return Ok(Taken::End);
            }
            let is_blank = row.is_empty() && value.is_empty() && !was_quoted;
            if is_blank && 1 < copy.column_count() {
                return Ok(Taken::Nothing(at));
            }
            push(copy, &mut row, &mut value, was_quoted)?;
            return Ok(Taken::Row(at, row));
        } else if byte == b'\r' && matches!(input.get(at), Some(b'\n') | None) {
            if input.get(at).is_none() && !is_end {
                return Ok(Taken::More);
            }
        } else {
            value.push(byte);
        }
    }
}

/// Reads up to the closing quote; says how many bytes that was.
fn quoted(copy: &CopyIn, rest: &[u8], value: &mut Vec<u8>) -> Option<usize> {
    let mut at = 0;
    loop {
        let byte = *rest.get(at)?;
        at += 1;
        let after = rest.get(at);
        let escapes = |byte: &u8| *byte == copy.quote || *byte == copy.escape;
        if byte == copy.escape && after.is_some_and(escapes) {
            value.push(*after?);
            at += 1;
        } else if byte == copy.quote {
            // What follows decides whether this was the end: with nothing there, it is not known.
            return Some(at);
        } else {
            value.push(byte);
        }
    }
}

fn push(
    copy: &CopyIn,
    row: &mut Vec<Option<String>>,
    value: &mut Vec<u8>,
    was_quoted: bool,
) -> Result<(), String> {
    let is_null = !was_quoted && value.as_slice() == copy.null.as_bytes();
    let text = utf8(std::mem::take(value))?;
    row.push((!is_null).then_some(text));
    Ok(())
}

fn utf8(bytes: Vec<u8>) -> Result<String, String> {
    String::from_utf8(bytes).map_err(|_| "a value is not UTF-8".into())
}
