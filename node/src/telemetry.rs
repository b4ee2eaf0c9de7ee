//! Logs and metrics: their names in one place.

use std::fmt;
use std::io::IsTerminal;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};
use tracing_subscriber::EnvFilter;

use crate::config::LogFormat;

/// Where logs go: standard error, so that standard output stays for answers.
///
/// `plain`: without colours even on a terminal. What goes to a file or a journal is always plain.
pub fn start_logs(format: LogFormat, filter: &str, plain: bool) {
    // Who did what and was refused what is written whatever else is, unless the filter names it.
    let filter = EnvFilter::try_new(format!("audit=info,{filter}"));
    let filter = filter.unwrap_or_else(|_| EnvFilter::new("info"));
    let colours = !plain && std::io::stderr().is_terminal();
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colours);
    let builder = builder.with_writer(std::io::stderr);
    match format {
        LogFormat::Text => builder.with_target(false).init(),
        LogFormat::Json => builder.json().init(),
    }
}

/// What came of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct OutcomeLabels {
    /// `ok` or `error`.
    pub outcome: &'static str,
}

/// What a member of the cluster is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, EncodeLabelSet)]
pub struct MemberLabels {
    /// As `system.nodes` says it.
    pub state: String,
    /// `true` or `false`.
    pub alive: &'static str,
}

/// Which file.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct FileLabels {
    /// Its name.
    pub file: String,
}

/// Everything the node counts itself. The store's own figures are read from it when asked.
pub struct Metrics {
    registry: Registry,
    appends: Family<OutcomeLabels, Counter>,
    /// Its two members, at hand: looking them up costs as much as counting ten times.
    appends_by_ok: [Counter; 2],
    append_seconds: Histogram,
    events_received: Counter,
    bytes_received: Counter,
    events_applied: Counter,
    queries: Family<OutcomeLabels, Counter>,
    query_seconds: Histogram,
    seals_failed: Counter,
    events_folded: Counter,
    partitions_damaged: Gauge,
    gauges: Gauges,
}

/// Figures read from elsewhere just before they are shown.
#[derive(Debug, Default)]
pub struct Gauges {
    /// Until certificates end, by file.
    pub certificate_seconds_left: Family<FileLabels, Gauge>,
    /// Streams served.
    pub streams: Gauge,
    /// Bytes of events not sealed yet.
    pub tail_bytes: Gauge,
    /// Resident memory.
    pub memory_bytes: Gauge,
    /// Bytes of the data directory.
    pub disk_bytes: Gauge,
    /// Group commits.
    pub log_syncs: Gauge,
    /// Seconds they took.
    pub log_sync_seconds: Gauge<f64, AtomicU64>,
    /// Segments written since the start.
    pub segments_cut: Gauge,
    /// Merges since the start.
    pub segments_merged: Gauge,
    /// 1 while appends and queries are served.
    pub ready: Gauge,
    /// Members of the cluster.
    pub nodes: Family<MemberLabels, Gauge>,
    /// Partitions that the loss of one more node would stop.
    pub partitions_at_risk: Gauge,
    /// Partitions that nobody is known to own.
    pub partitions_without_owner: Gauge,
    /// Partitions whose replicas are not all where they shall be.
    pub moves: Gauge,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Default for Metrics {
    fn default() -> Metrics {
        Metrics::new()
    }
}

impl Metrics {
    /// All at zero.
    pub fn new() -> Metrics {
        // From 0.1 ms to about 3 s: below is a lone append on a fast disk, above something is
        // wrong.
        let latencies = || Histogram::new(exponential_buckets(0.000_1, 2.0, 16));
        let appends = Family::<OutcomeLabels, Counter>::default();
        let appends_by_ok = [false, true].map(|ok| appends.get_or_create(&outcome(ok)).clone());
        let mut metrics = Metrics {
            registry: Registry::with_prefix("alluvium"),
            appends,
            appends_by_ok,
            append_seconds: latencies(),
            events_received: Counter::default(),
            bytes_received: Counter::default(),
            events_applied: Counter::default(),
            queries: Family::default(),
            query_seconds: latencies(),
            seals_failed: Counter::default(),
            events_folded: Counter::default(),
            partitions_damaged: Gauge::default(),
            gauges: Gauges::default(),
        };
        metrics.register();
        metrics
    }

    fn register(&mut self) {
        let registry = &mut self.registry;
        registry.register("appends", "Batches answered", self.appends.clone());
        let append_seconds = self.append_seconds.clone();
        registry.register_with_unit(
            "append_latency",
            "Arrival to answer",
            Unit::Seconds,
            append_seconds,
        );
        registry.register(
            "events_received",
            "Events sent by clients",
            self.events_received.clone(),
        );
        registry.register_with_unit(
            "received",
            "Events as Arrow",
            Unit::Bytes,
            self.bytes_received.clone(),
        );
        registry.register("events_applied", "Events in the event log", self.events_applied.clone());
        registry.register("queries", "Statements answered", self.queries.clone());
        let query_seconds = self.query_seconds.clone();
        registry.register_with_unit(
            "query_latency",
            "Arrival to last row",
            Unit::Seconds,
            query_seconds,
        );
        registry.register(
            "seals_failed",
            "Tails that could not be sealed",
            self.seals_failed.clone(),
        );
        let folded = self.events_folded.clone();
        registry.register("view_events", "Events folded, counted for each view", folded);
        let damaged = self.partitions_damaged.clone();
        registry.register("partitions_damaged", "Partitions that failed their checks", damaged);
        self.register_gauges();
    }

    fn register_gauges(&mut self) {
        let (registry, gauges) = (&mut self.registry, &self.gauges);
        registry.register("streams", "Streams served", gauges.streams.clone());
        registry.register_with_unit(
            "tail",
            "Events not sealed yet",
            Unit::Bytes,
            gauges.tail_bytes.clone(),
        );
        registry.register_with_unit(
            "memory",
            "Resident memory",
            Unit::Bytes,
            gauges.memory_bytes.clone(),
        );
        registry.register_with_unit(
            "disk",
            "The data directory",
            Unit::Bytes,
            gauges.disk_bytes.clone(),
        );
        registry.register("log_syncs", "Group commits since the start", gauges.log_syncs.clone());
        let seconds = gauges.log_sync_seconds.clone();
        registry.register_with_unit("log_sync", "Time in group commits", Unit::Seconds, seconds);
        registry.register(
            "segments_cut",
            "Segments written since the start",
            gauges.segments_cut.clone(),
        );
        registry.register(
            "segments_merged",
            "Merges since the start",
            gauges.segments_merged.clone(),
        );
        let left = gauges.certificate_seconds_left.clone();
        let what = "Until a certificate ends";
        registry.register_with_unit("certificate_left", what, Unit::Seconds, left);
        registry.register("ready", "1 while appends and queries are served", gauges.ready.clone());
        registry.register("nodes", "Members of the cluster", gauges.nodes.clone());
        let at_risk = gauges.partitions_at_risk.clone();
        let what = "Partitions that the loss of one more node would stop";
        registry.register("partitions_at_risk", what, at_risk);
        let ownerless = gauges.partitions_without_owner.clone();
        let what = "Partitions that nobody is known to own";
        registry.register("partitions_without_owner", what, ownerless);
        let what = "Partitions whose replicas are not all where they shall be";
        registry.register("moves", what, gauges.moves.clone());
    }

    /// How long certificates last, by file.
    pub fn certificates(&self, seconds_left: &[(String, i64)]) {
        let family = &self.gauges.certificate_seconds_left;
        family.clear();
        for (file, seconds) in seconds_left {
            family.get_or_create(&FileLabels { file: file.clone() }).set(*seconds);
        }
    }

    /// The figures that are set just before they are shown.
    pub fn gauges(&self) -> &Gauges {
        &self.gauges
    }

    /// A batch came in.
    pub fn append_received(&self, event_count: u64, byte_count: u64) {
        self.events_received.inc_by(event_count);
        self.bytes_received.inc_by(byte_count);
    }

    /// Events joined the event log of a partition.
    pub fn append_applied(&self, event_count: u64) {
        self.events_applied.inc_by(event_count);
    }

    /// Events applied since the start: whether it changes tells whether events come in.
    pub fn events_applied(&self) -> u64 {
        self.events_applied.get()
    }

    /// Events were folded into one view.
    pub fn view_folded(&self, event_count: u64) {
        self.events_folded.inc_by(event_count);
    }

    /// A batch was answered.
    pub fn append_answered(&self, ok: bool, took: Duration) {
        self.appends_by_ok[usize::from(ok)].inc();
        self.append_seconds.observe(took.as_secs_f64());
    }

    /// A statement was answered.
    pub fn query_answered(&self, ok: bool, took: Duration) {
        self.queries.get_or_create(&outcome(ok)).inc();
        self.query_seconds.observe(took.as_secs_f64());
    }

    /// A tail could not be sealed.
    pub fn seal_failed(&self) {
        self.seals_failed.inc();
    }

    /// A partition failed its checks at start.
    pub fn partition_damaged(&self) {
        self.partitions_damaged.inc();
    }

    /// Damaged partitions.
    pub fn damaged_count(&self) -> i64 {
        self.partitions_damaged.get()
    }

    /// The Prometheus text form.
    pub fn encode(&self) -> String {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry)
            .expect("a string takes all that is written to it");
        text
    }
}

fn outcome(ok: bool) -> OutcomeLabels {
    OutcomeLabels { outcome: if ok { "ok" } else { "error" } }
}
