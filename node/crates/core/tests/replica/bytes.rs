//! Commands are not copied on their way through a replica.

use alluvium_core::ids::{GroupId, Index, NodeId, RequestId};
use alluvium_core::replica::{
    CorruptCheckpoint, CorruptCommand, Input, Machine, Members, Replica, ReplicaConfig, Restored,
};
use bytes::Bytes;

/// Remembers where the bytes of each command lie.
#[derive(Default)]
struct Places(Vec<usize>);

impl Machine for Places {
    type Outcome = usize;

    fn apply(&mut self, _index: Index, command: &Bytes) -> Result<usize, CorruptCommand> {
        self.0.push(command.as_ptr() as usize);
        Ok(command.len())
    }

    fn checkpoint(&self) -> Bytes {
        Bytes::new()
    }

    fn restore(_bytes: &[u8]) -> Result<Places, CorruptCheckpoint> {
        Ok(Places::default())
    }
}

#[test]
fn a_group_of_one_voter_shares_the_bytes_of_its_commands() {
    const COMMANDS: u64 = 50_000;
    let config = ReplicaConfig::new(GroupId(1), NodeId(1), 1);
    let restored = Restored { members: Members::of_voters([NodeId(1)]), ..Restored::default() };
    let mut replica = Replica::new(config, Places::default(), restored).expect("a fresh replica");
    let mut effects = replica.step(Input::Campaign);
    let command = Bytes::from(vec![7; 64 << 10]);
    let place = command.as_ptr() as usize;
    let mut answered = 0;
    let started = std::time::Instant::now();
    for number in 0..=COMMANDS {
        let writes = effects.writes.take().expect("every step of this test writes");
        assert!(
            writes
                .entries
                .iter()
                .all(|entry| { entry.data.is_empty() || entry.data.as_ptr() as usize == place })
        );
        let (sends, persisted) = std::mem::take(&mut effects.held).release(writes.into_durable());
        assert_eq!(sends.len(), 0);
        let done = replica.step(Input::Persisted(persisted));
        answered += done.applied.iter().filter(|one| one.request.is_some()).count() as u64;
        if number % 1_000 == 999 {
            let through = replica.status().applied;
            let _nothing = replica.step(Input::Truncate { through });
        }
        let request = RequestId(number);
        effects = replica.step(Input::Propose { request, command: command.clone() });
    }
    let each = started.elapsed() / u32::try_from(COMMANDS).expect("a small number");
    println!("{each:?} for each command, proposed, written, applied and answered");
    assert_eq!(answered, COMMANDS);
    assert!(replica.machine().0.iter().all(|&lies| lies == place));
    assert!(replica.status().log_bytes <= 1_001 * ((64 << 10) + 64), "truncation frees memory");
}
