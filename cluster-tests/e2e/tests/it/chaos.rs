//! kill -9 under load, restart, audit: 40 rounds.

use std::time::Duration;

use cluster_e2e::chaos::{self, ChaosOptions};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_or_doubled_in_40_kills() {
    let options = ChaosOptions {
        rounds: 40,
        seed: 20_261_121,
        segment_bytes: 128 << 10,
        load_max: Duration::from_millis(1_200),
    };
    eprintln!("seed {}", options.seed);
    let report = chaos::run(&options, &mut |line| eprintln!("{line}")).await.unwrap();
    report.check().unwrap();
    // A run that hit nothing proves nothing.
    assert_eq!(report.kills, 40);
    assert!(10_000 < report.rows, "{report:?}");
    assert!(0 < report.retries, "{report:?}");
    assert!(0 < report.duplicates, "{report:?}");
    assert!(0 < report.segments_max, "{report:?}");
}
