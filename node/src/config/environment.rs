//! What the program reads of its environment: `ALLUVIUM_…` variables and where a user's state goes.

use std::collections::BTreeMap;
use std::path::PathBuf;

/// Variables of the environment, as text. Tests make their own.
#[derive(Clone, Debug, Default)]
pub struct Variables(BTreeMap<String, String>);

/// Variables that the client commands read and a node ignores.
const CLIENT_VARIABLES: [&str; 7] = [
    "ALLUVIUM_ADDR",
    "ALLUVIUM_TLS",
    "ALLUVIUM_CA",
    "ALLUVIUM_CERT",
    "ALLUVIUM_KEY",
    "ALLUVIUM_USER",
    "ALLUVIUM_PASSWORD_FILE",
];

impl Variables {
    /// Of this process. A value that is not Unicode is kept with its bad parts replaced, so that a
    /// check names it rather than passes it by.
    pub fn of_this_process() -> Variables {
        let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned())
        };
        Variables(std::env::vars_os().map(text).collect())
    }

    /// One variable; an empty one counts as absent, as shells and Compose files mean it.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// The variables that speak to a node.
    pub(super) fn of_the_node(&self) -> config::Map<String, String> {
        let mut speaking = config::Map::new();
        for (name, value) in &self.0 {
            let ours = name.starts_with("ALLUVIUM_") && !CLIENT_VARIABLES.contains(&name.as_str());
            if ours && !value.is_empty() && !is_service_link(name) {
                speaking.insert(name.clone(), value.clone());
            }
        }
        speaking
    }

    /// Where the shell keeps its history: `$XDG_STATE_HOME/alluvium/history`, or below
    /// `~/.local/state`. `None` for a user without a home.
    pub fn history_file(&self) -> Option<PathBuf> {
        let state = match (self.get("XDG_STATE_HOME"), self.get("HOME")) {
            (Some(state), _) => PathBuf::from(state),
            (None, Some(home)) => PathBuf::from(home).join(".local/state"),
            (None, None) => return None,
        };
        Some(state.join("alluvium").join("history"))
    }
}

impl<const N: usize> From<[(&str, &str); N]> for Variables {
    fn from(pairs: [(&str, &str); N]) -> Variables {
        Variables(pairs.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }
}

/// Kubernetes gives each container variables for every service of its namespace. For a service
/// named `alluvium…` they begin as ours do, and nobody could start a node beside it if they were
/// refused.
fn is_service_link(name: &str) -> bool {
    name.ends_with("_SERVICE_HOST")
        || name.ends_with("_SERVICE_PORT")
        || name.contains("_SERVICE_PORT_")
        || name.ends_with("_PORT")
        || name
            .split_once("_PORT_")
            .is_some_and(|(_, rest)| rest.starts_with(|c: char| c.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_of_a_service_of_our_name_are_not_ours() {
        let variables = Variables::from([
            ("ALLUVIUM_SERVICE_HOST", "10.0.0.1"),
            ("ALLUVIUM_SERVICE_PORT", "7400"),
            ("ALLUVIUM_SERVICE_PORT_CLIENT", "7400"),
            ("ALLUVIUM_PORT", "tcp://10.0.0.1:7400"),
            ("ALLUVIUM_PEERS_PORT_7401_TCP_ADDR", "10.0.0.1"),
            ("ALLUVIUM_ADDR", "127.0.0.1:7400"),
            ("ALLUVIUM_EMPTY", ""),
            ("HOME", "/home/a"),
            ("ALLUVIUM_NAME", "a"),
            ("ALLUVIUM_REPORT", "x"),
        ]);
        let speaking = variables.of_the_node();
        let mut names: Vec<_> = speaking.keys().map(String::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["ALLUVIUM_NAME", "ALLUVIUM_REPORT"]);
    }

    #[test]
    fn history_is_kept_where_the_user_keeps_state() {
        let file = |variables: Variables| variables.history_file();
        let home = PathBuf::from("/home/a/.local/state/alluvium/history");
        assert_eq!(file([("HOME", "/home/a")].into()), Some(home));
        let state = PathBuf::from("/s/alluvium/history");
        assert_eq!(file([("HOME", "/home/a"), ("XDG_STATE_HOME", "/s")].into()), Some(state));
        assert_eq!(file(Variables::default()), None);
    }
}
