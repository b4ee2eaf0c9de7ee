//! The text of JSON, from front to back.

use std::borrow::Cow;

use super::super::misfit::Misfit;
use super::super::values::clip;

/// How deep a value of a JSON column may nest: deeper than anyone reads, shallow enough for every
/// stack.
const DEPTH_MAX: usize = 128;

/// A place in a text.
pub(in super::super) struct Scanner<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
}

type Scan<T> = Result<T, Box<Misfit>>;

/// Checks that a text is one JSON value.
pub(in super::super) fn check_value(text: &str) -> Result<(), Box<Misfit>> {
    let mut scanner = Scanner::new(text);
    scanner.space();
    scanner.skip_value(0)?;
    scanner.space();
    match scanner.is_at_end() {
        true => Ok(()),
        false => Err(scanner.unexpected("the end of the value")),
    }
}

impl<'a> Scanner<'a> {
    pub fn new(text: &'a str) -> Scanner<'a> {
        Scanner { text, bytes: text.as_bytes(), at: 0 }
    }

    pub fn is_at_end(&self) -> bool {
        self.at == self.bytes.len()
    }

    pub fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    #[inline]
    pub fn space(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.peek() {
            self.at += 1;
        }
    }

    /// Passes a byte if it is the next.
    #[inline]
    pub fn take(&mut self, byte: u8) -> bool {
        let is_next = self.peek() == Some(byte);
        self.at += usize::from(is_next);
        is_next
    }

    /// Passes a byte that must be the next.
    #[inline]
    pub fn expect(&mut self, byte: u8) -> Scan<()> {
        match self.take(byte) {
            true => Ok(()),
            false => Err(self.unexpected(&format!("'{}'", char::from(byte)))),
        }
    }

    /// Passes `null`, `true` or `false` if it is the next.
    pub fn take_word(&mut self, word: &str) -> bool {
        let is_next = self.bytes[self.at..].starts_with(word.as_bytes());
        self.at += if is_next { word.len() } else { 0 };
        is_next
    }

    /// Reads a string; most are a slice of the text.
    #[inline]
    pub fn string(&mut self) -> Scan<Cow<'a, str>> {
        self.expect(b'"')?;
        let start = self.at;
        self.at = special(self.bytes, start);
        if self.peek() == Some(b'"') {
            let text = &self.text[start..self.at];
            self.at += 1;
            return Ok(Cow::Borrowed(text));
        }
        self.string_with_escapes(start)
    }

    /// Reads a number as it is written.
    #[inline]
    pub fn number(&mut self) -> Scan<&'a str> {
        let start = self.at;
        self.take(b'-');
        let is_good = match self.peek() {
            Some(b'0') => {
                self.at += 1;
                true
            }
            _ => self.digits(),
        };
        let is_good = is_good && (!self.take(b'.') || self.digits()) && self.exponent();
        if !is_good {
            return Err(self.unexpected("a digit"));
        }
        Ok(&self.text[start..self.at])
    }

    /// Passes any value and gives back its text.
    pub fn value(&mut self) -> Scan<&'a str> {
        let start = self.at;
        self.skip_value(0)?;
        Ok(&self.text[start..self.at])
    }

    /// What stands here instead of what should.
    pub fn unexpected(&self, expected: &str) -> Box<Misfit> {
        let rest = &self.text[self.text.floor_char_boundary(self.at)..];
        let found = rest.lines().next().unwrap_or_default();
        match rest.is_empty() {
            true => Misfit::syntax(format!("expected {expected}, found the end of the text")),
            false => Misfit::syntax(format!("expected {expected}, found {:?}", clip(found))),
        }
    }

    fn digits(&mut self) -> bool {
        let start = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        start < self.at
    }

    fn exponent(&mut self) -> bool {
        if !self.take(b'e') && !self.take(b'E') {
            return true;
        }
        let _has_sign = self.take(b'+') || self.take(b'-');
        self.digits()
    }

    /// From the first byte that is not plain.
    #[cold]
    fn string_with_escapes(&mut self, start: usize) -> Scan<Cow<'a, str>> {
        let mut unescaped = self.text[start..self.at].to_owned();
        loop {
            let from = self.at;
            self.at = special(self.bytes, from);
            unescaped.push_str(&self.text[from..self.at]);
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(Cow::Owned(unescaped));
                }
                Some(b'\\') => {
                    self.at += 1;
                    unescaped.push(self.escape()?);
                }
                Some(_) => return Err(Misfit::syntax("a control character in a string")),
                None => return Err(Misfit::syntax("a string without an end")),
            }
        }
    }

    fn escape(&mut self) -> Scan<char> {
        let Some(kind) = self.peek() else {
            return Err(Misfit::syntax("a string without an end"));
        };
        self.at += 1;
        Ok(match kind {
            b'"' => '"',
            b'\\' => '\\',
            b'/' => '/',
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => return self.escaped_unicode(),
            _ => return Err(Misfit::syntax("an escape that JSON does not have")),
        })
    }

    fn escaped_unicode(&mut self) -> Scan<char> {
        let lone = || Misfit::syntax("half of a surrogate pair");
        let first = self.hex4()?;
        if !(0xd800..0xe000).contains(&first) {
            return char::from_u32(first).ok_or_else(lone);
        }
        if !self.take_word("\\u") {
            return Err(lone());
        }
        let second = self.hex4()?;
        if 0xdc00 <= first || !(0xdc00..0xe000).contains(&second) {
            return Err(lone());
        }
        let joined = 0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00);
        char::from_u32(joined).ok_or_else(lone)
    }

    fn hex4(&mut self) -> Scan<u32> {
        let digits = self.bytes.get(self.at..self.at + 4).unwrap_or_default();
        let digits = std::str::from_utf8(digits).unwrap_or_default();
        let is_hex = digits.len() == 4 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        match u32::from_str_radix(digits, 16) {
            Ok(value) if is_hex => {
                self.at += 4;
                Ok(value)
            }
            Ok(_) | Err(_) => Err(Misfit::syntax("\\u without four hex digits")),
        }
    }

    fn skip_value(&mut self, depth: usize) -> Scan<()> {
        if depth == DEPTH_MAX {
            return Err(Misfit::syntax(format!("a value nests more than {DEPTH_MAX} deep")));
        }
        match self.peek() {
            Some(b'"') => self.string().map(|_| ()),
            Some(b'{') => self.skip_many(b'{', b'}', depth, |scanner| {
                scanner.string()?;
                scanner.space();
                scanner.expect(b':')?;
                scanner.space();
                Ok(())
            }),
            Some(b'[') => self.skip_many(b'[', b']', depth, |_| Ok(())),
            Some(b'-' | b'0'..=b'9') => self.number().map(|_| ()),
            Some(_) | None => {
                let is_word =
                    ["null", "true", "false"].into_iter().any(|word| self.take_word(word));
                if is_word { Ok(()) } else { Err(self.unexpected("a value")) }
            }
        }
    }

    /// Values with commas between them, each after its key where there are keys.
    fn skip_many(
        &mut self,
        open: u8,
        close: u8,
        depth: usize,
        skip_key: impl Fn(&mut Self) -> Scan<()>,
    ) -> Scan<()> {
        self.expect(open)?;
        self.space();
        if self.take(close) {
            return Ok(());
        }
        loop {
            self.space();
            skip_key(self)?;
            self.skip_value(depth + 1)?;
            self.space();
            if !self.take(b',') {
                return self.expect(close);
            }
        }
    }
}

/// The next place from `from` on with a quote, a backslash or a control character, or the end.
/// Looks at eight bytes at a time.
#[inline]
fn special(bytes: &[u8], from: usize) -> usize {
    const ONES: u64 = u64::from_le_bytes([1; 8]);
    const HIGH: u64 = ONES << 7;
    // The lowest bit set is that of the first byte that is zero, or less than `n` in the second.
    // Bits above it may be wrong.
    let zeroes = |word: u64| word.wrapping_sub(ONES) & !word & HIGH;
    let less_than = |word: u64, n: u64| word.wrapping_sub(ONES * n) & !word & HIGH;
    let mut at = from;
    while let Some(chunk) = bytes.get(at..at + 8) {
        let word = u64::from_le_bytes(chunk.try_into().expect("eight bytes"));
        let quotes = zeroes(word ^ (ONES * u64::from(b'"')));
        let backslashes = zeroes(word ^ (ONES * u64::from(b'\\')));
        let found = quotes | backslashes | less_than(word, 0x20);
        if found != 0 {
            return at + (found.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    let is_special = |&byte: &u8| matches!(byte, b'"' | b'\\' | 0..0x20);
    at + bytes[at..].iter().position(is_special).unwrap_or(bytes.len() - at)
}
