//! Golden scripts of the replica: a few replicas, a network and disks that do what the script says.
//!
//! ```text
//! nodes [N] [voters=V] [retain=BYTES]
//!                           N fresh replicas (1 unless said) of one group; all are voters, or V
//! campaign N                node N stands for election
//! propose N TEXT            a caller asks node N to agree on TEXT
//! read N                    a caller asks node N for everything agreed so far
//! change N V… [learners=L,…]
//!                           a caller asks node N for other members
//! transfer N TO             node N is to hand leadership to TO
//! drive N V… [learners=L,…] [leader=W]
//!                           node N takes its next step towards these members
//! members N                 who belongs to the group, and how far they are, as node N knows
//! fetch N                   node N has fetched the checkpoint it was asked to
//! fetch-fails N             node N could not fetch it
//! remove N                  the replica of node N is removed with its log; restart adds it again
//! tick N [COUNT]            time goes by on node N
//! persist N                 what node N wrote is durable now; what waited for it goes out
//! deliver [from=N] [to=N]   messages under way arrive; answers stay under way
//! lose [from=N] [to=N]      messages under way are lost
//! run                       deliver and persist everywhere until nothing happens
//! crash N                   node N dies; writes that are not durable are lost
//! restart N                 node N comes back with what is durable
//! checkpoint N              node N makes a checkpoint durable and cuts its log
//! garble TO                 bytes that are no message arrive
//! status                    every replica in one line
//! trace on|off              also show messages and writes
//! ```

mod alone;
#[allow(clippy::print_stdout)] // What it measures is shown when asked for.
mod bytes;
mod cluster;
#[path = "../scripts/mod.rs"]
mod scripts;

use std::error::Error;

use alluvium_core::ids::NodeId;
use alluvium_core::replica::{Members, ReplicaConfig};
use goldenscript::ArgumentConsumer;

use cluster::{Cluster, Setting};
use scripts::run_scripts;

#[test]
fn scripts() {
    run_scripts::<Runner>("replica");
}

struct Runner {
    cluster: Cluster,
}

impl Default for Runner {
    fn default() -> Runner {
        Runner { cluster: Cluster::new(&setting(1, None, None)) }
    }
}

impl goldenscript::Runner for Runner {
    type Command = goldenscript::Command;

    fn run(
        &mut self,
        command: &goldenscript::Command,
        _context: &goldenscript::Context,
    ) -> Result<String, Box<dyn Error>> {
        let mut args = command.consume_args();
        let cluster = &mut self.cluster;
        match command.name.as_str() {
            "nodes" => {
                let voter_count = keyed(&mut args, "voters")?;
                let retain = keyed(&mut args, "retain")?;
                let node_count = number(&mut args)?.unwrap_or(1);
                *cluster = Cluster::new(&setting(node_count, voter_count, retain));
            }
            "campaign" => cluster.campaign(node(&mut args)?),
            "propose" => {
                let node = node(&mut args)?;
                cluster.propose(node, args.next_pos().ok_or("what to propose")?);
            }
            "read" => cluster.read(node(&mut args)?),
            "change" => {
                let node = node(&mut args)?;
                cluster.change(node, members(&mut args)?);
            }
            "drive" => {
                let node = node(&mut args)?;
                let leader = keyed(&mut args, "leader")?.map_or(node, NodeId);
                cluster.drive(node, &members(&mut args)?, leader);
            }
            "transfer" => cluster.transfer(node(&mut args)?, node(&mut args)?),
            "members" => cluster.members(node(&mut args)?),
            "fetch" => cluster.fetch(node(&mut args)?),
            "fetch-fails" => cluster.fetch_fails(node(&mut args)?),
            "remove" => cluster.remove(node(&mut args)?),
            "tick" => {
                let node = node(&mut args)?;
                cluster.tick(node, number(&mut args)?.unwrap_or(1));
            }
            "persist" => cluster.persist(node(&mut args)?),
            "deliver" => {
                let (from, to) = link(&mut args)?;
                cluster.deliver(from, to);
            }
            "lose" => {
                let (from, to) = link(&mut args)?;
                cluster.lose(from, to);
            }
            "run" => cluster.run(),
            "crash" => cluster.crash(node(&mut args)?),
            "restart" => cluster.restart(node(&mut args)?),
            "checkpoint" => cluster.checkpoint(node(&mut args)?),
            "garble" => cluster.garble(node(&mut args)?),
            "status" => cluster.status(),
            "trace" => cluster.trace = args.next_pos() == Some("on"),
            name => return Err(format!("no such command: {name}").into()),
        }
        args.reject_next()?;
        Ok(cluster.take_output())
    }
}

fn number(args: &mut ArgumentConsumer<'_>) -> Result<Option<u64>, Box<dyn Error>> {
    Ok(args.next_pos().map(str::parse).transpose()?)
}

fn keyed(args: &mut ArgumentConsumer<'_>, key: &str) -> Result<Option<u64>, Box<dyn Error>> {
    Ok(args.take_key(key).map(str::parse).transpose()?)
}

fn node(args: &mut ArgumentConsumer<'_>) -> Result<NodeId, Box<dyn Error>> {
    Ok(NodeId(number(args)?.ok_or("which node")?))
}

fn setting(node_count: u64, voter_count: Option<u64>, retain: Option<u64>) -> Setting {
    let voter_count = voter_count.unwrap_or(node_count);
    let retained_bytes_max = retain.unwrap_or(ReplicaConfig::RETAINED_BYTES_MAX);
    Setting { node_count, voter_count, retained_bytes_max }
}

fn members(args: &mut ArgumentConsumer<'_>) -> Result<Members, Box<dyn Error>> {
    let learners = args.take_key("learners");
    let learners: Result<Vec<u64>, _> =
        learners.iter().flat_map(|nodes| nodes.split(',')).map(str::parse).collect();
    let mut voters = Vec::new();
    while let Some(voter) = number(args)? {
        voters.push(NodeId(voter));
    }
    Ok(Members::new(voters, learners?.into_iter().map(NodeId)))
}

type Link = (Option<NodeId>, Option<NodeId>);

fn link(args: &mut ArgumentConsumer<'_>) -> Result<Link, Box<dyn Error>> {
    let mut end = |key| -> Result<Option<NodeId>, Box<dyn Error>> {
        Ok(args.take_key(key).map(str::parse).transpose()?.map(NodeId))
    };
    Ok((end("from")?, end("to")?))
}
