//! The log in memory: every entry not yet truncated, sharing its bytes with whoever else holds
//! them.
//!
//! The Raft library reads entries from here, never from disk. Appending here does not make anything
//! durable; that is known through [`super::Input::Persisted`].

use std::collections::VecDeque;

use super::config::ReplicaError;
use super::entry::{LogEntry, LogPosition};
use crate::ids::{Index, Term};

/// Entries after `truncated`, without gap.
#[derive(Debug, Default)]
pub(super) struct MemoryLog {
    truncated: LogPosition,
    entries: VecDeque<LogEntry>,
    bytes: u64,
    /// Last entry that a durable checkpoint contains.
    covered: Index,
    /// Size of the entries up to there.
    covered_bytes: u64,
}

impl MemoryLog {
    /// Checks what the store found.
    pub(super) fn restore(
        truncated: LogPosition,
        entries: Vec<LogEntry>,
        term_max: Term,
    ) -> Result<MemoryLog, ReplicaError> {
        let mut before = truncated;
        if term_max < truncated.term {
            return Err(ReplicaError::TermOutOfOrder {
                index: truncated.index,
                found: truncated.term,
                min: Term(0),
                max: term_max,
            });
        }
        for entry in &entries {
            let expected = before.index.next();
            if entry.index != expected {
                return Err(ReplicaError::Gap { expected, found: entry.index });
            }
            if entry.term < before.term || term_max < entry.term {
                return Err(ReplicaError::TermOutOfOrder {
                    index: entry.index,
                    found: entry.term,
                    min: before.term,
                    max: term_max,
                });
            }
            before = entry.position();
        }
        let bytes = entries.iter().map(LogEntry::size_bytes).sum();
        let covered = truncated.index;
        Ok(MemoryLog { truncated, entries: entries.into(), bytes, covered, covered_bytes: 0 })
    }

    /// Where the log begins: the entry before its first.
    pub(super) fn truncated(&self) -> LogPosition {
        self.truncated
    }

    /// Where the log ends.
    pub(super) fn last(&self) -> LogPosition {
        self.entries.back().map_or(self.truncated, LogEntry::position)
    }

    /// Size of the entries that no durable checkpoint contains.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes - self.covered_bytes
    }

    /// Last entry that a durable checkpoint contains.
    pub(super) fn covered(&self) -> Index {
        self.covered
    }

    /// The term at `index`, when that is known.
    pub(super) fn term(&self, index: Index) -> Option<Term> {
        if index == self.truncated.index {
            return Some(self.truncated.term);
        }
        self.get(index).map(|entry| entry.term)
    }

    /// The entries from `first` up to `end`, at most `bytes_max` of them but at least one.
    /// Everything asked for must be held.
    pub(super) fn range(
        &self,
        first: Index,
        end: Index,
        bytes_max: Option<u64>,
    ) -> impl Iterator<Item = &LogEntry> {
        let start = self.place(first).expect("the caller asks after the truncated part");
        let count = usize::try_from(end.0 - first.0).expect("a log in memory is short");
        let mut bytes = 0;
        let mut taken = 0;
        self.entries.range(start..start + count).take_while(move |entry| {
            bytes += entry.size_bytes();
            taken += 1;
            taken == 1 || bytes_max.is_none_or(|bytes_max| bytes <= bytes_max)
        })
    }

    /// Adds entries; those already there from the first index on are replaced.
    pub(super) fn append(&mut self, entries: impl IntoIterator<Item = LogEntry>) {
        for entry in entries {
            while entry.index <= self.last().index {
                let replaced = self.entries.pop_back().expect("the last entry is after truncated");
                self.bytes -= replaced.size_bytes();
            }
            self.bytes += entry.size_bytes();
            self.entries.push_back(entry);
        }
    }

    /// A durable checkpoint contains everything up to `through`.
    pub(super) fn cover(&mut self, through: Index) {
        let through = through.min(self.last().index);
        if through <= self.covered {
            return;
        }
        let newly = self.range(self.covered.next(), through.next(), None);
        let bytes: u64 = newly.map(LogEntry::size_bytes).sum();
        self.covered_bytes += bytes;
        self.covered = through;
    }

    /// Drops from what is covered everything up to `needed`, and more while it is larger than
    /// `bytes_max`.
    pub(super) fn drop_covered(&mut self, needed: Index, bytes_max: u64) {
        while let Some(entry) = self.entries.front()
            && entry.index <= self.covered
            && (entry.index <= needed || bytes_max < self.covered_bytes)
        {
            self.truncated = entry.position();
            self.bytes -= entry.size_bytes();
            self.covered_bytes -= entry.size_bytes();
            self.entries.pop_front();
        }
    }

    /// Forgets everything: the log begins after a checkpoint at `position`.
    pub(super) fn install(&mut self, position: LogPosition) {
        let covered = position.index;
        *self = MemoryLog { truncated: position, covered, ..MemoryLog::default() };
    }

    fn get(&self, index: Index) -> Option<&LogEntry> {
        self.entries.get(self.place(index)?)
    }

    fn place(&self, index: Index) -> Option<usize> {
        let after = index.0.checked_sub(self.truncated.index.0 + 1)?;
        usize::try_from(after).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::super::entry::EntryKind;
    use super::*;
    use bytes::Bytes;

    fn entry(index: u64, term: u64) -> LogEntry {
        LogEntry {
            index: Index(index),
            term: Term(term),
            kind: EntryKind::Normal,
            context: Bytes::new(),
            data: Bytes::from(vec![0; 100]),
        }
    }

    fn indices<'a>(entries: impl Iterator<Item = &'a LogEntry>) -> Vec<u64> {
        entries.map(|entry| entry.index.0).collect()
    }

    #[test]
    fn a_hole_or_a_term_going_back_is_refused() {
        let start = LogPosition { index: Index(4), term: Term(2) };
        let cases = [
            (vec![entry(5, 2), entry(6, 3)], true),
            (vec![entry(6, 2)], false),
            (vec![entry(5, 2), entry(7, 2)], false),
            (vec![entry(5, 1)], false),
            (vec![entry(5, 9)], false),
        ];
        assert!(MemoryLog::restore(start, Vec::new(), Term(1)).is_err(), "term behind the log");
        for (entries, accepted) in cases {
            let restored = MemoryLog::restore(start, entries.clone(), Term(3));
            assert_eq!(restored.is_ok(), accepted, "{entries:?}");
        }
    }

    #[test]
    fn appending_replaces_and_truncating_keeps_the_position() {
        let mut log = MemoryLog::default();
        log.append([entry(1, 1), entry(2, 1), entry(3, 1)]);
        log.append([entry(2, 2)]);
        assert_eq!(log.last(), LogPosition { index: Index(2), term: Term(2) });
        assert_eq!(log.bytes(), 2 * entry(1, 1).size_bytes());
        log.cover(Index(1));
        log.drop_covered(Index(9), 0);
        assert_eq!(log.truncated(), LogPosition { index: Index(1), term: Term(1) });
        assert_eq!(log.term(Index(1)), Some(Term(1)));
        assert_eq!(log.term(Index(0)), None);
        log.cover(Index(9));
        log.drop_covered(Index(9), 0);
        assert_eq!(log.truncated(), LogPosition { index: Index(2), term: Term(2) });
        assert_eq!(log.bytes(), 0);
    }

    #[test]
    fn what_is_needed_stays_up_to_a_bound() {
        let size = entry(1, 1).size_bytes();
        let mut log = MemoryLog::default();
        log.append((1..=8).map(|index| entry(index, 1)));
        log.cover(Index(5));
        assert_eq!((log.bytes(), log.covered()), (3 * size, Index(5)));
        log.drop_covered(Index(1), 10 * size);
        assert_eq!(log.truncated().index, Index(1), "2 is needed and there is room");
        log.drop_covered(Index(1), 3 * size);
        assert_eq!(log.truncated().index, Index(2), "2 is needed, but there is no room for it");
        log.drop_covered(Index(7), 3 * size);
        assert_eq!(log.truncated().index, Index(5), "what is not covered stays");
        assert_eq!(log.bytes(), 3 * size);
    }

    #[test]
    fn a_range_is_limited_but_never_empty() {
        let mut log = MemoryLog::default();
        log.append((1..=5).map(|index| entry(index, 1)));
        assert_eq!(indices(log.range(Index(2), Index(6), None)), [2, 3, 4, 5]);
        assert_eq!(indices(log.range(Index(2), Index(6), Some(1))), [2]);
        let two = 2 * entry(1, 1).size_bytes();
        assert_eq!(indices(log.range(Index(2), Index(6), Some(two))), [2, 3]);
    }
}
