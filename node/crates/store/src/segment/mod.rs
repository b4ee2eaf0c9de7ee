//! Sealed events: immutable Parquet files that the manifest in the log database owns.
//!
//! Reading order: [`Segment`] (one file), [`manifest`] (its row), [`statistics`], [`encode`] and
//! [`read`] (its content), [`cut`], [`merge`] (where segments come from), [`threads`] (who does it
//! when), [`bites`] (how they rest).
//!
//! Invariants: a file has its name only when it is whole and synced; a file the manifest does not
//! name is a leftover; an id is never used again; a file is removed when the manifest does not
//! name it any more and its last reader is gone.

pub(crate) mod bites;
pub(crate) mod cut;
pub(crate) mod encode;
pub(crate) mod manifest;
pub(crate) mod merge;
pub(crate) mod read;
pub(crate) mod statistics;
pub(crate) mod threads;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use alluvium_core::ids::{GroupId, Offset, SegmentId};
use alluvium_core::time::Time;

pub use cut::{CutDone, CutTask};
pub use read::SegmentRows;
pub use statistics::ColumnStatistics;
pub(crate) use threads::SegmentThreads;
pub use threads::{SegmentBusy, SegmentWriter};

use crate::error::StoreError;
use crate::files;
use crate::removal;
use crate::shared::Shared;
use crate::snapshot::take;

/// Length of what ends every Parquet file: the length of the footer and the magic.
const TRAILER_BYTES: u64 = 8;

const MAGIC: &[u8; 4] = b"PAR1";

/// One sealed file. Whoever holds it can read the file.
#[derive(Debug)]
pub struct Segment {
    /// The group whose events it holds.
    pub group: GroupId,
    /// Never reused on this node.
    pub id: SegmentId,
    /// Offset of the first event.
    pub first: Offset,
    /// The offset after the last event. There is one row for each offset between.
    pub end: Offset,
    /// Size of the file.
    pub file_bytes: u64,
    /// How often its events were merged: 0 as cut.
    pub level: u32,
    /// When the file was written.
    pub created_at: Time,
    /// When the oldest event was appended.
    pub oldest_appended_at: Time,
    /// When the newest event was appended.
    pub newest_appended_at: Time,
    /// Event times of the oldest and the newest event, where the stream has one and any event does.
    pub event_times: Option<(Time, Time)>,
    /// Exact statistics, by place of the column.
    pub columns: Arc<Vec<ColumnStatistics>>,
    /// Where the file lies.
    pub path: PathBuf,
    pub(crate) checksums: Checksums,
    pub(crate) condemned: AtomicBool,
    /// The content was compared with its checksum, or written, by this process.
    pub(crate) verified: AtomicBool,
}

/// By what the content of a file is recognised as what was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Checksums {
    /// CRC32 of the whole file.
    pub(crate) file: u32,
    /// CRC32 of the footer with the length and the magic after it.
    pub(crate) footer: u32,
    /// Length of that.
    pub(crate) footer_bytes: u64,
}

impl Segment {
    /// How many events.
    #[must_use]
    pub fn event_count(&self) -> u64 {
        self.end.since(self.first)
    }

    /// Event time of the newest event, or else when it was appended: what retention goes by.
    #[must_use]
    pub fn newest(&self) -> Time {
        self.event_times.map_or(self.newest_appended_at, |(_, newest)| newest)
    }

    /// Reads the whole file and compares it with what was written.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] naming the file when it is not what was written.
    pub fn verify(&self) -> Result<(), StoreError> {
        self.verify_unless(&AtomicBool::new(false))
    }

    /// Whether this process has written the file or compared it with its checksum.
    #[must_use]
    pub fn is_verified(&self) -> bool {
        self.verified.load(Ordering::Acquire)
    }

    /// Like [`Segment::verify`], but gives up, and knows nothing, once told to.
    pub(crate) fn verify_unless(&self, told: &AtomicBool) -> Result<(), StoreError> {
        let mut file = self.open()?;
        let mut hasher = crc32fast::Hasher::new();
        let mut buffer = vec![0; 1 << 20];
        loop {
            if told.load(Ordering::Relaxed) {
                return Ok(());
            }
            match file.read(&mut buffer).map_err(|error| self.unreadable(&error))? {
                0 => break,
                count => hasher.update(&buffer[..count]),
            }
        }
        if hasher.finalize() != self.checksums.file {
            return Err(self.corrupt("its checksum does not match"));
        }
        self.verified.store(true, Ordering::Release);
        Ok(())
    }

    /// Checks that the file is there, as long as it was written, and ends with the footer that was
    /// written. Cheap: reads only the footer.
    pub(crate) fn check_ends(&self) -> Result<(), StoreError> {
        let mut file = self.open()?;
        let length = file.metadata().map_err(|error| self.unreadable(&error))?.len();
        if length != self.file_bytes {
            let reason = format!("it has {length} bytes, expected {}", self.file_bytes);
            return Err(self.corrupt(&reason));
        }
        let footer = read_footer(&mut file).map_err(|error| self.unreadable(&error))?;
        let length = footer.len() as u64;
        let matches = length == self.checksums.footer_bytes
            && crc32fast::hash(&footer) == self.checksums.footer;
        if matches { Ok(()) } else { Err(self.corrupt("its footer is not the one written")) }
    }

    /// Reads the events, in offset order, in the segment schema they were written in.
    ///
    /// # Errors
    /// When the file cannot be opened or its footer cannot be understood.
    pub fn read(
        &self,
        schema: &arrow::datatypes::SchemaRef,
    ) -> Result<SegmentRows<'_>, StoreError> {
        read::rows(self, schema)
    }

    pub(crate) fn open(&self) -> Result<File, StoreError> {
        File::open(&self.path).map_err(|error| self.unreadable(&error))
    }

    /// The file goes with its last reader.
    pub(crate) fn condemn(&self) {
        self.condemned.store(true, Ordering::Release);
    }

    /// The manifest names it: undoes [`Segment::condemn`].
    pub(crate) fn keep(&self) {
        self.condemned.store(false, Ordering::Release);
    }

    pub(crate) fn corrupt(&self, reason: &str) -> StoreError {
        let place = format!("{} of {}: {reason}", self.path.display(), self.id);
        StoreError::corrupt(self.group, "a segment", place)
    }

    /// A file that should be there and cannot be read is as bad as one with other content.
    fn unreadable(&self, error: &std::io::Error) -> StoreError {
        self.corrupt(&format!("cannot be read: {error}"))
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        if !self.condemned.load(Ordering::Acquire) {
            return;
        }
        // What stays is removed at the next start.
        match removal::remove_segment(&self.path) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => {
                tracing::warn!(path = %self.path.display(), %error, "cannot remove a segment");
            }
        }
    }
}

/// The footer of a Parquet file with everything after it.
pub(crate) fn read_footer(file: &mut File) -> std::io::Result<Vec<u8>> {
    let invalid = |reason: &str| std::io::Error::new(std::io::ErrorKind::InvalidData, reason);
    let length = file.seek(SeekFrom::End(0))?;
    if length < TRAILER_BYTES {
        return Err(invalid("it is too short"));
    }
    file.seek(SeekFrom::Start(length - TRAILER_BYTES))?;
    let mut trailer = [0; 8];
    file.read_exact(&mut trailer)?;
    let [a, b, c, d, magic @ ..] = trailer;
    if &magic != MAGIC {
        return Err(invalid("it does not end like a Parquet file"));
    }
    let footer_bytes = u64::from(u32::from_le_bytes([a, b, c, d])) + TRAILER_BYTES;
    let Some(start) = length.checked_sub(footer_bytes) else {
        return Err(invalid("its footer is longer than the file"));
    };
    file.seek(SeekFrom::Start(start))?;
    let mut footer = Vec::new();
    file.read_to_end(&mut footer)?;
    Ok(footer)
}

/// The name of a segment's file.
pub(crate) fn file_name(id: SegmentId) -> String {
    format!("{:020}.parquet", id.0)
}

/// Removes files that no manifest row names: what a crash left between writing a file and the
/// manifest, or between the manifest and unlinking. Files on their way in stay where they can
/// serve.
pub(crate) fn clear_files(
    shared: &Shared,
    known: &BTreeMap<GroupId, BTreeSet<SegmentId>>,
) -> Result<(), StoreError> {
    let root = shared.dir.join("segments");
    let none = BTreeSet::new();
    for dir in files::list(&root)? {
        if !dir.is_dir() {
            tracing::warn!(path = %dir.display(), "a file that is not ours; left alone");
            continue;
        }
        let group = name(&dir).parse().ok().map(GroupId);
        let ids = group.and_then(|group| known.get(&group));
        for path in files::list(&dir)? {
            if take::is_incoming(&path) {
                take::clear_at_start(&path, ids.is_some())?;
                continue;
            }
            let id = name(&path).strip_suffix(".parquet").and_then(|id| id.parse().ok());
            if let Some(id) = id {
                shared.skip_segment_ids(SegmentId(id));
            }
            let kept = id.is_some_and(|id| ids.unwrap_or(&none).contains(&SegmentId(id)));
            if !kept {
                std::fs::remove_file(&path).map_err(StoreError::io("remove", &path))?;
                tracing::info!(path = %path.display(), "removed a file that nothing names");
            }
        }
        if ids.is_none() {
            std::fs::remove_dir(&dir).map_err(StoreError::io("remove", &dir))?;
        }
    }
    Ok(())
}

fn name(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
}
