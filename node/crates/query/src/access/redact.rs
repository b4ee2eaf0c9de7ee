//! Statements as they may be shown and logged.

use std::borrow::Cow;

const WORD: &str = "password";

/// The text of a statement without what follows the word PASSWORD, wherever it stands: whoever
/// shows or logs a statement shows this. A query with a column of that name is cut short too, which
/// is the cheaper mistake.
#[must_use]
pub fn redacted(sql: &str) -> Cow<'_, str> {
    let bytes = sql.as_bytes();
    let found =
        bytes.windows(WORD.len()).position(|part| part.eq_ignore_ascii_case(WORD.as_bytes()));
    match found {
        None => Cow::Borrowed(sql),
        // The word is ASCII, so its end is the end of a character.
        Some(at) => Cow::Owned(format!("{} '…'", &sql[..at + WORD.len()])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_behind_the_word_is_shown() {
        let shown = redacted("ALTER USER bob PassWord 'hunter2'; SELECT 1");
        assert_eq!(shown, "ALTER USER bob PassWord '…'");
        assert_eq!(redacted("SELECT é"), "SELECT é");
        assert!(!redacted("é CREATE USER x PASSWORD/**/'hunter2").contains("hunter2"));
    }
}
