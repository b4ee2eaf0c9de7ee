//! Which word counts, and what is refused with what words.

use super::*;

fn flags<const N: usize>(pairs: [(&'static str, &str); N]) -> Flags {
    pairs.into_iter().map(|(key, value)| (key, value.to_owned())).collect()
}

/// Loads a file of this text with these variables and flags.
fn load_all(
    file: &str,
    variables: Variables,
    mut said: Flags,
) -> (tempfile::TempDir, Result<Config, ConfigError>) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("node.toml");
    std::fs::write(&path, file).unwrap();
    said.insert(keys::CONFIG, path.to_str().unwrap().to_owned());
    let config = load(&said, &variables);
    (dir, config)
}

/// What is refused, with the directory of the file taken out of the words.
fn refused(file: &str, variables: Variables, said: Flags) -> String {
    let (dir, config) = load_all(file, variables, said);
    let place = format!("{}/", dir.path().display());
    config.expect_err("this must be refused").to_string().replace(&place, "")
}

fn flag_refused(key: &'static str, value: &str) -> String {
    load(&flags([(key, value)]), &Variables::default()).unwrap_err().to_string()
}

#[test]
fn with_nothing_said_a_node_listens_on_loopback() {
    let config = load(&Flags::new(), &Variables::default()).unwrap();
    assert_eq!(config.data_dir, PathBuf::from("./alluvium-data"));
    assert_eq!(config.name, "alluvium");
    let ports = [config.listen, config.peer_listen, config.http_listen, config.pg_listen];
    assert_eq!(
        ports.map(|addr| addr.to_string()),
        ["127.0.0.1:7400", "127.0.0.1:7401", "127.0.0.1:7402", "127.0.0.1:7432"]
    );
    assert_eq!(config.log.format, LogFormat::Text);
    assert_eq!(config.ready_file, None);
    assert_eq!((config.segment_bytes, config.segment_age), (32 << 20, Duration::from_secs(300)));
    assert!(Memory::TOTAL_BYTES_MIN <= config.memory.total_bytes);
}

#[test]
fn a_flag_outdoes_a_variable_and_a_variable_the_file() {
    let file = "name = 'file'\nlisten = '127.0.0.1:1'\nhttp_listen = '127.0.0.1:2'\n";
    let variables = [("ALLUVIUM_NAME", "variable"), ("ALLUVIUM_LISTEN", "127.0.0.1:3")];
    let (_dir, config) = load_all(file, variables.into(), flags([("name", "flag")]));
    let config = config.unwrap();
    assert_eq!(config.name, "flag");
    assert_eq!(config.listen.port(), 3);
    assert_eq!(config.http_listen.port(), 2);
    assert_eq!(config.pg_listen.port(), 7432);
}

#[test]
fn the_file_may_be_named_by_a_variable() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("node.toml");
    std::fs::write(&path, "name = 'elsewhere'").unwrap();
    let variables = Variables::from([("ALLUVIUM_CONFIG", path.to_str().unwrap())]);
    assert_eq!(load(&Flags::new(), &variables).unwrap().name, "elsewhere");
}

#[test]
fn every_key_of_the_list_is_taken_from_every_place() {
    let file = "data_dir = 'd'\nname = 'n'\nlisten = 'localhost:0'\npeer_listen = '[::1]:0'\n\
                http_listen = '0.0.0.0:0'\npg_listen = '127.0.0.1:0'\nseeds = ['b:2', 'a:1']\n\
                advertise = 'h'\nlocality = ['region=eu', 'zone=a']\nready_file = 'r'\ninsecure = true\n\
                certs_dir = 'c'\nauth = 'required'\nadmin_password_file = 'p'\n\
                log = 'warn,alluvium=debug'\nlog_format = 'json'\nmemory_bytes = 134217728\n\
                segment_bytes = '1MB'\nsegment_age = '2s'\n\
                [tls]\ncert = 'tc'\nkey = 'tk'\nclient_ca = 'ta'\npeer_cert = 'pc'\n\
                peer_key = 'pk'\npeer_ca = 'pa'\ncrl = 'r.pem'\n";
    let (_dir, config) = load_all(file, Variables::default(), Flags::new());
    let from_file = config.unwrap();
    assert_eq!(from_file.locality, [("region", "eu"), ("zone", "a")].map(owned));
    assert_eq!(from_file.memory, Memory::share(128 << 20));
    assert_eq!(from_file.log.format, LogFormat::Json);
    assert!(from_file.listen.ip().is_loopback());

    let said = [
        ("data_dir", "d"),
        ("name", "n"),
        ("listen", "localhost:0"),
        ("peer_listen", "[::1]:0"),
        ("http_listen", "0.0.0.0:0"),
        ("pg_listen", "127.0.0.1:0"),
        ("seeds", "a:1,b:2"),
        ("advertise", "h"),
        ("locality", "region=eu,zone=a"),
        ("ready_file", "r"),
        ("insecure", "true"),
        ("certs_dir", "c"),
        ("tls_cert", "tc"),
        ("tls_key", "tk"),
        ("tls_client_ca", "ta"),
        ("tls_peer_cert", "pc"),
        ("tls_peer_key", "pk"),
        ("tls_peer_ca", "pa"),
        ("tls_crl", "r.pem"),
        ("auth", "required"),
        ("admin_password_file", "p"),
        ("log", "warn,alluvium=debug"),
        ("log_format", "json"),
        ("memory_bytes", "128MB"),
        ("segment_bytes", "1MB"),
        ("segment_age", "2000ms"),
    ];
    assert_eq!(said.len(), keys::KEYS.len(), "a key is not tried here");
    assert_eq!(load(&flags(said), &Variables::default()).unwrap(), from_file);
    let names = said.map(|(key, value)| (format!("ALLUVIUM_{}", key.to_uppercase()), value));
    let variables = Variables::from(names.each_ref().map(|(name, value)| (name.as_str(), *value)));
    assert_eq!(load(&Flags::new(), &variables).unwrap(), from_file);
}

#[test]
fn a_directory_of_certificates_opens_every_door() {
    let all = [("certs_dir", "/c"), ("listen", "0.0.0.0:0"), ("peer_listen", "0.0.0.0:0")];
    let config = load(&flags(all), &Variables::default()).unwrap();
    assert!(config.insecure.is_empty());
    assert_eq!(config.tls.peer_ca.as_deref(), Some(Path::new("/c/ca.crt")));
    let clients = [("tls_cert", "c"), ("tls_key", "k"), ("peer_listen", "0.0.0.0:0")];
    let refused = load(&flags(clients), &Variables::default()).unwrap_err().to_string();
    assert!(refused.starts_with("--peer-listen = \"0.0.0.0:0\""), "{refused}");
    let meant = flags([("insecure", "true"), ("http_listen", "0.0.0.0:0")]);
    assert_eq!(load(&meant, &Variables::default()).unwrap().insecure, ["http_listen"]);
}

fn owned((key, value): (&str, &str)) -> (String, String) {
    (key.to_owned(), value.to_owned())
}

#[test]
fn an_unknown_key_is_refused_with_the_nearest_one() {
    let none = Variables::default;
    let cases = [
        (
            refused("data-dir = 'x'", none(), Flags::new()),
            "unknown key data-dir in node.toml; did you mean data_dir?",
        ),
        (
            refused("lisen = 'x'", none(), Flags::new()),
            "unknown key lisen in node.toml; did you mean listen?",
        ),
        (
            refused("dir = 'x'", none(), Flags::new()),
            "unknown key dir in node.toml; did you mean data_dir?",
        ),
        (refused("[raft]\nx = 1", none(), Flags::new()), "unknown key raft in node.toml"),
        (refused("config = 'x'", none(), Flags::new()), "unknown key config in node.toml"),
        (
            refused("", [("ALLUVIUM_DATADIR", "x")].into(), Flags::new()),
            "unknown key ALLUVIUM_DATADIR in the environment; did you mean ALLUVIUM_DATA_DIR?",
        ),
        (
            refused("", [("ALLUVIUM_FOO", "x")].into(), Flags::new()),
            "unknown key ALLUVIUM_FOO in the environment",
        ),
    ];
    for (message, expected) in cases {
        assert_eq!(message, expected);
    }
}

#[test]
fn a_file_that_cannot_be_used_is_named() {
    let (_dir, config) = load_all("name = ", Variables::default(), Flags::new());
    let message = config.unwrap_err().to_string();
    assert!(message.contains("node.toml is not TOML"), "{message}");
    let message = flag_refused("config", "/nowhere/node.toml");
    assert!(message.starts_with("read the configuration file /nowhere/node.toml"), "{message}");
}

#[test]
fn a_bad_value_is_refused_with_where_it_was_said() {
    let listen = |value| flag_refused("listen", value);
    assert_eq!(
        listen("7400"),
        "--listen = \"7400\": no port; an address is HOST:PORT, such as 127.0.0.1:7400"
    );
    assert!(listen("127.0.0.1:70000").contains("\"70000\" is not a port"));
    assert!(listen("http://127.0.0.1:1").contains("HOST:PORT"));
    assert!(listen("::1:1").contains("HOST:PORT"));
    assert!(listen("0.0.0.0:7400").contains("--insecure"));
    assert!(flag_refused("tls_cert", "c").contains("--tls-key is missing"));
    assert!(flag_refused("tls_peer_ca", "c").contains("--tls-peer-cert is missing"));
    assert!(flag_refused("memory_bytes", "1MB").contains("at least 64MB"));
    assert!(flag_refused("segment_bytes", "1KB").contains("64KB"));
    assert!(flag_refused("segment_age", "5").contains("a unit"));
    assert!(flag_refused("segment_age", "1ms").contains("100ms"));
    assert!(flag_refused("log_format", "xml").contains("text or json"));
    assert!(flag_refused("log", "alluvium=loud").contains("log filter"));
    assert!(flag_refused("locality", "eu").contains("KEY=VALUE"));
    assert!(flag_refused("locality", "zone=a,zone=b").contains("twice"));
    assert!(flag_refused("insecure", "perhaps").contains("true or false"));
    assert!(flag_refused("name", "-x").contains("a name is"));
    let message = refused("[log]\nlevel = 'info'", Variables::default(), Flags::new());
    assert_eq!(message, "node.toml: log = \"…\": a section where a single value is meant");
    let message = refused("insecure = 'maybe'", Variables::default(), Flags::new());
    assert_eq!(message, "node.toml: insecure = \"maybe\": must be true or false");
    let message = refused("", [("ALLUVIUM_LISTEN", "x")].into(), Flags::new());
    assert!(message.starts_with("ALLUVIUM_LISTEN = \"x\": no port"), "{message}");
}

#[test]
fn seeds_are_read_in_any_order_and_checked() {
    assert!(flag_refused("seeds", "a:1,b").contains("\"b\": no port"));
    let config = load(&flags([("seeds", "b:2, a:1,b:2")]), &Variables::default()).unwrap();
    assert_eq!(config.seeds, ["a:1", "b:2"]);
    assert!(flag_refused("advertise", "a:1").contains("without a port"));
}

#[test]
fn two_listeners_cannot_share_a_port() {
    let message = flag_refused("pg_listen", "127.0.0.1:7400");
    assert_eq!(message, "--pg-listen = \"127.0.0.1:7400\": listen has this port already");
    let message = flag_refused("listen", "127.0.0.1:7432");
    assert_eq!(message, "--listen = \"127.0.0.1:7432\": pg_listen has this port already");
}

#[test]
fn every_key_stands_in_the_documents() {
    let document = include_str!("../../../docs/OPERATIONS.md");
    for key in keys::KEYS {
        let variable = key.name.to_uppercase();
        let row = format!("| `--{}` | `{}` | `ALLUVIUM_{variable}` | ", key.flag, key.name);
        let line = document.lines().find(|line| line.starts_with(&row));
        let line = line.unwrap_or_else(|| panic!("docs/OPERATIONS.md has no row {row}"));
        let default = format!("`{}`", key.default);
        assert!(key.default.is_empty() || line.contains(&default), "{line}");
    }
}
