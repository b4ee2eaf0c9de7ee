//! The only source of chance in a run: everything drawn follows from the seed.

use rand::Rng as _;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng as _;

/// Draws numbers from a seed.
pub struct Chance(ChaCha8Rng);

impl Chance {
    /// The same seed draws the same numbers for ever.
    #[must_use]
    pub fn new(seed: u64) -> Chance {
        Chance(ChaCha8Rng::seed_from_u64(seed))
    }

    /// A number in `[start, end)`, or `start` when that is empty.
    pub fn between(&mut self, start: u64, end: u64) -> u64 {
        if end <= start { start } else { self.0.random_range(start..end) }
    }

    /// True about once in `times`; never when that is 0.
    pub fn once_in(&mut self, times: u64) -> bool {
        times != 0 && self.0.random_range(0..times) == 0
    }

    /// True in `per_mille` of a thousand cases.
    pub fn per_mille(&mut self, per_mille: u64) -> bool {
        self.0.random_range(0..1000) < per_mille
    }

    /// True or false.
    pub fn coin(&mut self) -> bool {
        self.0.random_bool(0.5)
    }

    /// A waiting time around `mean`: mostly shorter, now and then several times as long.
    pub fn around(&mut self, mean: u64) -> u64 {
        let first = self.between(0, mean + 1);
        if self.once_in(10) { first + self.between(0, 5 * mean + 1) } else { first + mean / 2 }
    }

    /// One of several.
    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.0.random_range(0..of.len())]
    }

    /// A seed for someone else.
    pub fn seed(&mut self) -> u64 {
        self.0.random()
    }
}
