//! `cargo xtask tidy --fix`: comments that are too wide, wrapped. rustfmt wraps code and leaves
//! comments alone.
//!
//! Moves the words that stick out to the next line of the same paragraph, or to a new line. Touches
//! nothing else: tables, code blocks and lines that already fit stay as they are.

use super::sizes::LINE_COLUMNS_MAX;
use super::source::Source;

/// The text with its comments wrapped.
pub fn wrap(path: &str, text: &str) -> String {
    let source = Source::parse(path, text);
    let mut waiting: std::collections::VecDeque<String> = source.lines.iter().cloned().collect();
    let mut fixed: Vec<String> = Vec::new();
    let mut fenced = false;
    let mut number = 0;
    let mut extra = 0;
    while let Some(line) = waiting.pop_front() {
        let original = number;
        if extra == 0 {
            number += 1;
        } else {
            extra -= 1;
        }
        let in_string = source.strings.iter().any(|(first, text)| {
            *first < original && original <= first + text.matches('\n').count()
        });
        let Some(comment) = Comment::read(&line).filter(|_| !in_string) else {
            fenced = false;
            fixed.push(line);
            continue;
        };
        if comment.words.starts_with("```") {
            fenced = !fenced;
        }
        let too_wide = LINE_COLUMNS_MAX < line.chars().count();
        if fenced || !too_wide || comment.words.starts_with('|') {
            fixed.push(line);
            continue;
        }
        let (kept, moved) = comment.split();
        fixed.push(kept);
        if moved.is_empty() {
            continue;
        }
        let next = waiting.front().and_then(|next| Comment::read(next));
        match next.filter(|next| next.continues(&comment)) {
            Some(next) => {
                let joined = format!("{}{moved} {}", next.margin, next.words);
                waiting[0] = joined;
            }
            None => {
                waiting.push_front(format!("{}{moved}", comment.hanging()));
                extra += 1;
            }
        }
    }
    fixed.join("\n")
}

/// A line that is a comment and nothing else.
struct Comment<'a> {
    /// Blanks, marker, and blanks before the first word.
    margin: &'a str,
    words: &'a str,
}

impl<'a> Comment<'a> {
    fn read(line: &'a str) -> Option<Comment<'a>> {
        let inner = line.trim_start();
        let marker = ["//!", "///", "//"].into_iter().find(|marker| inner.starts_with(marker))?;
        let words = inner[marker.len()..].trim_start();
        if words.is_empty() || words.starts_with('/') {
            return None;
        }
        Some(Comment { margin: &line[..line.len() - words.len()], words })
    }

    /// The words that fit, with the margin, and the others.
    fn split(&self) -> (String, String) {
        let mut kept = self.margin.to_string();
        let mut rest = self.words.split(' ').peekable();
        let mut count = 0;
        while let Some(word) = rest.peek() {
            let width = kept.chars().count() + word.chars().count() + usize::from(0 < count);
            if 0 < count && LINE_COLUMNS_MAX < width {
                break;
            }
            if 0 < count {
                kept.push(' ');
            }
            kept.push_str(word);
            rest.next();
            count += 1;
        }
        (kept.trim_end().to_string(), rest.collect::<Vec<_>>().join(" "))
    }

    fn is_item(&self) -> bool {
        let numbered = self.words.split_once(". ").is_some_and(|(number, _)| {
            !number.is_empty() && number.chars().all(|c| c.is_ascii_digit())
        });
        numbered || self.words.starts_with("- ") || self.words.starts_with("* ")
    }

    /// The margin of the lines that go on after this one.
    fn hanging(&self) -> String {
        let indent = if self.is_item() { "  " } else { "" };
        format!("{}{indent}", self.margin)
    }

    /// True when this line goes on with the paragraph of the one before.
    fn continues(&self, before: &Comment<'_>) -> bool {
        let starts_something = self.is_item() || self.words.starts_with(['|', '#', '[', '`']);
        self.margin == before.hanging() && !starts_something
    }
}
