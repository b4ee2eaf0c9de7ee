//! From what was said to what holds: every value parsed once, here, and refused with its origin.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::time::Duration;

use config::{Value, ValueKind};

use super::doors::{self, For, Listener};
use super::size::{parse_bytes, parse_duration};
use super::{Config, ConfigError, Given, LogConfig, LogFormat, Memory, Origin, keys};
use crate::tls::{Pair, TlsFiles};

/// Checks everything that was said.
pub(super) fn check(given: &Given) -> Result<Config, ConfigError> {
    let insecure = given.parse("insecure", parse_bool)?.unwrap_or(false);
    let listen = |key| given.listen(key);
    let mut config = Config {
        data_dir: given
            .parse("data_dir", parse_path)?
            .unwrap_or_else(|| default("data_dir").into()),
        name: given.parse("name", parse_name)?.unwrap_or_else(|| default("name").into()),
        listen: listen("listen")?,
        peer_listen: listen("peer_listen")?,
        http_listen: listen("http_listen")?,
        pg_listen: listen("pg_listen")?,
        locality: given.parse("locality", parse_locality)?.unwrap_or_default(),
        seeds: given.parse("seeds", parse_seeds)?.unwrap_or_default(),
        tls: given.tls()?,
        insecure: Vec::new(),
        advertise: given.parse("advertise", parse_host)?,
        auth_required: false,
        admin_password_file: given.parse("admin_password_file", parse_path)?,
        ready_file: given.parse("ready_file", parse_path)?,
        log: LogConfig {
            filter: given.parse("log", parse_filter)?.unwrap_or_else(|| default("log").into()),
            format: given.parse("log_format", parse_format)?.unwrap_or(LogFormat::Text),
        },
        memory: match given.parse("memory_bytes", parse_memory)? {
            Some(memory) => memory,
            None => Memory::of_this_machine(),
        },
        segment_bytes: given.or_default("segment_bytes", parse_segment_bytes)?,
        segment_age: given.or_default("segment_age", parse_segment_age)?,
    };
    given.check_ports(&config)?;
    let is_auth_required = given.parse("auth", parse_auth)?;
    config.auth_required = is_auth_required.unwrap_or(!insecure && can_be_reached(&config));
    config.insecure = given.check_doors(&config, insecure)?;
    Ok(config)
}

fn default(key: &str) -> &'static str {
    keys::find(key).expect("only keys of the list are asked for").default
}

impl Given {
    /// The value of a key, or none where nobody said it (or said nothing: `--seeds ""`).
    fn parse<T>(
        &self,
        key: &'static str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Option<T>, ConfigError> {
        let Some((value, origin)) = self.values.get(key) else {
            return Ok(None);
        };
        let text = text_of(value).ok_or_else(|| {
            let reason = "a section where a single value is meant".to_owned();
            refuse(key, origin, "…", reason)
        })?;
        if text.is_empty() {
            return Ok(None);
        }
        parse(&text).map(Some).map_err(|reason| refuse(key, origin, &text, reason))
    }

    /// The value of a key whose default is written in the list.
    fn or_default<T>(
        &self,
        key: &'static str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Result<T, ConfigError> {
        match self.parse(key, &parse)? {
            Some(value) => Ok(value),
            None => Ok(parse(default(key)).expect("defaults can be parsed")),
        }
    }

    fn listen(&self, key: &'static str) -> Result<SocketAddr, ConfigError> {
        match self.parse(key, resolve)? {
            Some(addr) => Ok(addr),
            None => Ok(default(key).parse().expect("default addresses are addresses")),
        }
    }

    /// Each file as it was named, or as it is called in the directory of certificates.
    fn tls(&self) -> Result<TlsFiles, ConfigError> {
        let dir = self.parse("certs_dir", parse_path)?;
        let mut files = dir.map(|dir| TlsFiles::of_dir(&dir)).unwrap_or_default();
        let pair = |certificate: &'static str, key: &'static str, pair: &mut Option<Pair>| {
            let named = (self.parse(certificate, parse_path)?, self.parse(key, parse_path)?);
            match named {
                (Some(certificate), Some(key)) => *pair = Some(Pair { certificate, key }),
                (None, None) => {}
                (Some(_), None) => return Err(self.alone(certificate, key)),
                (None, Some(_)) => return Err(self.alone(key, certificate)),
            }
            Ok(())
        };
        pair("tls_cert", "tls_key", &mut files.clients)?;
        pair("tls_peer_cert", "tls_peer_key", &mut files.peers)?;
        if let Some(ca) = self.parse("tls_client_ca", parse_path)? {
            files.client_ca = vec![ca];
        }
        if let Some(ca) = self.parse("tls_peer_ca", parse_path)? {
            files.peer_ca = Some(ca);
        }
        if let Some(list) = self.parse("tls_crl", parse_path)? {
            files.revoked = Some(list);
        }
        match (&files.peers, &files.peer_ca) {
            (Some(_), None) => Err(self.alone("tls_peer_cert", "tls_peer_ca")),
            (None, Some(_)) => Err(self.alone("tls_peer_ca", "tls_peer_cert")),
            (Some(_), Some(_)) | (None, None) => Ok(files),
        }
    }

    /// One key says nothing without another.
    fn alone(&self, key: &'static str, other: &str) -> ConfigError {
        let (value, origin) = self.values.get(key).expect("the caller has seen it");
        let value = text_of(value).unwrap_or_default();
        refuse(key, origin, &value, format!("{} is missing, which it needs", origin.spell(other)))
    }

    fn check_doors(
        &self,
        config: &Config,
        is_insecure_meant: bool,
    ) -> Result<Vec<&'static str>, ConfigError> {
        let listeners = [
            ("listen", config.listen, For::Clients),
            ("peer_listen", config.peer_listen, For::Peers),
            ("http_listen", config.http_listen, For::Clients),
            ("pg_listen", config.pg_listen, For::Clients),
        ];
        let listeners = listeners.map(|(key, address, clients)| Listener { key, address, clients });
        doors::decide(&listeners, &config.tls, is_insecure_meant).map_err(|refusal| {
            let said = self.values.get(refusal.key);
            let (value, origin) = said.expect("default addresses are those of loopback");
            refuse(refusal.key, origin, &text_of(value).unwrap_or_default(), refusal.reason)
        })
    }

    /// Two listeners on one port: the second would fail to bind with a message about neither key.
    fn check_ports(&self, config: &Config) -> Result<(), ConfigError> {
        let listeners = [
            ("listen", config.listen),
            ("peer_listen", config.peer_listen),
            ("http_listen", config.http_listen),
            ("pg_listen", config.pg_listen),
        ];
        for (place, &(key, addr)) in listeners.iter().enumerate() {
            for &(earlier, taken) in &listeners[..place] {
                let same_host = addr.ip() == taken.ip()
                    || addr.ip().is_unspecified()
                    || taken.ip().is_unspecified();
                if same_host && addr.port() == taken.port() && addr.port() != 0 {
                    // Blame the one that was said: the other may be a default.
                    let said = if self.values.contains_key(key) { key } else { earlier };
                    let other = if said == key { earlier } else { key };
                    let reason = format!("{other} has this port already");
                    let origin = self.values.get(said).map_or(&Origin::Default, |(_, from)| from);
                    return Err(refuse(said, origin, &addr.to_string(), reason));
                }
            }
        }
        Ok(())
    }
}

fn refuse(key: &str, origin: &Origin, value: &str, reason: String) -> ConfigError {
    let spelled = match origin {
        Origin::File(path) => format!("{}: {key}", path.display()),
        Origin::Default | Origin::Environment | Origin::Flag => origin.spell(key),
    };
    ConfigError::Invalid { key: spelled, value: value.into(), reason }
}

/// A scalar as text; a list as its items with commas between, which is how lists are written in
/// variables and flags.
fn text_of(value: &Value) -> Option<String> {
    match &value.kind {
        ValueKind::Nil => Some(String::new()),
        ValueKind::Array(items) => {
            let texts: Option<Vec<String>> = items.iter().map(text_of).collect();
            texts.map(|texts| texts.join(","))
        }
        ValueKind::Table(_) => None,
        ValueKind::Boolean(_)
        | ValueKind::I64(_)
        | ValueKind::I128(_)
        | ValueKind::U64(_)
        | ValueKind::U128(_)
        | ValueKind::Float(_)
        | ValueKind::String(_) => value.clone().into_string().ok(),
    }
}

fn parse_path(text: &str) -> Result<PathBuf, String> {
    Ok(PathBuf::from(text))
}

fn parse_bool(text: &str) -> Result<bool, String> {
    match text {
        "true" | "1" | "yes" => Ok(true),
        "false" | "0" | "no" => Ok(false),
        _ => Err("must be true or false".into()),
    }
}

fn parse_name(text: &str) -> Result<String, String> {
    let fits = text.len() <= 63 && text.starts_with(|c: char| c.is_ascii_alphanumeric());
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if fits && text.chars().all(plain) {
        return Ok(text.to_owned());
    }
    Err("a name is 1 to 63 letters, digits, '.', '_' or '-', and begins with a letter or digit"
        .into())
}

/// Whether a client on another machine could reach the node.
fn can_be_reached(config: &Config) -> bool {
    let doors = [config.listen, config.http_listen, config.pg_listen];
    doors.iter().any(|door| !door.ip().is_loopback())
}

fn parse_auth(text: &str) -> Result<bool, String> {
    match text {
        "none" => Ok(false),
        "required" => Ok(true),
        _ => Err("must be none or required".into()),
    }
}

fn parse_format(text: &str) -> Result<LogFormat, String> {
    match text {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err("must be text or json".into()),
    }
}

fn parse_filter(text: &str) -> Result<String, String> {
    match tracing_subscriber::EnvFilter::try_new(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(format!("not a log filter: {error}")),
    }
}

fn parse_memory(text: &str) -> Result<Memory, String> {
    let total_bytes = parse_bytes(text)?;
    if total_bytes < Memory::TOTAL_BYTES_MIN {
        return Err("a node needs at least 64MB".into());
    }
    Ok(Memory::share(total_bytes))
}

fn parse_segment_bytes(text: &str) -> Result<u64, String> {
    let bytes = parse_bytes(text)?;
    // Smaller ones would be more file than events; larger ones would not fit where tails are kept.
    if (64 << 10..=1 << 30).contains(&bytes) {
        return Ok(bytes);
    }
    Err("a segment is cut at 64KB to 1GB".into())
}

fn parse_segment_age(text: &str) -> Result<Duration, String> {
    let age = parse_duration(text)?;
    if Duration::from_millis(100) <= age {
        return Ok(age);
    }
    Err("a segment is cut every 100ms at most".into())
}

fn parse_locality(text: &str) -> Result<Vec<(String, String)>, String> {
    let mut tiers: Vec<(String, String)> = Vec::new();
    for tier in text.split(',') {
        let Some((key, value)) = tier.trim().split_once('=') else {
            return Err(format!("\"{tier}\" is not KEY=VALUE; write region=eu,zone=a"));
        };
        let plain = |word: &str| {
            !word.is_empty() && word.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
        };
        if !plain(key) || !plain(value) {
            return Err(format!("\"{tier}\": keys and values are letters, digits, '.', '_', '-'"));
        }
        if tiers.iter().any(|(taken, _)| taken == key) {
            return Err(format!("\"{key}\" is given twice"));
        }
        tiers.push((key.to_owned(), value.to_owned()));
    }
    Ok(tiers)
}

/// Addresses of nodes, each once, in order: all nodes of a cluster hash the same list.
fn parse_seeds(text: &str) -> Result<Vec<String>, String> {
    let mut seeds = Vec::new();
    for seed in text.split(',').map(str::trim) {
        split_addr(seed).map_err(|reason| format!("\"{seed}\": {reason}"))?;
        seeds.push(seed.to_owned());
    }
    seeds.sort();
    seeds.dedup();
    Ok(seeds)
}

/// A host without a port: each listener has its own.
fn parse_host(text: &str) -> Result<String, String> {
    let plain = text.chars().all(|c| c.is_ascii_alphanumeric() || ".-:[]".contains(c));
    match text.parse::<std::net::Ipv6Addr>() {
        Ok(ip) => Ok(format!("[{ip}]")),
        Err(_) if plain && !text.contains(':') => Ok(text.to_owned()),
        Err(_) => Err("a host name or an IP address, without a port".into()),
    }
}

/// Where to listen: an IP address, or a name that the system resolves.
fn resolve(text: &str) -> Result<SocketAddr, String> {
    let (host, port) = split_addr(text)?;
    if let Ok(ip) = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
        return Ok(SocketAddr::new(ip, port));
    }
    let mut found: Vec<SocketAddr> = match (host, port).to_socket_addrs() {
        Ok(addrs) => addrs.collect(),
        Err(error) => return Err(format!("\"{host}\" cannot be resolved: {error}")),
    };
    // `localhost` often resolves to ::1 first, while clients are told 127.0.0.1.
    found.sort_by_key(SocketAddr::is_ipv6);
    found.first().copied().ok_or_else(|| format!("\"{host}\" resolves to nothing"))
}

/// `HOST:PORT`, `[IPV6]:PORT`.
pub(crate) fn split_addr(text: &str) -> Result<(&str, u16), String> {
    let form = "an address is HOST:PORT, such as 127.0.0.1:7400";
    let (host, port) = text.rsplit_once(':').ok_or_else(|| format!("no port; {form}"))?;
    let bracketed = host.starts_with('[') && host.ends_with(']');
    if host.is_empty() || host.contains(['/', ' ']) || (host.contains(':') && !bracketed) {
        return Err(form.to_owned());
    }
    let port =
        port.parse().map_err(|_| format!("\"{port}\" is not a port (0 to 65535); {form}"))?;
    Ok((host, port))
}
