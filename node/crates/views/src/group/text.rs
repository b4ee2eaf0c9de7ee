//! Text and bytes in keys: zeros are escaped, so that their end can be found and compares least.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BinaryViewArray, FixedSizeBinaryArray, LargeBinaryArray,
    LargeStringArray, StringArray, StringViewArray,
};
use arrow::datatypes::DataType;

use super::codec::KeyError;

/// Ends text and bytes; less than [`ESCAPED`], so that the shorter one comes first.
const END: u8 = 1;
/// After a zero that belongs to the value.
const ESCAPED: u8 = 0xFF;

pub(super) fn is_text(data_type: &DataType) -> bool {
    matches!(
        data_type,
        DataType::Utf8
            | DataType::LargeUtf8
            | DataType::Utf8View
            | DataType::Binary
            | DataType::LargeBinary
            | DataType::BinaryView
            | DataType::FixedSizeBinary(_)
    )
}

#[inline]
pub(super) fn put_text(text: &[u8], out: &mut [u8]) -> usize {
    let mut place = text.len();
    if text.contains(&0) {
        place = 0;
        for &byte in text {
            out[place] = byte;
            place += 1;
            if byte == 0 {
                out[place] = ESCAPED;
                place += 1;
            }
        }
    } else {
        out[..place].copy_from_slice(text);
    }
    out[place] = 0;
    out[place + 1] = END;
    place + 2
}

/// The length of a text's form, its end included.
pub(super) fn text_len(bytes: &[u8], flip: u8) -> Option<usize> {
    let mut place = 0;
    loop {
        place += bytes[place..].iter().position(|&byte| byte == flip)?;
        match bytes.get(place + 1)? ^ flip {
            END => return Some(place + 2),
            ESCAPED => place += 2,
            _ => return None,
        }
    }
}

/// A text's form without what was added to it.
pub(super) fn unescape(form: &[u8]) -> Vec<u8> {
    let form = &form[..form.len() - 2];
    let mut text = Vec::with_capacity(form.len());
    let mut after_zero = false;
    for &byte in form {
        if !after_zero {
            text.push(byte);
        }
        after_zero = !after_zero && byte == 0;
    }
    text
}

pub(super) fn texts(
    data_type: &DataType,
    values: &[Option<Vec<u8>>],
) -> Result<ArrayRef, KeyError> {
    let bytes = values.iter().map(Option::as_deref);
    let strings = || {
        values.iter().map(|value| {
            value.as_deref().map(std::str::from_utf8).transpose().map_err(|_| KeyError::Malformed)
        })
    };
    let array: ArrayRef = match data_type {
        DataType::Utf8 => Arc::new(strings().collect::<Result<StringArray, _>>()?),
        DataType::LargeUtf8 => Arc::new(strings().collect::<Result<LargeStringArray, _>>()?),
        DataType::Utf8View => Arc::new(strings().collect::<Result<StringViewArray, _>>()?),
        DataType::Binary => Arc::new(bytes.collect::<BinaryArray>()),
        DataType::LargeBinary => Arc::new(bytes.collect::<LargeBinaryArray>()),
        DataType::BinaryView => Arc::new(bytes.collect::<BinaryViewArray>()),
        DataType::FixedSizeBinary(size) => Arc::new(
            FixedSizeBinaryArray::try_from_sparse_iter_with_size(bytes, *size)
                .map_err(|_| KeyError::Malformed)?,
        ),
        other => return Err(KeyError::Type(other.clone())),
    };
    Ok(array)
}
