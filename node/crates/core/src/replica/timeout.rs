//! Election timeouts drawn from a seed.
//!
//! The Raft library draws its own from the operating system; a run could then not be repeated. So
//! each of its draws is overwritten by ours, in production as in the simulator.

use std::ops::Range;

/// Draws election timeouts.
#[derive(Debug)]
pub(super) struct Timeouts {
    state: u64,
    ticks: Range<u32>,
}

impl Timeouts {
    pub(super) fn new(seed: u64, ticks: Range<u32>) -> Timeouts {
        Timeouts { state: seed, ticks }
    }

    /// The next timeout, in ticks.
    pub(super) fn draw(&mut self) -> usize {
        let width = u64::from(self.ticks.end - self.ticks.start);
        let extra = u32::try_from(self.next() % width).expect("the width is a u32");
        (self.ticks.start + extra) as usize
    }

    /// SplitMix64: a counter stirred by two multiplications (Steele, Lea, Flood 2014).
    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_draws_the_same_and_stays_in_range() {
        let mut left = Timeouts::new(7, 10..20);
        let mut right = Timeouts::new(7, 10..20);
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..200 {
            let ticks = left.draw();
            assert_eq!(ticks, right.draw());
            assert!((10..20).contains(&ticks), "{ticks}");
            seen.insert(ticks);
        }
        assert_eq!(seen.len(), 10, "every timeout of the range is drawn sooner or later");
    }
}
