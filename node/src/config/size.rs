//! Sizes and durations as people write them, and how a node shares its memory out.

use std::time::Duration;

/// How much memory goes to what. The parts never add up to more than `total_bytes`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// All of it.
    pub total_bytes: u64,
    /// Events not yet in files, of all partitions together.
    pub tail_bytes: u64,
    /// Appends that were taken in and are not answered yet.
    pub append_bytes: u64,
    /// Queries, of all callers together.
    pub query_bytes: u64,
}

impl Memory {
    /// Below this a node has no room for its own work.
    pub const TOTAL_BYTES_MIN: u64 = 64 << 20;

    /// Half for queries, three eighths for tails, an eighth for appends on their way: an append
    /// turns into tail within milliseconds, while a query may hold what it has for minutes.
    pub fn share(total_bytes: u64) -> Memory {
        let eighth = total_bytes / 8;
        Memory {
            total_bytes,
            tail_bytes: 3 * eighth,
            append_bytes: eighth,
            query_bytes: 4 * eighth,
        }
    }

    /// How much of the log is held back from the log database's files. A tail that is sealed before
    /// is never written a second time, so this is as much as several partitions seal at; an eighth
    /// of the tails at most, since three of them may be there while a disk is slow.
    pub fn log_memtable_bytes(&self) -> usize {
        const MIN: u64 = 16 << 20;
        const MAX: u64 = 256 << 20;
        let bytes = (self.tail_bytes / 8).clamp(MIN, MAX);
        usize::try_from(bytes).expect("at most 256 MiB")
    }

    /// A quarter of the machine's memory, or of what the container may use where that is less.
    pub fn of_this_machine() -> Memory {
        let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let limit = std::fs::read_to_string("/sys/fs/cgroup/memory.max").unwrap_or_default();
        Memory::share((machine_bytes(&meminfo, &limit) / 4).max(Memory::TOTAL_BYTES_MIN))
    }
}

/// What the databases may write in a second in the background, so that syncs find the disk free
/// most of the time. About what a processor takes in with all its time; much of that is sealed, and
/// so never flushed.
pub fn flush_bytes_per_second(cores: usize) -> u64 {
    const PER_CORE: u64 = 128 << 20;
    PER_CORE * cores as u64
}

/// Of the kernel's `meminfo` and the control group's `memory.max`, either of which may be missing.
fn machine_bytes(meminfo: &str, limit: &str) -> u64 {
    // A machine that will not say is taken to be a small one.
    const UNKNOWN_BYTES: u64 = 1 << 30;
    let mut words = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))
        .unwrap_or_default()
        .split_whitespace();
    let total = words.next().and_then(|kib| kib.parse::<u64>().ok()).map(|kib| kib * 1024);
    let limit = limit.trim().parse::<u64>().ok();
    match (total, limit) {
        (Some(total), Some(limit)) => total.min(limit),
        (Some(bytes), None) | (None, Some(bytes)) => bytes,
        (None, None) => UNKNOWN_BYTES,
    }
}

/// Reads `1048576`, `512MB`, `1.5 GiB`, `64k`. Units are powers of 1,024, as memory is sold.
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let unit_at = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_at);
    let shift = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return Err("a size is a number and a unit: 1048576, 512MB, 1.5GB".into()),
    };
    let scale = 1u64 << shift;
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(scale).ok_or_else(|| "more than can be counted".into());
    }
    match number.parse::<f64>() {
        // At most 2^53 is exact, which is 8 PiB; more than that is no memory size.
        Ok(part) if part * (scale as f64) < 9.0e15 => Ok((part * scale as f64) as u64),
        Ok(_) => Err("more than can be counted".into()),
        Err(_) => Err("a size is a number and a unit: 1048576, 512MB, 1.5GB".into()),
    }
}

/// Reads `500ms`, `30s`, `5m`, `1h`, `2d`. A number without a unit is refused: people disagree
/// about what it means.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let form = || "a duration is a whole number and a unit: 500ms, 30s, 5m, 1h, 2d".to_owned();
    let text = text.trim();
    let unit_at = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(form)?;
    let (number, unit) = text.split_at(unit_at);
    let millis = match unit.trim() {
        "ms" => 1,
        "s" => 1_000,
        "m" | "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(form()),
    };
    let number: u64 = number.parse().map_err(|_| form())?;
    number.checked_mul(millis).map(Duration::from_millis).ok_or_else(form)
}

/// Writes a size for people: `17.3 MB`.
pub fn format_bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KB", "MB", "GB", "TB"];
    let mut scaled = bytes as f64;
    let mut unit = 0;
    while 1024.0 <= scaled && unit + 1 < UNITS.len() {
        scaled /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{scaled:.1} {}", UNITS[unit]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_people_write_them() {
        let cases: &[(&str, Option<u64>)] = &[
            ("0", Some(0)),
            ("1048576", Some(1 << 20)),
            ("512MB", Some(512 << 20)),
            ("512 MiB", Some(512 << 20)),
            ("64k", Some(64 << 10)),
            ("1.5GB", Some(3 << 29)),
            ("2t", Some(2 << 40)),
            ("7b", Some(7)),
            ("", None),
            ("MB", None),
            ("1.2.3MB", None),
            ("-1", None),
            ("12 parsecs", None),
            ("99999999999999T", None),
            ("18446744073709551616", None),
        ];
        for (text, expected) in cases {
            assert_eq!(parse_bytes(text).ok(), *expected, "{text:?}");
        }
    }

    #[test]
    fn durations_are_read_with_their_unit() {
        let cases: &[(&str, Option<u64>)] = &[
            ("500ms", Some(500)),
            ("30s", Some(30_000)),
            ("5 min", Some(300_000)),
            ("1h", Some(3_600_000)),
            ("2d", Some(172_800_000)),
            ("30", None),
            ("s", None),
            ("1.5h", None),
            ("-1s", None),
            ("99999999999999999d", None),
        ];
        for (text, expected) in cases {
            let read = parse_duration(text).ok().map(|duration| duration.as_millis() as u64);
            assert_eq!(read, *expected, "{text:?}");
        }
    }

    #[test]
    fn sizes_are_written_with_the_largest_unit_that_leaves_a_whole_part() {
        let written = [0, 1023, 1024, 18_140_364, 3 << 30].map(format_bytes);
        assert_eq!(written, ["0 B", "1023 B", "1.0 KB", "17.3 MB", "3.0 GB"]);
    }

    #[test]
    fn the_container_limit_counts_where_it_is_lower() {
        let meminfo = "MemFree: 1 kB\nMemTotal:        8000000 kB\n";
        assert_eq!(machine_bytes(meminfo, "max\n"), 8_192_000_000);
        assert_eq!(machine_bytes(meminfo, "536870912\n"), 536_870_912);
        assert_eq!(machine_bytes("", ""), 1 << 30);
    }

    #[test]
    fn the_shares_add_up() {
        for total in [Memory::TOTAL_BYTES_MIN, 1_000_000_007, 1 << 40] {
            let memory = Memory::share(total);
            let used = memory.tail_bytes + memory.append_bytes + memory.query_bytes;
            let log = memory.log_memtable_bytes();
            assert!((16 << 20..=256 << 20).contains(&log), "{log}");
            assert!(used <= total && total - used < 8, "{memory:?}");
        }
    }
}
