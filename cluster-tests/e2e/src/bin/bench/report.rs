//! Prints a table with what is needed to run it again.

use cluster_e2e::measure;

/// A Markdown table.
pub struct Table {
    title: String,
    head: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// An empty table.
    pub fn new(title: impl Into<String>, head: &[&'static str]) -> Table {
        Table { title: title.into(), head: head.to_vec(), rows: Vec::new() }
    }

    /// Adds a row; it is also said at once on stderr, because benchmarks take their time.
    pub fn row(&mut self, cells: Vec<String>) {
        eprintln!("  {}", cells.join(" | "));
        self.rows.push(cells);
    }

    /// Prints title, circumstances and table.
    pub fn print(&self) {
        let arguments: Vec<String> = std::env::args().skip(1).collect();
        println!("\n### {}\n", self.title);
        println!(
            "`cargo xtask bench {}`, {}; {}; load average {}.\n",
            arguments.join(" "),
            measure::today(),
            measure::machine(),
            measure::load_average()
        );
        println!("| {} |", self.head.join(" | "));
        println!("|{}", "---|".repeat(self.head.len()));
        for row in &self.rows {
            println!("| {} |", row.join(" | "));
        }
    }
}

/// Thousands or millions of something per second.
pub fn rate(count: u64, seconds: f64) -> String {
    let per_second = count as f64 / seconds;
    if 1e6 <= per_second {
        return format!("{:.2} M/s", per_second / 1e6);
    }
    format!("{:.1} k/s", per_second / 1e3)
}
