//! Tells whoever started the process as a service how it is (`sd_notify` of systemd). Where nobody
//! wants to know, nothing happens.

use sd_notify::NotifyState;

/// Appends and queries are served.
pub(super) fn ready() {
    tell(NotifyState::Ready);
}

/// The node stops by itself or because it is told to.
pub(super) fn stopping() {
    tell(NotifyState::Stopping);
}

fn tell(state: NotifyState<'_>) {
    // The node works as well without.
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::warn!(%error, "the service manager cannot be told");
    }
}
