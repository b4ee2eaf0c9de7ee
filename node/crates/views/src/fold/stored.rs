//! What a view needs from whatever stores its groups, and what it gives to be stored.

use std::ops::ControlFlow;

use alluvium_core::ids::Offset;
use arrow::array::RecordBatch;
use xxhash_rust::xxh3::xxh3_128;

use super::error::StoredError;

/// Keys from `start` on, up to but without `end`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRange {
    /// The first.
    pub start: Vec<u8>,
    /// Where it ends; `None`: nowhere.
    pub end: Option<Vec<u8>>,
}

impl KeyRange {
    /// All keys.
    #[must_use]
    pub fn all() -> KeyRange {
        KeyRange { start: Vec::new(), end: None }
    }

    /// The keys that begin with these bytes.
    #[must_use]
    pub fn prefix(prefix: &[u8]) -> KeyRange {
        let kept = prefix.iter().rposition(|&byte| byte != 0xFF).map_or(0, |last| last + 1);
        let mut end = prefix[..kept].to_vec();
        let end = end.last_mut().map(|last| *last += 1).map(|()| end);
        KeyRange { start: prefix.to_vec(), end }
    }

    /// Whether a key lies in it.
    #[must_use]
    pub fn contains(&self, key: &[u8]) -> bool {
        self.start.as_slice() <= key && self.end.as_ref().is_none_or(|end| key < end.as_slice())
    }
}

/// Is shown the key and the value of a group, and says whether to go on.
pub type Visit<'a> = dyn FnMut(&[u8], &[u8]) -> ControlFlow<()> + 'a;

/// The groups of one view in one partition, as the last checkpoint left them.
pub trait StoredGroups {
    /// The groups of these keys.
    ///
    /// # Errors
    /// When they cannot be read.
    fn get(&self, keys: &[&[u8]]) -> Result<Vec<Option<Vec<u8>>>, StoredError>;

    /// Shows the groups in a range of keys, in order, until told to stop.
    ///
    /// # Errors
    /// When they cannot be read.
    fn scan(&self, range: &KeyRange, visit: &mut Visit<'_>) -> Result<(), StoredError>;
}

/// What has changed since the checkpoint before, to be stored as one.
#[derive(Clone, Debug, Default)]
pub struct Checkpoint {
    /// What [`super::ViewState::open`] takes.
    pub row: Vec<u8>,
    /// Groups by their keys, in no order. None is among the deleted ones.
    pub puts: Vec<(Vec<u8>, Vec<u8>)>,
    /// Keys of groups that are no more, beside those in `delete_ranges`.
    pub deletes: Vec<Vec<u8>>,
    /// Windows past retention.
    pub delete_ranges: Vec<KeyRange>,
    /// Events that were set aside.
    pub quarantined: Vec<Quarantined>,
    /// Everything before it is folded.
    pub next: Offset,
}

/// An event that could not be folded.
#[derive(Clone, Debug)]
pub struct Quarantined {
    /// Where it is.
    pub offset: Offset,
    /// Why.
    pub reason: String,
    /// The columns that the view reads of it, as one row.
    pub event: RecordBatch,
}

/// What a group adds to the digest, which is the wrapping sum over all groups.
#[must_use]
pub fn group_hash(key: &[u8], value: &[u8]) -> u128 {
    let mut bytes = Vec::with_capacity(4 + key.len() + value.len());
    bytes.extend_from_slice(&u32::try_from(key.len()).unwrap_or(u32::MAX).to_le_bytes());
    bytes.extend_from_slice(key);
    bytes.extend_from_slice(value);
    xxh3_128(&bytes)
}
