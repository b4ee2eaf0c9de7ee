//! Text and bytes of any Arrow form, as bytes.

use arrow::array::{
    Array, AsArray, BinaryArray, BinaryViewArray, FixedSizeBinaryArray, LargeBinaryArray,
    LargeStringArray, StringArray, StringViewArray,
};
use arrow::datatypes::DataType;

/// An array whose values are bytes.
#[derive(Debug)]
pub(crate) enum BytesColumn<'a> {
    Utf8(&'a StringArray),
    LargeUtf8(&'a LargeStringArray),
    Utf8View(&'a StringViewArray),
    Binary(&'a BinaryArray),
    LargeBinary(&'a LargeBinaryArray),
    BinaryView(&'a BinaryViewArray),
    FixedSizeBinary(&'a FixedSizeBinaryArray),
}

impl<'a> BytesColumn<'a> {
    /// Of an array whose type has bytes.
    pub fn new(array: &'a dyn Array) -> BytesColumn<'a> {
        match array.data_type() {
            DataType::Utf8 => BytesColumn::Utf8(array.as_string()),
            DataType::LargeUtf8 => BytesColumn::LargeUtf8(array.as_string()),
            DataType::Utf8View => BytesColumn::Utf8View(array.as_string_view()),
            DataType::LargeBinary => BytesColumn::LargeBinary(array.as_binary()),
            DataType::BinaryView => BytesColumn::BinaryView(array.as_binary_view()),
            DataType::FixedSizeBinary(_) => {
                BytesColumn::FixedSizeBinary(array.as_fixed_size_binary())
            }
            _ => BytesColumn::Binary(array.as_binary()),
        }
    }

    /// The value of a row, whatever it is where it is null.
    #[inline]
    pub fn value(&self, row: usize) -> &'a [u8] {
        match self {
            BytesColumn::Utf8(array) => array.value(row).as_bytes(),
            BytesColumn::LargeUtf8(array) => array.value(row).as_bytes(),
            BytesColumn::Utf8View(array) => array.value(row).as_bytes(),
            BytesColumn::Binary(array) => array.value(row),
            BytesColumn::LargeBinary(array) => array.value(row),
            BytesColumn::BinaryView(array) => array.value(row),
            BytesColumn::FixedSizeBinary(array) => array.value(row),
        }
    }
}
