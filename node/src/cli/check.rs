//! `alluvium check`: whether a machine is fit to run a node with these keys, before it does.
//!
//! Nothing is changed: what is written to try the disk is removed again.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};
use nix::sys::resource::{Resource, getrlimit};
use serde::Serialize;

use super::CliError;
use super::start::StartArgs;
use crate::clock::Stopwatch;
use crate::config::{Config, Variables};

/// Less free than this, and a node that takes events in at full speed is full within a minute.
const FREE_BYTES_MIN: u64 = 10 << 30;

/// Below this a node refuses writes.
const FREE_BYTES_LEAST: u64 = 256 << 20;

/// Connections, tables of the databases and segments are all files.
const FILES_MIN: u64 = 65_536;

/// Half of all appends wait at least this long where the disk is no faster.
const SYNC_MAX: Duration = Duration::from_millis(10);

/// Writes that are tried.
const SYNCS: usize = 50;

/// What one of them is long.
const SYNC_BYTES: usize = 16 << 10;

/// A seed that is not reached by then is not reached.
const CONNECT_MAX: Duration = Duration::from_secs(2);

/// What may be typed after `check`.
#[derive(Clone, Debug, Args)]
pub struct CheckArgs {
    /// The keys of the node
    #[command(flatten)]
    pub start: StartArgs,
    /// How it is printed
    #[arg(long, short = 'o', value_name = "FORMAT", default_value = "text")]
    pub output: Output,
}

/// How it is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people
    Text,
    /// One JSON object
    Json,
}

/// What was found about one thing.
#[derive(Debug, Serialize)]
struct Finding {
    what: &'static str,
    verdict: Verdict,
    found: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    fix: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Good,
    /// A node would run, and people would not be glad of it.
    Poor,
    /// A node would not start.
    Bad,
}

/// Looks at everything; an error where a node would not start.
pub fn run(args: &CheckArgs) -> Result<(), CliError> {
    let config = args.start.load(&Variables::of_this_process());
    let config = config.map_err(|error| CliError::Usage(error.to_string()))?;
    let mut findings = vec![files(), memory(&config)];
    findings.extend(disk(&config.data_dir));
    findings.extend(listeners(&config));
    findings.extend(config.seeds.iter().map(|seed| reach(seed)));
    let bad = findings.iter().filter(|finding| finding.verdict == Verdict::Bad).count();
    let text = match args.output {
        Output::Json => {
            let object = serde_json::json!({ "fit": bad == 0, "findings": findings });
            format!("{object}\n")
        }
        Output::Text => findings.iter().map(line).collect(),
    };
    std::io::stdout().lock().write_all(text.as_bytes())?;
    match bad {
        0 => Ok(()),
        _ => Err(CliError::Failed(format!("{bad} to mend before a node can start here"))),
    }
}

fn line(finding: &Finding) -> String {
    let verdict = match finding.verdict {
        Verdict::Good => "good",
        Verdict::Poor => "poor",
        Verdict::Bad => "BAD ",
    };
    let fix = finding.fix.as_ref().map(|fix| format!("      {fix}\n")).unwrap_or_default();
    format!("{verdict}  {}: {}\n{fix}", finding.what, finding.found)
}

fn good(what: &'static str, found: String) -> Finding {
    Finding { what, verdict: Verdict::Good, found, fix: None }
}

fn poor(what: &'static str, found: String, fix: &str) -> Finding {
    Finding { what, verdict: Verdict::Poor, found, fix: Some(fix.to_owned()) }
}

fn bad(what: &'static str, found: impl ToString, fix: &str) -> Finding {
    let found = found.to_string();
    Finding { what, verdict: Verdict::Bad, found, fix: Some(fix.to_owned()) }
}

fn files() -> Finding {
    let what = "open files";
    match getrlimit(Resource::RLIMIT_NOFILE) {
        Ok((_, most)) if FILES_MIN <= most => good(what, format!("{most} at most")),
        Ok((_, most)) => poor(
            what,
            format!("{most} at most"),
            "raise it to 65536: LimitNOFILE of the unit, or nofile in /etc/security/limits.conf",
        ),
        Err(error) => poor(what, error.to_string(), "the limit cannot be read"),
    }
}

fn memory(config: &Config) -> Finding {
    let mib = config.memory.total_bytes >> 20;
    let found = format!("{mib} MiB for this node");
    if mib < 512 {
        return poor("memory", found, "give it more by memory_bytes: large questions will spill");
    }
    good("memory", found)
}

/// The nearest folder above that is there: the node makes the rest.
fn standing(dir: &Path) -> PathBuf {
    let ancestors = dir.ancestors().filter(|it| !it.as_os_str().is_empty());
    let found = ancestors.filter(|it| it.is_dir()).map(Path::to_path_buf).next();
    found.unwrap_or_else(|| PathBuf::from("."))
}

fn disk(data_dir: &Path) -> Vec<Finding> {
    let dir = standing(data_dir);
    let place = dir.display();
    let mut findings = Vec::new();
    match nix::sys::statvfs::statvfs(&dir) {
        Ok(stat) => {
            let free = stat.blocks_available() * stat.fragment_size();
            let found = format!("{} MiB free at {place}", free >> 20);
            findings.push(match free {
                0..FREE_BYTES_LEAST => bad("disk", found, "free 256 MiB at least"),
                FREE_BYTES_LEAST..FREE_BYTES_MIN => {
                    poor("disk", found, "events fill 10 GiB within minutes; give it a larger disk")
                }
                FREE_BYTES_MIN.. => good("disk", found),
            });
        }
        Err(error) => findings.push(bad("disk", format!("{place}: {error}"), "see what is there")),
    }
    let path = dir.join(format!(".alluvium-check-{}", std::process::id()));
    let median = median_sync(&path);
    // It may not have been made.
    let _ = std::fs::remove_file(&path);
    findings.push(match median {
        Ok(median) if median <= SYNC_MAX => good("sync", format!("{median:.1?} at {place}")),
        Ok(median) => poor(
            "sync",
            format!("{median:.1?} at {place}"),
            "every ack waits for it; use a local SSD or a volume with more operations a second",
        ),
        Err(error) => bad(
            "sync",
            format!("{place}: {error}"),
            "let the user that runs the node write to data_dir",
        ),
    });
    findings
}

fn median_sync(path: &Path) -> std::io::Result<Duration> {
    let mut file: File = OpenOptions::new().write(true).create_new(true).open(path)?;
    let bytes = vec![0x5a; SYNC_BYTES];
    let mut taken = Vec::with_capacity(SYNCS);
    for _ in 0..SYNCS {
        let watch = Stopwatch::start();
        file.write_all(&bytes)?;
        file.sync_data()?;
        taken.push(watch.elapsed());
    }
    taken.sort_unstable();
    Ok(taken[SYNCS / 2])
}

fn listeners(config: &Config) -> Vec<Finding> {
    let all = [
        ("listen", config.listen),
        ("peer_listen", config.peer_listen),
        ("http_listen", config.http_listen),
        ("pg_listen", config.pg_listen),
    ];
    all.map(|(key, addr)| listener(key, addr)).into()
}

fn listener(key: &'static str, addr: SocketAddr) -> Finding {
    match TcpListener::bind(addr) {
        Ok(_) => good(key, format!("{addr} can be had")),
        Err(error) => bad(
            key,
            format!("{addr}: {error}"),
            "stop what listens there (ss -ltnp), or choose another address or port",
        ),
    }
}

fn reach(seed: &str) -> Finding {
    let reached = seed.to_socket_addrs().and_then(|mut addrs| {
        let none = || std::io::Error::other("the name resolves to nothing");
        TcpStream::connect_timeout(&addrs.next().ok_or_else(none)?, CONNECT_MAX)
    });
    match reached {
        Ok(_) => good("seed", format!("{seed} answers")),
        // The first nodes of a cluster wait for each other.
        Err(error) => poor(
            "seed",
            format!("{seed}: {error}"),
            "fine before the others run; else see names and firewalls, peers need port 7401",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_bad_and_a_free_one_good() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = taken.local_addr().unwrap();
        assert_eq!(listener("listen", addr).verdict, Verdict::Bad);
        drop(taken);
        assert_eq!(listener("listen", addr).verdict, Verdict::Good);
    }

    #[test]
    fn a_folder_that_is_not_there_yet_is_tried_where_it_would_be() {
        let dir = tempfile::tempdir().unwrap();
        let findings = disk(&dir.path().join("a/b"));
        assert!(findings.iter().all(|it| it.verdict != Verdict::Bad), "{findings:?}");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "nothing is left behind");
    }

    #[test]
    fn a_seed_that_nobody_is_at_is_told() {
        let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        assert_eq!(reach(&gone.to_string()).verdict, Verdict::Poor);
        assert_eq!(reach("no-such-host.invalid:7401").verdict, Verdict::Poor);
    }
}
