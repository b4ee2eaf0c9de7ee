//! Tells the cluster that this node is there: where it answers, once for each start, and that it
//! lives, again and again.

use std::sync::Arc;
use std::time::Duration;

use alluvium_core::ids::GroupId;
use alluvium_core::meta::{MetaCommand, MetaOutcome, NodeReport};
use alluvium_store::Store;

use super::join::VERSIONS;
use super::servers::Doors;
use crate::actors::meta::{ChangeError, MetaHandle};
use crate::clock;
use crate::cluster::Cluster;
use crate::grpc::peer::{PeerError, Peers};

/// Between two signs of life.
const BEAT: Duration = Duration::from_secs(1);

/// Beats without a leader after which a node asks whether it still belongs to the cluster: several
/// elections.
const ALONE_BEATS: u32 = 10;

/// What a node tells others about itself.
#[derive(Clone, Debug)]
pub(super) struct Presence {
    pub cluster: Arc<Cluster>,
    pub peers: Arc<Peers>,
    pub meta: Arc<MetaHandle>,
    pub store: Arc<Store>,
    pub doors: Arc<Doors>,
    pub name: String,
    pub locality: Vec<(String, String)>,
    pub token: u128,
}

impl Presence {
    /// Says where this node answers, until the catalogue has it; ends the node where the catalogue
    /// knows that its place is another's or nobody's.
    pub async fn announce(self) {
        loop {
            let command = MetaCommand::Announce {
                node: self.cluster.me(),
                token: self.token,
                name: self.name.clone(),
                addresses: self.doors.advertised().clone(),
                locality: self.locality.clone(),
                versions: VERSIONS,
                at: clock::now(),
            };
            match self.meta.change(command).await {
                Ok(MetaOutcome::MemberRemoved { node }) => {
                    let reason = format!(
                        "node {node} was removed from the cluster; start with an empty data \
                         directory to join again"
                    );
                    return self.doors.expel(reason);
                }
                Ok(MetaOutcome::MemberRefused { node, reason }) => {
                    return self.doors.expel(format!("the cluster refuses node {node}: {reason}"));
                }
                Ok(MetaOutcome::MemberUnknown { node }) => {
                    return self.doors.expel(format!("the cluster knows no node {node}"));
                }
                Ok(_) => return,
                Err(ChangeError::Refused { reason }) => return self.doors.expel(reason),
                // Nobody leads at the moment, or nobody knows what became of it.
                Err(_) => tokio::time::sleep(BEAT).await,
            }
        }
    }

    /// Tells the leader of the meta group that this node lives, for as long as it does.
    pub async fn beat(self) {
        let mut alone = 0_u32;
        let mut beat = tokio::time::interval(BEAT);
        beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            beat.tick().await;
            let Some(leader) = self.cluster.owner(GroupId::META) else {
                // It may have been removed, and so hears of no leader any more.
                alone += 1;
                if alone.is_multiple_of(ALONE_BEATS) {
                    self.clone().announce().await;
                }
                continue;
            };
            alone = 0;
            let report = self.report();
            if leader == self.cluster.me() {
                self.meta.heard_of(leader, report);
            } else {
                match self.peers.heartbeat(leader, report).await {
                    // It may have been removed: its own word to the catalogue will tell.
                    Err(PeerError::Refused { .. }) => self.clone().announce().await,
                    // The next one is a second away.
                    Ok(_) | Err(PeerError::Unreachable { .. } | PeerError::Unknown { .. }) => {}
                }
            }
        }
    }

    fn report(&self) -> NodeReport {
        let (free, total) = self.store.disk_space();
        NodeReport {
            disk_used_bytes: total.saturating_sub(free),
            disk_total_bytes: total,
            groups_led: self.cluster.led_here(),
        }
    }
}
