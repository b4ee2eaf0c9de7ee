//! Statements that are about the connection and not about streams: settings, transactions, names of
//! prepared statements. They are answered here, the rest goes to the engine.

use super::message::Fault;

/// A statement about the connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Local {
    /// `BEGIN`, `START TRANSACTION`
    Begin,
    /// `COMMIT`, `END`
    Commit,
    /// `ROLLBACK`, `ABORT`
    Rollback,
    /// Accepted, without effect; what it is called in the answer.
    Nothing(&'static str),
    /// `SET name = value`
    Set { name: String, value: String },
    /// `SHOW name`
    Show { name: String },
    /// `DISCARD ALL`, `DEALLOCATE ALL`: forgets statements and portals.
    Forget(&'static str),
    /// `DEALLOCATE name`
    Deallocate { name: String },
    /// `COPY …`: rows come from the client.
    Copy,
}

/// Reads a statement; none if it is for the engine.
pub fn read(sql: &str) -> Option<Local> {
    let words = words(sql);
    let upper: Vec<String> = words.iter().map(|word| word.to_uppercase()).collect();
    let upper: Vec<&str> = upper.iter().map(String::as_str).collect();
    Some(match upper.as_slice() {
        ["BEGIN", ..] | ["START", "TRANSACTION", ..] => Local::Begin,
        ["COMMIT" | "END", ..] => Local::Commit,
        ["ROLLBACK", "TO", ..] => Local::Nothing("ROLLBACK"),
        ["ROLLBACK" | "ABORT", ..] => Local::Rollback,
        ["SAVEPOINT", ..] => Local::Nothing("SAVEPOINT"),
        ["RELEASE", ..] => Local::Nothing("RELEASE"),
        ["SET", "TRANSACTION" | "CONSTRAINTS", ..] => Local::Nothing("SET"),
        ["SET", "SESSION", "CHARACTERISTICS", ..] => Local::Nothing("SET"),
        ["SET", "SESSION" | "LOCAL", ..] => set(&words[2..])?,
        ["SET", ..] => set(&words[1..])?,
        ["RESET", "ALL", ..] => Local::Nothing("RESET"),
        ["RESET", _, ..] => Local::Set { name: words[1].to_lowercase(), value: "default".into() },
        ["SHOW", "STREAMS" | "TABLES" | "VIEWS" | "COLUMNS", ..] => return None,
        ["SHOW", "TRANSACTION", "ISOLATION", "LEVEL", ..] => {
            Local::Show { name: "transaction_isolation".into() }
        }
        ["SHOW", "TIME", "ZONE", ..] => Local::Show { name: "timezone".into() },
        ["SHOW", _, ..] => Local::Show { name: words[1].to_lowercase() },
        ["DISCARD", "ALL", ..] => Local::Forget("DISCARD ALL"),
        ["DEALLOCATE", "ALL", ..] | ["DEALLOCATE", "PREPARE", "ALL", ..] => {
            Local::Forget("DEALLOCATE ALL")
        }
        ["DEALLOCATE", "PREPARE", _, ..] => Local::Deallocate { name: words[2].clone() },
        ["DEALLOCATE", _, ..] => Local::Deallocate { name: words[1].clone() },
        ["UNLISTEN", ..] => Local::Nothing("UNLISTEN"),
        ["COPY", ..] => Local::Copy,
        _ => return None,
    })
}

fn set(words: &[String]) -> Option<Local> {
    let (name, rest) = words.split_first()?;
    if name.eq_ignore_ascii_case("time") {
        let value = rest.get(1).cloned().unwrap_or_default();
        return Some(Local::Set { name: "timezone".into(), value });
    }
    let rest = match rest.split_first() {
        Some((equals, rest)) if equals == "=" || equals.eq_ignore_ascii_case("to") => rest,
        _ => rest,
    };
    Some(Local::Set { name: name.to_lowercase(), value: rest.join(" ") })
}

/// The first words of a statement, without quotes; `=` is a word. Comments are left out.
fn words(sql: &str) -> Vec<String> {
    /// More words than any of these statements needs.
    const WORDS_MAX: usize = 16;
    let mut words = Vec::new();
    let mut rest = sql;
    while words.len() < WORDS_MAX {
        rest = rest.trim_start_matches(|letter: char| letter.is_whitespace() || letter == ',');
        if let Some(comment) = rest.strip_prefix("--") {
            rest = comment.split_once('\n').map_or("", |(_, after)| after);
            continue;
        }
        if let Some(comment) = rest.strip_prefix("/*") {
            rest = comment.split_once("*/").map_or("", |(_, after)| after);
            continue;
        }
        let Some(first) = rest.chars().next().filter(|letter| *letter != ';') else {
            break;
        };
        if matches!(first, '\'' | '"') {
            let inner = &rest[1..];
            let end = inner.find(first).unwrap_or(inner.len());
            words.push(inner[..end].to_owned());
            rest = inner.get(end + 1..).unwrap_or("");
            continue;
        }
        let is_part = |letter: char| letter.is_alphanumeric() || "_.-+/:".contains(letter);
        let end = rest.find(|letter: char| !is_part(letter)).unwrap_or(rest.len());
        let end = if end == 0 { first.len_utf8() } else { end };
        words.push(rest[..end].to_owned());
        rest = &rest[end..];
    }
    words
}

/// Settings of a connection. Nearly all say what is so; those that can be changed without effect on
/// any answer may be.
#[derive(Debug, Default)]
pub struct Settings {
    application_name: String,
    /// Milliseconds; 0 for as long as a statement may run at all.
    statement_timeout_ms: u64,
}

/// Settings that are as they are: a client may say so again, and nothing else.
const FIXED: [(&str, &str); 20] = [
    ("server_version", alluvium_query::pg_catalog::SERVER_VERSION),
    ("server_version_num", "150000"),
    ("server_encoding", "UTF8"),
    ("client_encoding", "UTF8"),
    ("datestyle", "ISO, MDY"),
    ("intervalstyle", "postgres"),
    ("timezone", "UTC"),
    ("integer_datetimes", "on"),
    ("standard_conforming_strings", "on"),
    ("is_superuser", "on"),
    ("in_hot_standby", "off"),
    ("default_transaction_read_only", "off"),
    ("session_authorization", "alluvium"),
    ("transaction_isolation", "read committed"),
    ("default_transaction_isolation", "read committed"),
    ("search_path", "\"$user\", public"),
    ("max_identifier_length", "63"),
    ("bytea_output", "hex"),
    ("escape_string_warning", "on"),
    ("array_nulls", "on"),
];

/// Settings that change nothing here, whatever they are.
const IGNORED: [(&str, &str); 11] = [
    ("extra_float_digits", "1"),
    ("client_min_messages", "notice"),
    ("lock_timeout", "0"),
    ("idle_in_transaction_session_timeout", "0"),
    ("idle_session_timeout", "0"),
    ("geqo", "on"),
    ("jit", "off"),
    ("synchronous_commit", "on"),
    ("default_transaction_deferrable", "off"),
    ("transaction_read_only", "off"),
    ("xmloption", "content"),
];

impl Settings {
    /// What a client is told at the start.
    pub fn told(&self) -> Vec<(&'static str, String)> {
        const TOLD: [(&str, &str); 10] = [
            ("server_version", "server_version"),
            ("server_encoding", "server_encoding"),
            ("client_encoding", "client_encoding"),
            ("DateStyle", "datestyle"),
            ("IntervalStyle", "intervalstyle"),
            ("TimeZone", "timezone"),
            ("integer_datetimes", "integer_datetimes"),
            ("standard_conforming_strings", "standard_conforming_strings"),
            ("is_superuser", "is_superuser"),
            ("session_authorization", "session_authorization"),
        ];
        let mut told: Vec<(&str, String)> =
            TOLD.into_iter().filter_map(|(shown, name)| Some((shown, self.get(name)?))).collect();
        told.push(("application_name", self.application_name.clone()));
        told
    }

    /// How long a statement may take, if the client said so.
    pub fn statement_timeout(&self) -> Option<std::time::Duration> {
        let milliseconds = self.statement_timeout_ms;
        (milliseconds != 0).then(|| std::time::Duration::from_millis(milliseconds))
    }

    /// A setting by its name.
    pub fn get(&self, name: &str) -> Option<String> {
        match name {
            "application_name" => return Some(self.application_name.clone()),
            "statement_timeout" => return Some(self.statement_timeout_ms.to_string()),
            _ => {}
        }
        let mut known = FIXED.iter().chain(&IGNORED);
        known.find(|(known, _)| *known == name).map(|(_, value)| value.to_string())
    }

    /// Sets one, or says why not.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), Fault> {
        let is_default = value.eq_ignore_ascii_case("default");
        match name {
            "application_name" => {
                self.application_name = if is_default { String::new() } else { value.to_owned() };
                return Ok(());
            }
            "statement_timeout" => {
                let value = if is_default { "0" } else { value };
                self.statement_timeout_ms = milliseconds(value).ok_or_else(|| {
                    Fault::error("22023", format!("\"{value}\" is no length of time"))
                })?;
                return Ok(());
            }
            // What was before it is looked for is the same.
            "search_path" if value.to_lowercase().contains("public") => return Ok(()),
            _ => {}
        }
        if IGNORED.iter().any(|(known, _)| *known == name) {
            return Ok(());
        }
        let Some((_, fixed)) = FIXED.iter().find(|(known, _)| *known == name) else {
            let message = format!("there is no setting \"{name}\"");
            return Err(Fault::error("42704", message));
        };
        if is_default || is_same(name, fixed, value) {
            return Ok(());
        }
        let message = format!("{name} is {fixed} and cannot be changed");
        Err(Fault::error("0A000", message))
    }
}

/// Whether a value says what is so already, perhaps in other words.
fn is_same(name: &str, fixed: &str, value: &str) -> bool {
    let plain = |text: &str| -> String {
        let letters = text.chars().filter(|letter| letter.is_alphanumeric());
        letters.collect::<String>().to_lowercase()
    };
    let (fixed, value) = (plain(fixed), plain(value));
    match name {
        "client_encoding" => value == "utf8" || value == "unicode",
        "timezone" => ["utc", "gmt", "etcutc", "utc0", "0", "z"].contains(&value.as_str()),
        "datestyle" => value.starts_with("iso"),
        "default_transaction_isolation" => true,
        "standard_conforming_strings" | "integer_datetimes" => value == "on" || value == "true",
        _ => fixed == value,
    }
}

fn milliseconds(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|letter: char| letter.is_alphabetic() || letter == ' ');
    let number: u64 = digits.trim().parse().ok()?;
    let factor = match text[digits.len()..].trim() {
        "" | "ms" => 1,
        "s" => 1_000,
        "min" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    number.checked_mul(factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_about_the_connection_are_known() {
        let set =
            |name: &str, value: &str| Some(Local::Set { name: name.into(), value: value.into() });
        let cases = [
            ("begin;", Some(Local::Begin)),
            ("/* x */ START TRANSACTION READ ONLY", Some(Local::Begin)),
            ("SET extra_float_digits = 3", set("extra_float_digits", "3")),
            ("set session TimeZone TO 'UTC'", set("timezone", "UTC")),
            ("SET TIME ZONE 'UTC'", set("timezone", "UTC")),
            ("SET DateStyle='ISO, MDY'", set("datestyle", "ISO, MDY")),
            ("RESET statement_timeout", set("statement_timeout", "default")),
            ("show server_version;", Some(Local::Show { name: "server_version".into() })),
            ("SHOW STREAMS", None),
            ("SELECT 'BEGIN'", None),
            ("-- hello\nCOPY t FROM STDIN", Some(Local::Copy)),
        ];
        for (sql, wanted) in cases {
            assert_eq!(read(sql), wanted, "{sql}");
        }
    }

    #[test]
    fn settings_that_would_change_answers_are_refused() {
        let mut settings = Settings::default();
        assert!(settings.set("timezone", "Europe/Berlin").is_err());
        assert!(settings.set("datafusion.runtime.memory_limit", "100G").is_err());
        assert!(settings.set("client_encoding", "'utf-8'").is_ok());
        settings.set("statement_timeout", "2s").unwrap();
        assert_eq!(settings.statement_timeout(), Some(std::time::Duration::from_secs(2)));
        assert!(settings.set("statement_timeout", "soon").is_err());
    }
}
