//! How commands find a node, and make sure that it is the one they look for.

use std::path::{Path, PathBuf};

use clap::Args;

use super::CliError;
use super::credentials::CredentialArgs;
use crate::grpc::client::Client;
use crate::tls::{ClientTls, Pair};

/// How clients find a node.
#[derive(Clone, Debug, Args)]
pub struct ConnectArgs {
    /// The node to speak to; https://HOST:PORT as --tls
    #[arg(long, env = "ALLUVIUM_ADDR", value_name = "HOST:PORT", global = true)]
    #[arg(default_value = "127.0.0.1:7400")]
    pub addr: String,
    /// Over an encrypted connection; --ca and --certs-dir imply it
    #[arg(long, env = "ALLUVIUM_TLS", global = true, num_args = 0..=1, require_equals = true)]
    #[arg(default_missing_value = "true", default_value = "false", value_name = "true|false")]
    #[arg(action = clap::ArgAction::Set, hide_possible_values = true, hide_default_value = true)]
    pub tls: bool,
    /// Who signed the node's certificate
    #[arg(long, env = "ALLUVIUM_CA", value_name = "FILE", global = true)]
    pub ca: Option<PathBuf>,
    /// A certificate that says who you are
    #[arg(long, env = "ALLUVIUM_CERT", value_name = "FILE", global = true)]
    pub cert: Option<PathBuf>,
    /// Its key
    #[arg(long, env = "ALLUVIUM_KEY", value_name = "FILE", global = true)]
    pub key: Option<PathBuf>,
    /// Where ca.crt lies, and client.USER.crt with its key if there is but one
    #[arg(long, env = "ALLUVIUM_CERTS_DIR", value_name = "DIR", global = true)]
    pub certs_dir: Option<PathBuf>,
    /// Whose password
    #[command(flatten)]
    pub credentials: CredentialArgs,
}

impl ConnectArgs {
    /// Connects to that node.
    pub async fn connect(&self) -> Result<Client, CliError> {
        let (addr, is_https) = match self.addr.strip_prefix("https://") {
            Some(addr) => (addr.trim_end_matches('/'), true),
            None => (self.addr.as_str(), false),
        };
        let tls = self.tls(is_https)?;
        let authorization = self.credentials.authorization(addr, tls.is_some())?;
        Ok(Client::connect_with(addr, tls, authorization).await?)
    }

    fn tls(&self, is_https: bool) -> Result<Option<ClientTls>, CliError> {
        let dir = self.certs_dir.as_deref();
        let ca = self.ca.clone().or_else(|| dir.map(|dir| dir.join("ca.crt")));
        let Some(ca) = ca else {
            if self.tls || is_https || self.cert.is_some() {
                return Err(CliError::Usage(
                    "an encrypted connection needs to know whom to trust: --ca FILE, or \
                     --certs-dir DIR with ca.crt in it"
                        .into(),
                ));
            }
            return Ok(None);
        };
        let pair = match (&self.cert, &self.key) {
            (Some(certificate), Some(key)) => {
                Some(Pair { certificate: certificate.clone(), key: key.clone() })
            }
            (None, None) => dir.and_then(only_client),
            (Some(_), None) | (None, Some(_)) => {
                return Err(CliError::Usage("--cert and --key go together".into()));
            }
        };
        let tls = ClientTls::load(&ca, pair.as_ref());
        tls.map(Some).map_err(|error| CliError::Failed(error.to_string()))
    }
}

/// The certificate of a user in a directory, if there is exactly one.
fn only_client(dir: &Path) -> Option<Pair> {
    let listed = std::fs::read_dir(dir).ok()?;
    let mut found = listed.filter_map(|entry| {
        let name = entry.ok()?.file_name().into_string().ok()?;
        let stem = name.strip_suffix(".crt").filter(|stem| stem.starts_with("client."))?;
        let pair = |kind| dir.join(format!("{stem}.{kind}"));
        Some(Pair { certificate: pair("crt"), key: pair("key") })
    });
    let first = found.next()?;
    if found.next().is_some() || !first.key.is_file() {
        return None;
    }
    Some(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_taken_from_the_directory_only_if_there_is_one() {
        let dir = tempfile::tempdir().unwrap();
        let put = |name: &str| std::fs::write(dir.path().join(name), "").unwrap();
        put("ca.crt");
        put("client-ca.crt");
        assert_eq!(only_client(dir.path()), None);
        put("client.ann.crt");
        assert_eq!(only_client(dir.path()), None, "its key is missing");
        put("client.ann.key");
        let certificate = only_client(dir.path()).unwrap().certificate;
        assert!(certificate.ends_with("client.ann.crt"));
        put("client.ben.crt");
        assert_eq!(only_client(dir.path()), None);
    }
}
