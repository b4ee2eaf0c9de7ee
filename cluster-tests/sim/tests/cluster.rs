//! Whole clusters: seeds of CI, the same trace twice, and mistakes made on purpose.
#![allow(clippy::print_stdout)] // Seeds are shown when a test fails.

use cluster_sim::{Keep, Scene, Twist, run, run_many};

const SEEDS: u64 = 500;

#[test]
fn every_promise_holds_and_everything_happens() {
    let scene = Scene::Cluster(None);
    let summary = run_many(0..SEEDS, scene, |report| {
        let (seed, violation) = (report.seed, report.violation.as_ref());
        let broken = violation.map(ToString::to_string).unwrap_or_default();
        println!("seed {seed}: {broken}\n  replay: cargo xtask sim --cluster --seed {seed}");
    });
    println!("seeds 0..{SEEDS}: {summary}");
    assert_eq!(summary.failed, [], "seeds that broke a promise");
    assert_eq!(summary.coverage.missing(), [], "events that never happened");
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    for seed in [1, 8, 20, 1_000_003] {
        let first = run(seed, Scene::Cluster(None), Keep::All);
        let second = run(seed, Scene::Cluster(None), Keep::All);
        assert!(first.lines.len() > 200, "seed {seed} has {} lines", first.lines.len());
        assert!(first.lines == second.lines, "seed {seed} ran in two ways");
        assert_eq!(first.digest, second.digest, "seed {seed}");
    }
}

/// A twist is caught within so many seeds, each of which passes without it, by what it breaks.
fn caught(twist: Twist, seeds_max: u64, by: &[&str]) {
    for seed in 0..seeds_max {
        let report = run(seed, Scene::Cluster(Some(twist)), Keep::Last);
        let Some(violation) = report.violation else { continue };
        let violation = violation.to_string();
        println!("{} caught by seed {seed}: {violation}", twist.name());
        assert!(by.iter().any(|by| violation.starts_with(by)), "seed {seed}: {violation}");
        let without = run(seed, Scene::Cluster(None), Keep::Last);
        assert_eq!(without.violation, None, "seed {seed} without mutant");
        return;
    }
    panic!("{} is not caught by seeds 0 to {seeds_max}", twist.name());
}

#[test]
fn a_replica_removed_on_the_word_of_the_catalogue_alone_is_caught() {
    caught(Twist::CatalogueAloneRemoves, 10, &["RemovedWhenAgreed"]);
}

#[test]
fn an_owner_of_former_times_that_is_believed_is_caught() {
    caught(Twist::FormerOwnerBelieved, 100, &["PlacementFollowsGroup"]);
}

#[test]
fn a_move_without_learners_is_caught() {
    caught(Twist::NoLearners, 10, &["Converges"]);
}

#[test]
fn a_read_that_does_not_ask_the_owner_is_caught() {
    caught(Twist::OwnerNotAsked, 5, &["ReadsSeeAcked"]);
}

#[test]
fn a_token_drawn_again_is_caught() {
    caught(Twist::TokenDrawnAgain, 40, &["Converges"]);
}

#[test]
fn a_cluster_that_nobody_plans_is_caught() {
    caught(Twist::NobodyPlans, 5, &["Converges"]);
}

#[test]
fn catalogues_that_differ_are_caught() {
    caught(Twist::MovedOverlooked, 10, &["ReplicasAgree"]);
}

#[test]
fn an_ack_before_the_sync_is_caught() {
    caught(Twist::AckBeforeSync, 5, &["CommittedIsDurable"]);
}

#[test]
fn a_duplicate_that_counts_is_caught() {
    caught(Twist::DuplicateNotRecognised, 10, &["AckedExactlyOnce"]);
}

#[test]
fn an_identity_used_again_is_caught() {
    caught(Twist::IdentityReused, 20, &["ProgressNeverGoesBack", "OneVotePerTerm"]);
}
