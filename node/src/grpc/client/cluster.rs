//! The nodes of a cluster, and what they are meant to do.

use alluvium_proto::v1;
use alluvium_proto::v1::admin_client::AdminClient;

use super::{Client, ClientError};

/// A node as another one knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeInfo {
    /// Its number.
    pub node_id: u64,
    /// What people call it.
    pub name: String,
    /// `active`, `draining` or `leaving`.
    pub state: String,
    /// Whether it was heard of lately.
    pub alive: bool,
    /// Where clients reach it.
    pub client_addr: String,
    /// Where nodes reach it.
    pub peer_addr: String,
    /// Where it stands.
    pub locality: String,
    /// Partitions it holds.
    pub replicas: u64,
    /// Partitions it owns.
    pub owned: u64,
    /// Whether it leads the meta group.
    pub leads_meta: bool,
}

/// What a node can be told to become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeChange {
    /// Own nothing, take nothing.
    Drain,
    /// Give everything away and leave.
    Decommission,
    /// Do everything again.
    Activate,
}

pub(super) fn node_info_from_wire(info: v1::NodeInfo) -> NodeInfo {
    NodeInfo {
        node_id: info.node_id,
        name: info.name,
        state: info.state,
        alive: info.alive,
        client_addr: info.client_addr,
        peer_addr: info.peer_addr,
        locality: info.locality,
        replicas: info.replicas,
        owned: info.owned,
        leads_meta: info.leads_meta,
    }
}

impl Client {
    /// The nodes of the cluster.
    pub async fn nodes(&self) -> Result<Vec<NodeInfo>, ClientError> {
        let mut client = AdminClient::new(self.channel.clone());
        let response = client.list_nodes(v1::ListNodesRequest {}).await;
        let said = response.map_err(|status| self.error(&status))?.into_inner();
        Ok(said.nodes.into_iter().map(node_info_from_wire).collect())
    }

    /// Changes what a node is meant to do; `None` when it is none any more.
    pub async fn change_node(
        &self,
        node: &str,
        change: NodeChange,
    ) -> Result<Option<NodeInfo>, ClientError> {
        let change = match change {
            NodeChange::Drain => v1::NodeChange::Drain,
            NodeChange::Decommission => v1::NodeChange::Decommission,
            NodeChange::Activate => v1::NodeChange::Activate,
        };
        let mut client = AdminClient::new(self.channel.clone());
        let request = v1::ChangeNodeRequest { node: node.into(), change: change.into() };
        let response = client.change_node(request).await;
        let said = response.map_err(|status| self.error(&status))?.into_inner();
        Ok(said.node.map(node_info_from_wire))
    }
}
