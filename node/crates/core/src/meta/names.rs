//! What names may look like.

/// Bytes of the longest stream name, as PostgreSQL has it.
pub const NAME_BYTES_MAX: usize = 63;

/// Bytes of the longest producer name: room for a host name and a path.
pub const PRODUCER_NAME_BYTES_MAX: usize = 128;

/// Characters of the longest name of a node, as DNS has it for one label.
pub const MEMBER_NAME_CHARACTERS_MAX: usize = 63;

/// Why a name is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidName {
    /// No character at all.
    #[error("a name needs at least one character")]
    Empty,
    /// Too long.
    #[error("name \"{name}\" is longer than {bytes_max} bytes")]
    TooLong {
        /// The name.
        name: String,
        /// What it may have.
        bytes_max: usize,
    },
    /// Starts with what a name may not start with.
    #[error("name \"{name}\" must start with {allowed}")]
    Start {
        /// The name.
        name: String,
        /// What it may start with.
        allowed: &'static str,
    },
    /// Holds a character that a name may not hold.
    #[error("name \"{name}\" holds {found:?}; it may hold {allowed}")]
    Character {
        /// The name.
        name: String,
        /// The first such character.
        found: char,
        /// What it may hold.
        allowed: &'static str,
    },
}

/// Checks the name of a stream: `^[a-z][a-z0-9_]{0,62}$`, so that it never needs quotes in SQL.
pub fn check_name(name: &str) -> Result<(), InvalidName> {
    check_length(name, NAME_BYTES_MAX)?;
    if !name.starts_with(|c: char| c.is_ascii_lowercase()) {
        return Err(InvalidName::Start { name: name.into(), allowed: "a letter a to z" });
    }
    let is_allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    check_characters(name, is_allowed, "a to z, 0 to 9 and _")
}

/// Checks the name of a producer: `^[a-zA-Z0-9][a-zA-Z0-9_.:-]{0,127}$`.
pub fn check_producer_name(name: &str) -> Result<(), InvalidName> {
    check_length(name, PRODUCER_NAME_BYTES_MAX)?;
    if !name.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        return Err(InvalidName::Start { name: name.into(), allowed: "a letter or a digit" });
    }
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || "_.:-".contains(c);
    check_characters(name, is_allowed, "a to z, A to Z, 0 to 9 and _ . : -")
}

/// Checks the name of a role: `^[a-zA-Z0-9_][a-zA-Z0-9_.@-]{0,62}$`, so that addresses of people
/// and names in certificates can be names of users.
pub fn check_role_name(name: &str) -> Result<(), InvalidName> {
    check_length(name, NAME_BYTES_MAX)?;
    if !name.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_') {
        return Err(InvalidName::Start { name: name.into(), allowed: "a letter, a digit or _" });
    }
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || "_.@-".contains(c);
    check_characters(name, is_allowed, "a to z, A to Z, 0 to 9 and _ . @ -")
}

/// Checks the name of a node, which people read: 1 to 63 printable ASCII characters, neither the
/// first nor the last of them a space.
pub fn check_member_name(name: &str) -> Result<(), InvalidName> {
    const ALLOWED: &str = "printable ASCII characters";
    // A character is a byte as soon as all are ASCII, which is checked below.
    check_length(name, MEMBER_NAME_CHARACTERS_MAX)?;
    if name.starts_with(' ') || name.ends_with(' ') {
        let allowed = "a character that is no space, and end with one";
        return Err(InvalidName::Start { name: name.into(), allowed });
    }
    check_characters(name, |c| c == ' ' || c.is_ascii_graphic(), ALLOWED)
}

fn check_length(name: &str, bytes_max: usize) -> Result<(), InvalidName> {
    if name.is_empty() {
        return Err(InvalidName::Empty);
    }
    if bytes_max < name.len() {
        return Err(InvalidName::TooLong { name: name.into(), bytes_max });
    }
    Ok(())
}

fn check_characters(
    name: &str,
    is_allowed: impl Fn(char) -> bool,
    allowed: &'static str,
) -> Result<(), InvalidName> {
    match name.chars().find(|&c| !is_allowed(c)) {
        None => Ok(()),
        Some(found) => Err(InvalidName::Character { name: name.into(), found, allowed }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stream_names() {
        let longest = "a".repeat(NAME_BYTES_MAX);
        for name in ["a", "orders", "orders_2026", &longest] {
            assert_eq!(check_name(name), Ok(()), "{name}");
        }
        let too_long = "a".repeat(NAME_BYTES_MAX + 1);
        let cases = [
            ("", "a name needs at least one character"),
            ("2x", "name \"2x\" must start with a letter a to z"),
            ("_x", "name \"_x\" must start with a letter a to z"),
            ("Orders", "name \"Orders\" must start with a letter a to z"),
            ("o-x", "name \"o-x\" holds '-'; it may hold a to z, 0 to 9 and _"),
            ("größe", "name \"größe\" holds 'ö'; it may hold a to z, 0 to 9 and _"),
            (&too_long, &format!("name \"{too_long}\" is longer than 63 bytes")),
        ];
        for (name, expected) in cases {
            assert_eq!(check_name(name).unwrap_err().to_string(), expected);
        }
    }

    #[test]
    fn role_names() {
        for name in ["a", "Alice", "alice@example.com", "svc-7.eu", "_x"] {
            assert_eq!(check_role_name(name), Ok(()), "{name}");
        }
        for name in ["", "-x", "a b", "a'b", "a\"b", "größe", &"a".repeat(NAME_BYTES_MAX + 1)] {
            assert!(check_role_name(name).is_err(), "{name}");
        }
    }

    #[test]
    fn member_names() {
        let longest = "a".repeat(MEMBER_NAME_CHARACTERS_MAX);
        for name in ["n", "ip-10-0-0-1.ec2", "Rack 7, left (old)", &longest] {
            assert_eq!(check_member_name(name), Ok(()), "{name}");
        }
        for name in ["", " n", "n ", "a\nb", "größe", &format!("{longest}a")] {
            assert!(check_member_name(name).is_err(), "{name}");
        }
    }

    #[test]
    fn producer_names() {
        for name in ["p", "9", "host-1.example:/x".trim_end_matches("/x"), "Loader_2"] {
            assert_eq!(check_producer_name(name), Ok(()), "{name}");
        }
        for name in ["", "-x", "a b", "a/b", &"a".repeat(PRODUCER_NAME_BYTES_MAX + 1)] {
            assert!(check_producer_name(name).is_err(), "{name}");
        }
    }
}
