//! Reads tables and links out of our Markdown documents, so that a rule has one place: the page
//! people read.

/// The rows of the first table below a heading, without its head. Cells keep their Markdown.
pub fn table(text: &str, heading: &str) -> Option<Vec<Vec<String>>> {
    let mut lines = text.lines().skip_while(|line| line.trim() != heading).skip(1);
    let mut rows = Vec::new();
    for line in lines.by_ref() {
        let line = line.trim();
        if line.starts_with('#') {
            break;
        }
        if line.starts_with('|') {
            rows.push(cells(line));
        } else if !rows.is_empty() {
            break;
        }
    }
    // The head and the line under it.
    if rows.len() < 3 { None } else { Some(rows.split_off(2)) }
}

/// What stands between backticks, in order.
pub fn quoted(cell: &str) -> Vec<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_string).collect()
}

/// Targets of `[text](target)` on a line.
pub fn links(line: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (place, _) in line.match_indices("](") {
        let rest = &line[place + 2..];
        if let Some(end) = rest.find(')') {
            found.push(rest[..end].to_string());
        }
    }
    found
}

fn cells(line: &str) -> Vec<String> {
    let inner = line.trim_start_matches('|').trim_end_matches('|');
    inner.split('|').map(|cell| cell.trim().to_string()).collect()
}
