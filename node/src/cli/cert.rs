//! `alluvium cert`: makes the certificates of a cluster, shows them, takes them back.
//!
//! Works on files alone and speaks to no node: a node reads its files again when they change.

use std::fs;
use std::io::{ErrorKind, Write};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use comfy_table::{Table, presets};

use super::{CliError, say};
use crate::clock;
use crate::tls::authority::{self, Authority, Made};
use crate::tls::der::Certificate;
use crate::tls::material;

/// What may be typed after `cert`.
#[derive(Clone, Debug, Args)]
pub struct CertArgs {
    /// Where certificates and keys lie
    #[arg(long, env = "ALLUVIUM_CERTS_DIR", value_name = "DIR", global = true)]
    #[arg(default_value = "./certs")]
    pub certs_dir: PathBuf,
    /// What to do.
    #[command(subcommand)]
    pub command: CertCommand,
}

/// What to do about certificates.
#[derive(Clone, Debug, Subcommand)]
pub enum CertCommand {
    /// Make the authority that signs the others: ca.crt, ca.key
    Ca {
        /// One for clients alone: client-ca.crt, client-ca.key
        #[arg(long)]
        client: bool,
    },
    /// Make the certificate of a node: node.crt, node.key
    Node(MakeNodeArgs),
    /// Make the certificate of a user: client.USER.crt, client.USER.key
    Client {
        /// The user's name
        user: String,
        /// Replace the one there is
        #[arg(long)]
        force: bool,
    },
    /// Show whose certificates these are, and when they end
    Show,
    /// Take a certificate back: nodes that read crl.pem refuse it from then on
    Revoke {
        /// Its file
        #[arg(value_name = "FILE")]
        certificate: PathBuf,
    },
}

/// What a node is called, and where it is reached.
#[derive(Clone, Debug, Args)]
pub struct MakeNodeArgs {
    /// The node's name, as its key `name` says
    pub name: String,
    /// A host name or address that others reach it by; localhost is always one
    #[arg(long = "host", value_name = "HOST")]
    pub hosts: Vec<String>,
    /// The word for the cluster in the certificate
    #[arg(long, value_name = "WORD", default_value = "alluvium")]
    pub cluster: String,
    /// Where the files go, if not beside the authority
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Replace the one there is: this renews it, with the hosts it has if none are named
    #[arg(long)]
    pub force: bool,
}

/// Does it.
pub fn run(args: &CertArgs) -> Result<(), CliError> {
    let dir = &args.certs_dir;
    match &args.command {
        CertCommand::Ca { client } => make_authority(dir, *client),
        CertCommand::Node(node) => make_node(dir, node),
        CertCommand::Client { user, force } => make_client(dir, user, *force),
        CertCommand::Show => show(dir),
        CertCommand::Revoke { certificate } => revoke(dir, certificate),
    }
}

fn failed(error: impl ToString) -> CliError {
    CliError::Failed(error.to_string())
}

fn make_authority(dir: &Path, is_client: bool) -> Result<(), CliError> {
    let (stem, purpose) = if is_client { ("client-ca", "client CA") } else { ("ca", "CA") };
    for kind in ["crt", "key"] {
        let path = dir.join(format!("{stem}.{kind}"));
        if path.exists() {
            let path = path.display();
            return Err(CliError::Failed(format!(
                "{path} is there already; an authority is never replaced: everything that it \
                 signed would be worth nothing. Name another directory with --certs-dir"
            )));
        }
    }
    write_pair(dir, stem, &authority::make_authority(purpose).map_err(failed)?)?;
    let key = dir.join(format!("{stem}.key"));
    say(&format!("keep {} to yourself: nodes need it not, only this command", key.display()));
    Ok(())
}

fn read_text(path: &Path) -> Result<String, CliError> {
    fs::read_to_string(path).map_err(|error| failed(format!("read {}: {error}", path.display())))
}

fn open_authority(dir: &Path, stem: &str) -> Result<Authority, CliError> {
    let [certificate, key] = ["crt", "key"].map(|kind| dir.join(format!("{stem}.{kind}")));
    if !certificate.exists() {
        let dir = dir.display();
        return Err(CliError::Failed(format!(
            "there is no {stem}.crt in {dir}; make one with `alluvium cert ca --certs-dir {dir}`"
        )));
    }
    Authority::read(&read_text(&certificate)?, &read_text(&key)?)
        .map_err(|error| failed(format!("{}: {error}", certificate.display())))
}

fn read_certificate(path: &Path) -> Result<Certificate, CliError> {
    let first = material::certificates(path).map_err(failed)?.into_iter().next();
    first
        .and_then(|der| Certificate::read(&der))
        .ok_or_else(|| failed(format!("{}: no certificate that can be read", path.display())))
}

fn make_node(dir: &Path, args: &MakeNodeArgs) -> Result<(), CliError> {
    let authority = open_authority(dir, "ca")?;
    let out = args.out.as_deref().unwrap_or(dir);
    let there = out.join("node.crt");
    let (mut hosts, mut addresses) = (vec!["localhost".to_owned()], Vec::new());
    if there.exists() {
        may_replace(&there, args.force)?;
        if args.hosts.is_empty() {
            let before = read_certificate(&there)?;
            hosts = before.hosts;
            addresses = before.addresses;
        }
    }
    addresses.extend(["127.0.0.1", "::1"].map(|it| it.parse::<IpAddr>().expect("addresses")));
    for host in &args.hosts {
        match host.parse() {
            Ok(address) => addresses.push(address),
            Err(_) => hosts.push(host.clone()),
        }
    }
    addresses.sort_unstable();
    addresses.dedup();
    hosts.sort_unstable();
    hosts.dedup();
    let made = authority.make_node(&args.cluster, &args.name, &hosts, &addresses);
    write_pair(out, "node", &made.map_err(failed)?)?;
    if out != dir {
        for name in ["ca.crt", "client-ca.crt"] {
            let from = dir.join(name);
            if from.exists() {
                write(&out.join(name), &read_text(&from)?)?;
            }
        }
    }
    Ok(())
}

fn make_client(dir: &Path, user: &str, force: bool) -> Result<(), CliError> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-@".contains(c);
    if user.is_empty() || user.starts_with('.') || !user.chars().all(plain) {
        return Err(CliError::Usage(format!("\"{user}\" cannot be the name of a file")));
    }
    // Who has a separate authority for clients means it.
    let has_own = dir.join("client-ca.crt").exists();
    let authority = open_authority(dir, if has_own { "client-ca" } else { "ca" })?;
    let stem = format!("client.{user}");
    let there = dir.join(format!("{stem}.crt"));
    if there.exists() {
        may_replace(&there, force)?;
    }
    write_pair(dir, &stem, &authority.make_client(user).map_err(failed)?)
}

fn may_replace(path: &Path, force: bool) -> Result<(), CliError> {
    if force {
        return Ok(());
    }
    Err(CliError::Failed(format!("{} is there already; --force renews it", path.display())))
}

fn write_pair(dir: &Path, stem: &str, made: &Made) -> Result<(), CliError> {
    fs::create_dir_all(dir).map_err(|error| failed(format!("make {}: {error}", dir.display())))?;
    // A node that looks between the two finds that they do not fit, and looks again.
    write(&dir.join(format!("{stem}.key")), &made.key)?;
    let certificate = dir.join(format!("{stem}.crt"));
    write(&certificate, &made.certificate)?;
    let ends = day(read_certificate(&certificate)?.ends);
    writeln!(std::io::stdout().lock(), "{} until {ends}", certificate.display())?;
    Ok(())
}

/// Written beside and renamed, so that nobody reads half of it; for its owner's eyes alone.
fn write(path: &Path, text: &str) -> Result<(), CliError> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let written = match fs::remove_file(&beside) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    };
    let written = written.and_then(|()| {
        let mut file =
            fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&beside, path)
    });
    written.map_err(|error| failed(format!("write {}: {error}", path.display())))
}

fn day(seconds: i64) -> String {
    time::OffsetDateTime::from_unix_timestamp(seconds)
        .map_or_else(|_| "?".into(), |moment| moment.date().to_string())
}

fn show(dir: &Path) -> Result<(), CliError> {
    let listed =
        fs::read_dir(dir).map_err(|error| failed(format!("read {}: {error}", dir.display())))?;
    let mut paths: Vec<PathBuf> =
        listed.filter_map(|entry| entry.ok().map(|entry| entry.path())).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "crt"));
    paths.sort();
    let now = clock::now().0 / 1_000_000;
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN);
    table.set_header(["file", "of", "names", "number", "ends", "days left"]);
    for path in &paths {
        let certificate = read_certificate(path)?;
        let mut names = certificate.uris.clone();
        names.extend(certificate.hosts.iter().cloned());
        names.extend(certificate.addresses.iter().map(IpAddr::to_string));
        table.add_row([
            path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            certificate.common_name.clone().unwrap_or_default(),
            names.join(", "),
            certificate.serial_text(),
            day(certificate.ends),
            ((certificate.ends - now).div_euclid(86_400)).to_string(),
        ]);
    }
    writeln!(std::io::stdout().lock(), "{table}")?;
    Ok(())
}

fn revoke(dir: &Path, path: &Path) -> Result<(), CliError> {
    let certificate = read_certificate(path)?;
    let list = dir.join("crl.pem");
    let text = if list.exists() { read_text(&list)? } else { String::new() };
    for stem in ["ca", "client-ca"] {
        if !dir.join(format!("{stem}.key")).exists() {
            continue;
        }
        let authority = open_authority(dir, stem)?;
        if authority.has_signed(&certificate) {
            write(&list, &authority.revoke(&text, &certificate.serial).map_err(failed)?)?;
            let (number, list) = (certificate.serial_text(), list.display());
            writeln!(
                std::io::stdout().lock(),
                "{number} is revoked; copy {list} to every node that does not read it here"
            )?;
            return Ok(());
        }
    }
    Err(failed(format!("no authority in {} signed {}", dir.display(), path.display())))
}
