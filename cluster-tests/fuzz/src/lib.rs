//! Fuzzing as ordinary tests.
//!
//! A target is a test in a module called `fuzz` of the crate whose code it tries, so that it
//! reaches what is private there. It hands [`Target::run`] the inputs it begins with and a check;
//! beside those, the inputs kept in `fuzz/NAME.txt` of its package count. The check must neither
//! panic nor allocate more than the target's bound, and each of its answers comes within seconds.
//! Inputs are changed at random ([`mutate`]); where the tests were built with counters (`cargo
//! xtask fuzz --guided`), what reaches something new is changed further ([`cover`]).
//!
//! Not here: what a target calls, and how many targets run at once (`xtask/src/fuzz.rs`).
//!
//! Invariants: without `ALLUVIUM_FUZZ_SECONDS` a target ends after a fixed number of inputs; what
//! failed is printed in the form in which inputs are kept.

mod chance;
mod corpus;
mod cover;
mod heap;
mod mutate;
mod watch;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::{Duration, Instant};

use chance::Chance;
use cover::Cover;
use mutate::Mutator;
use watch::Watch;

/// Inputs tried beside the kept ones when no time is given: a moment's worth, in every test run.
const INPUTS: u64 = 3_000;

/// Inputs are no longer than this, unless a target says otherwise: long enough for a few entries or
/// statements, short enough for many thousand a second.
const INPUT_BYTES_MAX: usize = 4 << 10;

/// What a check may allocate beside a multiple of its input.
const ALLOWANCE_BYTES: usize = 64 << 10;

/// What is tried, and what it may cost.
#[derive(Debug)]
pub struct Target<'a> {
    name: &'static str,
    package_dir: &'static str,
    words: &'a [&'a [u8]],
    mend: Option<fn(&mut Vec<u8>)>,
    input_bytes_max: usize,
    heap_factor: usize,
    heap_allowance_bytes: usize,
}

impl<'a> Target<'a> {
    /// A target; inputs are kept in `fuzz/NAME.txt` below `package_dir`, which is
    /// `env!("CARGO_MANIFEST_DIR")`.
    #[must_use]
    pub fn new(name: &'static str, package_dir: &'static str) -> Target<'a> {
        Target {
            name,
            package_dir,
            words: &[],
            mend: None,
            input_bytes_max: INPUT_BYTES_MAX,
            heap_factor: 32,
            heap_allowance_bytes: ALLOWANCE_BYTES,
        }
    }

    /// Pieces that inputs are likely to be made of.
    #[must_use]
    pub fn words(self, words: &'a [&'a [u8]]) -> Target<'a> {
        Target { words, ..self }
    }

    /// Makes a changed input pass checksums, so that what lies behind them is tried too. Done with
    /// half of the inputs.
    #[must_use]
    pub fn mend(self, mend: fn(&mut Vec<u8>)) -> Target<'a> {
        Target { mend: Some(mend), ..self }
    }

    /// The longest input.
    #[must_use]
    pub fn input_bytes_max(self, bytes: usize) -> Target<'a> {
        Target { input_bytes_max: bytes, ..self }
    }

    /// Most bytes that may be allocated at one time: `factor` for each byte of the input, and the
    /// allowance. What other threads allocate is not counted.
    #[must_use]
    pub fn heap(self, factor: usize, allowance_bytes: usize) -> Target<'a> {
        Target { heap_factor: factor, heap_allowance_bytes: allowance_bytes, ..self }
    }

    /// Tries the inputs that are kept, and then changed ones: for `ALLUVIUM_FUZZ_SECONDS`, or a
    /// fixed number of them.
    ///
    /// # Panics
    /// When the check does, or allocates too much; what it was given is printed first.
    pub fn run(&self, seeds: Vec<Vec<u8>>, mut check: impl FnMut(&[u8])) {
        let seconds = number_of("ALLUVIUM_FUZZ_SECONDS").map(Duration::from_secs);
        let seed = number_of("ALLUVIUM_FUZZ_SEED").unwrap_or_else(chance::seed_of_now);
        report(&format!("fuzz {}: seed {seed}", self.name));
        let mut inputs = seeds;
        inputs.extend(corpus::read(self.package_dir, self.name));
        assert!(!inputs.is_empty(), "a target begins with an input");
        let mut round = Round {
            target: self,
            watch: seconds.map(|_| Watch::begin(self.name)),
            cover: Cover::new(),
            check: &mut check,
        };
        for input in &inputs {
            round.attempt(input);
        }
        let kept = inputs.len();
        let begun = Instant::now();
        let mut mutator = Mutator::new(Chance::new(seed), self.words, self.input_bytes_max);
        let mut tried = 0_u64;
        while seconds.map_or(tried < INPUTS, |seconds| begun.elapsed() < seconds) {
            let mut input = mutator.change(&inputs);
            if let Some(mend) = self.mend
                && mutator.is_heads()
            {
                mend(&mut input);
            }
            if round.attempt(&input) {
                inputs.push(input);
            }
            tried += 1;
        }
        corpus::keep_found(self.name, &inputs[kept..]);
        round.finish(kept, tried, begun.elapsed());
    }
}

/// One run of a target.
struct Round<'a, F> {
    target: &'a Target<'a>,
    watch: Option<Watch>,
    cover: Cover,
    check: &'a mut F,
}

impl<F: FnMut(&[u8])> Round<'_, F> {
    /// Tries an input; whether it reached anything new.
    fn attempt(&mut self, input: &[u8]) -> bool {
        if let Some(watch) = &mut self.watch {
            watch.next(input);
        }
        self.cover.clear();
        let (outcome, peak_bytes) =
            heap::peak_of(|| catch_unwind(AssertUnwindSafe(|| (self.check)(input))));
        let name = self.target.name;
        if let Err(panic) = outcome {
            report(&format!("fuzz {name}: fails with\n{}", corpus::line_of(input)));
            resume_unwind(panic);
        }
        let Target { heap_factor, heap_allowance_bytes, .. } = *self.target;
        let peak_bytes_max = heap_factor * input.len() + heap_allowance_bytes;
        if peak_bytes_max < peak_bytes {
            report(&format!("fuzz {name}: allocates too much with\n{}", corpus::line_of(input)));
            panic!("{} bytes made it allocate {peak_bytes}", input.len());
        }
        self.cover.has_grown()
    }

    /// The line that `cargo xtask fuzz` puts into its table.
    fn finish(self, kept: usize, tried: u64, time: Duration) {
        let found = self.cover.found();
        let name = self.target.name;
        let seconds = time.as_secs_f64();
        let each = tried as f64 / seconds.max(0.001);
        report(&format!(
            "fuzz {name}: kept {kept}, tried {tried}, seconds {seconds:.1}, a second {each:.0}, \
             counters {found}"
        ));
    }
}

fn number_of(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is a number, not {text:?}")))
}

#[allow(clippy::print_stdout, reason = "this is how a test says what it did")]
fn report(text: &str) {
    println!("{text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target() -> Target<'static> {
        Target::new("none", env!("CARGO_MANIFEST_DIR")).heap(4, 1_000)
    }

    #[test]
    fn what_fails_on_an_input_is_found() {
        let failed = catch_unwind(|| {
            target().run(vec![b"abcdefgh".to_vec()], |input| {
                assert!(!input.starts_with(b"abd"), "found");
            });
        });
        assert!(failed.is_err(), "three bytes near to the input it began with");
    }

    #[test]
    fn what_allocates_too_much_is_found() {
        let failed = catch_unwind(|| {
            target().run(vec![vec![0, 1]], |input| {
                let count = usize::from(input.first().copied().unwrap_or(0)) << 8;
                std::hint::black_box(vec![0_u8; count]);
            });
        });
        assert!(failed.is_err(), "a byte that is believed");
    }

    #[test]
    fn what_is_right_passes() {
        target().run(vec![b"abc".to_vec()], |input| {
            std::hint::black_box(input.to_vec());
        });
    }
}
