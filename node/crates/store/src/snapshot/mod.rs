//! Snapshots: what a replica that is behind its leader's log is given instead of entries.
//!
//! A snapshot is the leader's durable checkpoint with the segments below it. The leader gives it
//! away as a [`GroupSnapshot`]; the follower takes the files in by a [`Staging`], which knows what
//! is here already, and gets a [`Staged`] for them; the log writer then replaces checkpoint,
//! manifest and log of the group in one batch ([`install`]), and
//! [`crate::PartitionLog::install`] shows readers the new segments. Nothing here knows how files
//! travel or when.
//!
//! Files on their way in lie in `segments/<group>/incoming`, named by what they hold, so that a
//! restart or another leader's offer goes on where the former one ended. They get an id and a name
//! of this node only when they are whole.
//!
//! Invariants: checkpoint and segments of a snapshot are of one moment; a file is given an id only
//! after its length, checksum and footer were compared with the offer, and it was synced; a crash
//! at any place leaves the former state of the group or the new one, whole.

pub(crate) mod give;
pub(crate) mod install;
pub(crate) mod take;

use std::path::Path;

use alluvium_core::ids::{GroupId, Offset, SegmentId};
use alluvium_core::replica::LogPosition;
use bytes::Bytes;

pub use give::GroupSnapshot;
pub use install::Staged;
pub use take::Staging;

use crate::error::StoreError;
use crate::segment::{Segment, manifest};

/// Segments in one snapshot. Merging keeps a partition of terabytes far below it.
const SEGMENTS_MAX: usize = 100_000;

/// The largest file that is taken in. Merged files end at 128 MiB; a cut is as large as a tail.
const FILE_BYTES_MAX: u64 = 8 << 30;

/// What a snapshot consists of beside its checkpoint: what travels before the files do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotOffer {
    /// The position of the checkpoint.
    pub position: LogPosition,
    /// The first offset that retention has not taken.
    pub start: Offset,
    /// Where the segments end, and the machine of the checkpoint stands.
    pub sealed_end: Offset,
    /// In offset order, without gaps.
    pub segments: Vec<SegmentOffer>,
}

/// One file of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentOffer {
    /// What the node that gives it away calls it.
    pub id: SegmentId,
    /// Offset of the first event.
    pub first: Offset,
    /// The offset after the last event.
    pub end: Offset,
    /// Length of the file.
    pub file_bytes: u64,
    /// CRC32 of the file.
    pub file_crc: u32,
    /// What the manifest says of it, in the stored form.
    pub row: Bytes,
}

impl SegmentOffer {
    pub(crate) fn new(segment: &Segment) -> SegmentOffer {
        SegmentOffer {
            id: segment.id,
            first: segment.first,
            end: segment.end,
            file_bytes: segment.file_bytes,
            file_crc: segment.checksums.file,
            row: manifest::encode(segment).into(),
        }
    }

    /// Whether a segment that is here is this one.
    fn is(&self, segment: &Segment) -> bool {
        let same_range = self.first == segment.first && self.end == segment.end;
        same_range
            && self.file_crc == segment.checksums.file
            && self.file_bytes == segment.file_bytes
    }

    /// By what it is found again after a restart.
    fn staging_name(&self) -> String {
        let SegmentOffer { first, end, file_crc, .. } = self;
        format!("{:020}-{:020}-{file_crc:08x}.part", first.0, end.0)
    }
}

impl SnapshotOffer {
    /// Bytes of all files.
    #[must_use]
    pub fn file_bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.file_bytes).sum()
    }

    /// The segments as their rows describe them, if the offer is one that can be taken.
    fn describe(&self, group: GroupId, dir: &Path) -> Result<Vec<Segment>, StoreError> {
        let wrong = |reason: String| StoreError::Staging { group, reason };
        if SEGMENTS_MAX < self.segments.len() {
            return Err(wrong(format!("{} segments are offered", self.segments.len())));
        }
        let mut described = Vec::with_capacity(self.segments.len());
        let mut next = self.segments.first().map_or(self.sealed_end, |segment| segment.first);
        if self.start < next || self.sealed_end < self.start {
            let reason = format!("start {} is not in {next}..{}", self.start, self.sealed_end);
            return Err(wrong(reason));
        }
        for offer in &self.segments {
            let segment = manifest::decode(group, offer.id, dir, &offer.row)
                .map_err(|malformed| wrong(format!("the row of {}: {malformed}", offer.id)))?;
            if !offer.is(&segment) {
                return Err(wrong(format!("{} is not what its row says", offer.id)));
            }
            if segment.first != next || self.sealed_end < segment.end {
                let (first, end) = (segment.first, segment.end);
                return Err(wrong(format!("{first}..{end} does not follow {next}")));
            }
            if FILE_BYTES_MAX < segment.file_bytes {
                return Err(wrong(format!("{} has {} bytes", offer.id, segment.file_bytes)));
            }
            next = segment.end;
            described.push(segment);
        }
        if next != self.sealed_end {
            return Err(wrong(format!("the segments end at {next}, not at {}", self.sealed_end)));
        }
        Ok(described)
    }
}
