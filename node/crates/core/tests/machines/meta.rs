//! Scripts of the catalogue.
//!
//! ```text
//! create NAME [partitions=N] [retention=DURATION] [replicas=N] [if_not_exists=true] [at=TIME]
//! drop NAME [if_exists=true]
//! open NAME                    a producer
//! view NAME READS… [folds=ID] [materialized=BOOL] [query=TEXT] [query_bytes=N]
//!      [retention=DURATION]
//!      [lateness=DURATION] [emit_final_after=DURATION] [on_error=park]
//!      [if_not_exists=true] [or_replace=true] [at=TIME]
//! switch NAME ID               the life ID of the view has caught up
//! caught_up NAME ID PARTITION  one partition of it has
//! drop_view NAME [if_exists=true]
//! rebuild NAME [at=TIME]
//! resume NAME
//! cancel NAME
//! join TOKEN NAME [tiers=CLOUD/REGION/ZONE] [peer=ADDRESS] [versions=MIN-MAX] [at=TIME]
//! announce NODE TOKEN NAME …   as for join
//! state NODE active|draining|leaving|removed [at=TIME]
//! alive NODE BOOL [at=TIME]
//! place GROUP NODES… leader=NODE
//! moved GROUP NODES…
//! raise VERSION                of the cluster
//! show                         streams, views and producers
//! cluster                      members, placements and the version
//! plan [full=NODE] [at=TIME]   what the planner says, and doing it; members are lost after 60s;
//!                              the disk of NODE is nearly full
//! done                         owners report all moves that are under way
//! restart                      through a checkpoint
//! restore HEX                  from these bytes
//! decode HEX                   applies these bytes
//! check_name NAME              may a stream be called so?
//! check_producer_name NAME     may a producer?
//! check_view …                 as for view: may it be proposed?
//! ```

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use alluvium_core::ids::{GroupId, Index, NodeId, PartitionNumber, ProducerId, StreamId, ViewId};
use alluvium_core::meta::{
    Addresses, Locality, Member, MemberState, Meta, MetaCommand, MetaOutcome, NodeReport,
    check_name, check_producer_name, check_view, plan,
};
use alluvium_core::replica::Machine as _;
use alluvium_core::schema::{Column, ColumnType, StreamSchema};
use alluvium_core::stream::{Stream, StreamDefinition};
use alluvium_core::time::Time;
use alluvium_core::view::{OnError, View, ViewDefinition, ViewEntry, ViewOptions};
use bytes::Bytes;
use goldenscript::ArgumentConsumer;

use super::{Driven, bytes, micros, number, positional, run_scripts};

#[test]
fn scripts() {
    run_scripts::<MetaRunner>("meta");
}

#[derive(Default)]
struct MetaRunner {
    driven: Driven<Meta>,
}

impl goldenscript::Runner for MetaRunner {
    type Command = goldenscript::Command;

    fn run(
        &mut self,
        command: &goldenscript::Command,
        _context: &goldenscript::Context,
    ) -> Result<String, Box<dyn Error>> {
        let mut args = command.consume_args();
        let output = match command.name.as_str() {
            "show" => show(&self.driven.machine),
            "cluster" => show_cluster(&self.driven.machine),
            "plan" => self.plan(&mut args)?,
            "done" => self.done()?,
            "moved" => self.moved(&mut args)?,
            "restart" => self.driven.restart()?,
            "restore" => {
                self.driven.machine = Meta::restore(&bytes(&mut args)?)?;
                String::new()
            }
            "decode" => self.apply(&bytes(&mut args)?)?,
            "check_name" => {
                check_name(&positional(&mut args, "NAME")?)?;
                "good\n".into()
            }
            "check_producer_name" => {
                check_producer_name(&positional(&mut args, "NAME")?)?;
                "good\n".into()
            }
            "check_view" => {
                check_view(&view(&mut args)?)?;
                "good\n".into()
            }
            name => {
                let command = meta_command(name, &mut args)?;
                self.apply(&command.encode())?
            }
        };
        args.reject_next()?;
        Ok(output)
    }
}

impl MetaRunner {
    fn apply(&mut self, bytes: &Bytes) -> Result<String, Box<dyn Error>> {
        Ok(show_outcome(self.driven.apply(bytes)?) + "\n")
    }

    fn plan(&mut self, args: &mut ArgumentConsumer<'_>) -> Result<String, Box<dyn Error>> {
        let mut reports = BTreeMap::new();
        if let Some(node) = args.take_key("full") {
            let report =
                NodeReport { disk_used_bytes: 85, disk_total_bytes: 100, ..NodeReport::default() };
            reports.insert(NodeId(number(Some(node), 0)?), report);
        }
        let meta = &self.driven.machine;
        let commands = plan(meta, Duration::from_secs(60), time(args)?, &reports);
        let mut text = String::new();
        for command in commands {
            match &command {
                MetaCommand::Place { group, wanted, leader } => {
                    writeln!(text, "{group} to {}, owner {leader}", list(wanted))?;
                }
                MetaCommand::SetMemberState { node, state, .. } => {
                    writeln!(text, "{node} to {state}")?;
                }
                other => writeln!(text, "{other:?}")?,
            }
            self.apply(&command.encode())?;
        }
        Ok(if text.is_empty() { "nothing to do\n".into() } else { text })
    }

    /// An owner says where its group is, acting by the placement as it is unless said otherwise.
    fn moved(&mut self, args: &mut ArgumentConsumer<'_>) -> Result<String, Box<dyn Error>> {
        let as_of = Index(number(args.take_key("as_of"), 0)?);
        let by = args.take_key("by").map(str::parse).transpose()?;
        let group = GroupId(numbered(args, "GROUP")?);
        let placement = self.driven.machine.placement(group);
        let placed_at = placement.map(|placement| placement.placed_at).unwrap_or_default();
        let by = by.map_or(placed_at, Index);
        let moved = MetaCommand::Moved { group, voters: nodes(args)?, as_of, by };
        self.apply(&moved.encode())
    }

    fn done(&mut self) -> Result<String, Box<dyn Error>> {
        let placements = self.driven.machine.placements().clone();
        for (group, placement) in placements {
            if !placement.is_settled() {
                let (by, as_of) = (placement.placed_at, Index(self.driven.applied));
                let moved = MetaCommand::Moved { group, voters: placement.wanted, as_of, by };
                self.apply(&moved.encode())?;
            }
        }
        Ok(String::new())
    }
}

fn meta_command(
    name: &str,
    args: &mut ArgumentConsumer<'_>,
) -> Result<MetaCommand, Box<dyn Error>> {
    let command = match name {
        "create" => create(args)?,
        "drop" => {
            let if_exists = number(args.take_key("if_exists"), false)?;
            MetaCommand::DropStream { name: positional(args, "NAME")?, if_exists }
        }
        "open" => MetaCommand::OpenProducer { name: positional(args, "NAME")? },
        "view" => MetaCommand::CreateView {
            if_not_exists: number(args.take_key("if_not_exists"), false)?,
            or_replace: number(args.take_key("or_replace"), false)?,
            created_at: time(args)?,
            definition: view(args)?,
        },
        "switch" => {
            let name = positional(args, "NAME")?;
            MetaCommand::SwitchView { name, id: ViewId(numbered(args, "ID")?) }
        }
        "caught_up" => {
            let name = positional(args, "NAME")?;
            let id = ViewId(numbered(args, "ID")?);
            let partition = PartitionNumber(numbered(args, "PARTITION")?);
            MetaCommand::PartCaughtUp { name, id, partition }
        }
        "drop_view" => {
            let if_exists = number(args.take_key("if_exists"), false)?;
            MetaCommand::DropView { name: positional(args, "NAME")?, if_exists }
        }
        "rebuild" => {
            let created_at = time(args)?;
            MetaCommand::RebuildView { name: positional(args, "NAME")?, created_at }
        }
        "resume" => MetaCommand::ResumeView { name: positional(args, "NAME")? },
        "cancel" => MetaCommand::CancelView { name: positional(args, "NAME")? },
        name => cluster_command(name, args)?,
    };
    Ok(command)
}

fn cluster_command(
    name: &str,
    args: &mut ArgumentConsumer<'_>,
) -> Result<MetaCommand, Box<dyn Error>> {
    let command = match name {
        "join" => {
            let (addresses, locality, versions, at) = introduction(args)?;
            let token = numbered(args, "TOKEN")?;
            let name = positional(args, "NAME")?;
            MetaCommand::Join { token, name, addresses, locality, versions, at }
        }
        "announce" => {
            let (addresses, locality, versions, at) = introduction(args)?;
            let node = NodeId(numbered(args, "NODE")?);
            let token = numbered(args, "TOKEN")?;
            let name = positional(args, "NAME")?;
            MetaCommand::Announce { node, token, name, addresses, locality, versions, at }
        }
        "state" => {
            let at = time(args)?;
            let node = NodeId(numbered(args, "NODE")?);
            let state = match positional(args, "STATE")?.as_str() {
                "active" => MemberState::Active,
                "draining" => MemberState::Draining,
                "leaving" => MemberState::Leaving,
                "removed" => MemberState::Removed,
                other => return Err(format!("{other} is no state").into()),
            };
            MetaCommand::SetMemberState { node, state, at }
        }
        "alive" => {
            let at = time(args)?;
            let node = NodeId(numbered(args, "NODE")?);
            MetaCommand::SetAlive { node, alive: numbered(args, "BOOL")?, at }
        }
        "place" => {
            let leader = NodeId(number(args.take_key("leader"), 0)?);
            let group = GroupId(numbered(args, "GROUP")?);
            MetaCommand::Place { group, wanted: nodes(args)?, leader }
        }
        "raise" => MetaCommand::RaiseVersion { version: numbered(args, "VERSION")? },
        name => return Err(format!("unknown command {name}").into()),
    };
    Ok(command)
}

fn show_outcome(outcome: MetaOutcome) -> String {
    match outcome {
        MetaOutcome::StreamCreated(stream) => format!("created {}", show_stream(&stream)),
        MetaOutcome::StreamExists { name } => format!("stream {name} exists"),
        MetaOutcome::StreamDropped(stream) => format!("dropped {}", show_stream(&stream)),
        MetaOutcome::StreamUnknown { name } => format!("no stream {name}"),
        MetaOutcome::NothingToDo => "nothing to do".into(),
        MetaOutcome::ProducerOpened { id, epoch } => format!("opened {id}, epoch {epoch}"),
        MetaOutcome::ViewCreated(view) => format!("created {}", show_view(&view)),
        MetaOutcome::ViewBuilding { next, abandoned } => {
            format!("building {}{}", show_view(&next), show_ended(abandoned.as_slice()))
        }
        MetaOutcome::ViewSwitched { view, ended } => {
            format!("switched to {}{}", show_view(&view), show_ended(&ended))
        }
        MetaOutcome::ViewCancelled(view) => format!("cancelled {}", show_view(&view)),
        MetaOutcome::ViewResumed { name, resumed } => format!("resumed {name}, time {resumed}"),
        MetaOutcome::ViewDropped(entry) => format!("dropped {}", show_entry(&entry)),
        MetaOutcome::ViewExists { name } => format!("view {name} exists"),
        MetaOutcome::ViewUnknown { name } => format!("no view {name}"),
        MetaOutcome::NameTaken { name, what } => format!("{name} is a {what}"),
        MetaOutcome::HasDependants { name, dependants } => {
            format!("{name} is read by {}", dependants.join(", "))
        }
        MetaOutcome::ReadsUnknown { name } => format!("nothing to read: {name}"),
        MetaOutcome::ReadsItself { name, through } => format!("{name} reads itself by {through}"),
        MetaOutcome::ViewPartBuilt { name, id, left } => format!("{name} as {id}: {left} left"),
        MetaOutcome::Joined { node } => format!("joined as {node}"),
        MetaOutcome::JoinRefused { reason } => format!("join refused: {reason}"),
        MetaOutcome::Announced => "announced".into(),
        MetaOutcome::MemberUnknown { node } => format!("no member {node}"),
        MetaOutcome::MemberRemoved { node } => format!("{node} was removed"),
        MetaOutcome::MemberRefused { node, reason } => format!("{node} refused: {reason}"),
        MetaOutcome::MemberChanged { node, state } => format!("{node} is {state}"),
        MetaOutcome::Placed { group } => format!("placed {group}"),
        MetaOutcome::VersionRaised { version } => format!("version {version}"),
        MetaOutcome::VersionRefused { version, reason } => {
            format!("version {version} refused: {reason}")
        }
        MetaOutcome::AccessChanged => "access changed".into(),
        MetaOutcome::AccessRefused(invalid) => format!("access refused: {invalid}"),
    }
}

/// The next argument without a key, as a number or a flag.
fn numbered<T: std::str::FromStr>(
    args: &mut ArgumentConsumer<'_>,
    what: &str,
) -> Result<T, String> {
    let value = positional(args, what)?;
    value.parse().map_err(|_| format!("{what} cannot be {value}"))
}

fn nodes(args: &mut ArgumentConsumer<'_>) -> Result<Vec<NodeId>, String> {
    let mut nodes = Vec::new();
    while let Some(node) = args.next_pos() {
        nodes.push(NodeId(number(Some(node), 0)?));
    }
    Ok(nodes)
}

type SaidByNode = (Addresses, Locality, (u32, u32), Time);

fn introduction(args: &mut ArgumentConsumer<'_>) -> Result<SaidByNode, String> {
    let mut addresses = Addresses {
        client: "n:7400".into(),
        peer: "n:7401".into(),
        http: "n:7402".into(),
        pg: "n:7432".into(),
    };
    if let Some(peer) = args.take_key("peer") {
        addresses.peer = peer.into();
    }
    let keys = ["cloud", "region", "zone"].into_iter();
    let tiers = args.take_key("tiers").into_iter().flat_map(|tiers| tiers.split('/'));
    let locality = keys.zip(tiers).map(|(key, value)| (key.into(), value.into())).collect();
    let versions = args.take_key("versions").unwrap_or("1-1");
    let (min, max) = versions.split_once('-').ok_or("versions=MIN-MAX")?;
    Ok((addresses, locality, (number(Some(min), 0)?, number(Some(max), 0)?), time(args)?))
}

fn time(args: &mut ArgumentConsumer<'_>) -> Result<Time, String> {
    Ok(Time(args.take_key("at").map_or(Ok(0), micros)?))
}

fn view(args: &mut ArgumentConsumer<'_>) -> Result<ViewDefinition, Box<dyn Error>> {
    let duration = |text: Option<&str>| -> Result<Option<Duration>, String> {
        let micros = text.map(micros).transpose()?;
        Ok(micros.map(|micros| Duration::from_micros(micros.unsigned_abs())))
    };
    let options = ViewOptions {
        retention: duration(args.take_key("retention"))?,
        lateness: duration(args.take_key("lateness"))?.unwrap_or_default(),
        emit_final_after: duration(args.take_key("emit_final_after"))?,
        on_error: match args.take_key("on_error") {
            Some("park") => OnError::Park,
            Some(other) => return Err(format!("on_error={other}").into()),
            None => OnError::Quarantine,
        },
    };
    let folds = args.take_key("folds").map(|id| number(Some(id), 0)).transpose()?;
    let materialized = number(args.take_key("materialized"), folds.is_some())?;
    let bytes = number(args.take_key("query_bytes"), 8)?;
    let query = args.take_key("query").map_or("x".repeat(bytes), str::to_owned);
    let name = positional(args, "NAME")?;
    let reads = std::iter::from_fn(|| args.next_pos().map(str::to_owned)).collect();
    Ok(ViewDefinition { name, query, materialized, reads, folds: folds.map(StreamId), options })
}

fn create(args: &mut ArgumentConsumer<'_>) -> Result<MetaCommand, Box<dyn Error>> {
    let column =
        |name: &str, column_type, nullable| Column { name: name.into(), column_type, nullable };
    let schema = StreamSchema::new(vec![
        column("id", ColumnType::BigInt, false),
        column("tags", ColumnType::List(Box::new(ColumnType::Text)), true),
    ])?;
    let retention = args.take_key("retention").map(micros).transpose()?;
    let definition = StreamDefinition {
        name: positional(args, "NAME")?,
        schema,
        partition_by: vec![0],
        event_time: None,
        partitions: number(args.take_key("partitions"), 1)?,
        retention: retention.map(|micros| Duration::from_micros(micros.unsigned_abs())),
        replicas: number(args.take_key("replicas"), 1)?,
    };
    Ok(MetaCommand::CreateStream {
        definition,
        if_not_exists: number(args.take_key("if_not_exists"), false)?,
        created_at: time(args)?,
    })
}

fn show_stream(stream: &Stream) -> String {
    let groups: Vec<_> = stream.groups.iter().map(ToString::to_string).collect();
    let (name, id, at) = (&stream.definition.name, stream.id, stream.created_at);
    let mut text = format!("{name} as {id} in groups {} at {at}", groups.join(" "));
    if let Some(retention) = stream.definition.retention {
        write!(text, ", kept for {}s", retention.as_secs()).unwrap();
    }
    text
}

fn show_view(view: &View) -> String {
    let ViewDefinition { name, query, materialized, reads, folds, options } = &view.definition;
    let mut text = format!("{name} as {} at {}", view.id, view.created_at);
    match (folds, materialized) {
        (Some(stream), _) => write!(text, ", folds {stream}").unwrap(),
        (None, true) => text.push_str(", materialized"),
        (None, false) => {}
    }
    write!(text, ", reads {}", reads.join(" ")).unwrap();
    if query != "xxxxxxxx" {
        write!(text, ", {query:?}").unwrap();
    }
    if *options != ViewOptions::default() {
        write!(text, ", {options:?}").unwrap();
    }
    text
}

fn show_ended(ended: &[Arc<View>]) -> String {
    ended.iter().map(|view| format!("; ends {}", view.id)).collect()
}

fn show_entry(entry: &ViewEntry) -> String {
    let mut text = show_view(&entry.current);
    if !entry.built {
        text.push_str(", not built");
    }
    if let Some(next) = &entry.next {
        write!(text, "; next {}", show_view(next)).unwrap();
    }
    if entry.resumed != 0 {
        write!(text, "; resumed {}", entry.resumed).unwrap();
    }
    text
}

fn show(meta: &Meta) -> String {
    let mut text = String::new();
    for stream in meta.streams().values() {
        writeln!(text, "{}", show_stream(stream)).unwrap();
    }
    for entry in meta.views().values() {
        writeln!(text, "view {}", show_entry(entry)).unwrap();
    }
    for id in (1..).map(ProducerId) {
        let Some(name) = meta.producer_name(id) else {
            break;
        };
        let (known, epoch) = meta.producer(name).expect("a producer with a name is known by it");
        assert_eq!(known, id);
        writeln!(text, "producer {name} as {id}, epoch {epoch}").unwrap();
    }
    text
}

fn list(nodes: &[NodeId]) -> String {
    let nodes: Vec<_> = nodes.iter().map(ToString::to_string).collect();
    nodes.join(" ")
}

fn show_cluster(meta: &Meta) -> String {
    let mut text = format!("version {}\n", meta.cluster_version());
    for (node, member) in meta.members() {
        let Member { name, addresses, locality, state, alive, changed_at, versions, .. } = member;
        let (alive, (min, max)) = (if *alive { "alive" } else { "not alive" }, versions);
        write!(text, "{node} \"{name}\" {state}, {alive}, since {changed_at}").unwrap();
        write!(text, ", peer {}, versions {min}-{max}", addresses.peer).unwrap();
        for (key, value) in locality {
            write!(text, " {key}={value}").unwrap();
        }
        text.push('\n');
    }
    for (group, placement) in meta.placements() {
        let (replicas, wanted) = (list(&placement.replicas), list(&placement.wanted));
        write!(text, "{group} on {replicas}, owner {}", placement.leader).unwrap();
        if placement.replicas != placement.wanted {
            write!(text, ", wanted {wanted}").unwrap();
        }
        if !placement.given_up.is_empty() {
            write!(text, ", given up {}", list(&placement.given_up)).unwrap();
        }
        if placement.initial != placement.replicas {
            write!(text, ", began on {}", list(&placement.initial)).unwrap();
        }
        text.push('\n');
    }
    text
}
