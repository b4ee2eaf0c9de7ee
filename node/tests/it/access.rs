//! Who may do what, on a node whose callers have to say who they are. The table in
//! `docs/SECURITY.md` is the test; the attempts in `escapes.txt` all have to fail.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use super::node::{Node, alluvium, data_dir, text};

const ADMIN_PASSWORD: &str = "a long sentence of the admin";

/// A node that is there, with the password of its first admin in a file.
fn guarded(dir: &Path) -> Node {
    let file = dir.with_extension("password");
    std::fs::write(&file, format!("{ADMIN_PASSWORD}\n")).expect("write the password");
    let file = file.to_str().expect("a path is text");
    Node::start_with(dir, &["--auth", "required", "--admin-password-file", file])
}

/// One request; its status and body.
fn request(node: &Node, head: &str, user: Option<&str>, body: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(node.address("http")).expect("connect");
    stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a time-out");
    let authorization = user.map_or(String::new(), |user| {
        let password = if user == "admin" { ADMIN_PASSWORD } else { user };
        format!("authorization: Basic {}\r\n", base64(&format!("{user}:{password}")))
    });
    let length = body.len();
    let text = format!(
        "{head} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{authorization}content-length: \
         {length}\r\n\r\n{body}"
    );
    stream.write_all(text.as_bytes()).expect("ask");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("an answer");
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
    (status.unwrap_or_else(|| panic!("no status in {answer:?}")), answer)
}

fn sql(node: &Node, user: Option<&str>, sql: &str) -> (u16, String) {
    request(node, "POST /v1/sql", user, sql)
}

fn base64(text: &str) -> String {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut coded = String::new();
    for piece in text.as_bytes().chunks(3) {
        let bits = piece.iter().fold(0_u32, |bits, byte| (bits << 8) | u32::from(*byte));
        let bits = bits << (8 * (3 - piece.len()));
        for place in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * place)) as usize & 63];
            coded.push(if place <= piece.len() { char::from(digit) } else { '=' });
        }
    }
    coded
}

/// The streams, views and users that the table in the document speaks of.
fn furnish(node: &Node) {
    for statement in [
        "CREATE STREAM rides (id BIGINT, km DOUBLE)",
        "CREATE STREAM secret (id BIGINT)",
        "INSERT INTO rides VALUES (1, 1.5), (2, 2.5)",
        "INSERT INTO secret VALUES (4711)",
        "CREATE MATERIALIZED VIEW best AS SELECT id, count(*) AS n FROM rides GROUP BY id",
        "CREATE USER reader PASSWORD 'reader'",
        "CREATE USER writer PASSWORD 'writer'",
        "CREATE USER operators_user PASSWORD 'operators_user'",
        "GRANT SELECT ON rides, best TO reader",
        "GRANT INSERT ON STREAM rides TO writer",
        "GRANT operator TO operators_user",
    ] {
        let (status, answer) = sql(node, Some("admin"), statement);
        assert_eq!(status, 200, "{statement}: {answer}");
    }
}

#[test]
fn everyone_may_do_what_the_document_says() {
    let (_dir, path) = data_dir();
    let node = guarded(&path);
    furnish(&node);
    let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/SECURITY.md");
    let document = std::fs::read_to_string(document).expect("the document");
    let header = "| statement | nobody | reader | writer | operator | admin |";
    let rows: Vec<Vec<&str>> = document
        .lines()
        .skip_while(|line| *line != header)
        .skip(2)
        .take_while(|line| line.starts_with('|'))
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .collect();
    assert!(40 < rows.len(), "the table is there");
    let callers = [None, Some("reader"), Some("writer"), Some("operators_user"), Some("admin")];
    let mut wrong = Vec::new();
    // Admins last: what they may do changes what there is.
    for (place, caller) in callers.into_iter().enumerate() {
        for row in &rows {
            let statement = row[0].trim_matches('`');
            let (status, answer) = sql(&node, caller, statement);
            let is_as_said = match (row[place + 1], caller) {
                ("no", None) => status == 401,
                ("no", Some(_)) => status == 403,
                ("yes", Some("admin")) => status != 401 && status != 403,
                // Of a query that does not run, each is told so.
                ("yes", _) if statement.starts_with("KILL ") => status == 404,
                ("yes", _) => status == 200,
                (other, _) => panic!("{other} in the table"),
            };
            if !is_as_said {
                let said = answer.lines().last().unwrap_or_default().to_owned();
                wrong.push(format!("{statement} as {caller:?}: {status} {said}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn events_are_taken_from_who_may_append() {
    let (_dir, path) = data_dir();
    let node = guarded(&path);
    furnish(&node);
    let event = "{\"id\": 3, \"km\": 1.0}\n";
    let append = |user, stream: &str| {
        request(&node, &format!("POST /v1/streams/{stream}/events"), user, event).0
    };
    assert_eq!(append(None, "rides"), 401);
    assert_eq!(append(Some("reader"), "rides"), 403);
    assert_eq!(append(Some("writer"), "secret"), 403);
    // What is not there is refused like what is not granted.
    assert_eq!(append(Some("writer"), "missing"), 403);
    assert_eq!(append(Some("writer"), "rides"), 200);
    assert_eq!(request(&node, "GET /livez", None, "").0, 200);
    assert_eq!(request(&node, "GET /v1/unknown", Some("admin"), "").0, 403);
    // Nobody comes in over gRPC without saying who they are either.
    let output = node.client(&["sql", "-e", "SELECT 1"]);
    assert!(!output.status.success(), "{}", text(&output.stdout));
}

#[test]
fn passwords_policies_and_what_was_revoked() {
    let (_dir, path) = data_dir();
    let node = guarded(&path);
    furnish(&node);
    let admin = |statement: &str| {
        let (status, answer) = sql(&node, Some("admin"), statement);
        assert_eq!(status, 200, "{statement}: {answer}");
        answer
    };
    let count = |statement: &str| sql(&node, Some("reader"), statement);
    admin("CREATE POLICY p ON rides TO reader USING (id = 2)");
    let (status, answer) = count("SELECT id FROM rides");
    assert!(
        status == 200 && answer.contains("\"id\":2") && !answer.contains("\"id\":1"),
        "{answer}"
    );
    let (status, answer) = count("SELECT r.id FROM rides r JOIN rides s ON r.km <> s.km");
    assert!(status == 200 && !answer.contains("\"id\":"), "{answer}");
    // Views are read by the right to the view.
    assert!(count("SELECT count(*) AS c FROM best").1.contains("\"c\":2"));
    assert_eq!(count("CREATE VIEW mine AS SELECT * FROM rides").0, 403);
    admin("DROP POLICY p ON rides");
    admin("REVOKE SELECT ON rides FROM reader");
    assert_eq!(count("SELECT id FROM rides").0, 403);
    let (_, streams) = count("SHOW STREAMS");
    assert!(!streams.contains("rides") && !streams.contains("secret"), "{streams}");
    // A password that was changed lets nobody in any more, at once.
    assert_eq!(count("SELECT 1").0, 200);
    admin("ALTER USER reader PASSWORD 'another'");
    assert_eq!(count("SELECT 1").0, 401);
    admin("ALTER USER reader PASSWORD 'reader'");
    admin("ALTER USER reader NOLOGIN");
    assert_eq!(count("SELECT 1").0, 401);
    let (_, users) = sql(&node, Some("admin"), "SELECT * FROM system.users");
    assert!(!users.contains("argon2") && users.contains("operators_user"), "{users}");
}

/// Each attempt is one line; `\n` stands for a line's end. None is answered, and none ends the
/// node.
#[test]
fn nothing_escapes() {
    let (_dir, path) = data_dir();
    let node = guarded(&path);
    furnish(&node);
    let attempts = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/escapes.txt");
    let attempts = std::fs::read_to_string(attempts).expect("the attempts");
    let attempts: Vec<String> = attempts
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| line.replace("\\n", "\n"))
        .collect();
    assert!(200 <= attempts.len(), "{} attempts", attempts.len());
    let deep = |open: &str, close: &str, depth: usize| {
        format!("SELECT {}1{}", open.repeat(depth), close.repeat(depth))
    };
    let grown = [
        deep("(", ")", 5_000),
        deep("(SELECT ", ")", 500),
        deep("NOT ", "", 20_000),
        deep("- ", "", 20_000),
        format!("SELECT {}", vec!["1"; 200_000].join("+")),
        format!("SELECT '{}'", "x".repeat(1_100_000)),
        format!("SELECT 1{}", " UNION SELECT 1".repeat(5_000)),
    ];
    let mut escaped = Vec::new();
    for attempt in attempts.iter().chain(&grown) {
        let (status, answer) = sql(&node, Some("reader"), attempt);
        let shows = ["root:x:", "4711", "ami-id"].iter().any(|secret| answer.contains(secret));
        if !(400..500).contains(&status) || shows {
            let attempt: String = attempt.chars().take(100).collect();
            let said: String =
                answer.lines().last().unwrap_or_default().chars().take(200).collect();
            escaped.push(format!("{attempt}: {status} {said}"));
        }
    }
    assert!(escaped.is_empty(), "{}", escaped.join("\n"));
    assert_eq!(sql(&node, Some("reader"), "SELECT 1").0, 200, "the node goes on");
}

#[test]
fn without_a_user_and_a_file_a_guarded_node_does_not_start() {
    let (_dir, path) = data_dir();
    let output = alluvium()
        .args(["start", "--listen", "127.0.0.1:0", "--peer-listen", "127.0.0.1:0"])
        .args(["--http-listen", "127.0.0.1:0", "--pg-listen", "127.0.0.1:0"])
        .args(["--auth", "required", "--data-dir"])
        .arg(&path)
        .output()
        .expect("run the program");
    assert!(!output.status.success());
    let said = text(&output.stderr) + &text(&output.stdout);
    assert!(said.contains("ALLUVIUM_ADMIN_PASSWORD_FILE"), "{said}");
}
