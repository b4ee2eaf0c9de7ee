//! Checks the messages of an Arrow IPC stream that may come from anyone, before they are decoded.
//!
//! Decoding checks the values but believes the numbers around them: types it does not know, counts
//! that do not fit their buffers and lengths that nobody has memory for end in a panic or worse. So
//! the types are checked here, and each array is laid out on paper first.

use std::collections::BTreeMap;
use std::ops::Range;

use arrow::ipc::{self, MessageHeader, Precision, Type};

use super::super::{BATCH_EVENTS_MAX, InvalidRows, UNPACKED_BYTES_MAX};

const CONTINUATION: [u8; 4] = [0xff; 4];

/// Bytes the LZ4 frames of one stream may hold, counted by the room their blocks have. Honest
/// frames have more room than bytes, small ones many times more.
const LZ4_BYTES_MAX: u64 = 8 * UNPACKED_BYTES_MAX as u64;

/// What the buffers of a column look like.
enum Shape {
    Null,
    Bits,
    /// Values of so many bytes.
    Fixed(u64),
    /// Text or bytes behind offsets of so many bytes.
    Offsets(u64),
    View,
    List(u64, Box<Shape>),
    FixedList(u64, Box<Shape>),
    Struct(Vec<Shape>),
}

#[derive(Default)]
struct Shapes {
    columns: Option<Vec<Shape>>,
    dictionaries: BTreeMap<i64, Shape>,
    unpacked: Unpacked,
}

/// What the compressed buffers of a stream unpack to.
#[derive(Default)]
struct Unpacked {
    /// As they say themselves.
    said: u64,
    /// What LZ4 may make of them, whatever they say.
    possible: u64,
}

/// Checks every message of a stream.
pub(super) fn check_messages(stream: &[u8]) -> Result<(), InvalidRows> {
    Shapes::default().check_all(stream).map(|_end| ())
}

/// Several streams that begin with the same schema, which is looked at once.
pub(super) struct SameSchema<'a> {
    head: &'a [u8],
    shapes: Shapes,
}

impl<'a> SameSchema<'a> {
    /// The schema that a stream begins with; `None` where it does not, or has dictionaries: those
    /// belong to one stream alone.
    pub fn of(stream: &'a [u8]) -> Option<SameSchema<'a>> {
        let after = stream.strip_prefix(&CONTINUATION)?;
        let (length, after) = after.split_first_chunk::<4>()?;
        let header = after.get(..u32::from_le_bytes(*length) as usize)?;
        let head = &stream[..8 + header.len()];
        let mut shapes = Shapes::default();
        shapes.check_all(head).ok()?;
        let is_schema = shapes.columns.is_some() && shapes.dictionaries.is_empty();
        is_schema.then_some(SameSchema { head, shapes })
    }

    /// Checks the messages of a stream behind its schema; where they begin and end. `None` where
    /// they are refused or the stream has another schema.
    pub fn check(&mut self, stream: &[u8]) -> Option<Range<usize>> {
        let rest = stream.strip_prefix(self.head)?;
        let length = self.shapes.check_all(rest).ok()?;
        Some(self.head.len()..self.head.len() + length)
    }
}

impl Shapes {
    /// Checks every message; where the last one ends.
    fn check_all(&mut self, stream: &[u8]) -> Result<usize, InvalidRows> {
        let cut_off = || InvalidRows::malformed("the Arrow IPC stream is cut off");
        let mut rest = stream;
        while !rest.is_empty() {
            let message_at = stream.len() - rest.len();
            rest = rest.strip_prefix(&CONTINUATION).unwrap_or(rest);
            let (length, after) = rest.split_first_chunk::<4>().ok_or_else(cut_off)?;
            let length = u32::from_le_bytes(*length) as usize;
            if length == 0 {
                return Ok(message_at);
            }
            let (header, after) = after.split_at_checked(length).ok_or_else(cut_off)?;
            let message = ipc::root_as_message(header).map_err(|error| {
                InvalidRows::malformed(format!("not an Arrow message: {error}"))
            })?;
            let body_bytes = usize::try_from(message.bodyLength()).map_err(|_| cut_off())?;
            let (body, after) = after.split_at_checked(body_bytes).ok_or_else(cut_off)?;
            self.check(message, body)?;
            let Unpacked { said, possible } = self.unpacked;
            if UNPACKED_BYTES_MAX as u64 <= said || LZ4_BYTES_MAX <= possible {
                return Err(InvalidRows::TooManyUnpackedBytes { bytes: said.max(possible) });
            }
            rest = after;
        }
        Ok(stream.len())
    }

    /// Checks one message.
    fn check(&mut self, message: ipc::Message<'_>, body: &[u8]) -> Result<(), InvalidRows> {
        let bad = || InvalidRows::malformed("a message of the Arrow IPC stream contradicts itself");
        match message.header_type() {
            MessageHeader::Schema => {
                let schema = message.header_as_schema().ok_or_else(bad)?;
                if schema.endianness() != ipc::Endianness::Little {
                    return Err(InvalidRows::malformed("big-endian Arrow is not taken"));
                }
                let fields = schema.fields().ok_or_else(bad)?;
                let columns =
                    fields.iter().map(|field| self.shape(field)).collect::<Result<_, _>>()?;
                self.columns = Some(columns);
                Ok(())
            }
            MessageHeader::RecordBatch => {
                let batch = message.header_as_record_batch().ok_or_else(bad)?;
                let columns = self.columns.as_deref().ok_or_else(bad)?;
                check_batch(columns, batch, body, &mut self.unpacked)?.ok_or_else(bad)
            }
            MessageHeader::DictionaryBatch => {
                let dictionary = message.header_as_dictionary_batch().ok_or_else(bad)?;
                let shape = self.dictionaries.get(&dictionary.id()).ok_or_else(bad)?;
                let batch = dictionary.data().ok_or_else(bad)?;
                let shape = std::slice::from_ref(shape);
                check_batch(shape, batch, body, &mut self.unpacked)?.ok_or_else(bad)
            }
            // Decoding refuses other messages by name.
            _ => Ok(()),
        }
    }

    /// The shape of a field, if it is of a type that can be decoded at all.
    fn shape(&mut self, field: ipc::Field<'_>) -> Result<Shape, InvalidRows> {
        let name = field.name().unwrap_or_default();
        let not_taken = || {
            let type_name = field.type_type().variant_name().unwrap_or("unknown");
            InvalidRows::malformed(format!("column \"{name}\": {type_name} of Arrow is not taken"))
        };
        let shape = self.shape_of_values(field)?.ok_or_else(not_taken)?;
        let Some(dictionary) = field.dictionary() else {
            return Ok(shape);
        };
        let bits = dictionary.indexType().map(|index| index.bitWidth());
        let width = bits.and_then(byte_width).ok_or_else(not_taken)?;
        self.dictionaries.insert(dictionary.id(), shape);
        Ok(Shape::Fixed(width))
    }

    fn shape_of_values(&mut self, field: ipc::Field<'_>) -> Result<Option<Shape>, InvalidRows> {
        Ok(match field.type_type() {
            Type::List => self.only_child(field)?.map(|item| Shape::List(4, Box::new(item))),
            Type::LargeList => self.only_child(field)?.map(|item| Shape::List(8, Box::new(item))),
            Type::FixedSizeList => {
                let size = field.type_as_fixed_size_list().map(|list| list.listSize());
                let size = size.and_then(|size| u64::try_from(size).ok());
                let item = self.only_child(field)?;
                size.zip(item).map(|(size, item)| Shape::FixedList(size, Box::new(item)))
            }
            Type::Struct_ => {
                let fields = field.children().into_iter().flatten();
                let shapes = fields.map(|field| self.shape(field)).collect::<Result<_, _>>()?;
                Some(Shape::Struct(shapes))
            }
            _scalar => scalar_shape(field),
        })
    }

    fn only_child(&mut self, field: ipc::Field<'_>) -> Result<Option<Shape>, InvalidRows> {
        match field.children() {
            Some(children) if children.len() == 1 => self.shape(children.get(0)).map(Some),
            Some(_) | None => Ok(None),
        }
    }
}

fn scalar_shape(field: ipc::Field<'_>) -> Option<Shape> {
    const TIME_UNITS: [ipc::TimeUnit; 4] = [
        ipc::TimeUnit::SECOND,
        ipc::TimeUnit::MILLISECOND,
        ipc::TimeUnit::MICROSECOND,
        ipc::TimeUnit::NANOSECOND,
    ];
    Some(match field.type_type() {
        Type::Null => Shape::Null,
        Type::Bool => Shape::Bits,
        Type::Utf8 | Type::Binary => Shape::Offsets(4),
        Type::LargeUtf8 | Type::LargeBinary => Shape::Offsets(8),
        Type::Utf8View | Type::BinaryView => Shape::View,
        Type::Int => Shape::Fixed(byte_width(field.type_as_int()?.bitWidth())?),
        Type::FixedSizeBinary => {
            Shape::Fixed(u64::try_from(field.type_as_fixed_size_binary()?.byteWidth()).ok()?)
        }
        Type::FloatingPoint => match field.type_as_floating_point()?.precision() {
            Precision::HALF => Shape::Fixed(2),
            Precision::SINGLE => Shape::Fixed(4),
            Precision::DOUBLE => Shape::Fixed(8),
            _ => return None,
        },
        Type::Date => match field.type_as_date()?.unit() {
            ipc::DateUnit::DAY => Shape::Fixed(4),
            ipc::DateUnit::MILLISECOND => Shape::Fixed(8),
            _ => return None,
        },
        Type::Time => match (field.type_as_time()?.bitWidth(), field.type_as_time()?.unit()) {
            (32, ipc::TimeUnit::SECOND | ipc::TimeUnit::MILLISECOND) => Shape::Fixed(4),
            (64, ipc::TimeUnit::MICROSECOND | ipc::TimeUnit::NANOSECOND) => Shape::Fixed(8),
            _ => return None,
        },
        Type::Timestamp if TIME_UNITS.contains(&field.type_as_timestamp()?.unit()) => {
            Shape::Fixed(8)
        }
        Type::Duration if TIME_UNITS.contains(&field.type_as_duration()?.unit()) => Shape::Fixed(8),
        Type::Interval => match field.type_as_interval()?.unit() {
            ipc::IntervalUnit::YEAR_MONTH => Shape::Fixed(4),
            ipc::IntervalUnit::DAY_TIME => Shape::Fixed(8),
            ipc::IntervalUnit::MONTH_DAY_NANO => Shape::Fixed(16),
            _ => return None,
        },
        Type::Decimal => {
            let decimal = field.type_as_decimal()?;
            let precision_max = match decimal.bitWidth() {
                32 => 9,
                64 => 18,
                128 => 38,
                256 => 76,
                _ => return None,
            };
            let is_good = (1..=precision_max).contains(&decimal.precision())
                && (-precision_max..=precision_max).contains(&decimal.scale());
            if !is_good {
                return None;
            }
            Shape::Fixed(u64::from(decimal.bitWidth().unsigned_abs()) / 8)
        }
        _ => return None,
    })
}

fn byte_width(bits: i32) -> Option<u64> {
    match bits {
        8 => Some(1),
        16 => Some(2),
        32 => Some(4),
        64 => Some(8),
        _ => None,
    }
}

/// Lays out a batch; `None` where it contradicts itself.
fn check_batch(
    shapes: &[Shape],
    batch: ipc::RecordBatch<'_>,
    body: &[u8],
    unpacked: &mut Unpacked,
) -> Result<Option<()>, InvalidRows> {
    let Ok(row_count) = usize::try_from(batch.length()) else {
        return Ok(None);
    };
    if BATCH_EVENTS_MAX < row_count {
        return Err(InvalidRows::TooManyEvents { count: row_count });
    }
    let Some(sizes) = buffer_sizes(batch, body, unpacked) else {
        return Ok(None);
    };
    let nodes = batch.nodes().into_iter().flatten();
    let nodes: Vec<_> = nodes.map(|node| (node.length(), node.null_count())).collect();
    let views: Vec<_> = batch.variadicBufferCounts().into_iter().flatten().collect();
    let mut layout =
        Layout { nodes: nodes.into_iter(), sizes: sizes.into_iter(), views: views.into_iter() };
    let is_good = shapes.iter().all(|shape| layout.check(shape).is_some());
    Ok((is_good && layout.views.len() == 0).then_some(()))
}

/// The size of each buffer as decoding will have it.
fn buffer_sizes(
    batch: ipc::RecordBatch<'_>,
    body: &[u8],
    unpacked: &mut Unpacked,
) -> Option<Vec<u64>> {
    let codec = batch.compression().map(|compression| compression.codec());
    let mut sizes = Vec::new();
    for buffer in batch.buffers().into_iter().flatten() {
        let start = usize::try_from(buffer.offset()).ok()?;
        let length = usize::try_from(buffer.length()).ok()?;
        let bytes = body.get(start..start.checked_add(length)?)?;
        if codec.is_none() || bytes.is_empty() {
            sizes.push(length as u64);
            continue;
        }
        let (prefix, frame) = bytes.split_first_chunk::<8>()?;
        let prefix = i64::from_le_bytes(*prefix);
        // -1 says that this buffer was left as it is.
        let size = if prefix == -1 { frame.len() as u64 } else { u64::try_from(prefix).ok()? };
        sizes.push(size);
        unpacked.said = unpacked.said.saturating_add(size);
        // The other codec, Zstandard, is told how much it may unpack.
        if prefix != -1 && codec == Some(ipc::CompressionType::LZ4_FRAME) {
            unpacked.possible += lz4_bytes_max(frame);
        }
    }
    Some(sizes)
}

/// The most that an LZ4 frame can hold: what its blocks have room for.
fn lz4_bytes_max(frame: &[u8]) -> u64 {
    /// A byte of a block stands for at most so many.
    const RATIO_MAX: u64 = 255;
    const BLOCK_CHECKSUM: u8 = 1 << 4;
    const CONTENT_SIZE: u8 = 1 << 3;
    const DICTIONARY: u8 = 1;
    const NOT_COMPRESSED: u32 = 1 << 31;
    let unknown = frame.len() as u64 * RATIO_MAX;
    let &[0x04, 0x22, 0x4d, 0x18, flags, sizes, ..] = frame else {
        return unknown;
    };
    let block_max = match sizes >> 4 & 7 {
        4 => 64 << 10,
        5 => 256 << 10,
        6 => 1 << 20,
        _ => 4 << 20,
    };
    let optional = |flag, bytes| if flags & flag == 0 { 0 } else { bytes };
    let head_bytes = 7 + optional(CONTENT_SIZE, 8) + optional(DICTIONARY, 4);
    let mut rest = frame.get(head_bytes..).unwrap_or_default();
    let mut bytes_max = 0;
    while let Some((size, after)) = rest.split_first_chunk::<4>() {
        let size = u32::from_le_bytes(*size);
        let length = u64::from(size & !NOT_COMPRESSED);
        if length == 0 {
            break;
        }
        let is_compressed = size & NOT_COMPRESSED == 0;
        bytes_max += if is_compressed { block_max.min(length * RATIO_MAX) } else { length };
        let block_bytes = length as usize + optional(BLOCK_CHECKSUM, 4);
        rest = after.get(block_bytes..).unwrap_or_default();
    }
    bytes_max
}

/// What is left of a batch's numbers while its arrays are laid out.
struct Layout {
    nodes: std::vec::IntoIter<(i64, i64)>,
    sizes: std::vec::IntoIter<u64>,
    views: std::vec::IntoIter<i64>,
}

impl Layout {
    /// Takes what an array of this shape takes; its length, or `None` where its buffers are too
    /// small.
    fn check(&mut self, shape: &Shape) -> Option<u64> {
        let (length, null_count) = self.nodes.next()?;
        let is_good =
            (0..=i64::from(i32::MAX)).contains(&length) && (0..=length).contains(&null_count);
        let length = u64::try_from(length).ok()?;
        if !is_good {
            return None;
        }
        if matches!(shape, Shape::Null) {
            return Some(length);
        }
        self.take(if null_count == 0 { 0 } else { length.div_ceil(8) })?;
        match shape {
            Shape::Null => {}
            Shape::Bits => self.take(length.div_ceil(8))?,
            Shape::Fixed(width) => self.take(length.checked_mul(*width)?)?,
            Shape::Offsets(width) => {
                self.take(offset_bytes(length, *width))?;
                self.take(0)?;
            }
            Shape::View => {
                self.take(length * 16)?;
                for _ in 0..u16::try_from(self.views.next()?).ok()? {
                    self.take(0)?;
                }
            }
            Shape::List(width, item) => {
                self.take(offset_bytes(length, *width))?;
                self.check(item)?;
            }
            Shape::FixedList(size, item) => {
                let item_count = self.check(item)?;
                if item_count < length.checked_mul(*size)? {
                    return None;
                }
            }
            Shape::Struct(fields) => {
                for field in fields {
                    if self.check(field)? != length {
                        return None;
                    }
                }
            }
        }
        Some(length)
    }

    /// Takes the next buffer, which must have so many bytes.
    fn take(&mut self, size_min: u64) -> Option<()> {
        let size = self.sizes.next()?;
        (size_min <= size).then_some(())
    }
}

/// An empty array may have no offsets at all.
fn offset_bytes(length: u64, width: u64) -> u64 {
    if length == 0 { 0 } else { (length + 1) * width }
}
