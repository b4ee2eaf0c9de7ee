//! What a node does with the catalogue: asks how far it is to be believed, runs what it says, says
//! that it is there; and as the leader of the meta group watches, plans and keeps the group in
//! place.

use alluvium_core::ids::{GroupId, Index, NodeId};
use alluvium_core::meta::{
    Addresses, Locality, Meta, MetaCommand, MetaOutcome, NodeReport, Placement, plan,
};
use alluvium_core::replica::{Goal, Input};
use alluvium_core::time::Time;

use super::network::Word;
use super::node::{Asker, Change, Readiness, Waiting};
use super::{BEAT, Cluster, Happening, Twist};
use crate::plan::SECOND;
use crate::violation::Violation;

/// Ticks between two looks at the cluster.
const LOOK_TICKS: u32 = 10;

/// Beats without a leader after which a node asks whether it still belongs to the cluster.
const ALONE_BEATS: u32 = 10;

/// How long an answer about where the catalogue stands is waited for.
const ASK_AGAIN: u64 = 2 * SECOND;

impl Cluster {
    /// A node's clock.
    pub(super) fn clock(&self, id: NodeId) -> Time {
        let skew = self.nodes.get(&id).map_or(0, |node| node.skew);
        Time(i64::try_from(self.now + skew).expect("runs are short"))
    }

    /// A node gives a sign of life, or says that it is there.
    pub(super) fn beat(&mut self, id: NodeId, boot: u64) -> Result<(), Violation> {
        if !self.running(id, boot) {
            return Ok(());
        }
        if let Some(until) = self.paused(id) {
            self.at(until, Happening::Beat(id, boot));
            return Ok(());
        }
        self.after(BEAT, Happening::Beat(id, boot));
        let report = self.report(id);
        let node = self.node(id);
        let leader = node.replica(GroupId::META).and_then(|replica| replica.status().leader);
        match leader {
            Some(leader) if leader == id => self.heard_of(id, id, report),
            Some(leader) => self.say(id, leader, Word::Beat(report)),
            None => {
                node.alone += 1;
                // It may have been removed, and so hears of no leader any more.
                node.announced &= !node.alone.is_multiple_of(ALONE_BEATS);
            }
        }
        if self.node(id).announced { Ok(()) } else { self.announce(id) }
    }

    fn report(&mut self, id: NodeId) -> NodeReport {
        let full = self.is_full(id);
        let node = self.node(id);
        let groups_led = node.groups().into_iter().filter(|group| node.leads(*group)).count();
        NodeReport {
            disk_used_bytes: if full { 100 } else { 10 },
            disk_total_bytes: 100,
            groups_led: groups_led as u64,
        }
    }

    fn announce(&mut self, id: NodeId) -> Result<(), Violation> {
        let at = self.clock(id);
        let token = self.node(id).token;
        let command = MetaCommand::Announce {
            node: id,
            token,
            name: format!("n{id}"),
            addresses: addresses(),
            locality: Locality::new(),
            versions: (1, 1),
            at,
        };
        let change = Change { command, asker: Asker::Presence(id) };
        self.change(id, change)
    }

    /// What became of a node's word that it is there.
    pub(super) fn announced(&mut self, id: NodeId, outcome: &MetaOutcome) {
        let is_over = matches!(
            outcome,
            MetaOutcome::MemberRemoved { .. }
                | MetaOutcome::MemberRefused { .. }
                | MetaOutcome::MemberUnknown { .. }
        );
        let node = self.nodes.get_mut(&id).expect("it spoke");
        if is_over {
            self.trace.line(self.now, format_args!("{id} ends: {outcome:?}"));
            node.stop();
            node.gone = true;
        } else {
            node.announced = true;
            node.alone = 0;
        }
    }

    /// Another node says that this one is no member: its own word to the catalogue will tell, and
    /// where that is refused too, it ends.
    pub(super) fn refused_by_peer(&mut self, id: NodeId, introduced: bool) {
        if introduced {
            self.announced(id, &MetaOutcome::MemberRemoved { node: id });
        } else {
            self.node(id).announced = false;
        }
    }

    /// A change of the catalogue begins at a node: here, or passed on to the leader.
    pub(super) fn change(&mut self, id: NodeId, change: Change) -> Result<(), Violation> {
        let node = self.node(id);
        if node.leads(GroupId::META) {
            return self.change_here(id, change);
        }
        let leader = node.replica(GroupId::META).and_then(|replica| replica.status().leader);
        let placement = node.meta().and_then(|meta| meta.placement(GroupId::META));
        let candidates = placement.map(|it| it.replicas.clone()).unwrap_or_default();
        let to = match leader {
            Some(leader) => leader,
            None if candidates.is_empty() => return Ok(()),
            None => *self.chance.pick(&candidates),
        };
        if to != id {
            self.say(id, to, Word::Change(change));
        }
        Ok(())
    }

    /// A change of the catalogue at the node that shall propose it.
    pub(super) fn change_here(&mut self, id: NodeId, change: Change) -> Result<(), Violation> {
        if !self.node(id).leads(GroupId::META) {
            return Ok(());
        }
        let command = change.command.encode();
        self.propose(id, GroupId::META, command, Waiting::Change(change))
    }

    /// A change was agreed: tells who asked.
    pub(super) fn changed(&mut self, id: NodeId, asker: &Asker, outcome: MetaOutcome) {
        match *asker {
            Asker::Nobody => {}
            Asker::Presence(node) if node == id => self.announced(id, &outcome),
            Asker::Presence(node) => self.say(id, node, Word::Told(outcome)),
            Asker::Joiner(place) => {
                if let MetaOutcome::Joined { node } = outcome {
                    self.call(Happening::Joined(place, node));
                }
            }
            Asker::Creator(number) => self.stream_made(id, number),
        }
    }

    /// Asks where the catalogue stands, until that is known: the leader by a read, anyone else the
    /// leader.
    pub(super) fn ask_where(&mut self, id: NodeId) -> Result<(), Violation> {
        let now = self.now;
        let node = self.node(id);
        match node.readiness {
            Readiness::Unknown => {}
            Readiness::Asked(until) if until <= now => {}
            Readiness::Asked(_) | Readiness::Known(_) | Readiness::Ready => return Ok(()),
        }
        let Some(replica) = node.replica(GroupId::META) else { return Ok(()) };
        let leader = replica.status().leader;
        if let Some(leader) = leader {
            node.readiness = Readiness::Asked(now + ASK_AGAIN);
            if leader == id {
                return self.where_asked(id, id);
            }
            self.say(id, leader, Word::Where);
        }
        Ok(())
    }

    /// Somebody asks a node where the catalogue stands.
    pub(super) fn where_asked(&mut self, id: NodeId, asker: NodeId) -> Result<(), Violation> {
        let request = self.wait(id, GroupId::META, Waiting::Where(asker));
        self.feed(id, GroupId::META, Input::ReadIndex { request })
    }

    /// It stands there, or that is not known.
    pub(super) fn where_told(&mut self, id: NodeId, at: Option<Index>) -> Result<(), Violation> {
        let node = self.node(id);
        if matches!(node.readiness, Readiness::Asked(_)) {
            node.readiness = at.map_or(Readiness::Unknown, Readiness::Known);
        }
        self.become_ready(id)
    }

    fn become_ready(&mut self, id: NodeId) -> Result<(), Violation> {
        let node = self.node(id);
        let Readiness::Known(index) = node.readiness else { return Ok(()) };
        if node.replica(GroupId::META).is_none_or(|replica| replica.status().applied < index) {
            return Ok(());
        }
        node.readiness = Readiness::Ready;
        self.trace.line(self.now, format_args!("{id} believes its catalogue"));
        // What is on the disk takes part until its group can do without.
        let stored: Vec<GroupId> = self.node(id).disk.groups.keys().copied().collect();
        self.reconcile(id, &stored)
    }

    /// A node's catalogue has changed.
    pub(super) fn catalogue_news(&mut self, id: NodeId) -> Result<(), Violation> {
        self.become_ready(id)?;
        if self.node(id).readiness == Readiness::Ready {
            return self.reconcile(id, &[]);
        }
        Ok(())
    }

    /// Starts the replicas that shall be here, and `kept` ones. Those that shall not be here go in
    /// their own time.
    fn reconcile(&mut self, id: NodeId, kept: &[GroupId]) -> Result<(), Violation> {
        let node = self.node(id);
        let boot = node.boot;
        let Some(meta) = node.meta() else { return Ok(()) };
        let shall = |group: &GroupId| kept.contains(group) || hosts(meta, *group, id);
        let groups: Vec<GroupId> = meta.placements().keys().copied().filter(shall).collect();
        let missing: Vec<(GroupId, Vec<NodeId>)> = groups
            .into_iter()
            .filter(|group| !node.slots.contains_key(group))
            .filter_map(|group| Some((group, meta.placement(group)?.initial.clone())))
            .collect();
        for (group, initial) in missing {
            self.start_replica(id, group, initial)?;
            if !self.running(id, boot) {
                return Ok(());
            }
        }
        Ok(())
    }

    /// A node gave a sign of life to the leader of the meta group.
    pub(super) fn heard_of(&mut self, id: NodeId, from: NodeId, report: NodeReport) {
        let now = self.now;
        let node = self.node(id);
        if node.leads(GroupId::META) {
            node.leading.heard.insert(from, now);
            node.leading.reports.insert(from, report);
        }
    }

    /// What the leader of the meta group does on a tick.
    pub(super) fn lead(&mut self, id: NodeId) -> Result<(), Violation> {
        let now = self.now;
        let node = self.node(id);
        if !node.leads(GroupId::META) {
            node.leading = super::node::Leading::default();
            return Ok(());
        }
        if !node.leading.leads {
            node.leading.leads = true;
            let members = node.meta().map(|meta| meta.members().clone()).unwrap_or_default();
            node.leading.heard = members.into_keys().map(|node| (node, now)).collect();
        }
        self.keep_catalogue(id)?;
        let node = self.node(id);
        node.leading.ticks += 1;
        if node.leading.ticks < LOOK_TICKS || !node.leads(GroupId::META) {
            return Ok(());
        }
        node.leading.ticks = 0;
        for command in self.looks(id) {
            let change = Change { command, asker: Asker::Nobody };
            self.change_here(id, change)?;
        }
        Ok(())
    }

    /// What is to be changed, now.
    fn looks(&mut self, id: NodeId) -> Vec<MetaCommand> {
        let (now, at, silence) = (self.now, self.clock(id), self.plan.silence);
        let (dead_after, plans) = (self.plan.dead_after, self.twist != Some(Twist::NobodyPlans));
        let node = self.node(id);
        let mut heard = std::mem::take(&mut node.leading.heard);
        let replica = node.replica(GroupId::META).expect("it leads");
        let meta = replica.machine().meta().expect("of the meta group");
        let reports = &node.leading.reports;
        let mut commands = Vec::new();
        for member in meta.members().values().filter(|member| member.stands()) {
            let since = *heard.entry(member.node).or_insert(now);
            let alive = member.node == id || now - since < silence;
            if alive != member.alive && (!alive || reports.contains_key(&member.node)) {
                commands.push(MetaCommand::SetAlive { node: member.node, alive, at });
            }
        }
        let voters = replica.members().voters;
        let own = meta.placement(GroupId::META).filter(|placement| placement.lacks(&voters));
        if let Some(placement) = own.filter(|_| replica.can_checkpoint()) {
            let (group, as_of, by) = (GroupId::META, replica.status().applied, placement.placed_at);
            commands.push(MetaCommand::Moved { group, voters, as_of, by });
        }
        if commands.is_empty() && plans {
            commands = plan(meta, dead_after, at, reports);
        }
        node.leading.heard = heard;
        commands
    }

    /// Keeps the meta group where it shall be: its voters by the plan, everyone else as learners.
    fn keep_catalogue(&mut self, id: NodeId) -> Result<(), Violation> {
        let Some(meta) = self.node(id).meta() else { return Ok(()) };
        let Some((wanted, learners)) = catalogue_goal(meta) else { return Ok(()) };
        let leader = if wanted.wanted.contains(&id) { id } else { wanted.leader };
        let goal = Goal { voters: &wanted.wanted, learners: &learners, leader };
        self.take_step(id, GroupId::META, &goal)
    }
}

/// Where the meta group shall be, and who else holds it.
pub(super) fn catalogue_goal(meta: &Meta) -> Option<(Placement, Vec<NodeId>)> {
    let placement = meta.placement(GroupId::META)?.clone();
    let standing = meta.members().values().filter(|member| member.stands());
    let others = standing.map(|member| member.node);
    let learners = others.filter(|node| !placement.wanted.contains(node)).collect();
    Some((placement, learners))
}

/// Who holds a copy of a partition beside its voters: in a cluster of two the other node.
pub(super) fn learners(meta: &Meta, placement: &Placement) -> Vec<NodeId> {
    use alluvium_core::meta::MemberState;
    let standing: Vec<_> = meta.members().values().filter(|member| member.stands()).collect();
    if standing.len() != 2 {
        return Vec::new();
    }
    let stay = standing.into_iter().filter(|member| member.state != MemberState::Leaving);
    stay.map(|member| member.node).filter(|node| !placement.wanted.contains(node)).collect()
}

/// Whether a replica of the group shall be on a node, as far as its catalogue says.
pub(super) fn hosts(meta: &Meta, group: GroupId, id: NodeId) -> bool {
    meta.placement(group).is_some_and(|placement| {
        group == GroupId::META || placement.hosts(id) || learners(meta, placement).contains(&id)
    })
}

/// Where a node is reached: nobody looks in here.
pub(super) fn addresses() -> Addresses {
    let place = || String::from("127.0.0.1:1");
    Addresses { client: place(), peer: place(), http: place(), pg: place() }
}
