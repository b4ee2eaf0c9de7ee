//! What happened in a run, counted: a run that never elects, crashes or retries proves nothing.

use std::collections::BTreeMap;
use std::fmt;

/// Something that should happen now and then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Event {
    /// A replica became leader.
    LeaderElected,
    /// A node died.
    Crash,
    /// A node died right after it asked for a write.
    CrashAtWrite,
    /// All nodes died at once.
    CrashOfAll,
    /// A node came back.
    Restart,
    /// Writes asked for and lost in a crash.
    WriteLost,
    /// A write of which only a part reached the disk.
    WriteTorn,
    /// Writes not synced that were there after the crash all the same.
    WriteSurvived,
    /// A sync that took very long.
    SlowSync,
    /// Entries replaced by those of another leader.
    EntryOverwritten,
    /// A log cut below a checkpoint.
    Truncation,
    /// A checkpoint of the leader installed on a follower.
    CheckpointInstalled,
    /// The network split both ways.
    Split,
    /// The network split one way.
    OneWaySplit,
    /// A message lost.
    MessageLost,
    /// A message doubled.
    MessageDoubled,
    /// A message that arrived long after its link was cut.
    MessageHeldUp,
    /// A node heard that another one does not hear it.
    Unreachable,
    /// A node paused.
    Pause,
    /// A replica took several inputs in one step.
    InputsTogether,
    /// A batch acknowledged.
    BatchAcked,
    /// A batch sent again.
    BatchRetried,
    /// A batch recognised as applied before.
    DuplicateRecognised,
    /// A batch that came before an earlier one.
    OutOfSequence,
    /// A batch of a former life of a producer refused.
    Fenced,
    /// A producer opened again.
    ProducerReopened,
    /// A proposal whose outcome was lost with the leader.
    ProposalLost,
    /// A request at a node that does not own the partition.
    NotOwner,
    /// A linearizable read answered.
    ReadAnswered,
    /// A linearizable read refused.
    ReadRefused,
    /// The members changed.
    MembersChanged,
    /// A replica was the first in another configuration.
    ConfigurationEntered,
    /// Learners became voters.
    LearnerPromoted,
    /// The group is where the placement wants it.
    MoveFinished,
    /// Leadership was handed over.
    TransferDone,
    /// A checkpoint was fetched.
    Fetched,
    /// A checkpoint could not be fetched.
    FetchFailed,
    /// A node without a replica was given one.
    ReplicaAdded,
    /// A node removed its replica.
    ReplicaRemoved,
    /// A node that removed its replica was given one again.
    ReplicaBack,
    /// A node was lost with its disk, and another one came in its place.
    NodeLost,
    /// A node lost its power and with it what its disk said was synced.
    SyncLied,
    /// A disk was full for a while.
    DiskFull,
    /// A request refused because the disk is full.
    RefusedForRoom,
    /// A leader paused for longer than an election takes.
    LeaderPaused,
    /// A leader paused and was cut off from the others.
    LeaderFrozen,
    /// The network split into halves with one node between them.
    Bridge,
    /// The leader of the meta group did not reach some that everybody else reached.
    CatalogueApart,
    /// Everybody reached two others only.
    Ring,
    /// Links came and went.
    Flapping,
    /// A read refused that would have missed something acknowledged before.
    StaleReadRefused,
    /// Old events were forgotten.
    Retained,
    /// A node joined the cluster.
    NodeJoined,
    /// A node was told to give its partitions to other owners.
    NodeDrained,
    /// A node was told to leave, held nothing in the end and was removed.
    NodeRemoved,
    /// A node was not heard of for too long.
    NodeSilent,
    /// A group that one node held has replicas that survive a loss.
    ReplicasRaised,
    /// A batch went on to the owner.
    AppendForwarded,
    /// A read asked the owner on another node.
    ReadForwarded,
    /// A read was answered by a replica that did not lead.
    ReadAtFollower,
    /// The catalogue came as a checkpoint.
    CatalogueInstalled,
    /// A node died while it fetched a checkpoint.
    FetchInterrupted,
    /// A replica kept what the catalogue had given up, until the group was settled without it.
    RemovalWaited,
}

impl Event {
    /// What happens to one group that moves.
    pub const OF_GROUP: [Event; 51] = [
        Event::LeaderElected,
        Event::Crash,
        Event::CrashAtWrite,
        Event::CrashOfAll,
        Event::Restart,
        Event::WriteLost,
        Event::WriteTorn,
        Event::WriteSurvived,
        Event::SlowSync,
        Event::EntryOverwritten,
        Event::Truncation,
        Event::CheckpointInstalled,
        Event::Split,
        Event::OneWaySplit,
        Event::MessageLost,
        Event::MessageDoubled,
        Event::MessageHeldUp,
        Event::Unreachable,
        Event::Pause,
        Event::InputsTogether,
        Event::BatchAcked,
        Event::BatchRetried,
        Event::DuplicateRecognised,
        Event::OutOfSequence,
        Event::Fenced,
        Event::ProducerReopened,
        Event::ProposalLost,
        Event::NotOwner,
        Event::ReadAnswered,
        Event::ReadRefused,
        Event::MembersChanged,
        Event::ConfigurationEntered,
        Event::LearnerPromoted,
        Event::MoveFinished,
        Event::TransferDone,
        Event::Fetched,
        Event::FetchFailed,
        Event::ReplicaAdded,
        Event::ReplicaRemoved,
        Event::ReplicaBack,
        Event::NodeLost,
        Event::SyncLied,
        Event::DiskFull,
        Event::RefusedForRoom,
        Event::LeaderPaused,
        Event::LeaderFrozen,
        Event::Bridge,
        Event::Ring,
        Event::Flapping,
        Event::StaleReadRefused,
        Event::Retained,
    ];

    /// What happens to a whole cluster.
    pub const OF_CLUSTER: [Event; 60] = [
        Event::LeaderElected,
        Event::Crash,
        Event::CrashAtWrite,
        Event::CrashOfAll,
        Event::Restart,
        Event::WriteLost,
        Event::WriteTorn,
        Event::WriteSurvived,
        Event::SlowSync,
        Event::EntryOverwritten,
        Event::Truncation,
        Event::CheckpointInstalled,
        Event::Split,
        Event::OneWaySplit,
        Event::MessageLost,
        Event::MessageDoubled,
        Event::MessageHeldUp,
        Event::Unreachable,
        Event::Pause,
        Event::BatchAcked,
        Event::BatchRetried,
        Event::DuplicateRecognised,
        Event::OutOfSequence,
        Event::ProducerReopened,
        Event::ProposalLost,
        Event::NotOwner,
        Event::ReadAnswered,
        Event::ReadRefused,
        Event::MembersChanged,
        Event::ConfigurationEntered,
        Event::LearnerPromoted,
        Event::MoveFinished,
        Event::TransferDone,
        Event::Fetched,
        Event::FetchFailed,
        Event::ReplicaAdded,
        Event::ReplicaRemoved,
        Event::ReplicaBack,
        Event::NodeLost,
        Event::SyncLied,
        Event::DiskFull,
        Event::RefusedForRoom,
        Event::LeaderPaused,
        Event::LeaderFrozen,
        Event::Bridge,
        Event::CatalogueApart,
        Event::Ring,
        Event::Flapping,
        Event::StaleReadRefused,
        Event::NodeJoined,
        Event::NodeDrained,
        Event::NodeRemoved,
        Event::NodeSilent,
        Event::ReplicasRaised,
        Event::AppendForwarded,
        Event::ReadForwarded,
        Event::ReadAtFollower,
        Event::CatalogueInstalled,
        Event::FetchInterrupted,
        Event::RemovalWaited,
    ];
}

/// Counts of every kind of event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Coverage {
    expected: &'static [Event],
    counts: BTreeMap<Event, u64>,
}

impl Coverage {
    /// None of these yet.
    #[must_use]
    pub fn new(expected: &'static [Event]) -> Coverage {
        Coverage { expected, counts: BTreeMap::new() }
    }

    /// Counts one.
    pub fn count(&mut self, event: Event) {
        self.add(event, 1);
    }

    /// Counts several.
    pub fn add(&mut self, event: Event, count: u64) {
        *self.counts.entry(event).or_default() += count;
    }

    /// How often it happened.
    #[must_use]
    pub fn of(&self, event: Event) -> u64 {
        self.counts.get(&event).copied().unwrap_or_default()
    }

    /// Adds another run.
    pub fn merge(&mut self, other: &Coverage) {
        for (&event, &count) in &other.counts {
            self.add(event, count);
        }
    }

    /// What never happened.
    #[must_use]
    pub fn missing(&self) -> Vec<Event> {
        self.expected.iter().copied().filter(|&event| self.of(event) == 0).collect()
    }
}

impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut first = true;
        for &event in self.expected {
            let gap = if first { "" } else { " " };
            write!(f, "{gap}{event:?}={}", self.of(event))?;
            first = false;
        }
        Ok(())
    }
}
