//! How much threads give way to each other: the scheduler's nice values.

/// The log writer goes first: everyone waits for it, and it does little but wait for the disk.
/// Needs a privilege; without it all are equal.
pub(crate) const LOG_WRITER: i32 = -10;

/// Statements take all the processors there are, for as long as they last; whoever appends or asks
/// for a page meanwhile takes little, and goes before them.
pub const QUERY: i32 = 5;

/// A flush of the log takes a whole processor for as long as it lasts. Where it falls behind, the
/// databases make writers wait for it, and it has the processors.
pub(crate) const FLUSH: i32 = 10;

/// Cuts free memory and log.
pub(crate) const CUT: i32 = 10;

/// Merging, expiry and verification have all the time there is.
pub(crate) const CARE: i32 = 19;

/// Gives the calling thread this value; 0 leaves it as it is.
#[allow(unsafe_code, reason = "no wrapper of this call is in the tree")]
pub fn set(nice: i32) {
    if nice == 0 {
        return;
    }
    // SAFETY: the call takes plain numbers and touches no memory of ours. Of the "process" 0, Linux
    // takes the calling thread alone.
    let refused = unsafe { nix::libc::setpriority(nix::libc::PRIO_PROCESS, 0, nice) } != 0;
    if refused {
        tracing::debug!(nice, "cannot set the priority of a thread");
    }
}
