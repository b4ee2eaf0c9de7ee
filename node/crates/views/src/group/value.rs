//! One value of fixed width as bytes that compare as the values do.

use arrow::datatypes::{IntervalDayTime, IntervalMonthDayNano, i256};

/// A value with an ordered form of fixed width.
pub(super) trait KeyValue: Sized + Copy {
    /// Its length.
    const WIDTH: usize;

    /// Writes it to the front of `out`, which has room.
    fn put(self, out: &mut [u8]);

    /// Reads it from the front of `bytes`, which are long enough.
    fn take(bytes: &[u8]) -> Self;

    /// The form as a number, for values of at most eight bytes.
    fn small(self) -> u64 {
        let mut bytes = [0; 8];
        self.put(&mut bytes[8 - Self::WIDTH..]);
        u64::from_be_bytes(bytes)
    }
}

macro_rules! signed {
    ($($native:ty),*) => { $(
        impl KeyValue for $native {
            const WIDTH: usize = size_of::<$native>();

            #[inline]
            fn put(self, out: &mut [u8]) {
                out[..Self::WIDTH].copy_from_slice(&(self ^ <$native>::MIN).to_be_bytes());
            }

            #[inline]
            fn take(bytes: &[u8]) -> Self {
                let bytes = bytes[..Self::WIDTH].try_into().expect("as many bytes as asked for");
                <$native>::from_be_bytes(bytes) ^ <$native>::MIN
            }
        }
    )* };
}

macro_rules! unsigned {
    ($($native:ty),*) => { $(
        impl KeyValue for $native {
            const WIDTH: usize = size_of::<$native>();

            #[inline]
            fn put(self, out: &mut [u8]) {
                out[..Self::WIDTH].copy_from_slice(&self.to_be_bytes());
            }

            #[inline]
            fn take(bytes: &[u8]) -> Self {
                let bytes = bytes[..Self::WIDTH].try_into().expect("as many bytes as asked for");
                <$native>::from_be_bytes(bytes)
            }
        }
    )* };
}

macro_rules! float {
    ($($native:ty, $bits:ty, $nan:expr);*) => { $(
        impl KeyValue for $native {
            const WIDTH: usize = size_of::<$native>();

            #[inline]
            fn put(self, out: &mut [u8]) {
                let bits: $bits = if self.is_nan() {
                    $nan
                } else if self == 0.0 {
                    0
                } else {
                    self.to_bits()
                };
                let top = 1 << (<$bits>::BITS - 1);
                let ordered = if bits & top == 0 { bits | top } else { !bits };
                out[..Self::WIDTH].copy_from_slice(&ordered.to_be_bytes());
            }

            #[inline]
            fn take(bytes: &[u8]) -> Self {
                let bytes = bytes[..Self::WIDTH].try_into().expect("as many bytes as asked for");
                let ordered = <$bits>::from_be_bytes(bytes);
                let top = 1 << (<$bits>::BITS - 1);
                Self::from_bits(if ordered & top == 0 { !ordered } else { ordered & !top })
            }
        }
    )* };
}

signed!(i8, i16, i32, i64, i128);
unsigned!(u8, u16, u32, u64);
float!(f32, u32, 0x7FC0_0000; f64, u64, 0x7FF8_0000_0000_0000);

impl KeyValue for i256 {
    const WIDTH: usize = 32;

    fn put(self, out: &mut [u8]) {
        let mut bytes = self.to_be_bytes();
        bytes[0] ^= 0x80;
        out[..32].copy_from_slice(&bytes);
    }

    fn take(bytes: &[u8]) -> Self {
        let mut bytes: [u8; 32] = bytes[..32].try_into().expect("as many bytes as asked for");
        bytes[0] ^= 0x80;
        Self::from_be_bytes(bytes)
    }
}

impl KeyValue for IntervalDayTime {
    const WIDTH: usize = 8;

    fn put(self, out: &mut [u8]) {
        self.days.put(out);
        self.milliseconds.put(&mut out[4..]);
    }

    fn take(bytes: &[u8]) -> Self {
        Self::new(i32::take(bytes), i32::take(&bytes[4..]))
    }
}

impl KeyValue for IntervalMonthDayNano {
    const WIDTH: usize = 16;

    fn put(self, out: &mut [u8]) {
        self.months.put(out);
        self.days.put(&mut out[4..]);
        self.nanoseconds.put(&mut out[8..]);
    }

    fn take(bytes: &[u8]) -> Self {
        Self::new(i32::take(bytes), i32::take(&bytes[4..]), i64::take(&bytes[8..]))
    }
}
