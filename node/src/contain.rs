//! Panics that end only what they happen in.
//!
//! A panic of what owns events ends the process (see `bootstrap`). A view is only a reader of
//! events: what it had in memory can be thrown away and made again, so its panics are caught here.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

thread_local! {
    static CONTAINED: Cell<bool> = const { Cell::new(false) };
}

/// Runs `work`; a panic in it comes back as its message. What it had in hand is in an unknown state
/// then and must be thrown away.
///
/// # Errors
/// The message of the panic.
pub fn contain<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    let before = CONTAINED.replace(true);
    let result = catch_unwind(AssertUnwindSafe(work));
    CONTAINED.set(before);
    result.map_err(|panic| {
        let text = panic.downcast_ref::<&str>().map(ToString::to_string);
        text.or_else(|| panic.downcast_ref::<String>().cloned())
            .unwrap_or_else(|| "a panic without a message".into())
    })
}

/// Whether a panic of this thread is being contained right now.
pub fn is_contained() -> bool {
    CONTAINED.get()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_its_message_and_ends_there() {
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(|_| {}));
        let result = contain(|| {
            assert!(is_contained());
            panic!("no such {}", "thing");
        });
        std::panic::set_hook(hook);
        assert_eq!(result, Err::<(), _>("no such thing".to_string()));
        assert!(!is_contained());
        assert_eq!(contain(|| 7), Ok(7));
    }
}
