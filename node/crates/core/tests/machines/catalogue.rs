//! What must hold for all commands of the catalogue, on random ones. A failure prints the smallest
//! input found.

use std::collections::BTreeSet;
use std::time::Duration;

use alluvium_core::codec::Reader;
use alluvium_core::ids::{Index, PartitionNumber, StreamId, ViewId};
use alluvium_core::meta::definition::decode_definition;
use alluvium_core::meta::view_form::decode_view_definition;
use alluvium_core::meta::{Meta, MetaCommand, MetaOutcome, check_view};
use alluvium_core::replica::Machine as _;
use alluvium_core::schema::{Column, ColumnType, StreamSchema};
use alluvium_core::stream::StreamDefinition;
use alluvium_core::time::Time;
use alluvium_core::view::{OnError, View, ViewDefinition, ViewEntry, ViewOptions};
use bytes::Bytes;
use proptest::collection::{btree_set, vec};
use proptest::option;
use proptest::prelude::{Just, Strategy, any, prop_oneof, proptest};

use super::members::{check_cluster_of, cluster_commands};
use super::random::{check_restarts, config};

fn column_types() -> impl Strategy<Value = ColumnType> {
    let leaf = prop_oneof![
        Just(ColumnType::Boolean),
        Just(ColumnType::SmallInt),
        Just(ColumnType::Integer),
        Just(ColumnType::BigInt),
        Just(ColumnType::Real),
        Just(ColumnType::Double),
        (1..=38_u8).prop_map(|precision| ColumnType::Numeric { precision, scale: precision / 2 }),
        Just(ColumnType::Text),
        Just(ColumnType::Bytes),
        Just(ColumnType::Date),
        Just(ColumnType::Time),
        Just(ColumnType::Timestamp),
        Just(ColumnType::TimestampTz),
        Just(ColumnType::Interval),
        Just(ColumnType::Json),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        let fields = vec((inner.clone(), any::<bool>()), 1..4).prop_map(columns);
        prop_oneof![
            inner.prop_map(|item| ColumnType::List(Box::new(item))),
            fields.prop_map(ColumnType::Struct),
        ]
    })
}

fn columns(types: Vec<(ColumnType, bool)>) -> Vec<Column> {
    let named = types.into_iter().enumerate();
    named
        .map(|(place, (column_type, nullable))| Column {
            name: format!("c{place}"),
            column_type,
            nullable,
        })
        .collect()
}

fn definitions() -> impl Strategy<Value = StreamDefinition> {
    let retention = prop_oneof![Just(None), any::<u32>().prop_map(Some)];
    ("[a-d]", vec((column_types(), any::<bool>()), 1..6), 1..5_u32, retention, any::<bool>())
        .prop_map(|(name, types, partitions, retention, is_keyed)| StreamDefinition {
            name,
            partition_by: if is_keyed { vec![types.len() - 1, 0] } else { Vec::new() },
            event_time: (!is_keyed).then_some(0),
            schema: StreamSchema::new(columns(types)).expect("names are unique"),
            partitions,
            retention: retention.map(|micros| Duration::from_micros(u64::from(micros))),
            replicas: 1 + partitions % 4,
        })
}

fn stream_commands() -> impl Strategy<Value = MetaCommand> {
    prop_oneof![
        3 => (definitions(), any::<bool>(), any::<i64>()).prop_map(
            |(definition, if_not_exists, at)| {
                MetaCommand::CreateStream { definition, if_not_exists, created_at: Time(at) }
            }
        ),
        1 => ("[a-f]", any::<bool>())
            .prop_map(|(name, if_exists)| MetaCommand::DropStream { name, if_exists }),
        1 => "[A-Da-d]{1,2}".prop_map(|name| MetaCommand::OpenProducer { name }),
    ]
}

fn options() -> impl Strategy<Value = ViewOptions> {
    let duration = || any::<u32>().prop_map(|micros| Duration::from_micros(u64::from(micros)));
    let on_error = prop_oneof![Just(OnError::Quarantine), Just(OnError::Park)];
    (option::of(duration()), duration(), option::of(duration()), on_error).prop_map(
        |(retention, lateness, emit_final_after, on_error)| ViewOptions {
            retention,
            lateness,
            emit_final_after,
            on_error,
        },
    )
}

/// Views with few names that overlap with those of streams, so that all of them meet.
fn views() -> impl Strategy<Value = ViewDefinition> {
    let reads = btree_set("[a-f]", 1..3);
    ("[c-f]", "[ -~]{1,20}", reads, any::<bool>(), option::of(1..4_u64), options()).prop_map(
        |(name, query, reads, materialized, folds, options)| ViewDefinition {
            name,
            query,
            materialized: materialized || folds.is_some(),
            reads: reads.into_iter().collect(),
            folds: folds.map(StreamId),
            options,
        },
    )
}

fn view_commands() -> impl Strategy<Value = MetaCommand> {
    let name = || "[a-f]";
    let create = (views(), any::<bool>(), any::<bool>(), any::<i64>()).prop_map(
        |(definition, if_not_exists, or_replace, at)| {
            let created_at = Time(at);
            MetaCommand::CreateView { definition, if_not_exists, or_replace, created_at }
        },
    );
    prop_oneof![
        6 => create,
        2 => (name(), 1..12_u64)
            .prop_map(|(name, id)| MetaCommand::SwitchView { name, id: ViewId(id) }),
        8 => (name(), 1..12_u64, 0..4_u32).prop_map(|(name, id, partition)| {
            let partition = PartitionNumber(partition);
            MetaCommand::PartCaughtUp { name, id: ViewId(id), partition }
        }),
        1 => (name(), any::<bool>())
            .prop_map(|(name, if_exists)| MetaCommand::DropView { name, if_exists }),
        2 => (name(), any::<i64>())
            .prop_map(|(name, at)| MetaCommand::RebuildView { name, created_at: Time(at) }),
        1 => name().prop_map(|name| MetaCommand::ResumeView { name }),
        1 => name().prop_map(|name| MetaCommand::CancelView { name }),
    ]
}

fn meta_commands() -> impl Strategy<Value = MetaCommand> {
    prop_oneof![2 => stream_commands(), 3 => view_commands(), 3 => cluster_commands()]
}

fn lives(entry: &ViewEntry) -> impl Iterator<Item = &View> {
    std::iter::once(&entry.current).chain(&entry.next).map(AsRef::as_ref)
}

/// The lives that one command began, and those it ended.
fn began_and_ended(outcome: &MetaOutcome) -> (Vec<ViewId>, Vec<ViewId>) {
    match outcome {
        MetaOutcome::ViewCreated(view) => (vec![view.id], Vec::new()),
        MetaOutcome::ViewBuilding { next, abandoned } => {
            (vec![next.id], abandoned.iter().map(|view| view.id).collect())
        }
        // Whether the life began only now is told by the ids that are known.
        MetaOutcome::ViewSwitched { view, ended } => {
            (vec![view.id], ended.iter().map(|view| view.id).collect())
        }
        MetaOutcome::ViewCancelled(view) => (Vec::new(), vec![view.id]),
        MetaOutcome::ViewDropped(entry) => (Vec::new(), lives(entry).map(|view| view.id).collect()),
        MetaOutcome::StreamCreated(_)
        | MetaOutcome::StreamExists { .. }
        | MetaOutcome::StreamDropped(_)
        | MetaOutcome::StreamUnknown { .. }
        | MetaOutcome::NothingToDo
        | MetaOutcome::ProducerOpened { .. }
        | MetaOutcome::ViewResumed { .. }
        | MetaOutcome::ViewExists { .. }
        | MetaOutcome::ViewUnknown { .. }
        | MetaOutcome::NameTaken { .. }
        | MetaOutcome::HasDependants { .. }
        | MetaOutcome::ReadsUnknown { .. }
        | MetaOutcome::ReadsItself { .. }
        | MetaOutcome::ViewPartBuilt { .. }
        | MetaOutcome::Joined { .. }
        | MetaOutcome::JoinRefused { .. }
        | MetaOutcome::Announced
        | MetaOutcome::MemberUnknown { .. }
        | MetaOutcome::MemberRemoved { .. }
        | MetaOutcome::MemberRefused { .. }
        | MetaOutcome::MemberChanged { .. }
        | MetaOutcome::Placed { .. }
        | MetaOutcome::VersionRaised { .. }
        | MetaOutcome::VersionRefused { .. }
        | MetaOutcome::AccessChanged
        | MetaOutcome::AccessRefused(_) => (Vec::new(), Vec::new()),
    }
}

/// What must hold of the names of every catalogue.
fn check_names_of(meta: &Meta) {
    let mut placed = BTreeSet::new();
    for (name, entry) in meta.views() {
        assert!(meta.stream(name).is_none(), "{name} is a stream and a view");
        for view in lives(entry) {
            assert_eq!(view.definition.name, *name);
            assert_eq!(check_view(&view.definition), Ok(()));
            for read in &view.definition.reads {
                let is_there = meta.stream(read).is_some() || meta.view(read).is_some();
                assert!(is_there, "{name} reads {read}, which is gone");
                assert!(meta.dependants(read).contains(name));
            }
            if let Some(folds) = view.definition.folds {
                let mut streams = view.definition.reads.iter().filter_map(|name| meta.stream(name));
                assert!(streams.any(|stream| stream.id == folds), "{name} folds what it reads");
            }
        }
    }
    // A view is placed once all it reads is: views that read each other would never be.
    for _ in 0..meta.views().len() {
        for (name, entry) in meta.views() {
            let mut reads = lives(entry).flat_map(|view| &view.definition.reads);
            if reads.all(|read| meta.stream(read).is_some() || placed.contains(read)) {
                placed.insert(name.clone());
            }
        }
    }
    assert_eq!(placed.len(), meta.views().len(), "views read each other in a circle");
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn meta_commands_survive_their_bytes(command in meta_commands()) {
        assert_eq!(MetaCommand::decode(&command.encode()), Ok(command));
    }

    #[test]
    fn arbitrary_bytes_never_panic(
        bytes in vec(any::<u8>(), 0..200),
        version in 0..6_u8,
        kind in 0..22_u8,
    ) {
        let mut likely = vec![version, kind];
        likely.extend_from_slice(&bytes);
        for bytes in [bytes, likely] {
            let bytes = Bytes::from(bytes);
            let _ = MetaCommand::decode(&bytes);
            let _ = Meta::restore(&bytes);
            let _ = decode_definition(&mut Reader::new(&bytes));
            let _ = decode_view_definition(&mut Reader::new(&bytes));
        }
    }

    #[test]
    fn damaged_commands_never_panic(
        command in meta_commands(),
        at in any::<u16>(),
        bit in 0..8_u8,
    ) {
        let mut bytes = command.encode().to_vec();
        let at = usize::from(at) % bytes.len();
        bytes[at] ^= 1 << bit;
        let _ = MetaCommand::decode(&bytes);
    }

    #[test]
    fn the_catalogue_restarts_anywhere(commands in vec(meta_commands(), 0..40)) {
        let commands: Vec<_> = commands.iter().map(MetaCommand::encode).collect();
        let meta: Meta = check_restarts(&commands);
        let streams = meta.streams().values();
        let mut groups: Vec<_> = streams.flat_map(|stream| &stream.groups).collect();
        groups.sort();
        groups.dedup();
        let given: usize = meta.streams().values().map(|stream| stream.groups.len()).sum();
        assert_eq!(groups.len(), given, "no group belongs to two partitions");
    }

    /// What the outcomes say began and has not ended is what stands in the catalogue, and no life
    /// is given the id of another.
    #[test]
    fn lives_of_views_are_accounted_for(commands in vec(meta_commands(), 0..40)) {
        let mut meta = Meta::default();
        let mut known = BTreeSet::new();
        let mut living = BTreeSet::new();
        for (index, command) in (1..).map(Index).zip(&commands) {
            let outcome = meta.apply(index, &command.encode()).unwrap();
            let (began, ended) = began_and_ended(&outcome);
            for id in began {
                let is_new = known.insert(id);
                assert!(is_new || living.contains(&id), "{id} is given out again");
                living.insert(id);
            }
            for id in ended {
                assert!(living.remove(&id), "{id} ended before");
            }
            let standing = meta.views().values().flat_map(lives).map(|view| view.id);
            assert_eq!(living, standing.collect(), "after {command:?}");
            check_names_of(&meta);
            check_cluster_of(&meta);
        }
    }

    /// What a version of one node wrote, rebuilt by leaving out what came later: its groups are on
    /// the first node.
    #[test]
    fn checkpoints_of_former_versions_are_restored(
        commands in vec(prop_oneof![stream_commands(), view_commands()], 0..30),
    ) {
        let mut meta = Meta::default();
        for (index, command) in (1..).map(Index).zip(&commands) {
            if !matches!(command, MetaCommand::PartCaughtUp { .. }) {
                meta.apply(index, &command.encode()).unwrap();
            }
        }
        let whole = meta.checkpoint();
        // The access is last: the two built-in roles, no grant, owner or policy.
        let access = 4 + (4 + 5 + 6) + (4 + 8 + 6) + 3 * 4;
        let mut now = whole[..whole.len() - access].to_vec();
        now[0] = 4;
        assert_eq!(Meta::restore(&now).as_ref(), Ok(&meta));
        let placements = meta.placements().len();
        // Placements come before, and nobody reported one: group, three lists of one node, owner,
        // and since the last version nobody given up, where it was placed, and as of when.
        let (placement, as_of) = (8 + 3 * (4 + 8) + 8, 4 + 8 + 8);
        let mut former = now.clone();
        let rows = former.split_off(now.len() - placements * (placement + as_of));
        former.extend(rows.chunks(placement + as_of).flat_map(|row| &row[..placement]));
        former[0] = 3;
        assert_eq!(Meta::restore(&former).as_ref(), Ok(&meta));
        // No partition that caught up; then next id, version and no member; then the placements.
        let later = 4 + (8 + 4 + 4) + 4 + placements * (placement + as_of);
        let mut former = now[..now.len() - later].to_vec();
        former[0] = 2;
        assert_eq!(Meta::restore(&former).as_ref(), Ok(&meta));
        if meta.views().is_empty() {
            former.truncate(former.len() - 4 - 8);
            former[0] = 1;
            let first = Meta::restore(&former).unwrap();
            assert_eq!(first.streams(), meta.streams());
            assert_eq!(first.placements(), meta.placements());
        }
    }

    /// Whatever happened, a checkpoint gives the same state, which goes on the same way.
    #[test]
    fn a_checkpoint_is_the_state(
        before in vec(meta_commands(), 0..120),
        after in vec(meta_commands(), 0..40),
    ) {
        let mut meta = Meta::default();
        for (index, command) in (1..).map(Index).zip(&before) {
            meta.apply(index, &command.encode()).unwrap();
        }
        let checkpoint = meta.checkpoint();
        let mut restored = Meta::restore(&checkpoint).unwrap();
        assert_eq!(restored, meta);
        assert_eq!(restored.checkpoint(), checkpoint);
        for (index, command) in (1_000..).map(Index).zip(&after) {
            let command = command.encode();
            assert_eq!(restored.apply(index, &command), meta.apply(index, &command));
            assert_eq!(restored, meta);
        }
        // A checkpoint that ends too early is refused, wherever it ends.
        for end in (0..checkpoint.len()).step_by(7) {
            assert!(Meta::restore(&checkpoint[..end]).is_err(), "{end} bytes are no checkpoint");
        }
    }

    /// A checkpoint with one bit turned is refused or restores to something that keeps the rules.
    #[test]
    fn a_damaged_checkpoint_breaks_no_rule(
        commands in vec(meta_commands(), 1..30),
        at in any::<u16>(),
        bit in 0..8_u8,
    ) {
        let mut meta = Meta::default();
        for (index, command) in (1..).map(Index).zip(&commands) {
            meta.apply(index, &command.encode()).unwrap();
        }
        let mut bytes = meta.checkpoint().to_vec();
        let at = usize::from(at) % bytes.len();
        bytes[at] ^= 1 << bit;
        if let Ok(meta) = Meta::restore(&bytes) {
            check_names_of(&meta);
            check_cluster_of(&meta);
        }
    }
}
