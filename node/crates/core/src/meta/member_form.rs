//! The stored form of members, shared by commands and checkpoints, and what a node may say about
//! itself.
//!
//! Layout, in the forms of [`crate::codec`]:
//!
//! ```text
//! introduction: token 16 bytes, little-endian | name text
//!               | addresses: client, peer, http, pg text | locality: list of key text, value text
//!               | versions: min u32, max u32 | at i64
//! member:       node u64 | state u8 | alive flag | introduction, its time is changed_at
//! members:      next id u64 | version u32 | list of member
//! state:        1 active, 2 draining, 3 leaving, 4 removed
//! nodes:        list of u64
//! ```

use std::collections::BTreeSet;

use super::members::{Addresses, FIRST_NODE, Introduction, Locality, Member, MemberState, Members};
use super::names::{InvalidName, check_member_name};
use crate::codec::{Malformed, Reader, Writer};
use crate::ids::NodeId;
use crate::time::Time;

/// Bytes of the longest address: the longest name DNS has, and a port.
pub const ADDRESS_BYTES_MAX: usize = 255;

/// Tiers a locality may have: cloud, region, zone, building, room, rack, host and one to spare.
pub const LOCALITY_TIERS_MAX: usize = 8;

/// Bytes of the longest key or value of a tier.
pub const TIER_BYTES_MAX: usize = 63;

const TOKEN_BYTES: usize = 16;
const TIER_BYTES_MIN: usize = 10;
const MEMBER_BYTES_MIN: usize = 70;

const STATE_ACTIVE: u8 = 1;
const STATE_DRAINING: u8 = 2;
const STATE_LEAVING: u8 = 3;
const STATE_REMOVED: u8 = 4;

/// Why a node cannot be described so. Its configuration is to be changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidMember {
    /// Its name.
    #[error(transparent)]
    Name(#[from] InvalidName),
    /// An address that nobody could connect to.
    #[error("{what} address \"{address}\" is not HOST:PORT of at most {ADDRESS_BYTES_MAX} bytes")]
    Address {
        /// Which of the addresses.
        what: &'static str,
        /// What it was to be.
        address: String,
    },
    /// More than [`LOCALITY_TIERS_MAX`].
    #[error("a locality has at most {LOCALITY_TIERS_MAX} tiers, not {count}")]
    TooManyTiers {
        /// How many.
        count: usize,
    },
    /// A key or value of a tier.
    #[error(
        "locality \"{key}={value}\" needs key and value of 1 to {TIER_BYTES_MAX} characters a to \
         z, 0 to 9 and _ . -"
    )]
    Tier {
        /// The key.
        key: String,
        /// The value.
        value: String,
    },
    /// One key for two tiers.
    #[error("locality has \"{key}\" twice")]
    TierTwice {
        /// The key.
        key: String,
    },
    /// A range of versions with nothing in it.
    #[error("versions {min} to {max} are none")]
    Versions {
        /// The lowest.
        min: u32,
        /// The highest.
        max: u32,
    },
}

/// Checks what a node says about itself. What does not pass cannot be decoded, so whoever proposes
/// it asks first.
pub fn check_member(
    name: &str,
    addresses: &Addresses,
    locality: &[(String, String)],
    versions: (u32, u32),
) -> Result<(), InvalidMember> {
    check_member_name(name)?;
    let Addresses { client, peer, http, pg } = addresses;
    for (what, address) in [("client", client), ("peer", peer), ("http", http), ("pg", pg)] {
        if !is_address(address) {
            return Err(InvalidMember::Address { what, address: address.clone() });
        }
    }
    check_locality(locality)?;
    let (min, max) = versions;
    match 0 < min && min <= max {
        true => Ok(()),
        false => Err(InvalidMember::Versions { min, max }),
    }
}

/// Checks where a node says it stands.
pub fn check_locality(locality: &[(String, String)]) -> Result<(), InvalidMember> {
    if LOCALITY_TIERS_MAX < locality.len() {
        return Err(InvalidMember::TooManyTiers { count: locality.len() });
    }
    let mut keys = BTreeSet::new();
    for (key, value) in locality {
        if !is_tier_word(key) || !is_tier_word(value) {
            return Err(InvalidMember::Tier { key: key.clone(), value: value.clone() });
        }
        if !keys.insert(key) {
            return Err(InvalidMember::TierTwice { key: key.clone() });
        }
    }
    Ok(())
}

/// A host name, an IPv4 address or an IPv6 address in brackets, and a port that is not 0. Whether
/// it can be resolved only the network knows.
fn is_address(address: &str) -> bool {
    let Some((host, port)) = address.rsplit_once(':') else {
        return false;
    };
    let is_port = port.bytes().all(|byte| byte.is_ascii_digit())
        && port.parse::<u16>().is_ok_and(|port| port != 0);
    let in_brackets = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let is_host = match in_brackets {
        Some(inner) => inner.bytes().all(|b| b.is_ascii_alphanumeric() || b":.%".contains(&b)),
        None => host.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b)),
    };
    let length = in_brackets.unwrap_or(host).len();
    is_port && is_host && length != 0 && address.len() <= ADDRESS_BYTES_MAX
}

fn is_tier_word(word: &str) -> bool {
    let is_allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_.-".contains(&b);
    (1..=TIER_BYTES_MAX).contains(&word.len()) && word.bytes().all(is_allowed)
}

/// Writes what a node says about itself.
pub(super) fn encode_introduction(
    writer: &mut Writer,
    token: u128,
    name: &str,
    addresses: &Addresses,
    locality: &Locality,
    versions: (u32, u32),
    at: Time,
) {
    writer.raw(&token.to_le_bytes());
    writer.text(name);
    let Addresses { client, peer, http, pg } = addresses;
    for address in [client, peer, http, pg] {
        writer.text(address);
    }
    writer.count(locality.len());
    for (key, value) in locality {
        writer.text(key);
        writer.text(value);
    }
    writer.u32(versions.0);
    writer.u32(versions.1);
    writer.i64(at.0);
}

/// Reads what a node says about itself and checks it.
pub(super) fn decode_introduction(reader: &mut Reader<'_>) -> Result<Introduction, Malformed> {
    let token: [u8; TOKEN_BYTES] =
        reader.raw(TOKEN_BYTES)?.try_into().expect("as many bytes as asked for");
    let token = u128::from_le_bytes(token);
    let name = reader.text()?.to_owned();
    let addresses = Addresses {
        client: reader.text()?.to_owned(),
        peer: reader.text()?.to_owned(),
        http: reader.text()?.to_owned(),
        pg: reader.text()?.to_owned(),
    };
    let mut locality = Locality::new();
    for _ in 0..reader.count(TIER_BYTES_MIN)? {
        locality.push((reader.text()?.to_owned(), reader.text()?.to_owned()));
    }
    let versions = (reader.u32()?, reader.u32()?);
    check_member(&name, &addresses, &locality, versions)
        .map_err(|invalid| Malformed::inconsistent(invalid.to_string()))?;
    let at = Time(reader.i64()?);
    Ok(Introduction { token, name, addresses, locality, versions, at })
}

/// Writes a state.
pub(super) fn encode_state(writer: &mut Writer, state: MemberState) {
    writer.u8(match state {
        MemberState::Active => STATE_ACTIVE,
        MemberState::Draining => STATE_DRAINING,
        MemberState::Leaving => STATE_LEAVING,
        MemberState::Removed => STATE_REMOVED,
    });
}

/// Reads a state.
pub(super) fn decode_state(reader: &mut Reader<'_>) -> Result<MemberState, Malformed> {
    let at = reader.position();
    match reader.u8()? {
        STATE_ACTIVE => Ok(MemberState::Active),
        STATE_DRAINING => Ok(MemberState::Draining),
        STATE_LEAVING => Ok(MemberState::Leaving),
        STATE_REMOVED => Ok(MemberState::Removed),
        found => {
            let what = "state of a member";
            Err(Malformed::Unknown { what, found: u64::from(found), at })
        }
    }
}

/// Writes nodes.
pub(super) fn encode_nodes(writer: &mut Writer, nodes: &[NodeId]) {
    writer.count(nodes.len());
    for node in nodes {
        writer.u64(node.0);
    }
}

/// Reads nodes.
pub(super) fn decode_nodes(reader: &mut Reader<'_>) -> Result<Vec<NodeId>, Malformed> {
    let count = reader.count(8)?;
    (0..count).map(|_| Ok(NodeId(reader.u64()?))).collect()
}

/// Writes all members.
pub(super) fn encode_members(writer: &mut Writer, members: &Members) {
    writer.u64(members.next_id);
    writer.u32(members.version);
    writer.count(members.rows.len());
    for member in members.rows.values() {
        let Member { node, name, addresses, locality, state, alive, changed_at, versions, token } =
            member;
        writer.u64(node.0);
        encode_state(writer, *state);
        writer.flag(*alive);
        encode_introduction(writer, *token, name, addresses, locality, *versions, *changed_at);
    }
}

/// Reads all members. A list that breaks what the commands keep is not believed.
pub(super) fn decode_members(reader: &mut Reader<'_>) -> Result<Members, Malformed> {
    let (next_id, version) = (reader.u64()?, reader.u32()?);
    let mut members = Members { next_id, version, ..Members::default() };
    let mut tokens = BTreeSet::new();
    for _ in 0..reader.count(MEMBER_BYTES_MIN)? {
        let node = NodeId(reader.u64()?);
        let state = decode_state(reader)?;
        let alive = reader.flag()?;
        let Introduction { token, name, addresses, locality, versions, at } =
            decode_introduction(reader)?;
        let is_given = FIRST_NODE <= node && node.0 < next_id;
        let is_new = tokens.insert(token) && !members.rows.contains_key(&node);
        if !is_given || !is_new {
            return Err(Malformed::inconsistent(format!("id of member {node} is not its own")));
        }
        let changed_at = at;
        let member =
            Member { node, name, addresses, locality, state, alive, changed_at, versions, token };
        if member.alive && !member.stands() {
            return Err(Malformed::inconsistent(format!("member {node} is removed and alive")));
        }
        members.rows.insert(node, member);
    }
    if next_id <= FIRST_NODE.0 || version == 0 {
        return Err(Malformed::inconsistent("the members have no id or version to go on with"));
    }
    Ok(members)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(peer: &str) -> Addresses {
        let other = || "host:1".to_owned();
        Addresses { client: other(), peer: peer.into(), http: other(), pg: other() }
    }

    #[test]
    fn addresses_have_a_host_and_a_port() {
        let longest = format!("{}:65535", "h".repeat(ADDRESS_BYTES_MAX - 6));
        for good in ["n1:7401", "10.0.0.7:1", "[::1]:7401", "[fe80::1%eth0]:7401", &longest] {
            assert_eq!(check_member("n", &addresses(good), &[], (1, 1)), Ok(()), "{good}");
        }
        let longer = format!("h{longest}");
        let bad = ["", ":1", "n1", "n1:", "n1:0", "n1:65536", "n1:+7", "::1:7", "[]:7", "a b:7"];
        for bad in bad.into_iter().chain([longer.as_str()]) {
            let found = check_member("n", &addresses(bad), &[], (1, 1)).unwrap_err();
            assert_eq!(found, InvalidMember::Address { what: "peer", address: bad.into() });
        }
    }

    #[test]
    fn localities_and_versions() {
        let tier = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let full: Vec<_> = (0..8).map(|place| tier(&format!("t{place}"), "eu-west_1.a")).collect();
        assert_eq!(check_locality(&full), Ok(()));
        let cases = [
            (vec![tier("zone", "A")], "locality \"zone=A\" needs"),
            (vec![tier("", "a")], "locality \"=a\" needs"),
            (vec![tier("zone", &"a".repeat(64))], "locality \"zone=aaa"),
            (vec![tier("zone", "a"), tier("zone", "b")], "locality has \"zone\" twice"),
            (vec![tier("zone", "a"); 9], "a locality has at most 8 tiers, not 9"),
        ];
        for (locality, expected) in cases {
            let found = check_locality(&locality).unwrap_err().to_string();
            assert!(found.starts_with(expected), "{found}");
        }
        for versions in [(0, 1), (2, 1)] {
            let found = check_member("n", &addresses("n:1"), &[], versions).unwrap_err();
            assert_eq!(found, InvalidMember::Versions { min: versions.0, max: versions.1 });
        }
    }
}
