//! What a benchmark reads off the machine: CPU seconds and memory of a process, the spread of
//! latencies, and what machine it was.

use std::time::Duration;

use anyhow::{Context, Result};

/// CPU seconds that a process and its ended children have used, user and system.
pub fn cpu_seconds(pid: u32) -> Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name in brackets may hold spaces: count fields behind it.
    let (_, fields) = stat.rsplit_once(')').context("/proc/PID/stat has a name")?;
    let ticks = fields.split_whitespace().skip(11).take(4);
    let total: f64 = ticks.map(|field| field.parse::<f64>().unwrap_or(0.0)).sum();
    // Linux reports in hundredths of a second on every machine we run on.
    Ok(total / 100.0)
}

/// Whether all threads of a process were stopped by a signal.
pub fn is_stopped(pid: u32) -> Result<bool> {
    for thread in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        let stat = std::fs::read_to_string(thread?.path().join("stat"))?;
        // The name in brackets may hold spaces: the state is behind it.
        let (_, fields) = stat.rsplit_once(')').context("stat has a name")?;
        if !fields.trim_start().starts_with('T') {
            return Ok(false);
        }
    }
    Ok(true)
}

/// CPU seconds of a process and all its living descendants.
pub fn tree_cpu_seconds(pid: u32) -> f64 {
    let mut total = cpu_seconds(pid).unwrap_or(0.0);
    let Ok(threads) = std::fs::read_dir(format!("/proc/{pid}/task")) else {
        return total;
    };
    for thread in threads.flatten() {
        let children = std::fs::read_to_string(thread.path().join("children")).unwrap_or_default();
        for child in children.split_whitespace() {
            total += child.parse().map_or(0.0, tree_cpu_seconds);
        }
    }
    total
}

/// Resident memory now, in bytes.
pub fn resident_bytes(pid: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line =
        status.lines().find(|line| line.starts_with("VmRSS:")).context("VmRSS is missing")?;
    let kib: u64 = line.split_whitespace().nth(1).context("VmRSS has a value")?.parse()?;
    Ok(kib * 1_024)
}

/// Latencies, and what is said of them.
#[derive(Clone, Debug, Default)]
pub struct Latencies {
    all: Vec<Duration>,
}

impl Latencies {
    /// Adds one.
    pub fn add(&mut self, latency: Duration) {
        self.all.push(latency);
    }

    /// Adds all of another.
    pub fn append(&mut self, mut other: Latencies) {
        self.all.append(&mut other.all);
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.all.len()
    }

    /// The latency in milliseconds that this share of all does not exceed.
    pub fn quantile_ms(&mut self, share: f64) -> f64 {
        if self.all.is_empty() {
            return f64::NAN;
        }
        self.all.sort_unstable();
        let place = (share * (self.all.len() - 1) as f64).ceil() as usize;
        self.all[place].as_secs_f64() * 1_000.0
    }
}

/// The middle value; of an even number the lower one.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    sorted.get(sorted.len().saturating_sub(1) / 2).copied().unwrap_or(f64::NAN)
}

/// Whether this process may mount file systems and drop caches.
pub fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").is_ok_and(|this| this.uid() == 0)
}

/// Processor, memory and kernel, in one line.
pub fn machine() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let after = |text: String, key: &str| {
        let line = text.lines().find(|line| line.starts_with(key)).unwrap_or_default().to_owned();
        line.split_once(':').map(|(_, value)| value.trim().to_owned()).unwrap_or_default()
    };
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let model = after(read("/proc/cpuinfo"), "model name");
    let memory = after(read("/proc/meminfo"), "MemTotal");
    let gib = memory.trim_end_matches(" kB").parse::<u64>().unwrap_or(0) >> 20;
    let kernel = read("/proc/sys/kernel/osrelease");
    format!("{cores} cores of {model}, {gib} GiB, Linux {}", kernel.trim())
}

/// Today, as `YYYY-MM-DD`, in UTC.
pub fn today() -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let days = now.map_or(0, |elapsed| elapsed.as_secs() / 86_400);
    let days = i32::try_from(days).unwrap_or(0);
    arrow::datatypes::Date32Type::to_naive_date_opt(days)
        .map(|date| date.to_string())
        .unwrap_or_default()
}

/// The load average of the last minute: on a busy machine the figures are worth less.
pub fn load_average() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().next().unwrap_or_default().to_owned()
}
