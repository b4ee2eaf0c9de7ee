//! Golden scripts of the replica: a few replicas, a network and disks that do what the script says.
//!
//! ```text
//! nodes [N]                 N fresh replicas (1 unless said) of one group
//! campaign N                node N stands for election
//! propose N TEXT            a caller asks node N to agree on TEXT
//! read N                    a caller asks node N for everything agreed so far
//! change N V…               a caller asks node N for other voters
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

#[allow(clippy::print_stdout)] // What it measures is shown when asked for.
mod bytes;
mod cluster;
#[path = "../scripts/mod.rs"]
mod scripts;

use std::error::Error;

use alluvium_core::ids::NodeId;
use goldenscript::ArgumentConsumer;

use cluster::Cluster;
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
        Runner { cluster: Cluster::new(1) }
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
            "nodes" => *cluster = Cluster::new(number(&mut args)?.unwrap_or(1)),
            "campaign" => cluster.campaign(node(&mut args)?),
            "propose" => {
                let node = node(&mut args)?;
                cluster.propose(node, args.next_pos().ok_or("what to propose")?);
            }
            "read" => cluster.read(node(&mut args)?),
            "change" => {
                let node = node(&mut args)?;
                let mut voters = Vec::new();
                while let Some(voter) = number(&mut args)? {
                    voters.push(NodeId(voter));
                }
                cluster.change(node, voters);
            }
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

fn node(args: &mut ArgumentConsumer<'_>) -> Result<NodeId, Box<dyn Error>> {
    Ok(NodeId(number(args)?.ok_or("which node")?))
}

type Link = (Option<NodeId>, Option<NodeId>);

fn link(args: &mut ArgumentConsumer<'_>) -> Result<Link, Box<dyn Error>> {
    let mut end = |key| -> Result<Option<NodeId>, Box<dyn Error>> {
        Ok(args.take_key(key).map(str::parse).transpose()?.map(NodeId))
    };
    Ok((end("from")?, end("to")?))
}
