//! Why the store could not do what it was asked.

use std::path::{Path, PathBuf};

use alluvium_core::codec::Malformed;
use alluvium_core::ids::{GroupId, Offset};

use crate::views::ViewPlace;

/// Why an operation of the store failed. [`StoreError::is_damage`] and [`StoreError::is_full`] tell
/// what the caller should do; everything else is a fault of the machine that a person must look at.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process has the data directory open.
    #[error("data directory {} is in use{}", dir.display(), by(*pid))]
    InUse {
        /// The directory.
        dir: PathBuf,
        /// The process that has it, when it left its number.
        pid: Option<u32>,
    },
    /// The directory was written by a version this one does not know.
    #[error("data directory {} has format {found:?}, this version knows {known:?}", dir.display())]
    Format {
        /// The directory.
        dir: PathBuf,
        /// What it says.
        found: String,
        /// What we write.
        known: &'static str,
    },
    /// A file operation failed.
    #[error("{action} {}: {source}", path.display())]
    Io {
        /// What was tried, as a present-tense verb.
        action: &'static str,
        /// With which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// One of the two databases failed.
    #[error("{action}: {reason}")]
    Database {
        /// What was tried, as a present-tense verb.
        action: &'static str,
        /// What the database said.
        reason: String,
    },
    /// What is stored is not what was written. Not to be served, not to be repaired in place.
    #[error("{what} of {group} is damaged: {place}")]
    Corrupt {
        /// Whose it is.
        group: GroupId,
        /// What it is.
        what: &'static str,
        /// Where, and what is wrong with it.
        place: String,
    },
    /// What is stored of a view is not what was written. Not to be served; the view can be made
    /// again from the event log.
    #[error("{what} of {} in partition {} is damaged at key {}: {reason}", place.view,
        place.partition, hex(key))]
    CorruptView {
        /// Which view, in which partition.
        place: ViewPlace,
        /// What it is.
        what: &'static str,
        /// The key of the group, where it is a group's; otherwise empty.
        key: Vec<u8>,
        /// What is wrong with it.
        reason: String,
    },
    /// Retention has taken the events that were asked for.
    #[error("the events of {group} before {start} are past retention")]
    Gone {
        /// Whose events.
        group: GroupId,
        /// The first offset that is still there.
        start: Offset,
    },
    /// The store holds nothing for this group.
    #[error("the store holds no group {group}")]
    UnknownGroup {
        /// As asked.
        group: GroupId,
    },
    /// The group was removed while the work was under way.
    #[error("group {group} was removed")]
    Removed {
        /// Whose work it was.
        group: GroupId,
    },
    /// A checkpoint of the leader took the place of the group's log while the work was under way,
    /// or is about to: nothing was changed, and the work can be asked for again.
    #[error("the log of {group} gave way to a checkpoint of its leader")]
    Replaced {
        /// Whose work it was.
        group: GroupId,
    },
    /// Nothing of the group was sealed or checkpointed yet: there is no snapshot of it.
    #[error("no checkpoint of {group} is durable")]
    NothingToGive {
        /// As asked.
        group: GroupId,
    },
    /// A snapshot cannot be taken in as it came. What is stored of the group is as it was.
    #[error("take in a snapshot of {group}: {reason}")]
    Staging {
        /// Whose snapshot.
        group: GroupId,
        /// Why not.
        reason: String,
    },
    /// What another node keeps of a view cannot be taken in as it came.
    #[error("take in {} in partition {}: {reason}", place.view, place.partition)]
    Import {
        /// Which view, in which partition.
        place: ViewPlace,
        /// Why not.
        reason: String,
    },
    /// Free space is below the reserve.
    #[error("free disk space is below the reserve")]
    NoRoom,
    /// Rows could not be turned into a segment, or the call contradicts what is stored.
    #[error("{action} of {group}: {reason}")]
    Rows {
        /// Whose rows.
        group: GroupId,
        /// What was tried.
        action: &'static str,
        /// Why not.
        reason: String,
    },
    /// The store is being closed.
    #[error("the store is closing")]
    Closing,
}

impl StoreError {
    /// What is stored cannot be trusted: the group or the view must not be served.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        matches!(self, StoreError::Corrupt { .. } | StoreError::CorruptView { .. })
    }

    /// The disk is full: the same call may succeed when there is room again.
    #[must_use]
    pub fn is_full(&self) -> bool {
        match self {
            StoreError::NoRoom => true,
            StoreError::Io { source, .. } => full(source),
            StoreError::Database { reason, .. } => reason.contains("No space left"),
            StoreError::InUse { .. }
            | StoreError::Format { .. }
            | StoreError::Corrupt { .. }
            | StoreError::CorruptView { .. }
            | StoreError::Gone { .. }
            | StoreError::UnknownGroup { .. }
            | StoreError::Removed { .. }
            | StoreError::Replaced { .. }
            | StoreError::NothingToGive { .. }
            | StoreError::Staging { .. }
            | StoreError::Import { .. }
            | StoreError::Rows { .. }
            | StoreError::Closing => false,
        }
    }

    pub(crate) fn io(
        action: &'static str,
        path: &Path,
    ) -> impl FnOnce(std::io::Error) -> StoreError {
        let path = path.to_path_buf();
        move |source| StoreError::Io { action, path, source }
    }

    pub(crate) fn database(action: &'static str) -> impl FnOnce(rocksdb::Error) -> StoreError {
        move |error| StoreError::Database { action, reason: error.into_string() }
    }

    /// Damage that a database found by its own checksums, as damage of the group that was read.
    pub(crate) fn of_group(self, group: GroupId) -> StoreError {
        match self {
            StoreError::Database { reason, .. } if reason.starts_with("Corruption") => {
                StoreError::Corrupt { group, what: "the stored state", place: reason }
            }
            other => other,
        }
    }

    /// Damage that a database found by its own checksums, as damage of the view that was read.
    pub(crate) fn of_view(self, place: ViewPlace, what: &'static str, key: &[u8]) -> StoreError {
        match self {
            StoreError::Database { reason, .. } if reason.starts_with("Corruption") => {
                StoreError::CorruptView { place, what, key: key.to_vec(), reason }
            }
            other => other,
        }
    }

    pub(crate) fn malformed_view(
        place: ViewPlace,
        what: &'static str,
        key: &[u8],
    ) -> impl FnOnce(Malformed) -> StoreError {
        let key = key.to_vec();
        move |malformed| StoreError::CorruptView { place, what, key, reason: malformed.to_string() }
    }

    pub(crate) fn corrupt(
        group: GroupId,
        what: &'static str,
        place: impl Into<String>,
    ) -> StoreError {
        StoreError::Corrupt { group, what, place: place.into() }
    }

    pub(crate) fn malformed(
        group: GroupId,
        what: &'static str,
    ) -> impl FnOnce(Malformed) -> StoreError {
        move |malformed| StoreError::Corrupt { group, what, place: malformed.to_string() }
    }
}

/// Whether the system said that there is no space.
pub(crate) fn full(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded)
}

fn hex(key: &[u8]) -> String {
    key.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn by(pid: Option<u32>) -> String {
    match pid {
        Some(pid) => format!(" by process {pid}"),
        None => String::new(),
    }
}
