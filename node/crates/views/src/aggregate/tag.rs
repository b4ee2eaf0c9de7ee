//! The first bytes of encoded states. A new form of a state takes a new number; none is used twice.

pub(super) const COUNT: u8 = 1;
pub(super) const SUM_INTEGERS: u8 = 2;
pub(super) const SUM_DECIMALS: u8 = 3;
pub(super) const SUM_DOUBLES: u8 = 4;
pub(super) const EXTREME_WORD: u8 = 5;
pub(super) const EXTREME_WIDE: u8 = 6;
pub(super) const EXTREME_BYTES: u8 = 7;
pub(super) const SPREAD: u8 = 8;
pub(super) const LINE: u8 = 9;
pub(super) const BITS: u8 = 10;
pub(super) const CHOICE: u8 = 11;
pub(super) const DISTINCT_WORDS: u8 = 12;
pub(super) const DISTINCT_WIDES: u8 = 13;
pub(super) const DISTINCT_BYTES: u8 = 14;
pub(super) const APPROX_DISTINCT: u8 = 15;
pub(super) const APPROX_QUANTILE: u8 = 16;
pub(super) const FREQUENT_WORDS: u8 = 17;
pub(super) const FREQUENT_WIDES: u8 = 18;
pub(super) const FREQUENT_BYTES: u8 = 19;
pub(super) const HISTOGRAM: u8 = 20;
