//! The shell of the scripts: replicas of a list of words, links that keep messages until told
//! otherwise, and disks that keep writes un-synced until told otherwise.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;

use alluvium_core::ids::{GroupId, Index, NodeId, RequestId};
use alluvium_core::replica::{
    Applied, Checkpoint, CorruptCheckpoint, CorruptCommand, Effects, Envelope, Fetch, Goal,
    HardState, Held, Input, LogEntry, LogPosition, Machine, Members, Replica, ReplicaConfig, Reply,
    Restored, Role, RoleChange, Step, Writes, next_step,
};
use bytes::Bytes;

const GROUP: GroupId = GroupId(1);

/// A machine that remembers words. Applying `bad` fails, as a damaged entry would.
#[derive(Default)]
struct Words(Vec<String>);

impl Machine for Words {
    type Outcome = usize;

    fn apply(&mut self, _index: Index, command: &Bytes) -> Result<usize, CorruptCommand> {
        let word = String::from_utf8_lossy(command).into_owned();
        if word == "bad" {
            return Err(CorruptCommand::new("a bad word"));
        }
        self.0.push(word);
        Ok(self.0.len())
    }

    fn checkpoint(&self) -> Bytes {
        self.0.join(" ").into()
    }

    fn restore(bytes: &[u8]) -> Result<Words, CorruptCheckpoint> {
        let text = std::str::from_utf8(bytes).map_err(|_| CorruptCheckpoint::new("not text"))?;
        Ok(Words(text.split_whitespace().map(str::to_owned).collect()))
    }
}

/// A node with what survives it.
struct Node {
    /// Nothing while it is down.
    replica: Option<Replica<Words>>,
    stored: Restored,
    state: Bytes,
    unsynced: VecDeque<(Writes, Held)>,
    /// What it was asked to fetch.
    fetch: Option<Fetch>,
    /// Whether it was asked for a checkpoint to offer.
    wanted: bool,
}

/// What a script begins with.
pub struct Setting {
    pub node_count: u64,
    /// So many of the nodes are voters at the start, the first ones.
    pub voter_count: u64,
    pub retained_bytes_max: u64,
}

pub struct Cluster {
    nodes: BTreeMap<NodeId, Node>,
    under_way: VecDeque<Envelope>,
    requests: u64,
    output: String,
    pub trace: bool,
    retained_bytes_max: u64,
    founders: Members,
}

impl Cluster {
    pub fn new(setting: &Setting) -> Cluster {
        let mut cluster = Cluster {
            nodes: BTreeMap::new(),
            under_way: VecDeque::new(),
            requests: 0,
            output: String::new(),
            trace: false,
            retained_bytes_max: setting.retained_bytes_max,
            founders: Members::of_voters((1..=setting.voter_count).map(NodeId)),
        };
        for id in (1..=setting.node_count).map(NodeId) {
            let members = cluster.founders.clone();
            let node = Node {
                replica: None,
                stored: Restored { members, ..Restored::default() },
                state: Bytes::new(),
                unsynced: VecDeque::new(),
                fetch: None,
                wanted: false,
            };
            cluster.nodes.insert(id, node);
            cluster.start(id);
        }
        cluster
    }

    pub fn take_output(&mut self) -> String {
        std::mem::take(&mut self.output)
    }

    pub fn campaign(&mut self, node: NodeId) {
        self.step(node, Input::Campaign);
    }

    pub fn propose(&mut self, node: NodeId, word: &str) {
        let request = self.request();
        self.step(node, Input::Propose { request, command: word.to_owned().into() });
    }

    pub fn read(&mut self, node: NodeId) {
        let request = self.request();
        self.step(node, Input::ReadIndex { request });
    }

    pub fn change(&mut self, node: NodeId, members: Members) {
        let request = self.request();
        self.step(node, Input::ChangeMembers { request, members });
    }

    pub fn transfer(&mut self, node: NodeId, to: NodeId) {
        self.step(node, Input::TransferLeader { to });
    }

    /// What the owner does on its ticks.
    pub fn drive(&mut self, node: NodeId, wanted: &Members, leader: NodeId) {
        let Some(replica) = &self.node(node).replica else {
            return self.line(&format!("{node} is down"));
        };
        let goal = Goal { voters: &wanted.voters, learners: &wanted.learners, leader };
        let (members, status) = (replica.members(), replica.status());
        let settled = replica.can_checkpoint();
        let step = next_step(&goal, &members, settled, &replica.progress(), &status);
        match step {
            None => self.line(&format!("{node} waits")),
            Some(Step::Done) => self.line(&format!("{node} is done")),
            Some(Step::Transfer(to)) => {
                self.line(&format!("{node} hands over to {to}"));
                self.transfer(node, to);
            }
            Some(Step::AddLearners(to) | Step::Promote(to) | Step::RemoveLearners(to)) => {
                self.line(&format!("{node} changes to {}", members_line(&to)));
                self.change(node, to);
            }
        }
    }

    pub fn members(&mut self, node: NodeId) {
        let Some(replica) = &self.node(node).replica else {
            return self.line(&format!("{node} is down"));
        };
        let members = members_line(&replica.members());
        let progress: Vec<String> = replica
            .progress()
            .iter()
            .map(|it| {
                let silent = if it.active { "" } else { " silent" };
                format!(", {} at {}{silent}", it.node, it.matched.0)
            })
            .collect();
        self.line(&format!("{node}: {members}{}", progress.concat()));
    }

    /// A fetch is done: with the checkpoint that is stored where it was asked for.
    pub fn fetch(&mut self, id: NodeId) {
        let Some(Fetch { from, .. }) = self.node(id).fetch.take() else {
            return self.line(&format!("{id} fetches nothing"));
        };
        let Node { stored, state, .. } = self.node(from);
        let (position, members) = (stored.truncated, stored.members.clone());
        let checkpoint = Checkpoint { position, members, state: state.clone() };
        self.line(&format!("{id} has fetched checkpoint {position} of {from}"));
        self.step(id, Input::Fetched { checkpoint });
    }

    pub fn fetch_fails(&mut self, id: NodeId) {
        self.node(id).fetch = None;
        self.step(id, Input::FetchFailed);
    }

    pub fn tick(&mut self, node: NodeId, count: u64) {
        for _ in 0..count {
            self.step(node, Input::Tick);
        }
    }

    pub fn persist(&mut self, node: NodeId) {
        let unsynced = std::mem::take(&mut self.node(node).unsynced);
        for (writes, held) in unsynced {
            self.node(node).store(&writes);
            let (envelopes, persisted) = held.release(writes.into_durable());
            self.step(node, Input::Persisted(persisted));
            self.send(envelopes);
        }
    }

    pub fn deliver(&mut self, from: Option<NodeId>, to: Option<NodeId>) {
        for envelope in self.take_under_way(from, to) {
            let to = envelope.to;
            match self.node(to).replica {
                Some(_) => self.step(to, Input::Message(envelope)),
                None => self.line(&format!("{to} is down: {envelope}")),
            }
        }
    }

    pub fn lose(&mut self, from: Option<NodeId>, to: Option<NodeId>) {
        for envelope in self.take_under_way(from, to) {
            self.line(&format!("lost: {envelope}"));
        }
    }

    pub fn run(&mut self) {
        let ids: Vec<NodeId> = self.nodes.keys().copied().collect();
        loop {
            self.deliver(None, None);
            ids.iter().for_each(|&id| self.persist(id));
            if self.under_way.is_empty() {
                break;
            }
        }
    }

    pub fn crash(&mut self, id: NodeId) {
        let node = self.node(id);
        node.replica = None;
        node.fetch = None;
        node.wanted = false;
        let lost: Vec<String> =
            node.unsynced.drain(..).map(|(writes, _)| writes.to_string()).collect();
        for writes in lost {
            self.line(&format!("{id} never wrote {writes}"));
        }
    }

    pub fn restart(&mut self, id: NodeId) {
        self.start(id);
        self.status_of(id);
    }

    /// A node's replica goes, and its log with it. What it voted and acknowledged still counts.
    pub fn remove(&mut self, id: NodeId) {
        self.crash(id);
        let members = self.founders.clone();
        let node = self.node(id);
        let Restored { hard_state, truncated, entries, .. } = &node.stored;
        let forgotten = entries.last().map_or(*truncated, LogEntry::position);
        let hard_state = HardState { commit: Index(0), ..*hard_state };
        node.stored = Restored { hard_state, members, forgotten, ..Restored::default() };
        node.state = Bytes::new();
    }

    pub fn checkpoint(&mut self, id: NodeId) {
        let node = self.node(id);
        let checkpoint = node.replica.as_ref().expect("a running node").checkpoint();
        let Checkpoint { position, .. } = checkpoint;
        node.stored.members = checkpoint.members.clone();
        node.stored.truncated = position;
        node.stored.entries.retain(|entry| position.index < entry.index);
        node.state = checkpoint.state.clone();
        let state = String::from_utf8_lossy(&node.state).into_owned();
        let wanted = std::mem::take(&mut node.wanted);
        self.line(&format!("{id} checkpoint {position}: {state}"));
        self.step(id, Input::Truncate { through: position.index });
        if wanted {
            self.step(id, Input::OfferCheckpoint { checkpoint });
        }
    }

    pub fn garble(&mut self, to: NodeId) {
        let from = NodeId(if to == NodeId(1) { 2 } else { 1 });
        let bytes = Bytes::from_static(b"\x01\x07not a message");
        self.step(to, Input::Message(Envelope { group: GROUP, from, to, bytes }));
    }

    pub fn status(&mut self) {
        let ids: Vec<NodeId> = self.nodes.keys().copied().collect();
        ids.into_iter().for_each(|id| self.status_of(id));
    }

    fn status_of(&mut self, id: NodeId) {
        let Some(replica) = &self.node(id).replica else {
            return self.line(&format!("{id} is down"));
        };
        let status = replica.status();
        let role = role(RoleChange { role: status.role, term: status.term, leader: status.leader });
        let line = format!(
            "{id} {role}, log {} to {}, commit {}, applied {}: {}",
            status.first_index.0,
            status.last_index.0,
            status.commit.0,
            status.applied.0,
            replica.machine().0.join(" "),
        );
        self.line(line.trim_end_matches([':', ' ']));
    }

    fn start(&mut self, id: NodeId) {
        let retained_bytes_max = self.retained_bytes_max;
        let node = self.node(id);
        let machine = Words::restore(&node.state).expect("what was written");
        let mut config = ReplicaConfig::new(GROUP, id, id.0);
        config.retained_bytes_max = retained_bytes_max;
        let replica = Replica::new(config, machine, node.stored.clone());
        node.replica = Some(replica.expect("what was stored"));
    }

    fn step(&mut self, id: NodeId, input: Input) {
        let Some(replica) = &mut self.node(id).replica else {
            return self.line(&format!("{id} is down"));
        };
        let effects = replica.step(input);
        self.perform(id, effects);
    }

    fn perform(&mut self, id: NodeId, effects: Effects<usize>) {
        let Effects { sends, writes, held, applied, replies, .. } = effects;
        for refused in effects.refused {
            self.line(&format!("{id} refused: {refused}"));
        }
        if let Some(change) = effects.role_changed {
            self.line(&format!("{id} {}", role(change)));
        }
        if let Some(position) = effects.installed {
            self.line(&format!("{id} installed checkpoint {position}"));
        }
        for Applied { index, term, request, outcome } in applied {
            let at = LogPosition { index, term };
            let request = request.map_or(String::new(), |request| format!(", answers {request}"));
            self.line(&format!("{id} applied {at}, word {outcome}{request}"));
        }
        for reply in replies {
            self.line(&format!("{id} answers {}", answer(&reply)));
        }
        if let Some(fetch) = effects.fetch {
            self.line(&format!("{id} fetches checkpoint {} from {}", fetch.position, fetch.from));
            self.node(id).fetch = Some(fetch);
        }
        if effects.checkpoint_wanted {
            self.line(&format!("{id} is asked for a checkpoint"));
            self.node(id).wanted = true;
        }
        if let Some(stopped) = effects.stopped {
            self.line(&format!("{id} stopped: {stopped}"));
        }
        if let Some(writes) = writes {
            if self.trace {
                self.line(&format!("{id} writes {writes}"));
            }
            self.node(id).unsynced.push_back((writes, held));
        }
        self.send(sends);
    }

    fn send(&mut self, envelopes: Vec<Envelope>) {
        for envelope in envelopes {
            if self.trace {
                self.line(&format!("{envelope}"));
            }
            self.under_way.push_back(envelope);
        }
    }

    fn take_under_way(&mut self, from: Option<NodeId>, to: Option<NodeId>) -> Vec<Envelope> {
        let all = std::mem::take(&mut self.under_way);
        let (taken, kept) = all.into_iter().partition(|envelope| {
            from.is_none_or(|from| from == envelope.from) && to.is_none_or(|to| to == envelope.to)
        });
        self.under_way = kept;
        let taken: VecDeque<Envelope> = taken;
        taken.into()
    }

    fn request(&mut self) -> RequestId {
        self.requests += 1;
        RequestId(self.requests)
    }

    fn node(&mut self, id: NodeId) -> &mut Node {
        self.nodes.get_mut(&id).expect("a node of the cluster")
    }

    fn line(&mut self, text: &str) {
        writeln!(self.output, "{text}").expect("writing to memory");
    }
}

impl Node {
    fn store(&mut self, writes: &Writes) {
        let stored = &mut self.stored;
        if let Some(install) = &writes.install {
            stored.truncated = install.position;
            stored.members = install.members.clone();
            stored.entries.clear();
            self.state = install.state.clone();
        }
        stored.hard_state = writes.hard_state.unwrap_or(stored.hard_state);
        if let Some(first) = writes.entries.first() {
            stored.entries.retain(|entry| entry.index < first.index);
            stored.entries.extend(writes.entries.iter().cloned());
        }
    }
}

fn members_line(members: &Members) -> String {
    let names = |nodes: &[NodeId]| {
        let names: Vec<String> = nodes.iter().map(NodeId::to_string).collect();
        names.join(" ")
    };
    let learners = match members.learners.as_slice() {
        [] => String::new(),
        learners => format!(", learning {}", names(learners)),
    };
    format!("voters {}{learners}", names(&members.voters))
}

fn role(RoleChange { role, term, leader }: RoleChange) -> String {
    match (role, leader) {
        (Role::Leader, _) => format!("leads {term}"),
        (Role::Candidate, _) => format!("stands for election in {term}"),
        (Role::Follower, Some(leader)) => format!("follows {leader} in {term}"),
        (Role::Follower, None) => format!("follows nobody in {term}"),
    }
}

fn answer(reply: &Reply) -> String {
    match reply {
        Reply::NotOwner { request, owner: Some(owner) } => format!("{request}: ask {owner}"),
        Reply::NotOwner { request, owner: None } => format!("{request}: no owner known"),
        Reply::Busy { request } => format!("{request}: busy"),
        Reply::Lost { request } => format!("{request}: lost"),
        Reply::ReadReady { request, index } => format!("{request}: read at {}", index.0),
        Reply::MembersChanged { request } => format!("{request}: members changed"),
    }
}
