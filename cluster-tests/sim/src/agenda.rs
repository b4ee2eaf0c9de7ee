//! What is going to happen, the earliest first; two at the same time in the order they were asked
//! for.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

/// What waits for its time.
pub struct Agenda<T> {
    queue: BinaryHeap<Reverse<Queued<T>>>,
    order: u64,
}

struct Queued<T> {
    at: u64,
    order: u64,
    what: T,
}

impl<T> PartialEq for Queued<T> {
    fn eq(&self, other: &Queued<T>) -> bool {
        (self.at, self.order) == (other.at, other.order)
    }
}

impl<T> Eq for Queued<T> {}

impl<T> PartialOrd for Queued<T> {
    fn partial_cmp(&self, other: &Queued<T>) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Queued<T> {
    fn cmp(&self, other: &Queued<T>) -> Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

impl<T> Default for Agenda<T> {
    fn default() -> Agenda<T> {
        Agenda { queue: BinaryHeap::new(), order: 0 }
    }
}

impl<T> Agenda<T> {
    /// Lets something happen at `at`.
    pub fn put(&mut self, at: u64, what: T) {
        self.order += 1;
        self.queue.push(Reverse(Queued { at, order: self.order, what }));
    }

    /// Takes what happens next, with its time.
    pub fn take(&mut self) -> Option<(u64, T)> {
        let Reverse(Queued { at, what, .. }) = self.queue.pop()?;
        Some((at, what))
    }
}
