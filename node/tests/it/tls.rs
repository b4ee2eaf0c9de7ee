//! Certificates: who is let in, what is encrypted, and what changes while a node runs.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::node::{Node, alluvium, data_dir, text};

/// A node that reads its files again has done so by then.
const READ_AGAIN_MAX: Duration = Duration::from_secs(30);

type Encrypted = StreamOwned<ClientConnection, TcpStream>;

/// Runs `alluvium cert` with this directory; what it printed.
fn cert(dir: &Path, args: &[&str]) -> String {
    let output = alluvium().arg("cert").args(args).arg("--certs-dir").arg(dir).output().unwrap();
    assert!(output.status.success(), "{args:?}\n{}", text(&output.stderr));
    text(&output.stdout)
}

/// An authority, a node and a user.
fn certificates(dir: &Path, node: &str) -> PathBuf {
    let certs = dir.join("certs");
    cert(&certs, &["ca"]);
    cert(&certs, &["node", node]);
    cert(&certs, &["client", "ann"]);
    certs
}

fn start(data: &Path, certs: &Path, name: &str) -> Node {
    Node::start_with(data, &["--name", name, "--certs-dir", certs.to_str().unwrap()])
}

fn config(certs: &Path, user: Option<&str>) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(certs.join("ca.crt")).unwrap()).unwrap();
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    Arc::new(match user {
        Some(user) => {
            let chain = CertificateDer::from_pem_file(certs.join(format!("{user}.crt"))).unwrap();
            let key = PrivateKeyDer::from_pem_file(certs.join(format!("{user}.key"))).unwrap();
            builder.with_client_auth_cert(vec![chain], key).unwrap()
        }
        None => builder.with_no_client_auth(),
    })
}

fn encrypt(stream: TcpStream, config: Arc<ClientConfig>) -> Encrypted {
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let connection = ClientConnection::new(config, "localhost".try_into().unwrap()).unwrap();
    StreamOwned::new(connection, stream)
}

/// Asks whether the node lives; what came back, or why nothing did.
fn livez(stream: &mut Encrypted) -> std::io::Result<String> {
    write!(stream, "GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
    stream.flush()?;
    let (mut answer, mut buffer) = (String::new(), [0; 1024]);
    while !answer.ends_with("\r\n\r\nok\n") {
        let count = stream.read(&mut buffer)?;
        if count == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        answer.push_str(&text(&buffer[..count]));
    }
    Ok(answer)
}

fn http(node: &Node, config: &Arc<ClientConfig>) -> Encrypted {
    encrypt(TcpStream::connect(node.address("http")).unwrap(), config.clone())
}

/// Repeats until it is so.
fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < READ_AGAIN_MAX, "{what}");
        std::thread::yield_now();
    }
}

#[test]
fn commands_reach_a_node_with_certificates_and_it_reaches_no_others() {
    let (dir, data) = data_dir();
    let certs = certificates(dir.path(), "n1");
    let node = start(&data, &certs, "n1");
    let certs_dir = certs.to_str().unwrap();
    let ask = ["sql", "--format", "csv", "-e", "SELECT 1 AS one", "--certs-dir"];
    let answer = node.client(&[&ask[..], &[certs_dir]].concat());
    assert_eq!(text(&answer.stdout), "one\n1\n", "{}", text(&answer.stderr));
    let ca = certs.join("ca.crt");
    let answer = node.client(&["status", "--ca", ca.to_str().unwrap()]);
    assert!(answer.status.success(), "{}", text(&answer.stderr));
    assert!(!text(&answer.stdout).contains("insecure"), "{}", text(&answer.stdout));
    let https = format!("https://{}", node.address("client"));
    let answer = node.client(&["status", "--addr", &https, "--ca", ca.to_str().unwrap()]);
    assert!(answer.status.success(), "{}", text(&answer.stderr));
    // In the clear, and trusting somebody else.
    let clear = node.client(&["status"]);
    assert!(text(&clear.stderr).contains("--certs-dir"), "{}", text(&clear.stderr));
    let other = dir.path().join("other");
    cert(&other, &["ca"]);
    let refused = node.client(&["status", "--certs-dir", other.to_str().unwrap()]);
    let said = text(&refused.stderr);
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(said.contains("no encrypted connection"), "{said}");
    let unsaid = node.client(&["status", "--addr", &https]);
    assert_eq!(unsaid.status.code(), Some(2), "{}", text(&unsaid.stderr));
}

#[test]
fn http_is_encrypted_and_shows_how_long_certificates_last() {
    let (dir, data) = data_dir();
    let certs = certificates(dir.path(), "n1");
    let node = start(&data, &certs, "n1");
    assert!(livez(&mut http(&node, &config(&certs, None))).unwrap().starts_with("HTTP/1.1 200"));
    assert!(livez(&mut http(&node, &config(&certs, Some("client.ann")))).is_ok());
    let mut plain = TcpStream::connect(node.address("http")).unwrap();
    write!(plain, "GET /livez HTTP/1.1\r\nHost: n\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    // The handshake fails; whether the connection is closed or reset is the system's affair.
    let _ = plain.read_to_end(&mut answer);
    assert!(!text(&answer).contains("HTTP/1.1"), "{}", text(&answer));
    let mut stream = http(&node, &config(&certs, None));
    write!(stream, "GET /metrics HTTP/1.1\r\nHost: n\r\nConnection: close\r\n\r\n").unwrap();
    let mut metrics = String::new();
    let _ = stream.read_to_string(&mut metrics);
    let line = metrics
        .lines()
        .find(|line| line.starts_with("alluvium_certificate_left_seconds{file=\"node.crt\"}"));
    let seconds = line.and_then(|line| line.split_once("} ")?.1.parse::<i64>().ok());
    let days = seconds.expect(&metrics) / 86_400;
    assert!((360..=365).contains(&days), "{days}");
}

#[test]
fn the_postgresql_protocol_is_encrypted_or_refused() {
    let (dir, data) = data_dir();
    let certs = certificates(dir.path(), "n1");
    let node = start(&data, &certs, "n1");
    /// Whether encryption is to be had.
    const ASK: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];
    let connect = || TcpStream::connect(node.address("pg")).unwrap();
    let startup = b"\0\0\0\x12\0\x03\0\0user\0ann\0\0".as_slice();
    let first = |stream: &mut dyn Read| {
        let mut kind = [0];
        stream.read_exact(&mut kind).unwrap();
        kind[0]
    };
    // In the clear.
    let mut plain = connect();
    plain.write_all(startup).unwrap();
    let mut said = Vec::new();
    plain.read_to_end(&mut said).unwrap();
    assert!(said[0] == b'E' && text(&said).contains("sslmode=require"), "{}", text(&said));
    // After asking.
    let mut asked = connect();
    asked.write_all(&ASK).unwrap();
    assert_eq!(first(&mut asked), b'S');
    let mut stream = encrypt(asked, config(&certs, None));
    stream.write_all(startup).unwrap();
    assert_eq!(first(&mut stream), b'R');
    // At once.
    let mut direct = ClientConfig::clone(&config(&certs, Some("client.ann")));
    direct.alpn_protocols = vec![b"postgresql".to_vec()];
    let mut stream = encrypt(connect(), Arc::new(direct));
    stream.write_all(startup).unwrap();
    assert_eq!(first(&mut stream), b'R');
    // What stands before the handshake may be anybody's words.
    let mut early = connect();
    early.write_all(&[&ASK[..], startup].concat()).unwrap();
    let mut said = Vec::new();
    let _ = early.read_to_end(&mut said);
    assert_eq!(text(&said), "S");
}

#[test]
fn the_port_for_nodes_is_for_nodes() {
    let (dir, data) = data_dir();
    let certs = certificates(dir.path(), "n1");
    let node = start(&data, &certs, "n1");
    let greet = |user: Option<&str>| {
        let mut config = ClientConfig::clone(&config(&certs, user));
        config.alpn_protocols = vec![b"h2".to_vec()];
        let stream = TcpStream::connect(node.address("peer")).unwrap();
        let mut stream = encrypt(stream, Arc::new(config));
        // The preface of HTTP/2 and empty settings; a server answers with its own.
        stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")?;
        let mut header = [0; 9];
        stream.read_exact(&mut header).map(|()| header[3])
    };
    const SETTINGS: u8 = 4;
    assert_eq!(greet(Some("node")).unwrap(), SETTINGS);
    assert!(greet(None).is_err(), "without a certificate");
    assert!(greet(Some("client.ann")).is_err(), "with that of a user");
}

#[test]
fn a_renewed_certificate_is_picked_up_and_a_broken_one_is_not() {
    let (dir, data) = data_dir();
    let certs = certificates(dir.path(), "n1");
    let node = start(&data, &certs, "n1");
    let trust = config(&certs, None);
    let shown = || {
        let mut stream = http(&node, &trust);
        livez(&mut stream).expect("every connection is served");
        stream.conn.peer_certificates().unwrap()[0].to_vec()
    };
    let before = shown();
    let good = std::fs::read(certs.join("node.crt")).unwrap();
    std::fs::write(certs.join("node.crt"), "broken").unwrap();
    node.hang_up();
    for _ in 0..20 {
        assert_eq!(shown(), before);
    }
    std::fs::write(certs.join("node.crt"), good).unwrap();
    cert(&certs, &["node", "n1", "--force"]);
    node.hang_up();
    until("the new certificate is shown", || shown() != before);
    let new = CertificateDer::from_pem_file(certs.join("node.crt")).unwrap();
    assert_eq!(shown(), new.to_vec());
}

#[test]
fn a_revoked_certificate_ends_what_is_open_and_opens_nothing() {
    let (dir, data) = data_dir();
    let certs = certificates(dir.path(), "n1");
    cert(&certs, &["client", "ben"]);
    let node = start(&data, &certs, "n1");
    let (ann, ben) = (config(&certs, Some("client.ann")), config(&certs, Some("client.ben")));
    let (mut open, mut kept) = (http(&node, &ann), http(&node, &ben));
    livez(&mut open).unwrap();
    livez(&mut kept).unwrap();
    let revoked = certs.join("client.ann.crt");
    cert(&certs, &["revoke", revoked.to_str().unwrap()]);
    node.hang_up();
    until("the open connection ends", || livez(&mut open).is_err());
    for place in ["http", "client"] {
        let mut stream = encrypt(TcpStream::connect(node.address(place)).unwrap(), ann.clone());
        assert!(livez(&mut stream).is_err(), "{place}");
    }
    livez(&mut kept).unwrap();
    livez(&mut http(&node, &ben)).unwrap();
    livez(&mut http(&node, &config(&certs, None))).unwrap();
}

/// Starts a node that is expected not to get far, and waits until its log says this.
fn says(data: &Path, certs: &Path, name: &str, seed: &str, words: &str) {
    let mut child = alluvium()
        .args(["start", "--listen", "127.0.0.1:0", "--peer-listen", "127.0.0.1:0"])
        .args(["--http-listen", "127.0.0.1:0", "--pg-listen", "127.0.0.1:0"])
        .args(["--name", name, "--seeds", seed, "--data-dir", data.to_str().unwrap()])
        .args(["--certs-dir", certs.to_str().unwrap()])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
    let mut log = String::new();
    let is_said = lines.into_iter().any(|line| {
        log.push_str(&line);
        log.push('\n');
        line.contains(words) || line.contains("took_ms")
    });
    let _ = child.kill();
    let _ = child.wait();
    assert!(is_said && log.contains(words) && !log.contains("took_ms"), "{log}");
}

#[test]
fn three_nodes_with_certificates_replicate_and_others_stay_out() {
    let (dir, _) = data_dir();
    let at = |name: &str| dir.path().join(name);
    let authority = at("authority");
    cert(&authority, &["ca"]);
    let start = |name: &str, seeds: Option<&str>| {
        let certs = at(&format!("certs-{name}"));
        cert(&authority, &["node", name, "--out", certs.to_str().unwrap()]);
        let certs = certs.to_str().unwrap().to_owned();
        let mut flags = vec!["--name", name, "--certs-dir", &certs];
        flags.extend(seeds.iter().flat_map(|seed| ["--seeds", *seed]));
        Node::start_with(&at(name), &flags)
    };
    let first = start("n1", None);
    let seed = first.address("peer").to_owned();
    let (second, third) = (start("n2", Some(&seed)), start("n3", Some(&seed)));
    let ca = authority.join("ca.crt");
    let ask = |node: &Node, sql: &str| {
        node.client(&["sql", "--format", "csv", "--ca", ca.to_str().unwrap(), "-e", sql])
    };
    let answers = |node: &Node, sql: &str, answer: &str| text(&ask(node, sql).stdout) == answer;
    let sql = |node: &Node, sql: &str| {
        let output = ask(node, sql);
        assert!(output.status.success(), "{sql}\n{}", text(&output.stderr));
        text(&output.stdout)
    };
    sql(&first, "CREATE STREAM s (a BIGINT) WITH (partitions = 2)");
    sql(&second, "INSERT INTO s VALUES (1), (2), (3)");
    for node in [&first, &second, &third] {
        assert_eq!(sql(node, "SELECT sum(a) AS sum FROM s"), "sum\n6\n");
    }
    let on_three = "SELECT count(*) AS partitions FROM system.partitions \
                    WHERE stream = 's' AND replicas LIKE '%,%,%'";
    until("each partition is on three nodes", || answers(&first, on_three, "partitions\n2\n"));
    // Of another authority, under another's name, and under a name that is not in it.
    let other = at("other");
    cert(&other, &["ca"]);
    cert(&other, &["node", "n4"]);
    says(&at("n4"), &other, "n4", &seed, "does not answer");
    says(&at("n5"), &at("certs-n2"), "n5", &seed, "the certificate is not that of a node named n5");
    assert_eq!(sql(&third, "SELECT count(*) AS nodes FROM system.nodes"), "nodes\n3\n");
    // A node whose certificate is taken back is heard no more.
    let revoked = at("certs-n3").join("node.crt");
    cert(&authority, &["revoke", revoked.to_str().unwrap()]);
    for (name, node) in [("n1", &first), ("n2", &second)] {
        std::fs::copy(authority.join("crl.pem"), at(&format!("certs-{name}")).join("crl.pem"))
            .unwrap();
        node.hang_up();
    }
    let silent = "SELECT count(*) AS silent FROM system.nodes WHERE name = 'n3' AND NOT alive";
    until("the revoked node falls silent", || answers(&first, silent, "silent\n1\n"));
    let sum = "SELECT sum(a) AS sum FROM s";
    until("the others go on", || answers(&second, sum, "sum\n6\n"));
}
