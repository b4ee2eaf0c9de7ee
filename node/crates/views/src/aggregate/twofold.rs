//! Sums of doubles with twice their digits.
//!
//! A number is the sum of two doubles that do not overlap: about 106 bits, a relative error of
//! 2^-104 an operation. Sums of products kept so depend on the order of their terms only far below
//! what a double shows, and a variance may be told from a sum of squares and the square of a sum.
//!
//! Source: Dekker 1971, "A floating-point technique for extending the available precision"; the
//! sums as in Ogita, Rump and Oishi 2005, "Accurate sum and dot product". What is not finite stays
//! as doubles have it: infinite, or not a number.

use super::StateError;
use super::codec::{Reader, put_f64};

/// See the module.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Twofold {
    high: f64,
    /// At most half of the last bit of `high`.
    low: f64,
}

impl Twofold {
    /// Bytes that [`Twofold::put`] appends.
    #[cfg(test)]
    pub const BYTES: usize = 16;

    /// The exact product of two doubles.
    #[inline]
    pub fn product(x: f64, y: f64) -> Twofold {
        let high = x * y;
        Twofold::of(high, x.mul_add(y, -high))
    }

    #[inline]
    pub fn plus_double(self, value: f64) -> Twofold {
        let (high, lost) = two_sum(self.high, value);
        Twofold::of(high, self.low + lost)
    }

    #[inline]
    pub fn plus(self, other: Twofold) -> Twofold {
        let (high, lost) = two_sum(self.high, other.high);
        let (low, least) = two_sum(self.low, other.low);
        let sum = Twofold::of(high, lost + low);
        Twofold::of(sum.high, sum.low + least)
    }

    pub fn minus(self, other: Twofold) -> Twofold {
        self.plus(Twofold { high: -other.high, low: -other.low })
    }

    pub fn times(self, other: Twofold) -> Twofold {
        let product = Twofold::product(self.high, other.high);
        Twofold::of(product.high, product.low + (self.high * other.low + self.low * other.high))
    }

    pub fn times_double(self, factor: f64) -> Twofold {
        let product = Twofold::product(self.high, factor);
        Twofold::of(product.high, product.low + self.low * factor)
    }

    /// The double next to it.
    pub fn double(self) -> f64 {
        self.high
    }

    pub fn put(self, out: &mut Vec<u8>) {
        put_f64(self.high, out);
        put_f64(self.low, out);
    }

    /// What [`Twofold::put`] wrote.
    pub fn read(bytes: &mut Reader<'_>) -> Result<Twofold, StateError> {
        Ok(Twofold { high: bytes.f64()?, low: bytes.f64()? })
    }

    /// The sum of a number and of what was lost of it.
    #[inline]
    fn of(high: f64, low: f64) -> Twofold {
        let sum = high + low;
        if high.is_finite() && sum.is_finite() {
            Twofold { high: sum, low: low - (sum - high) }
        } else {
            Twofold { high, low: 0.0 }
        }
    }
}

/// A sum, and what rounding took from it.
#[inline]
fn two_sum(x: f64, y: f64) -> (f64, f64) {
    let sum = x + y;
    let of_y = sum - x;
    (sum, (x - (sum - of_y)) + (y - of_y))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_rounding_takes_is_kept() {
        let sum = [1e16, 1.0, -1e16].into_iter().fold(Twofold::default(), Twofold::plus_double);
        assert_eq!(sum.double(), 1.0);
        let square = Twofold::product(0.1, 0.1);
        assert_eq!(square.minus(Twofold::product(0.1, 0.1)).double(), 0.0);
        let near = square.minus(Twofold::default().plus_double(0.1 * 0.1)).double();
        assert!(near != 0.0 && near.abs() < 1e-17, "{near}");
        let third = Twofold::product(1.0 / 3.0, 3.0).minus(Twofold::product(1.0, 1.0));
        assert_eq!(third.double(), -(2.0_f64.powi(-54)));
        assert_eq!(square.times(square).minus(square.times(square)).double(), 0.0);
        assert_eq!(square.times_double(4.0).minus(Twofold::product(0.2, 0.2)).double(), 0.0);
    }

    #[test]
    fn what_is_not_finite_is_as_doubles_have_it() {
        let infinite = Twofold::default().plus_double(f64::INFINITY).plus_double(1.0);
        assert_eq!(infinite.double(), f64::INFINITY);
        assert!(infinite.plus_double(f64::NEG_INFINITY).double().is_nan());
        assert_eq!(Twofold::product(1e200, 1e200).plus_double(1.0).double(), f64::INFINITY);
        assert!(Twofold::default().plus_double(f64::NAN).plus_double(1.0).double().is_nan());
    }

    #[test]
    fn stored_and_read_it_is_the_same() {
        let mut bytes = Vec::new();
        let number = Twofold::product(0.1, 0.7);
        number.put(&mut bytes);
        assert_eq!(bytes.len(), Twofold::BYTES);
        let read = Twofold::read(&mut Reader::new(&bytes, "a number")).unwrap();
        assert_eq!((read.high, read.low), (number.high, number.low));
    }
}
