//! The row of a view in one partition: how far it is, and what it counts.
//!
//! Little endian, in the order of the fields of [`Row`], after the version of the row and that of
//! keys; an absent time is written as `i64::MIN`.

use alluvium_core::ids::Offset;

use super::error::CorruptState;
use crate::group::KEY_VERSION;

/// Of the form of the row and of groups' values.
const ROW_VERSION: u8 = 1;
const ROW_BYTES: usize = 2 + 8 + 8 + 8 + 8 + 8 + 4 * 8 + 8 + 16;

/// Where the events of a view went. Together they are all from its start on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Belong to a group.
    pub folded: u64,
    /// The view's own filter is not true for them.
    pub filtered: u64,
    /// Their window was past retention.
    pub expired: u64,
    /// Set aside, because an expression failed or a group had no room.
    pub quarantined: u64,
}

impl Counts {
    /// All of them.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.folded + self.filtered + self.expired + self.quarantined
    }

    /// What came after `before`.
    #[must_use]
    pub(super) fn since(&self, before: Counts) -> Counts {
        Counts {
            folded: self.folded - before.folded,
            filtered: self.filtered - before.filtered,
            expired: self.expired - before.expired,
            quarantined: self.quarantined - before.quarantined,
        }
    }
}

/// What a stored row says to those who do not open it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredProgress {
    /// Everything before it is folded.
    pub next: Offset,
    /// Of the groups stored with it: the wrapping sum of their [`super::group_hash`].
    pub digest: u128,
}

impl StoredProgress {
    /// Of the row that a checkpoint stored.
    ///
    /// # Errors
    /// When it is none.
    pub fn of(row: &[u8]) -> Result<StoredProgress, CorruptState> {
        let fingerprint = row.get(2..10).ok_or(CorruptState::Malformed)?;
        let fingerprint = u64::from_le_bytes(fingerprint.try_into().expect("eight bytes"));
        let row = Row::decode(row, fingerprint)?;
        Ok(StoredProgress { next: row.next, digest: row.digest })
    }
}

/// What is stored beside the groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub fingerprint: u64,
    pub start: Offset,
    pub next: Offset,
    /// The latest event time, in microseconds.
    pub newest: Option<i64>,
    /// Windows that end up to here have been dropped.
    pub dropped: Option<i64>,
    pub counts: Counts,
    pub groups: u64,
    pub digest: u128,
}

impl Row {
    /// Of a view that has not met an event.
    pub(super) fn new(fingerprint: u64, start: Offset) -> Row {
        Row {
            fingerprint,
            start,
            next: start,
            newest: None,
            dropped: None,
            counts: Counts::default(),
            groups: 0,
            digest: 0,
        }
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(ROW_BYTES);
        bytes.extend_from_slice(&[ROW_VERSION, KEY_VERSION]);
        bytes.extend_from_slice(&self.fingerprint.to_le_bytes());
        bytes.extend_from_slice(&self.start.0.to_le_bytes());
        bytes.extend_from_slice(&self.next.0.to_le_bytes());
        for time in [self.newest, self.dropped] {
            bytes.extend_from_slice(&time.unwrap_or(i64::MIN).to_le_bytes());
        }
        let Counts { folded, filtered, expired, quarantined } = self.counts;
        for count in [folded, filtered, expired, quarantined, self.groups] {
            bytes.extend_from_slice(&count.to_le_bytes());
        }
        bytes.extend_from_slice(&self.digest.to_le_bytes());
        bytes
    }

    pub(super) fn decode(bytes: &[u8], fingerprint: u64) -> Result<Row, CorruptState> {
        let (&[row_version, key_version], _) =
            bytes.split_first_chunk().ok_or(CorruptState::Malformed)?;
        if row_version != ROW_VERSION {
            return Err(CorruptState::OtherForm { what: "version of the row" });
        }
        if key_version != KEY_VERSION {
            return Err(CorruptState::OtherForm { what: "version of keys" });
        }
        if bytes.len() != ROW_BYTES {
            return Err(CorruptState::Malformed);
        }
        let number = |place: usize| {
            let at = 2 + place * 8;
            u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
        };
        let time = |place| Some(number(place).cast_signed()).filter(|&time| time != i64::MIN);
        if number(0) != fingerprint {
            return Err(CorruptState::OtherForm { what: "definition" });
        }
        Ok(Row {
            fingerprint,
            start: Offset(number(1)),
            next: Offset(number(2)),
            newest: time(3),
            dropped: time(4),
            counts: Counts {
                folded: number(5),
                filtered: number(6),
                expired: number(7),
                quarantined: number(8),
            },
            groups: number(9),
            digest: u128::from(number(10)) | u128::from(number(11)) << 64,
        })
    }
}
