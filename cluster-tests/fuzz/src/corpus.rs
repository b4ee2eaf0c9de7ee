//! The inputs that are kept: one a line, readable and in version control.
//!
//! A line holds the bytes of an input; what is not printable is written `\xNN`, and `\\`, `\n`,
//! `\r`, `\t`, `\'`, `\"` mean what they mean in Rust. Empty lines and those that begin with `#`
//! are no inputs.

use std::path::Path;

/// The kept inputs of a target.
pub fn read(package_dir: &str, name: &str) -> Vec<Vec<u8>> {
    // What cargo says at run time counts before what was true when this was built: clones that
    // share a folder of build results share the programs in it.
    let dir = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_else(|_| package_dir.to_owned());
    let path = Path::new(&dir).join("fuzz").join(format!("{name}.txt"));
    let Ok(text) = std::fs::read_to_string(&path) else { return Vec::new() };
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(|line| bytes_of(line).expect("a kept input is written as its lines are")).collect()
}

/// Adds what was found to the file that `ALLUVIUM_FUZZ_KEEP` names, if it does.
pub fn keep_found(name: &str, found: &[Vec<u8>]) {
    let Ok(dir) = std::env::var("ALLUVIUM_FUZZ_KEEP") else { return };
    let mut text = String::new();
    for input in found {
        text.push_str(&line_of(input));
        text.push('\n');
    }
    let path = Path::new(&dir).join(format!("{name}.txt"));
    std::fs::write(&path, text).expect("what was found can be written");
}

/// The line of an input.
pub fn line_of(input: &[u8]) -> String {
    let line = input.escape_ascii().to_string();
    // A line that begins with this sign is a remark.
    if let Some(rest) = line.strip_prefix('#') { format!("\\x23{rest}") } else { line }
}

fn bytes_of(line: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(line.len());
    let mut rest = line.as_bytes().iter().copied();
    while let Some(byte) = rest.next() {
        if byte != b'\\' {
            bytes.push(byte);
            continue;
        }
        bytes.push(match rest.next()? {
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'x' => {
                let digits = [rest.next()?, rest.next()?];
                u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?
            }
            other @ (b'\\' | b'\'' | b'"') => other,
            _ => return None,
        });
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_is_written_and_read_back() {
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(bytes_of(&line_of(&all)), Some(all));
        assert_eq!(bytes_of(&line_of(b"# a")), Some(b"# a".to_vec()));
        assert!(line_of(b"# a").starts_with('\\'));
        assert_eq!(bytes_of("\\q"), None);
    }
}
