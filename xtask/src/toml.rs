//! Reads the little TOML we write ourselves: tables, strings, and lists of strings.
//!
//! Not a TOML reader: what it does not know it passes over. Manifests are read by `cargo metadata`.

use std::collections::BTreeMap;

/// One table: its header without brackets, and its keys.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// Empty for the keys at the top.
    pub name: String,
    /// Strings as a list of one.
    pub values: BTreeMap<String, Vec<String>>,
}

impl Table {
    /// The one string of a key.
    pub fn text(&self, key: &str) -> Option<&str> {
        self.values.get(key).and_then(|values| values.first()).map(String::as_str)
    }
}

/// All tables in the order they stand.
pub fn tables(text: &str) -> Vec<Table> {
    let mut tables = vec![Table::default()];
    let mut open: Option<(String, Vec<String>)> = None;
    for line in text.lines() {
        let line = uncommented(line).trim();
        if let Some((key, mut values)) = open.take() {
            values.extend(quoted(line));
            if line.starts_with(']') {
                insert(&mut tables, key, values);
            } else {
                open = Some((key, values));
            }
        } else if line.starts_with('[') {
            let name = line.trim_matches(['[', ']']).trim().to_string();
            tables.push(Table { name, values: BTreeMap::new() });
        } else if let Some((key, value)) = line.split_once('=') {
            let (key, value) = (key.trim().to_string(), value.trim());
            let values = quoted(value);
            if value.starts_with('[') && !value.ends_with(']') {
                open = Some((key, values));
            } else {
                insert(&mut tables, key, values);
            }
        }
    }
    tables
}

fn insert(tables: &mut [Table], key: String, values: Vec<String>) {
    if let Some(table) = tables.last_mut() {
        table.values.insert(key, values);
    }
}

/// The line up to a `#` that is not inside a string.
fn uncommented(line: &str) -> &str {
    let mut inside = false;
    for (place, c) in line.char_indices() {
        match c {
            '"' => inside = !inside,
            '#' if !inside => return &line[..place],
            _ => {}
        }
    }
    line
}

fn quoted(text: &str) -> Vec<String> {
    text.split('"').skip(1).step_by(2).map(str::to_string).collect()
}

#[cfg(test)]
mod tests {
    use super::tables;

    #[test]
    fn reads_strings_lists_and_tables() {
        let text = "title = \"a # b\" # why\n\n[[feed]]\nstream = \"x\"\n[bans]\nallow = [\n  \
                    \"MIT\", # short\n  \"ISC\",\n]\none = [\"a\", \"b\"]\n";
        let tables = tables(text);
        let names: Vec<&str> = tables.iter().map(|table| table.name.as_str()).collect();
        assert_eq!(names, ["", "feed", "bans"]);
        assert_eq!(tables[0].text("title"), Some("a # b"));
        assert_eq!(tables[1].text("stream"), Some("x"));
        assert_eq!(tables[2].values["allow"], ["MIT", "ISC"]);
        assert_eq!(tables[2].values["one"], ["a", "b"]);
    }
}
