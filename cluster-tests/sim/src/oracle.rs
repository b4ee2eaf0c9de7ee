//! Sees everything and forgets nothing: checks the promises that no single node can check.
//!
//! Everything is compared when it happens, against what was seen before: nothing is collected for
//! the end, so a failure is reported at the step that broke the promise.

use std::collections::BTreeMap;

use alluvium_core::ids::{Index, NodeId, Term};
use alluvium_core::invariant::Invariant;
use alluvium_core::partition::Appended;
use alluvium_core::replica::{EntryKind, HardState, LogEntry, LogPosition};

use crate::disk::Stored;
use crate::hash::Hash;
use crate::violation::{Violation, ensure};

/// One event of the load: who made it, in which batch, at which place of the batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Value(pub u64);

impl Value {
    /// Bytes of one event in a payload.
    pub const BYTES: usize = 8;

    /// The event number `row` of a batch.
    #[must_use]
    pub fn new(producer: u64, sequence: u64, row: u64) -> Value {
        Value(producer << 48 | sequence << 8 | row)
    }

    /// Producer and sequence: names the batch.
    #[must_use]
    pub fn batch(self) -> (u64, u64) {
        (self.0 >> 48, self.0 >> 8 & 0xff_ffff_ffff)
    }

    fn row(self) -> u64 {
        self.0 & 0xff
    }
}

/// A command everybody must agree on.
#[derive(Clone, Copy, Debug)]
struct Agreed {
    term: Term,
    /// The term of the replica that executed it first: it was agreed in that one or before.
    agreed_in: Term,
    state: u64,
}

/// What was seen so far.
#[derive(Default)]
pub struct Oracle {
    leaders: BTreeMap<Term, NodeId>,
    entries: BTreeMap<(Index, Term), u64>,
    agreed: BTreeMap<Index, Agreed>,
    promised: BTreeMap<NodeId, HardState>,
    checkpoints: BTreeMap<NodeId, LogPosition>,
    values: Vec<Value>,
    placed: BTreeMap<(u64, u64), u64>,
    last_of: BTreeMap<u64, u64>,
    acked_end: u64,
}

impl Oracle {
    /// I1, I3 and I8: a replica leads from now on.
    ///
    /// # Errors
    /// When another one led that term, its log lacks something agreed, or changes of voters overlap
    /// in it.
    pub fn leads(&mut self, node: NodeId, term: Term, stored: &Stored) -> Result<(), Violation> {
        let known = *self.leaders.entry(term).or_insert(node);
        ensure(Invariant::OneLeaderPerTerm, known == node, || {
            format!("{known} and {node} both lead {term}")
        })?;
        // A candidate may win an old term late: what was agreed in newer ones does not concern it.
        let before = self.agreed.iter().filter(|(_, agreed)| agreed.agreed_in < term);
        for (&index, agreed) in before {
            let at = LogPosition { index, term: agreed.term };
            ensure(Invariant::LeaderComplete, stored.has(at), || {
                format!("{node} leads {term} without entry {at}, which was agreed")
            })?;
        }
        changes_alternate(node, stored)
    }

    /// I2: entries are on some disk. An index and term name one entry for ever, and with it
    /// everything before. `joint_matters` is false for a mutant that must not be caught for what it
    /// changed, but for what comes of it.
    ///
    /// # Errors
    /// When the same place held something else.
    pub fn kept<'a>(
        &mut self,
        entries: impl IntoIterator<Item = &'a LogEntry>,
        joint_matters: bool,
    ) -> Result<(), Violation> {
        let mut before: Option<Term> = None;
        for entry in entries {
            let mut hash = Hash::default();
            hash.add_number(match entry.kind {
                EntryKind::Normal => 0,
                EntryKind::ConfChange => 1,
                EntryKind::ConfChangeV2 if !joint_matters && entry.data.is_empty() => 0,
                EntryKind::ConfChangeV2 => 2,
            });
            hash.add(&entry.data);
            let seen = *self.entries.entry((entry.index, entry.term)).or_insert(hash.value());
            let rising = before.is_none_or(|before| before <= entry.term);
            ensure(Invariant::LogsMatch, seen == hash.value() && rising, || {
                format!("two entries at {}", entry.position())
            })?;
            before = Some(entry.term);
        }
        Ok(())
    }

    /// I5 and I7: a vote, a term, or an answer of that term left the node.
    ///
    /// # Errors
    /// When the node promised something else in that term.
    pub fn promised(&mut self, node: NodeId, state: HardState) -> Result<(), Violation> {
        let known = self.promised.entry(node).or_default();
        let voted_otherwise =
            known.term == state.term && known.vote.is_some() && known.vote != state.vote;
        ensure(Invariant::OneVotePerTerm, !voted_otherwise, || {
            format!("{node} voted for {:?}, then {:?} in {}", known.vote, state.vote, state.term)
        })?;
        ensure(Invariant::ProgressNeverGoesBack, known.term <= state.term, || {
            format!("{node} went from {} back to {}", known.term, state.term)
        })?;
        *known = state;
        Ok(())
    }

    /// I5 and I7: a node comes back with this on its disk.
    ///
    /// # Errors
    /// When the disk forgot what the node promised, or contradicts itself.
    pub fn restarts(&mut self, node: NodeId, stored: &Stored) -> Result<(), Violation> {
        let state = stored.hard_state;
        let promised = self.promised.get(&node).copied().unwrap_or_default();
        let kept = promised.term < state.term
            || promised.term == state.term
                && (promised.vote.is_none() || promised.vote == state.vote);
        ensure(Invariant::OneVotePerTerm, kept, || {
            format!("{node} promised {promised:?} and came back with {state:?}")
        })?;
        ensure(Invariant::TruncatedBelowCheckpoint, stored.truncated == stored.checkpoint, || {
            format!("{node}: log cut at {}, checkpoint at {}", stored.truncated, stored.checkpoint)
        })?;
        let last = stored.last().index;
        ensure(Invariant::ProgressNeverGoesBack, state.commit <= last, || {
            format!("{node}: commit {} is behind the log's end {last}", state.commit)
        })
    }

    /// I7: a sync is done.
    ///
    /// # Errors
    /// When the checkpoint went back.
    pub fn synced(&mut self, node: NodeId, stored: &Stored) -> Result<(), Violation> {
        let known = self.checkpoints.entry(node).or_default();
        ensure(Invariant::ProgressNeverGoesBack, *known <= stored.checkpoint, || {
            format!("{node}: checkpoint {known} became {}", stored.checkpoint)
        })?;
        *known = stored.checkpoint;
        Ok(())
    }

    /// A node removed its replica: the next one begins without a checkpoint.
    pub fn removed(&mut self, node: NodeId) {
        self.checkpoints.remove(&node);
    }

    /// I4 and I17: a replica executed the command at `at` and is in `state` since, being in the
    /// term `agreed_in`. Gives whether it is the first to.
    ///
    /// # Errors
    /// When another replica executed something else there, or is in another state.
    pub fn executed(
        &mut self,
        node: NodeId,
        at: LogPosition,
        agreed_in: Term,
        state: u64,
    ) -> Result<bool, Violation> {
        if let Some(agreed) = self.agreed.get(&at.index) {
            ensure(Invariant::OneCommandPerIndex, agreed.term == at.term, || {
                format!("{node} executed {at}, where {} was agreed before", agreed.term)
            })?;
            ensure(Invariant::ReplicasAgree, agreed.state == state, || {
                format!("{node} has another state than those before it at {at}")
            })?;
            return Ok(false);
        }
        let last = self.agreed.last_key_value().map_or(Index(0), |(&index, _)| index);
        ensure(Invariant::OneCommandPerIndex, last < at.index, || {
            format!("{node} executed a command at {at}, where others had none")
        })?;
        self.agreed.insert(at.index, Agreed { term: at.term, agreed_in, state });
        Ok(true)
    }

    /// I9: a replica took over a checkpoint.
    ///
    /// # Errors
    /// When its state is not the one everybody had there.
    pub fn installed(&self, node: NodeId, at: LogPosition, state: u64) -> Result<(), Violation> {
        let before = self.agreed.range(..=at.index).next_back();
        let same = before.is_none_or(|(_, agreed)| agreed.state == state);
        ensure(Invariant::CheckpointEqualsReplay, same, || {
            format!("{node} installed a checkpoint at {at} that differs from the log")
        })
    }

    /// I11 and I12: an append was agreed, seen for the first time.
    ///
    /// # Errors
    /// When offsets have a gap, or a batch comes twice, in parts or out of order.
    pub fn appended(&mut self, appended: &Appended) -> Result<(), Violation> {
        let end = self.values.len() as u64;
        ensure(Invariant::OffsetsDense, appended.first.0 == end, || {
            format!("append begins at {}, the log ends at {end}", appended.first)
        })?;
        let (words, _) = appended.payload.as_chunks::<{ Value::BYTES }>();
        for rows in &appended.kept {
            for word in &words[rows.start as usize..rows.end as usize] {
                self.place(Value(u64::from_le_bytes(*word)))?;
            }
        }
        let end = self.values.len() as u64;
        ensure(Invariant::OffsetsDense, appended.end.0 == end, || {
            format!("append ends at {}, with {end} events in the log", appended.end)
        })
    }

    /// I11: a producer was told that its batch is kept.
    ///
    /// # Errors
    /// When it is not there, or elsewhere than said.
    pub fn acked(
        &mut self,
        values: &[Value],
        offsets: Option<(u64, u64)>,
    ) -> Result<(), Violation> {
        let Some(first) = values.first() else { return Ok(()) };
        let placed = self.placed.get(&first.batch()).copied();
        let (Some(start), count) = (placed, values.len() as u64) else {
            return Err(Violation::new(
                Invariant::AckedExactlyOnce,
                format!("batch {:?} was acknowledged and is not there", first.batch()),
            ));
        };
        let found = self.values.get(start as usize..(start + count) as usize);
        ensure(Invariant::AckedExactlyOnce, found == Some(values), || {
            format!("batch {:?} is at {start} with other events: {found:?}", first.batch())
        })?;
        let told = offsets.is_none_or(|offsets| offsets == (start, start + count));
        ensure(Invariant::AckedExactlyOnce, told, || {
            format!("batch {:?} is at {start}, its producer heard {offsets:?}", first.batch())
        })?;
        self.acked_end = self.acked_end.max(start + count);
        Ok(())
    }

    /// The end of everything acknowledged: what a linearizable read begun now must see.
    #[must_use]
    pub fn acked_end(&self) -> u64 {
        self.acked_end
    }

    /// Events in the log.
    #[must_use]
    pub fn event_count(&self) -> u64 {
        self.values.len() as u64
    }

    fn place(&mut self, value: Value) -> Result<(), Violation> {
        let (producer, sequence) = value.batch();
        let offset = self.values.len() as u64;
        self.values.push(value);
        if value.row() == 0 {
            let twice = self.placed.insert((producer, sequence), offset).is_some();
            ensure(Invariant::AckedExactlyOnce, !twice, || {
                format!("batch {sequence} of producer {producer} is there twice")
            })?;
            let last = self.last_of.insert(producer, sequence);
            let rising = last.is_none_or(|last| last < sequence);
            return ensure(Invariant::AckedExactlyOnce, rising, || {
                format!("batch {sequence} of producer {producer} comes after {last:?}")
            });
        }
        let before = offset.checked_sub(1).map(|before| self.values[before as usize]);
        let follows = before == Some(Value(value.0 - 1));
        ensure(Invariant::AckedExactlyOnce, follows, || {
            format!("batch {sequence} of producer {producer} is torn: {before:?}, {value:?}")
        })
    }
}

/// I8: a change of members leads into a joint configuration, and the next one leads out of it. A
/// log begins outside of one, because no checkpoint is taken inside.
fn changes_alternate(node: NodeId, stored: &Stored) -> Result<(), Violation> {
    let mut joint = false;
    let entries = stored.entries.values();
    for entry in entries.filter(|entry| entry.kind == EntryKind::ConfChangeV2) {
        let leaves = entry.data.is_empty();
        ensure(Invariant::OneChangeOfVoters, leaves == joint, || {
            format!("{node}: the change at {} begins inside another", entry.position())
        })?;
        joint = !leaves;
    }
    Ok(())
}
