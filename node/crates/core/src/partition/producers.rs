//! Recognises the retries of producers, so that each batch counts once.
//!
//! A producer numbers its batches for a stream 0, 1, 2 … over all its lives, and each batch is
//! proposed to every partition of the stream, with no events where none fall. So in each partition
//! the sequences of a producer are dense, and the last one says what comes next. Checked at apply,
//! not at propose: a batch proposed twice, by two owners or by an impatient client, is in the log
//! twice and counts once.
//!
//! An epoch is one life of a producer. A newer one takes over by a fence, which also tells it where
//! to go on, or by its first batch, whatever becomes of that batch; every older one is fenced from
//! then on. Sequences go on over epochs.
//!
//! A producer idle for [`PRODUCER_IDLE_MAX`] is forgotten, by the times in the log only. It is then
//! as one that was never seen: its next batch must have sequence 0.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::command::Stamp;
use crate::codec::{Malformed, Reader, Writer};
use crate::ids::{Epoch, Offset, ProducerId, Sequence};
use crate::time::Time;

/// Batches of a producer whose offsets are remembered: more than a client has in flight. A retry of
/// an older one is still seen, only its offsets are not known.
pub const REMEMBERED_MAX: usize = 8;

/// How long a producer may be silent before it is forgotten: longer than a long weekend of a
/// stopped client, short enough that producers of one-off jobs do not pile up.
pub const PRODUCER_IDLE_MAX: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// What a partition knows of one producer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProducerState {
    /// The newest life seen.
    pub epoch: Epoch,
    /// The sequence of the next batch.
    pub next: Sequence,
    /// The last batches, oldest first; at most [`REMEMBERED_MAX`], none before the first batch.
    pub window: VecDeque<Remembered>,
    /// When the last batch was appended, or the producer fenced.
    pub last_appended_at: Time,
}

/// A batch that was applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remembered {
    /// Its sequence.
    pub sequence: Sequence,
    /// Its events are `[first, end)`.
    pub first: Offset,
    /// See `first`.
    pub end: Offset,
    /// What the producer said of its source.
    pub position: u64,
}

/// What a stamp means for the batch that carries it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The next batch: append it, then [`Producers::applied`].
    Next,
    /// Applied before.
    Duplicate { offsets: Option<(Offset, Offset)> },
    /// From a former life.
    Fenced { current: Epoch },
    /// Batches before it are missing.
    OutOfSequence { expected: Sequence },
}

/// The producers of one partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Producers {
    by_id: BTreeMap<ProducerId, ProducerState>,
}

impl ProducerState {
    /// The position said with the last batch.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.window.back().map_or(0, |batch| batch.position)
    }

    fn find(&self, sequence: Sequence) -> Option<&Remembered> {
        self.window.iter().find(|batch| batch.sequence == sequence)
    }
}

impl Producers {
    pub fn iter(&self) -> impl Iterator<Item = (ProducerId, &ProducerState)> {
        self.by_id.iter().map(|(&id, state)| (id, state))
    }

    pub fn get(&self, producer: ProducerId) -> Option<&ProducerState> {
        self.by_id.get(&producer)
    }

    /// Judges a batch by its stamp and lets a newer epoch take over.
    pub fn judge(&mut self, stamp: &Stamp) -> Verdict {
        let Some(known) = self.by_id.get_mut(&stamp.producer) else {
            return match stamp.sequence {
                Sequence(0) => Verdict::Next,
                Sequence(_) => Verdict::OutOfSequence { expected: Sequence(0) },
            };
        };
        if stamp.epoch < known.epoch {
            return Verdict::Fenced { current: known.epoch };
        }
        known.epoch = stamp.epoch;
        if stamp.sequence < known.next {
            let offsets = known.find(stamp.sequence).map(|batch| (batch.first, batch.end));
            return Verdict::Duplicate { offsets };
        }
        if stamp.sequence == known.next {
            return Verdict::Next;
        }
        Verdict::OutOfSequence { expected: known.next }
    }

    /// Remembers a batch that was judged [`Verdict::Next`].
    pub fn applied(&mut self, stamp: &Stamp, first: Offset, end: Offset, appended_at: Time) {
        let state = self.known(stamp.producer, stamp.epoch, appended_at);
        state.next = stamp.sequence.next();
        state.last_appended_at = appended_at;
        if state.window.len() == REMEMBERED_MAX {
            state.window.pop_front();
        }
        let Stamp { sequence, position, .. } = *stamp;
        state.window.push_back(Remembered { sequence, first, end, position });
    }

    /// Lets an epoch take over where it is newer, and says what is known of its producer.
    pub fn fence(&mut self, producer: ProducerId, epoch: Epoch, now: Time) -> &ProducerState {
        let state = self.known(producer, epoch, now);
        state.epoch = state.epoch.max(epoch);
        state.last_appended_at = now;
        state
    }

    fn known(&mut self, producer: ProducerId, epoch: Epoch, now: Time) -> &mut ProducerState {
        self.by_id.entry(producer).or_insert_with(|| ProducerState {
            epoch,
            next: Sequence(0),
            window: VecDeque::new(),
            last_appended_at: now,
        })
    }

    /// Forgets who has been idle for [`PRODUCER_IDLE_MAX`].
    pub fn expire(&mut self, now: Time) {
        self.by_id.retain(|_, state| now.since(state.last_appended_at) < PRODUCER_IDLE_MAX);
    }

    pub fn encode(&self, writer: &mut Writer) {
        writer.count(self.by_id.len());
        for (id, state) in &self.by_id {
            writer.u64(id.0);
            writer.u32(state.epoch.0);
            writer.u64(state.next.0);
            writer.i64(state.last_appended_at.0);
            writer.count(state.window.len());
            for batch in &state.window {
                writer.u64(batch.sequence.0);
                writer.u64(batch.first.0);
                writer.u64(batch.end.0);
                writer.u64(batch.position);
            }
        }
    }

    pub fn decode(reader: &mut Reader<'_>) -> Result<Producers, Malformed> {
        let mut by_id = BTreeMap::new();
        for _ in 0..reader.count(24)? {
            let id = ProducerId(reader.u64()?);
            let state = decode_state(reader)?;
            if by_id.insert(id, state).is_some() {
                return Err(Malformed::inconsistent(format!("producer {id} is there twice")));
            }
        }
        Ok(Producers { by_id })
    }
}

fn decode_state(reader: &mut Reader<'_>) -> Result<ProducerState, Malformed> {
    let epoch = Epoch(reader.u32()?);
    let next = Sequence(reader.u64()?);
    let last_appended_at = Time(reader.i64()?);
    let count = reader.count(32)?;
    if REMEMBERED_MAX < count {
        return Err(Malformed::inconsistent(format!("{count} batches of one producer")));
    }
    let mut window = VecDeque::with_capacity(REMEMBERED_MAX);
    for _ in 0..count {
        window.push_back(Remembered {
            sequence: Sequence(reader.u64()?),
            first: Offset(reader.u64()?),
            end: Offset(reader.u64()?),
            position: reader.u64()?,
        });
    }
    let last = window.back().map(|batch: &Remembered| batch.sequence.0);
    if last.is_some_and(|last| next.0.checked_sub(1) != Some(last)) {
        return Err(Malformed::inconsistent("a producer's next batch does not follow its last"));
    }
    Ok(ProducerState { epoch, next, window, last_appended_at })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of a producer whose last batch has the sequence `last`, and whose next one `next`.
    fn written(last: u64, next: u64) -> Vec<u8> {
        let mut writer = Writer::new();
        writer.u32(1);
        writer.u64(next);
        writer.i64(0);
        writer.count(1);
        for number in [last, 0, 1, 0] {
            writer.u64(number);
        }
        writer.finish().to_vec()
    }

    #[test]
    fn a_last_sequence_that_nothing_can_follow_is_malformed() {
        for (last, next, is_good) in [(7, 8, true), (7, 9, false), (u64::MAX, 0, false)] {
            let bytes = written(last, next);
            let decoded = decode_state(&mut Reader::new(&bytes));
            assert_eq!(decoded.is_ok(), is_good, "{last}, then {next}: {decoded:?}");
        }
    }
}
