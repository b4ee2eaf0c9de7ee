//! Configuration: a TOML file, then `ALLUVIUM_…` variables, then flags; the later one wins.
//!
//! The only reader of configuration files and of the environment. [`keys::KEYS`] is the one list of
//! keys: flags, file keys, variables, defaults and help all come from it. What comes out is a
//! [`Config`], which is whole and checked: whoever holds one asks nothing again.
//!
//! A key that is not in the list is refused wherever it stands, with the nearest one that is: a
//! misspelt key that is quietly ignored is found in production.

mod check;
pub mod doors;
pub mod environment;
pub mod keys;
pub mod size;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use config::{Environment, FileFormat, Source, Value, ValueKind};

pub(crate) use self::check::split_addr;
pub use self::environment::Variables;
pub use self::size::Memory;
use crate::tls::TlsFiles;

/// What a node runs with. Every value is present and checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Where events are kept. The node's identity lives there too.
    pub data_dir: PathBuf,
    /// What people call this node.
    pub name: String,
    /// Where clients speak gRPC to it. Port 0: a free one.
    pub listen: SocketAddr,
    /// Where other nodes speak to it.
    pub peer_listen: SocketAddr,
    /// Where it answers health and metrics.
    pub http_listen: SocketAddr,
    /// Where it speaks the PostgreSQL protocol.
    pub pg_listen: SocketAddr,
    /// Where this node stands, widest place first: `region=eu,zone=a`.
    pub locality: Vec<(String, String)>,
    /// Where the nodes that form the cluster listen for nodes; none for a cluster of one that
    /// others may join.
    pub seeds: Vec<String>,
    /// The files of certificates.
    pub tls: TlsFiles,
    /// Keys of listeners that other machines can reach and that nothing encrypts, as was meant.
    pub insecure: Vec<&'static str>,
    /// The host by which others reach this node, where that is not the one it listens on.
    pub advertise: Option<String>,
    /// Whether callers have to say who they are.
    pub auth_required: bool,
    /// The password of the first admin, where there is no user yet.
    pub admin_password_file: Option<PathBuf>,
    /// Written with the chosen addresses once the node answers, where that is asked for.
    pub ready_file: Option<PathBuf>,
    /// What is logged, and how.
    pub log: LogConfig,
    /// How much memory goes to what.
    pub memory: Memory,
    /// Bytes of a partition's unsealed events that are sealed into a segment.
    pub segment_bytes: u64,
    /// Unsealed events older than this are sealed, however few.
    pub segment_age: Duration,
}

/// What is logged, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// `info`, `debug`, or directives such as `warn,alluvium=debug`.
    pub filter: String,
    /// One line of text or one JSON object each.
    pub format: LogFormat,
}

/// The form of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For machines.
    Json,
}

/// Where a value was said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// By nobody: the default.
    Default,
    /// In this file.
    File(PathBuf),
    /// In the environment.
    Environment,
    /// On the command line.
    Flag,
}

/// Values of flags by key, as typed. A flag without a value has the value `true`.
pub type Flags = BTreeMap<&'static str, String>;

/// Why there is no configuration to start with.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file named by `--config` cannot be read.
    #[error("read the configuration file {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not TOML.
    #[error("the configuration file {} is not TOML: {reason}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Where, and what was expected.
        reason: String,
    },
    /// Nobody knows this key.
    #[error("unknown key {key} in {place}{}", nearest(near.as_deref()))]
    UnknownKey {
        /// The key as it stands there.
        key: String,
        /// The file, or "the environment".
        place: String,
        /// The known key that looks most like it, written as it would stand there.
        near: Option<String>,
    },
    /// The value cannot be used.
    #[error("{key} = \"{value}\": {reason}")]
    Invalid {
        /// The key as it stands where the value came from: `--listen`, `ALLUVIUM_LISTEN`, …
        key: String,
        /// As given.
        value: String,
        /// What is wrong and what would be right.
        reason: String,
    },
}

fn nearest(near: Option<&str>) -> String {
    near.map(|near| format!("; did you mean {near}?")).unwrap_or_default()
}

/// Reads the file (if one is named by flag or variable), the variables and the flags, and checks
/// the result.
pub fn load(flags: &Flags, variables: &Variables) -> Result<Config, ConfigError> {
    let mut given = Given::default();
    let file = flags.get(keys::CONFIG).map(String::as_str);
    if let Some(path) = file.or(variables.get("ALLUVIUM_CONFIG")) {
        given.add_file(Path::new(path))?;
    }
    given.add_variables(variables)?;
    given.add_flags(flags)?;
    check::check(&given)
}

/// Everything that was said, the latest word on each key with its origin.
#[derive(Debug, Default)]
struct Given {
    values: BTreeMap<&'static str, (Value, Origin)>,
}

impl Given {
    fn add_file(&mut self, path: &Path) -> Result<(), ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Read { path: path.into(), source })?;
        let syntax = |error: config::ConfigError| ConfigError::Syntax {
            path: path.into(),
            reason: error.to_string(),
        };
        let map = config::File::from_str(&text, FileFormat::Toml).collect().map_err(syntax)?;
        self.add(map, &Origin::File(path.into()))
    }

    fn add_variables(&mut self, variables: &Variables) -> Result<(), ConfigError> {
        let source = Environment::with_prefix("ALLUVIUM").source(Some(variables.of_the_node()));
        let syntax = |error: config::ConfigError| ConfigError::Syntax {
            path: "the environment".into(),
            reason: error.to_string(),
        };
        self.add(source.collect().map_err(syntax)?, &Origin::Environment)
    }

    fn add_flags(&mut self, flags: &Flags) -> Result<(), ConfigError> {
        let mut map = config::Map::new();
        for (&key, value) in flags {
            map.insert(key.to_owned(), Value::from(value.as_str()));
        }
        self.add(map, &Origin::Flag)
    }

    fn add(&mut self, map: config::Map<String, Value>, origin: &Origin) -> Result<(), ConfigError> {
        // Sorted, so that of two unknown keys the same one is named each time.
        for (key, value) in unfold(map) {
            match keys::find(&key) {
                Some(known) => {
                    self.values.insert(known.name, (value, origin.clone()));
                }
                // A file that names another file would be read by nobody.
                None if key == keys::CONFIG && !matches!(origin, Origin::File(_)) => {}
                None => return Err(origin.unknown(&key)),
            }
        }
        Ok(())
    }
}

/// The keys of the section `[tls]` are those that begin with `tls_`.
fn unfold(map: config::Map<String, Value>) -> BTreeMap<String, Value> {
    let mut keys = BTreeMap::new();
    for (key, value) in map {
        match value.kind {
            ValueKind::Table(section) if key == "tls" => {
                let section = section.into_iter();
                keys.extend(section.map(|(key, value)| (format!("tls_{key}"), value)));
            }
            _ => {
                keys.insert(key, value);
            }
        }
    }
    keys
}

impl Origin {
    /// A key as it is written in this place.
    fn spell(&self, key: &str) -> String {
        match self {
            Origin::Default | Origin::File(_) => key.to_owned(),
            Origin::Environment => format!("ALLUVIUM_{}", key.to_uppercase()),
            Origin::Flag => format!("--{}", key.replace('_', "-")),
        }
    }

    fn unknown(&self, key: &str) -> ConfigError {
        ConfigError::UnknownKey {
            key: self.spell(key),
            place: self.to_string(),
            near: keys::nearest(key).map(|near| self.spell(near)),
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => f.write_str("the defaults"),
            Origin::File(path) => write!(f, "{}", path.display()),
            Origin::Environment => f.write_str("the environment"),
            Origin::Flag => f.write_str("the command line"),
        }
    }
}
