//! Parts of batches on their way to the owner of their partition, in order.
//!
//! One queue for each partition whose owner is, or was a moment ago, another node. A part that the
//! owner refuses because it does not own the partition any more goes to the next owner, with all
//! that follow it; one whose fate is not known goes again only where a producer's stamp makes that
//! safe. So clients see ownership change as a delay.
//!
//! Invariant: parts reach an owner in the order they were pushed, and each is answered once. What
//! this node's own replica gave back after it lost its leadership is pushed behind what came in
//! meanwhile; a batch that is judged too early for that is handed over again when those before it
//! are acknowledged ([`PendingAppend::acknowledged`](super::PendingAppend::acknowledged)).

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use alluvium_core::ids::{GroupId, NodeId, ProducerId};
use alluvium_core::partition::PartOutcome;
use tokio::sync::mpsc;

use super::AppendError;
use crate::actors::partition::{Append, Origin};
use crate::grpc::peer::{PartAnswers, PartSender, Peers};

/// How long a part looks for an owner before its caller is told that there is none: several
/// elections.
const PATIENCE: Duration = Duration::from_secs(15);

/// Between two tries to find an owner, unless something changes before.
const TRY_AGAIN: Duration = Duration::from_millis(100);

/// After so long without a part the stream to the owner is let go.
const IDLE_MAX: Duration = Duration::from_secs(30);

/// Gives a part to this node's own replica, or gives it back.
type Local = Box<dyn Fn(Append) -> Result<(), Append> + Send + Sync>;

/// See the module. The near end.
pub struct Forwarder {
    queue: mpsc::UnboundedSender<Append>,
    shared: Arc<Shared>,
}

struct Shared {
    group: GroupId,
    peers: Arc<Peers>,
    local: OnceLock<Local>,
    /// Parts taken and neither answered nor taken back.
    waiting: AtomicUsize,
}

/// The far end: sends what comes.
struct Sender {
    shared: Arc<Shared>,
    queue: mpsc::UnboundedReceiver<Append>,
    /// Not sent yet, or to be sent again.
    unsent: VecDeque<Append>,
    /// Whom to ask next among those that may own it.
    turn: usize,
}

/// What happens to a stream.
enum Event {
    Answer(Result<PartOutcome, AppendError>),
    Broken,
}

/// One stream to one node.
struct Session {
    sender: PartSender,
    answers: PartAnswers,
    sent: VecDeque<Append>,
    /// To be sent to another owner, in order.
    again: VecDeque<Append>,
    /// The node does not own the partition any more.
    moved: bool,
}

impl Forwarder {
    /// For one partition.
    pub fn start(group: GroupId, peers: Arc<Peers>) -> Forwarder {
        let (queue, received) = mpsc::unbounded_channel();
        let (local, waiting) = (OnceLock::new(), AtomicUsize::new(0));
        let shared = Arc::new(Shared { group, peers, local, waiting });
        let sender =
            Sender { shared: shared.clone(), queue: received, unsent: VecDeque::new(), turn: 0 };
        shared.peers.io().spawn(sender.run());
        Forwarder { queue, shared }
    }

    /// Says how this node's own replica takes parts, once there is one.
    pub fn meet(&self, local: impl Fn(Append) -> Result<(), Append> + Send + Sync + 'static) {
        // One replica in the life of a forwarder.
        let _ = self.shared.local.set(Box::new(local));
    }

    /// Takes a part; answered through its reply. Bounded by the append budget.
    pub fn push(&self, part: Append) {
        self.shared.waiting.fetch_add(1, Ordering::AcqRel);
        if let Err(mpsc::error::SendError(part)) = self.queue.send(part) {
            self.shared.answer(part, Err(AppendError::Stopping));
        }
    }

    /// Whether parts are on their way: what comes after them must not overtake them.
    pub fn is_busy(&self) -> bool {
        self.shared.waiting.load(Ordering::Acquire) != 0
    }

    /// This node's own replica has taken a part back.
    pub fn taken_back(&self) {
        self.shared.waiting.fetch_sub(1, Ordering::AcqRel);
    }
}

impl fmt::Debug for Forwarder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let waiting = self.shared.waiting.load(Ordering::Relaxed);
        f.debug_struct("Forwarder").field("waiting", &waiting).finish_non_exhaustive()
    }
}

impl Shared {
    fn answer(&self, part: Append, outcome: Result<PartOutcome, AppendError>) {
        self.waiting.fetch_sub(1, Ordering::AcqRel);
        // A caller that left needs no answer.
        let _ = part.reply.send(outcome);
    }
}

impl Sender {
    async fn run(mut self) {
        let mut changes = self.shared.peers.cluster().changes();
        loop {
            if self.unsent.is_empty() {
                match self.queue.recv().await {
                    Some(part) => self.unsent.push_back(part),
                    None => return,
                }
            }
            while let Ok(part) = self.queue.try_recv() {
                self.unsent.push_back(part);
            }
            changes.mark_unchanged();
            if !self.try_once().await {
                self.expire();
                let _ = tokio::time::timeout(TRY_AGAIN, changes.changed()).await;
            }
        }
    }

    /// Sends what waits to whom it may concern; false when nobody took anything.
    async fn try_once(&mut self) -> bool {
        let cluster = self.shared.peers.cluster().clone();
        let group = self.shared.group;
        if !cluster.known().placements.contains_key(&group) {
            // Its stream was dropped.
            for part in std::mem::take(&mut self.unsent) {
                self.shared.answer(part, Err(AppendError::NotOwner { owner: None }));
            }
            return true;
        }
        let owner = cluster.owner(group);
        if owner == Some(cluster.me()) {
            return self.give_back();
        }
        let candidates = cluster.candidates(group);
        let Some(node) = owner.or_else(|| {
            self.turn += 1;
            candidates.get(self.turn % candidates.len().max(1)).copied()
        }) else {
            return false;
        };
        match self.shared.peers.append(node, group).await {
            Ok((sender, answers)) => self.session(node, sender, answers).await,
            Err(_) => {
                if cluster.owner(group) == Some(node) {
                    cluster.led_by(group, None);
                }
                false
            }
        }
    }

    fn give_back(&mut self) -> bool {
        let Some(local) = self.shared.local.get() else { return false };
        while let Some(mut part) = self.unsent.pop_front() {
            part.origin = Origin::Forwarder;
            if let Err(part) = local(part) {
                self.unsent.push_front(part);
                return false;
            }
        }
        true
    }

    async fn session(&mut self, node: NodeId, sender: PartSender, answers: PartAnswers) -> bool {
        let (sent, again) = (VecDeque::new(), VecDeque::new());
        let mut session = Session { sender, answers, sent, again, moved: false };
        let mut answered = false;
        let cluster = self.shared.peers.cluster().clone();
        let moved_on = cluster.owned_by_another(self.shared.group, node, Some(node));
        tokio::pin!(moved_on);
        while !session.moved || !session.sent.is_empty() {
            let Session { sender, answers, sent, moved, .. } = &mut session;
            let event = tokio::select! {
                biased;
                answer = answers.next(), if !sent.is_empty() => match answer {
                    Some(answer) => Event::Answer(answer),
                    None => Event::Broken,
                },
                ready = sender.ready(), if !*moved && !self.unsent.is_empty() => match ready {
                    Some(ready) => {
                        let part = self.unsent.pop_front().expect("looked at above");
                        ready.send(&part.part, part.payload());
                        sent.push_back(part);
                        continue;
                    }
                    None => Event::Broken,
                },
                next = self.queue.recv(), if !*moved => {
                    match next {
                        Some(part) => self.unsent.push_back(part),
                        // Nobody can push any more; what is here is still seen through.
                        None => *moved = self.unsent.is_empty(),
                    }
                    continue;
                }
                // It may stand still and say nothing.
                () = &mut moved_on => Event::Broken,
                () = tokio::time::sleep(IDLE_MAX), if sent.is_empty() => return true,
            };
            match event {
                Event::Answer(answer) => answered |= session.answered(&self.shared, node, answer),
                Event::Broken => break,
            }
        }
        if !session.sent.is_empty() {
            // The stream broke: the node is gone or cannot be reached.
            let cluster = self.shared.peers.cluster();
            if cluster.owner(self.shared.group) == Some(node) {
                cluster.led_by(self.shared.group, None);
            }
        }
        self.recover(session);
        answered
    }

    /// What was not answered goes again where that is safe, before everything that came later.
    fn recover(&mut self, session: Session) {
        let Session { sent, mut again, .. } = session;
        for part in sent {
            if part.part.producer.is_some() {
                again.push_back(part);
            } else {
                self.shared.answer(part, Err(AppendError::Lost));
            }
        }
        while let Some(part) = again.pop_back() {
            self.unsent.push_front(part);
        }
    }

    /// Parts that have looked for an owner for too long are told so.
    fn expire(&mut self) {
        let (late, unsent) = std::mem::take(&mut self.unsent)
            .into_iter()
            .partition(|part: &Append| PATIENCE < part.since.elapsed());
        self.unsent = unsent;
        let late: VecDeque<Append> = late;
        for part in late {
            self.shared.answer(part, Err(AppendError::NotOwner { owner: None }));
        }
    }
}

impl Session {
    /// Takes the answer to the oldest part on its way; true when it settles the part.
    fn answered(
        &mut self,
        shared: &Shared,
        node: NodeId,
        answer: Result<PartOutcome, AppendError>,
    ) -> bool {
        let part = self.sent.pop_front().expect("an answer is awaited only for what was sent");
        let stamped = part.part.producer.map(|stamp| stamp.producer);
        let goes_again = match &answer {
            Err(AppendError::NotOwner { owner }) => {
                let cluster = shared.peers.cluster();
                if cluster.owner(shared.group).is_none_or(|known| known == node) {
                    cluster.led_by(shared.group, owner.filter(|owner| *owner != node));
                }
                true
            }
            Err(AppendError::Lost) => stamped.is_some(),
            // Only because an earlier one of its producer goes again.
            Ok(PartOutcome::OutOfSequence { .. }) => self.waits_for(stamped),
            Ok(_) | Err(_) => false,
        };
        if goes_again {
            self.moved = true;
            self.again.push_back(part);
        } else {
            shared.answer(part, answer);
        }
        !goes_again
    }

    fn waits_for(&self, producer: Option<ProducerId>) -> bool {
        producer.is_some()
            && self.again.iter().any(|part| part.part.producer.map(|s| s.producer) == producer)
    }
}
