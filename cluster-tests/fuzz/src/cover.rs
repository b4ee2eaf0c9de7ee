//! What an input reached, where the tests were built with counters.
//!
//! `cargo xtask fuzz --guided` has the compiler put a counter at every edge of the crate under
//! test; at start the program is told where they lie. Without them nothing is ever new, and inputs
//! are changed blindly.

use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

static FIRST: AtomicPtr<u8> = AtomicPtr::new(std::ptr::null_mut());
static COUNT: AtomicUsize = AtomicUsize::new(0);

/// Called by the program before `main`, with the range of its counters.
#[allow(unsafe_code, reason = "the name is the compiler's")]
#[unsafe(no_mangle)]
pub extern "C" fn __sanitizer_cov_8bit_counters_init(start: *mut u8, stop: *mut u8) {
    FIRST.store(start, Ordering::Relaxed);
    COUNT.store((stop as usize).saturating_sub(start as usize), Ordering::Relaxed);
}

/// What was reached so far.
#[derive(Debug)]
pub struct Cover {
    /// For each counter, how often it was passed by one input: a bit for each power of two.
    seen: Vec<u8>,
}

impl Cover {
    /// Nothing yet.
    pub fn new() -> Cover {
        Cover { seen: vec![0; COUNT.load(Ordering::Relaxed)] }
    }

    /// Before an input.
    pub fn clear(&self) {
        counters().fill(0);
    }

    /// After it: whether it passed something that none before has, or passed it oftener.
    pub fn has_grown(&mut self) -> bool {
        let mut is_new = false;
        for (seen, count) in self.seen.iter_mut().zip(counters().iter()) {
            if *count != 0 {
                let bit = 1 << count.ilog2();
                is_new |= *seen & bit == 0;
                *seen |= bit;
            }
        }
        is_new
    }

    /// How many counters were passed.
    pub fn found(&self) -> usize {
        self.seen.iter().filter(|seen| **seen != 0).count()
    }
}

/// Other threads of the program count too, and a number that is torn would be one that is new: it
/// only costs an input that teaches nothing.
#[allow(unsafe_code, reason = "the counters are memory of the compiler's")]
fn counters() -> &'static mut [u8] {
    let first = FIRST.load(Ordering::Relaxed);
    if first.is_null() {
        return &mut [];
    }
    // SAFETY: the range was given by the program itself at start and stays for its whole life; one
    // thread runs the targets and looks at it, and bytes have no values that are not allowed.
    unsafe { std::slice::from_raw_parts_mut(first, COUNT.load(Ordering::Relaxed)) }
}
