//! Who decides alone says so, and stops before anybody else could decide.

use alluvium_core::ids::{GroupId, Index, NodeId, RequestId};
use alluvium_core::replica::{
    CorruptCheckpoint, CorruptCommand, Effects, Input, Machine, Members, Replica, ReplicaConfig,
    Restored,
};
use bytes::Bytes;

/// Counts commands.
#[derive(Default)]
struct Count(u64);

impl Machine for Count {
    type Outcome = u64;

    fn apply(&mut self, _index: Index, _command: &Bytes) -> Result<u64, CorruptCommand> {
        self.0 += 1;
        Ok(self.0)
    }

    fn checkpoint(&self) -> Bytes {
        Bytes::new()
    }

    fn restore(_bytes: &[u8]) -> Result<Count, CorruptCheckpoint> {
        Ok(Count::default())
    }
}

/// Makes what a step wrote durable, until there is nothing more; how many messages left meanwhile
/// while the replica said that it is alone.
fn settle(replica: &mut Replica<Count>, mut effects: Effects<u64>) -> usize {
    let mut alone = 0;
    loop {
        if replica.answers_alone() {
            alone += effects.sends.len();
        }
        let Some(writes) = effects.writes.take() else { return alone };
        let held = std::mem::take(&mut effects.held);
        let (_, persisted) = held.release(writes.into_durable());
        effects = replica.step(Input::Persisted(persisted));
    }
}

#[test]
fn a_lone_voter_answers_alone_until_another_may_vote() {
    let config = ReplicaConfig::new(GroupId(1), NodeId(1), 1);
    let restored = Restored { members: Members::of_voters([NodeId(1)]), ..Restored::default() };
    let mut replica = Replica::new(config, Count::default(), restored).expect("a fresh replica");
    assert!(!replica.answers_alone(), "it does not lead yet");
    let effects = replica.step(Input::Campaign);
    assert!(!replica.answers_alone(), "nothing of its term is durable yet");
    settle(&mut replica, effects);
    assert!(replica.answers_alone());
    let command = Bytes::from_static(b"more");
    let effects = replica.step(Input::Propose { request: RequestId(1), command });
    assert!(replica.answers_alone(), "what is not durable is not acknowledged");
    settle(&mut replica, effects);
    assert!(replica.answers_alone() && replica.machine().0 == 1);
    let members = Members::of_voters([NodeId(1), NodeId(2), NodeId(3)]);
    let effects = replica.step(Input::ChangeMembers { request: RequestId(2), members });
    assert_eq!(settle(&mut replica, effects), 0, "no message leaves that says who may vote");
    assert!(!replica.answers_alone());
}
