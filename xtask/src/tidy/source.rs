//! One Rust file as tidy sees it: code apart from comments and strings, and which lines are tests.
//!
//! Not a parser: a scanner that knows where comments, strings and braces begin and end. That is
//! enough for every rule here, and builds in a second.
//!
//! Invariant: `code` has the same number of lines, and each line the same number of characters, as
//! the file; what is comment or string is blank in it.

/// A Rust file, taken apart.
pub struct Source {
    /// From the root of the repository, with `/`.
    pub path: String,
    /// The lines as written.
    pub lines: Vec<String>,
    /// The lines with comments and the insides of strings blanked.
    pub code: Vec<String>,
    /// Each string literal's line (from 0) and content as written.
    pub strings: Vec<(usize, String)>,
    /// For each line, whether it is compiled for tests only.
    pub test: Vec<bool>,
}

impl Source {
    /// Takes a file apart.
    pub fn parse(path: &str, text: &str) -> Source {
        let (blanked, strings) = blank(text);
        let code: Vec<String> = blanked.split('\n').map(str::to_string).collect();
        let lines: Vec<String> = text.split('\n').map(str::to_string).collect();
        let test = if is_test_file(path) { vec![true; lines.len()] } else { test_lines(&code) };
        Source { path: path.to_string(), lines, code, strings, test }
    }

    /// Functions with a body: name, line of the `fn` and line of its closing brace, from 0.
    pub fn functions(&self) -> Vec<(String, usize, usize)> {
        let mut found = Vec::new();
        for (line, code) in self.code.iter().enumerate() {
            for column in word_starts(code, "fn") {
                let rest = code[column + 2..].trim_start();
                let name: String = rest.chars().take_while(|c| is_word(*c)).collect();
                if name.is_empty() {
                    continue;
                }
                if let Some(end) = body_end(&self.code, line, column) {
                    found.push((name, line, end));
                }
            }
        }
        found
    }
}

/// True for files that hold nothing but tests, or programs beside a crate that are not shipped.
pub fn is_test_file(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    name == "tests.rs" || path.contains("/tests/") || path.contains("/examples/")
}

/// Letters, digits and `_`.
pub fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Byte places where `word` stands by itself.
pub fn word_starts(code: &str, word: &str) -> Vec<usize> {
    let mut found = Vec::new();
    for (place, _) in code.match_indices(word) {
        let before = code[..place].chars().next_back();
        let after = code[place + word.len()..].chars().next();
        if !before.is_some_and(is_word) && !after.is_some_and(is_word) {
            found.push(place);
        }
    }
    found
}

/// The line on which the first braced body after a place ends; `None` when a `;` comes first.
fn body_end(code: &[String], line: usize, column: usize) -> Option<usize> {
    let mut depth = 0usize;
    let mut brackets = 0usize;
    for (number, text) in code.iter().enumerate().skip(line) {
        let from = if number == line { column } else { 0 };
        for c in text[from..].chars() {
            match c {
                '(' | '[' => brackets += 1,
                ')' | ']' => brackets = brackets.saturating_sub(1),
                ';' if depth == 0 && brackets == 0 => return None,
                '{' => depth += 1,
                '}' => {
                    depth = depth.checked_sub(1)?;
                    if depth == 0 {
                        return Some(number);
                    }
                }
                _ => {}
            }
        }
    }
    None
}

/// Marks what stands under `#[cfg(test)]`, to the end of that item.
fn test_lines(code: &[String]) -> Vec<bool> {
    let mut test = vec![false; code.len()];
    for (line, text) in code.iter().enumerate() {
        let Some(column) = text.find("#[cfg(test)]") else { continue };
        let after = column + "#[cfg(test)]".len();
        let end = body_end(code, line, after).unwrap_or(line + 1);
        for mark in test.iter_mut().take(end + 1).skip(line) {
            *mark = true;
        }
    }
    test
}

/// Where the scanner stands.
enum Place {
    Code,
    LineComment,
    BlockComment { depth: usize },
    Text { start_line: usize },
    RawText { hashes: usize, start_line: usize },
}

/// Blanks comments and the insides of strings; returns them beside.
fn blank(text: &str) -> (String, Vec<(usize, String)>) {
    let mut scanner = Scanner {
        chars: text.chars().collect(),
        at: 0,
        line: 0,
        place: Place::Code,
        out: String::with_capacity(text.len()),
        held: String::new(),
        strings: Vec::new(),
    };
    while scanner.at < scanner.chars.len() {
        let taken = match scanner.place {
            Place::Code => scanner.code(),
            Place::LineComment => scanner.line_comment(),
            Place::BlockComment { depth } => scanner.block_comment(depth),
            Place::Text { start_line } => scanner.text(start_line),
            Place::RawText { hashes, start_line } => scanner.raw_text(hashes, start_line),
        };
        let passed = &scanner.chars[scanner.at..scanner.at + taken];
        scanner.line += passed.iter().filter(|c| **c == '\n').count();
        scanner.at += taken;
    }
    (scanner.out, scanner.strings)
}

/// Goes over a file once. Each method writes what stands at `at` and says how much it took.
struct Scanner {
    chars: Vec<char>,
    at: usize,
    line: usize,
    place: Place,
    out: String,
    held: String,
    strings: Vec<(usize, String)>,
}

impl Scanner {
    fn code(&mut self) -> usize {
        let (chars, at) = (&self.chars, self.at);
        if let Some((width, entered)) = leave_code(chars, at, self.line) {
            let keep_quote = chars[at] != '/';
            self.place = entered;
            self.push_blank(width, keep_quote);
            return width;
        }
        if let Some(width) = char_literal(chars, at) {
            self.push_blank(width, false);
            return width;
        }
        self.out.push(chars[at]);
        1
    }

    fn line_comment(&mut self) -> usize {
        if self.chars[self.at] == '\n' {
            self.place = Place::Code;
        }
        self.push_blank(1, false);
        1
    }

    fn block_comment(&mut self, depth: usize) -> usize {
        let pair = (self.chars[self.at], self.chars.get(self.at + 1).copied());
        let taken = match pair {
            ('*', Some('/')) => {
                self.place = match depth {
                    1 => Place::Code,
                    _ => Place::BlockComment { depth: depth - 1 },
                };
                2
            }
            ('/', Some('*')) => {
                self.place = Place::BlockComment { depth: depth + 1 };
                2
            }
            _ => 1,
        };
        self.push_blank(taken, false);
        taken
    }

    fn text(&mut self, start_line: usize) -> usize {
        let c = self.chars[self.at];
        if c == '"' {
            self.close(start_line);
            self.out.push('"');
            return 1;
        }
        let taken = if c == '\\' && self.at + 1 < self.chars.len() { 2 } else { 1 };
        self.held.extend(&self.chars[self.at..self.at + taken]);
        self.push_blank(taken, false);
        taken
    }

    fn raw_text(&mut self, hashes: usize, start_line: usize) -> usize {
        let c = self.chars[self.at];
        let after = &self.chars[self.at + 1..];
        if c == '"' && hashes <= after.iter().take_while(|c| **c == '#').count() {
            self.close(start_line);
            self.push_blank(1 + hashes, true);
            return 1 + hashes;
        }
        self.held.push(c);
        self.push_blank(1, false);
        1
    }

    fn close(&mut self, start_line: usize) {
        self.strings.push((start_line, std::mem::take(&mut self.held)));
        self.place = Place::Code;
    }

    /// Writes blanks of the same shape: line ends stay, and quotes where asked.
    fn push_blank(&mut self, width: usize, keep_quotes: bool) {
        for &c in &self.chars[self.at..self.at + width] {
            self.out.push(match c {
                '\n' => '\n',
                '"' if keep_quotes => '"',
                _ => ' ',
            });
        }
    }
}

/// What a comment or string beginning at `i` is, and how wide its opening.
fn leave_code(chars: &[char], i: usize, line: usize) -> Option<(usize, Place)> {
    let next = chars.get(i + 1).copied();
    match chars[i] {
        '/' if next == Some('/') => Some((2, Place::LineComment)),
        '/' if next == Some('*') => Some((2, Place::BlockComment { depth: 1 })),
        '"' => Some((1, Place::Text { start_line: line })),
        'r' if !(i > 0 && is_word(chars[i - 1]) && !is_byte_prefix(chars, i)) => {
            let hashes = chars[i + 1..].iter().take_while(|c| **c == '#').count();
            if chars.get(i + 1 + hashes) == Some(&'"') {
                Some((hashes + 2, Place::RawText { hashes, start_line: line }))
            } else {
                None
            }
        }
        _ => None,
    }
}

/// True when the character before `i` is the `b` or `c` of a `br""` or `cr""`.
fn is_byte_prefix(chars: &[char], i: usize) -> bool {
    matches!(chars[i - 1], 'b' | 'c') && !(i > 1 && is_word(chars[i - 2]))
}

/// The width of a character literal at `i`; `None` for lifetimes and everything else.
fn char_literal(chars: &[char], i: usize) -> Option<usize> {
    if chars[i] != '\'' {
        return None;
    }
    if chars.get(i + 1) == Some(&'\\') {
        let end = chars[i + 3..].iter().take(10).position(|c| *c == '\'')?;
        return Some(end + 4);
    }
    (chars.get(i + 2) == Some(&'\'')).then_some(3)
}
