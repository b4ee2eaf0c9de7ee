//! Every key there is. Flags, file keys, variables, help and `docs` all read this list.
//!
//! A key needs a user who asked for it; where nobody did, a constant with a reason stands in the
//! code.

/// The one key that may not stand in a file: it names the file.
pub const CONFIG: &str = "config";

/// One key: `data_dir` in a file, `ALLUVIUM_DATA_DIR` in the environment, `--data-dir` as a flag.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// As in a file.
    pub name: &'static str,
    /// As a flag, without the dashes: the name with `-` for `_`.
    pub flag: &'static str,
    /// What help shows in place of the value; none for a key that is true or false.
    pub value_name: Option<&'static str>,
    /// What it is when nobody says; empty where that needs words of its own.
    pub default: &'static str,
    /// One line.
    pub help: &'static str,
}

/// All keys in the order in which help shows them.
pub const KEYS: &[Key] = &[
    Key {
        name: "data_dir",
        flag: "data-dir",
        value_name: Some("DIR"),
        default: "./alluvium-data",
        help: "Where events are kept",
    },
    Key {
        name: "name",
        flag: "name",
        value_name: Some("NAME"),
        default: "alluvium",
        help: "What people call this node",
    },
    Key {
        name: "listen",
        flag: "listen",
        value_name: Some("HOST:PORT"),
        default: "127.0.0.1:7400",
        help: "Where clients speak gRPC to the node; port 0 picks a free one",
    },
    Key {
        name: "peer_listen",
        flag: "peer-listen",
        value_name: Some("HOST:PORT"),
        default: "127.0.0.1:7401",
        help: "Where other nodes speak to it",
    },
    Key {
        name: "http_listen",
        flag: "http-listen",
        value_name: Some("HOST:PORT"),
        default: "127.0.0.1:7402",
        help: "Where it answers /livez, /readyz, /metrics and /v1/sql",
    },
    Key {
        name: "pg_listen",
        flag: "pg-listen",
        value_name: Some("HOST:PORT"),
        default: "127.0.0.1:7432",
        help: "Where it speaks the PostgreSQL protocol",
    },
    Key {
        name: "seeds",
        flag: "seeds",
        value_name: Some("HOST:PORT,…"),
        default: "",
        help: "Peer addresses of nodes of the cluster to join or to form \
               [default: none, a cluster of one that others may join]",
    },
    Key {
        name: "advertise",
        flag: "advertise",
        value_name: Some("HOST"),
        default: "",
        help: "The host by which others reach this node \
               [default: the one it listens on, or the machine's name]",
    },
    Key {
        name: "locality",
        flag: "locality",
        value_name: Some("KEY=VALUE,…"),
        default: "",
        help: "Where this node stands, widest place first, such as region=eu,zone=a \
               [default: nowhere in particular]",
    },
    Key {
        name: "ready_file",
        flag: "ready-file",
        value_name: Some("FILE"),
        default: "",
        help: "Written with the chosen addresses, as JSON, once the node answers [default: none]",
    },
    Key {
        name: "certs_dir",
        flag: "certs-dir",
        value_name: Some("DIR"),
        default: "",
        help: "Certificates as `alluvium cert` writes them: encrypts every door [default: none]",
    },
    Key {
        name: "tls_cert",
        flag: "tls-cert",
        value_name: Some("FILE"),
        default: "",
        help: "The certificate that clients are shown [default: none]",
    },
    Key {
        name: "tls_key",
        flag: "tls-key",
        value_name: Some("FILE"),
        default: "",
        help: "… and its key [default: none]",
    },
    Key {
        name: "tls_client_ca",
        flag: "tls-client-ca",
        value_name: Some("FILE"),
        default: "",
        help: "Who signs the certificates of clients [default: none]",
    },
    Key {
        name: "tls_peer_cert",
        flag: "tls-peer-cert",
        value_name: Some("FILE"),
        default: "",
        help: "The certificate that other nodes are shown [default: none]",
    },
    Key {
        name: "tls_peer_key",
        flag: "tls-peer-key",
        value_name: Some("FILE"),
        default: "",
        help: "… and its key [default: none]",
    },
    Key {
        name: "tls_peer_ca",
        flag: "tls-peer-ca",
        value_name: Some("FILE"),
        default: "",
        help: "Who signs the certificates of nodes [default: none]",
    },
    Key {
        name: "tls_crl",
        flag: "tls-crl",
        value_name: Some("FILE"),
        default: "",
        help: "Certificates that were taken back; it need not be there [default: none]",
    },
    Key {
        name: "insecure",
        flag: "insecure",
        value_name: None,
        default: "false",
        help: "Let addresses other than loopback be listened on without TLS",
    },
    Key {
        name: "auth",
        flag: "auth",
        value_name: Some("none|required"),
        default: "",
        help: "Whether callers have to say who they are \
               [default: none where every address is loopback or --insecure is given]",
    },
    Key {
        name: "admin_password_file",
        flag: "admin-password-file",
        value_name: Some("FILE"),
        default: "",
        help: "Holds the password of the user admin, who is made when authentication is required \
               and there is no user yet [default: none]",
    },
    Key {
        name: "log",
        flag: "log",
        value_name: Some("FILTER"),
        default: "info",
        help: "What is logged: error, warn, info, debug, trace, or a list such as \
               warn,alluvium=debug",
    },
    Key {
        name: "log_format",
        flag: "log-format",
        value_name: Some("text|json"),
        default: "text",
        help: "How a line of the log looks",
    },
    Key {
        name: "memory_bytes",
        flag: "memory-bytes",
        value_name: Some("SIZE"),
        default: "",
        help: "Memory for events not yet in files and for queries, such as 512MB \
               [default: a quarter of the machine's]",
    },
    Key {
        name: "segment_bytes",
        flag: "segment-bytes",
        value_name: Some("SIZE"),
        default: "32MB",
        help: "Events of a partition are sealed into a file when they take this much memory",
    },
    Key {
        name: "segment_age",
        flag: "segment-age",
        value_name: Some("DURATION"),
        default: "5m",
        help: "… or when the oldest of them has waited this long: 500ms, 30s, 5m, 1h",
    },
];

/// The key of this name, written as in a file.
pub fn find(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == name)
}

/// The key that looks most like this word, if any looks like it at all.
pub fn nearest(word: &str) -> Option<&'static str> {
    let word = word.to_lowercase().replace('-', "_");
    closest(&word, KEYS.iter().map(|key| key.name))
}

/// The candidate most like the word, unless it is another word altogether.
pub fn closest<'a>(word: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let mut best: Option<(f64, &str)> = None;
    for candidate in candidates {
        let likeness = likeness(word, candidate);
        if best.is_none_or(|(most, _)| most < likeness) {
            best = Some((likeness, candidate));
        }
    }
    // Below this a suggestion is a guess: "port" and "locality" score 0.5.
    best.filter(|&(likeness, _)| 0.6 <= likeness).map(|(_, candidate)| candidate)
}

/// 1 for the same word. Letters swapped or missing count little; a word that holds the other
/// (`dir` for `data_dir`) counts as near, since people forget halves of names.
fn likeness(word: &str, candidate: &str) -> f64 {
    let spelling = strsim::normalized_damerau_levenshtein(word, candidate);
    let part = 3 <= word.len() && candidate.split('_').any(|half| half == word);
    if part { spelling.max(0.7) } else { spelling }
}
