//! As whom a command asks: a user, and a password out of a file or from the terminal.
//!
//! A password is never an argument nor a variable: others on the machine see those.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use alluvium_query::access::Secret;
use clap::Args;

use super::CliError;
use crate::grpc::client::Authorization;

/// The terminal of the person, whatever the streams of the process are.
const TERMINAL: &str = "/dev/tty";

/// Who asks.
#[derive(Clone, Debug, Args)]
pub struct CredentialArgs {
    /// The user to ask as; the password is read from --password-file or the terminal
    #[arg(long, env = "ALLUVIUM_USER", value_name = "NAME", global = true)]
    pub user: Option<String>,
    /// A file with the password
    #[arg(long, env = "ALLUVIUM_PASSWORD_FILE", value_name = "FILE", global = true)]
    pub password_file: Option<PathBuf>,
}

impl CredentialArgs {
    /// What goes with each call to this address.
    pub fn authorization(&self, addr: &str, is_encrypted: bool) -> Result<Authorization, CliError> {
        let Some(user) = self.user.as_deref().filter(|user| !user.is_empty()) else {
            return Ok(Authorization::default());
        };
        if user.contains(':') {
            return Err(CliError::Usage("the name of a user has no colon".into()));
        }
        if !is_encrypted && !is_here(addr) {
            return Err(CliError::Usage(
                "a password goes over an encrypted connection only: say --ca FILE, or --certs-dir \
                 DIR with ca.crt in it"
                    .into(),
            ));
        }
        let password = match &self.password_file {
            Some(file) => read(file)?,
            None => ask(user)?,
        };
        Ok(Authorization::basic(user, &password))
    }
}

/// Whether what is sent to an address stays on this machine.
fn is_here(addr: &str) -> bool {
    let host = addr.rsplit_once(':').map_or(addr, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

fn read(file: &Path) -> Result<Secret, CliError> {
    let text = std::fs::read_to_string(file).map_err(|error| {
        CliError::Failed(format!("read the password in {}: {error}", file.display()))
    })?;
    Ok(Secret::new(text.trim_end_matches(['\r', '\n'])))
}

fn ask(user: &str) -> Result<Secret, CliError> {
    let no_terminal = |_| {
        CliError::Usage(format!(
            "the password of \"{user}\" is missing: name a file with it by --password-file \
             (ALLUVIUM_PASSWORD_FILE); there is no terminal to ask at"
        ))
    };
    let terminal = File::options().read(true).write(true).open(TERMINAL).map_err(no_terminal)?;
    write!(&terminal, "Password of {user}: ")?;
    let silence = Silence::begin();
    let mut line = String::new();
    let length = BufReader::new(&terminal).read_line(&mut line)?;
    drop(silence);
    writeln!(&terminal)?;
    if length == 0 {
        return Err(CliError::Usage("no password was typed".into()));
    }
    Ok(Secret::new(line.trim_end_matches(['\r', '\n'])))
}

/// While this lives, the terminal does not show what is typed.
struct Silence;

impl Silence {
    fn begin() -> Silence {
        echo("-echo");
        Silence
    }
}

impl Drop for Silence {
    fn drop(&mut self) {
        echo("echo");
    }
}

/// A terminal that cannot be told shows what is typed, as it does anyway.
fn echo(how: &str) {
    let Ok(terminal) = File::open(TERMINAL) else { return };
    let told = Command::new("stty").arg(how).stdin(Stdio::from(terminal)).status();
    drop(told);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(user: Option<&str>, password_file: Option<PathBuf>) -> CredentialArgs {
        CredentialArgs { user: user.map(str::to_owned), password_file }
    }

    #[test]
    fn a_password_comes_from_a_file_and_stays_on_the_machine_or_is_encrypted() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("password");
        std::fs::write(&file, "a long sentence\n").unwrap();
        assert_eq!(read(&file).unwrap(), Secret::new("a long sentence"));
        let ann = of(Some("ann"), Some(file));
        for here in ["127.0.0.1:7400", "[::1]:7400", "localhost:1"] {
            assert!(ann.authorization(here, false).is_ok(), "{here}");
        }
        for far in ["192.0.2.1:7400", "node.example:7400", "localhost.example:1"] {
            assert!(matches!(ann.authorization(far, false), Err(CliError::Usage(_))), "{far}");
            assert!(ann.authorization(far, true).is_ok(), "{far}");
        }
        let missing = of(Some("ann"), Some(dir.path().join("none")));
        assert!(matches!(missing.authorization("localhost:1", false), Err(CliError::Failed(_))));
        assert!(of(None, None).authorization("192.0.2.1:1", false).is_ok());
    }
}
