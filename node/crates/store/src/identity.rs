//! Who this data directory is: written once, checked at every start.

use std::path::Path;

use alluvium_core::ids::NodeId;

use crate::error::StoreError;
use crate::files;

const FILE: &str = "identity";
const FORMAT_FILE: &str = "format";
const TOKEN_FILE: &str = "token";

/// What [`check_format`] writes into a new directory and expects in an old one.
const FORMAT: &str = "alluvium data directory, format 1";

/// The node that owns a data directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The cluster the node belongs to, drawn when the cluster was created.
    pub cluster_id: u128,
    /// The node's id in that cluster; never given to another data directory.
    pub node_id: NodeId,
    /// What people call the node.
    pub name: String,
}

/// Writes the format of a new directory, or checks the one of an old directory.
pub(crate) fn check_format(dir: &Path) -> Result<(), StoreError> {
    let path = dir.join(FORMAT_FILE);
    match std::fs::read_to_string(&path) {
        Ok(found) if found.trim_end() == FORMAT => Ok(()),
        Ok(found) => {
            let found = found.trim_end().to_owned();
            Err(StoreError::Format { dir: dir.to_path_buf(), found, known: FORMAT })
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            files::write_whole(dir, FORMAT_FILE, format!("{FORMAT}\n").as_bytes())
        }
        Err(error) => Err(StoreError::io("read", &path)(error)),
    }
}

/// The identity, if the directory has one.
pub(crate) fn read(dir: &Path) -> Result<Option<Identity>, StoreError> {
    let path = dir.join(FILE);
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(StoreError::io("read", &path)(error)),
    };
    match parse(&text) {
        Some(identity) => Ok(Some(identity)),
        None => {
            let source = std::io::Error::from(std::io::ErrorKind::InvalidData);
            Err(StoreError::io("understand", &path)(source))
        }
    }
}

/// The number drawn for this directory, once: by it a cluster tells the directory from others, also
/// before it has an identity. One that has none yet takes `drawn`.
pub(crate) fn token(dir: &Path, drawn: u128) -> Result<u128, StoreError> {
    let path = dir.join(TOKEN_FILE);
    match std::fs::read_to_string(&path) {
        Ok(text) => u128::from_str_radix(text.trim_end(), 16).map_err(|_| {
            let source = std::io::Error::from(std::io::ErrorKind::InvalidData);
            StoreError::io("understand", &path)(source)
        }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            files::write_whole(dir, TOKEN_FILE, format!("{drawn:032x}\n").as_bytes())?;
            Ok(drawn)
        }
        Err(error) => Err(StoreError::io("read", &path)(error)),
    }
}

/// Writes the identity.
pub(crate) fn write(dir: &Path, identity: &Identity) -> Result<(), StoreError> {
    files::write_whole(dir, FILE, format(identity).as_bytes())
}

fn format(identity: &Identity) -> String {
    let Identity { cluster_id, node_id, name } = identity;
    let name = name.escape_default();
    let body = format!("cluster {cluster_id:032x}\nnode {}\nname {name}\n", node_id.0);
    let checksum = crc32fast::hash(body.as_bytes());
    format!("{body}checksum {checksum:08x}\n")
}

fn parse(text: &str) -> Option<Identity> {
    let at = text.find("checksum ")?;
    let (body, rest) = text.split_at(at);
    let checksum = u32::from_str_radix(rest.strip_prefix("checksum ")?.trim_end(), 16).ok()?;
    if checksum != crc32fast::hash(body.as_bytes()) {
        return None;
    }
    let mut lines = body.lines();
    let cluster_id = u128::from_str_radix(lines.next()?.strip_prefix("cluster ")?, 16).ok()?;
    let node_id = NodeId(lines.next()?.strip_prefix("node ")?.parse().ok()?);
    let name = unescape(lines.next()?.strip_prefix("name ")?)?;
    Some(Identity { cluster_id, node_id, name })
}

/// Undoes [`str::escape_default`].
fn unescape(text: &str) -> Option<String> {
    let mut name = String::new();
    let mut rest = text.chars();
    while let Some(letter) = rest.next() {
        if letter != '\\' {
            name.push(letter);
            continue;
        }
        match rest.next()? {
            't' => name.push('\t'),
            'r' => name.push('\r'),
            'n' => name.push('\n'),
            'u' => {
                let digits: String =
                    rest.by_ref().skip(1).take_while(|&letter| letter != '}').collect();
                name.push(char::from_u32(u32::from_str_radix(&digits, 16).ok()?)?);
            }
            other => name.push(other),
        }
    }
    Some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_is_read_back_and_damage_is_seen() {
        let identity = Identity {
            cluster_id: 0x1234_5678_9abc_def0_0fed_cba9_8765_4321,
            node_id: NodeId(7),
            name: "köln \"1\"\n\\x".into(),
        };
        let text = format(&identity);
        assert_eq!(parse(&text), Some(identity));
        assert_eq!(parse(&text.replace("node 7", "node 8")), None);
        assert_eq!(parse(""), None);
    }

    #[test]
    fn a_token_is_drawn_once() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(token(dir.path(), 7).unwrap(), 7);
        assert_eq!(token(dir.path(), 8).unwrap(), 7);
        std::fs::write(dir.path().join(TOKEN_FILE), "x").unwrap();
        assert!(token(dir.path(), 9).is_err());
    }

    #[test]
    fn a_foreign_format_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        check_format(dir.path()).unwrap();
        check_format(dir.path()).unwrap();
        std::fs::write(dir.path().join(FORMAT_FILE), "alluvium data directory, format 2\n")
            .unwrap();
        assert!(matches!(check_format(dir.path()), Err(StoreError::Format { .. })));
    }
}
