//! What must hold for all commands of a partition, on random ones. A failure prints the smallest
//! input found.

use std::collections::BTreeMap;

use alluvium_core::ids::{Epoch, Index, Offset, ProducerId, Sequence};
use alluvium_core::partition::{
    Append, Appended, Command, Outcome, Part, PartOutcome, Partition, Stamp,
};
use alluvium_core::replica::Machine;
use alluvium_core::time::Time;
use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::{Just, ProptestConfig, Strategy, any, prop_oneof, proptest};

/// Small enough for every run of the tests, and no files of former failures beside the sources.
pub fn config() -> ProptestConfig {
    ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() }
}

fn stamps() -> impl Strategy<Value = Option<Stamp>> {
    let stamp = (1..4_u64, 1..4_u32, 0..12_u64, any::<u64>()).prop_map(
        |(producer, epoch, sequence, position)| Stamp {
            producer: ProducerId(producer),
            epoch: Epoch(epoch),
            sequence: Sequence(sequence),
            position,
        },
    );
    prop_oneof![1 => Just(None), 9 => stamp.prop_map(Some)]
}

fn appends() -> impl Strategy<Value = Command> {
    let part =
        (stamps(), 0..5_u32).prop_map(|(producer, event_count)| Part { producer, event_count });
    (0..1_000_i64, vec(part, 0..6)).prop_map(|(at, parts)| {
        let event_count: u32 = parts.iter().map(|part| part.event_count).sum();
        let payload = (0..event_count).map(|row| row as u8).collect();
        Command::Append(Append { appended_at: Time(at), parts, payload })
    })
}

fn commands() -> impl Strategy<Value = Command> {
    const WEEK: i64 = 7 * 24 * 3_600 * 1_000_000;
    prop_oneof![
        12 => appends(),
        1 => (0..60_u64).prop_map(|start| Command::Retain { start: Offset(start) }),
        1 => (0..WEEK * 2).prop_map(|now| Command::Clock { now: Time(now) }),
        1 => (0..4_u64, 0..4_u32, 0..1_000_i64).prop_map(|(producer, epoch, now)| {
            let producer = ProducerId(producer);
            Command::Fence { producer, epoch: Epoch(epoch), now: Time(now) }
        }),
    ]
}

/// Applies commands to a machine that runs on and to one that restarts before each: outcomes and
/// checkpoints must be the same.
pub fn check_restarts<M: Machine + Default>(commands: &[Bytes]) -> M {
    let mut runs_on = M::default();
    let mut restarts = M::default();
    for (index, command) in (1..).map(Index).zip(commands) {
        restarts = M::restore(&restarts.checkpoint()).expect("its own checkpoint");
        let expected = runs_on.apply(index, command).expect("a well-formed command");
        let found = restarts.apply(index, command).expect("a well-formed command");
        assert_eq!(format!("{found:?}"), format!("{expected:?}"));
        assert_eq!(restarts.checkpoint(), runs_on.checkpoint());
    }
    runs_on
}

/// What was appended so far, told from the outcomes alone.
#[derive(Default)]
struct Audit {
    end: Offset,
    appended_at: Time,
    /// Of each producer the offsets of each of its batches, by sequence.
    batches: BTreeMap<ProducerId, Vec<(Offset, Offset)>>,
}

impl Audit {
    fn check(&mut self, append: &Append, appended: &Appended) {
        assert_eq!(appended.first, self.end, "offsets are dense");
        assert!(self.appended_at <= appended.appended_at, "append times never go back");
        self.appended_at = appended.appended_at;
        assert_eq!(appended.parts.len(), append.parts.len());
        let mut rows_kept = Vec::new();
        let mut row = 0;
        for (part, outcome) in append.parts.iter().zip(&appended.parts) {
            if self.check_part(part, outcome) {
                rows_kept.extend(row..row + part.event_count);
            }
            row += part.event_count;
        }
        assert_eq!(appended.end, self.end);
        let kept: Vec<u32> = appended.kept.iter().cloned().flatten().collect();
        assert_eq!(kept, rows_kept, "exactly the rows of appended parts are kept, in order");
        assert!(appended.kept.iter().all(|rows| !rows.is_empty()));
    }

    /// Whether the part counts.
    fn check_part(&mut self, part: &Part, outcome: &PartOutcome) -> bool {
        let known =
            part.producer.as_ref().map(|stamp| self.batches.entry(stamp.producer).or_default());
        let sequence = part.producer.as_ref().map_or(0, |stamp| stamp.sequence.0 as usize);
        match *outcome {
            PartOutcome::Appended { first, end } => {
                assert_eq!(first, self.end);
                assert_eq!(end.since(first), u64::from(part.event_count));
                if let Some(batches) = known {
                    assert_eq!(batches.len(), sequence, "each batch once, in order");
                    batches.push((first, end));
                }
                self.end = end;
                true
            }
            PartOutcome::Duplicate { offsets } => {
                let batches = known.expect("only producers have duplicates");
                let original = batches[sequence];
                let is_remembered = batches.len() - sequence <= 8;
                assert_eq!(offsets, is_remembered.then_some(original));
                false
            }
            PartOutcome::Fenced { current } => {
                assert!(part.producer.expect("only producers are fenced").epoch < current);
                false
            }
            PartOutcome::OutOfSequence { expected } => {
                let batches = known.expect("only producers have sequences");
                assert_eq!(expected.0 as usize, batches.len());
                assert!(batches.len() < sequence);
                false
            }
        }
    }
}

fn append_to(partition: &mut Partition, append: &Append) -> Appended {
    let bytes = Command::Append(append.clone()).encode();
    match partition.apply(Index(1), &bytes).expect("a well-formed command") {
        Outcome::Appended(appended) => appended,
        other @ (Outcome::Retained { .. } | Outcome::Clock | Outcome::Fenced { .. }) => {
            panic!("an append gave {other:?}")
        }
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn partition_commands_survive_their_bytes(command in commands()) {
        let bytes = command.encode();
        let decoded = Command::decode(&bytes).unwrap();
        assert_eq!(decoded, command);
        if let Command::Append(Append { payload, .. }) = decoded && !payload.is_empty() {
            let place = payload.as_ptr() as usize - bytes.as_ptr() as usize;
            assert_eq!(place % 64, 0, "the payload is a slice of the command, aligned in it");
        }
    }

    #[test]
    fn a_cut_command_is_an_error(command in commands(), cut in any::<u16>()) {
        let bytes = command.encode();
        let cut = usize::from(cut) % bytes.len();
        assert!(Command::decode(&bytes.slice(..cut)).is_err());
    }

    #[test]
    fn arbitrary_bytes_never_panic(
        bytes in vec(any::<u8>(), 0..200),
        version in 0..2_u8,
        kind in 0..5_u8,
    ) {
        let mut likely = vec![version, kind];
        likely.extend_from_slice(&bytes);
        for bytes in [bytes, likely] {
            let bytes = Bytes::from(bytes);
            let _ = Command::decode(&bytes);
            let _ = Partition::restore(&bytes);
        }
    }

    #[test]
    fn a_partition_restarts_anywhere(commands in vec(commands(), 0..30)) {
        let commands: Vec<_> = commands.iter().map(Command::encode).collect();
        check_restarts::<Partition>(&commands);
    }

    #[test]
    fn each_batch_counts_once(appends in vec(appends(), 0..60)) {
        let mut partition = Partition::default();
        let mut audit = Audit::default();
        for command in appends {
            let Command::Append(append) = command else { continue };
            let appended = append_to(&mut partition, &append);
            audit.check(&append, &appended);
            assert_eq!(partition.end(), audit.end);
        }
    }

    /// Producers send all their batches, with any losses and repetitions on the way; who goes on
    /// until every batch is answered has each of them in the partition exactly once.
    #[test]
    fn retries_end_with_every_batch_once(faults in vec((0..3_u64, 0..4_u8), 0..80)) {
        let mut partition = Partition::default();
        let mut audit = Audit::default();
        let mut next = [0_u64; 3];
        let goodbye = (0..30).map(|turn| (turn % 3, 0));
        for (producer, fault) in faults.into_iter().chain(goodbye) {
            let sequence = next[producer as usize];
            if sequence == 10 {
                continue;
            }
            let stamp = Stamp {
                producer: ProducerId(producer),
                epoch: Epoch(1),
                sequence: Sequence(sequence),
                position: sequence,
            };
            let part = Part { producer: Some(stamp), event_count: producer as u32 + 1 };
            // The request is lost, or comes twice, or its answer is lost.
            let (is_lost, copies, is_answered) = match fault {
                0 => (false, 1, true),
                1 => (true, 0, false),
                2 => (false, 2, true),
                _ => (false, 1, false),
            };
            if !is_lost {
                let parts = vec![part; copies];
                let append = Append { appended_at: Time(0), parts, payload: Bytes::new() };
                let appended = append_to(&mut partition, &append);
                audit.check(&append, &appended);
            }
            if is_answered {
                next[producer as usize] += 1;
            }
        }
        assert_eq!(next, [10, 10, 10]);
        assert_eq!(partition.end(), Offset(10 * (1 + 2 + 3)));
    }
}
