//! An example: its streams, the files that feed them, and what to ask.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::toml;

/// An example: its streams, the files that feed them, and what to ask.
pub struct Example {
    pub dir: PathBuf,
    pub feeds: Vec<Feed>,
    pub questions: Vec<Question>,
    /// What is asked again and again while events come in.
    pub live: Option<Question>,
}

#[derive(Clone)]
pub struct Feed {
    pub stream: String,
    pub file: String,
    /// Rows a second at which a person can watch a view follow; none: as fast as it goes.
    pub rate: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    pub asked: String,
    pub sql: String,
}

impl Example {
    pub fn read(root: &Path, name: &str) -> Result<Example> {
        let dir = root.join("examples").join(name);
        let read = |file: &str| {
            let path = dir.join(file);
            std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))
        };
        let mut feeds = Vec::new();
        for table in toml::tables(&read("example.toml")?) {
            if table.name != "feed" {
                continue;
            }
            let stream = table.text("stream").context("a feed names a stream")?.to_string();
            let file = table.text("file").context("a feed names a file")?.to_string();
            let rate = table.text("rate").map(str::to_string);
            feeds.push(Feed { stream, file, rate });
        }
        let asked = questions(&read("questions.sql")?);
        if feeds.is_empty() || asked.is_empty() {
            bail!("examples/{name} has {} feeds, {} questions", feeds.len(), asked.len());
        }
        let live = match dir.join("live.sql").is_file() {
            true => questions(&read("live.sql")?).pop(),
            false => None,
        };
        Ok(Example { dir, feeds, questions: asked, live })
    }
}

/// Statements, each with the comment above it. A statement ends with a `;` at the end of a line.
fn questions(text: &str) -> Vec<Question> {
    let mut questions = Vec::new();
    let (mut asked, mut sql) = (String::new(), String::new());
    for line in text.lines() {
        if let Some(comment) = line.strip_prefix("--") {
            asked.push_str(comment.trim());
            continue;
        }
        sql.push_str(line);
        sql.push('\n');
        if line.trim_end().ends_with(';') {
            let sql = std::mem::take(&mut sql).trim().to_string();
            questions.push(Question { asked: std::mem::take(&mut asked), sql });
        }
    }
    questions
}

#[cfg(test)]
mod tests {
    use super::{Example, questions};

    #[test]
    fn a_question_is_a_comment_and_a_statement() {
        let found =
            questions("-- Who won?\nSELECT a,\n  b FROM c;\n\n-- And who lost?\nSELECT 1;\n");
        let asked: Vec<&str> = found.iter().map(|question| question.asked.as_str()).collect();
        assert_eq!(asked, ["Who won?", "And who lost?"]);
        assert_eq!(found[0].sql, "SELECT a,\n  b FROM c;");
        assert_eq!(found[1].sql, "SELECT 1;");
    }

    #[test]
    fn every_example_can_be_shown() {
        let root = crate::cargo::root();
        let folders = std::fs::read_dir(root.join("examples")).expect("the examples");
        let mut count = 0;
        for folder in folders.flatten().filter(|entry| entry.path().is_dir()) {
            let name = folder.file_name().to_string_lossy().into_owned();
            let example = Example::read(&root, &name).expect("an example that can be read");
            assert_eq!(example.questions.len(), 5, "{name}");
            for feed in &example.feeds {
                assert!(example.dir.join(&feed.file).is_file(), "{name}: {}", feed.file);
            }
            count += 1;
        }
        assert!(0 < count, "no example");
    }
}
