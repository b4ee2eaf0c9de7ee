//! What a piece of work allocates on its own thread.
//!
//! Every program with a target in it has this allocator: the system's, with two numbers for each
//! thread beside it.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// The system's allocator, counted.
struct Counted;

#[global_allocator]
static ALLOCATOR: Counted = Counted;

thread_local! {
    // Without a destructor, so that they are there whenever memory is asked for. What one thread
    // allocates another may free, so the sum may fall below zero.
    static HELD_BYTES: Cell<isize> = const { Cell::new(0) };
    static PEAK_BYTES: Cell<isize> = const { Cell::new(0) };
}

fn count(bytes: isize) {
    let held = HELD_BYTES.get().wrapping_add(bytes);
    HELD_BYTES.set(held);
    if PEAK_BYTES.get() < held {
        PEAK_BYTES.set(held);
    }
}

/// Does the work; and the most bytes that it held at one time.
pub fn peak_of<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let before = HELD_BYTES.get();
    PEAK_BYTES.set(before);
    let result = work();
    let peak = PEAK_BYTES.get().wrapping_sub(before);
    (result, usize::try_from(peak).unwrap_or(0))
}

// SAFETY: every call goes to the system's allocator as it came; counting touches no memory but two
// numbers of this thread.
#[allow(unsafe_code, reason = "to count what is allocated there is no other way")]
unsafe impl GlobalAlloc for Counted {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: as the caller promised.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: as the caller promised.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: as the caller promised.
        unsafe { System.dealloc(place, layout) }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size as isize - layout.size() as isize);
        // SAFETY: as the caller promised.
        unsafe { System.realloc(place, layout, size) }
    }
}
