//! Seeds of CI, the same trace twice, and mistakes made on purpose.
#![allow(clippy::print_stdout)] // Seeds are shown when a test fails.

use cluster_sim::{Keep, Mutant, Scene, run, run_many};

const SEEDS: u64 = 500;

#[test]
fn every_promise_holds_and_everything_happens() {
    let summary = run_many(0..SEEDS, Scene::Group(None), |report| {
        let (seed, violation) = (report.seed, report.violation.as_ref());
        let broken = violation.map(ToString::to_string).unwrap_or_default();
        println!("seed {seed}: {broken}\n  replay: cargo xtask sim --seed {seed}");
    });
    println!("{summary}");
    assert_eq!(summary.failed, [], "seeds that broke a promise");
    assert_eq!(summary.coverage.missing(), [], "events that never happened");
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    for seed in [2, 7, 35, 157, 1_000_003] {
        let first = run(seed, Scene::Group(None), Keep::All);
        let second = run(seed, Scene::Group(None), Keep::All);
        assert!(first.lines.len() > 200, "seed {seed} has {} lines", first.lines.len());
        assert!(first.lines == second.lines, "seed {seed} ran in two ways");
        assert_eq!(first.digest, second.digest, "seed {seed}");
    }
    assert_ne!(
        run(1, Scene::Group(None), Keep::Last).digest,
        run(2, Scene::Group(None), Keep::Last).digest
    );
}

/// A mutant is caught within so many seeds, each of which passes without it.
fn caught(mutant: Mutant, seeds_max: u64) {
    for seed in 0..seeds_max {
        let report = run(seed, Scene::Group(Some(mutant)), Keep::Last);
        let Some(violation) = report.violation else { continue };
        println!("{} caught by seed {seed}: {violation}", mutant.name());
        assert_eq!(
            run(seed, Scene::Group(None), Keep::Last).violation,
            None,
            "seed {seed} without mutant"
        );
        return;
    }
    panic!("{} is not caught by seeds 0 to {seeds_max}", mutant.name());
}

#[test]
fn an_ack_before_the_sync_is_caught() {
    caught(Mutant::AckBeforeSync, 5);
}

#[test]
fn a_vote_that_is_not_synced_is_caught() {
    caught(Mutant::VoteNotSynced, 20);
}

#[test]
fn a_duplicate_that_counts_is_caught() {
    caught(Mutant::DuplicateNotRecognised, 5);
}

#[test]
fn a_log_cut_too_early_is_caught() {
    caught(Mutant::TruncateTooEarly, 40);
}

#[test]
fn a_learner_that_counts_is_caught() {
    caught(Mutant::LearnerCounted, 20);
}

#[test]
fn a_reused_read_context_is_caught() {
    caught(Mutant::ReadContextReused, 150);
}

#[test]
fn a_position_written_apart_from_its_state_is_caught() {
    caught(Mutant::PositionApart, 20);
}

#[test]
fn a_checkpoint_without_members_is_caught() {
    caught(Mutant::CheckpointWithoutMembers, 20);
}

#[test]
fn a_joint_configuration_that_is_never_left_is_caught() {
    caught(Mutant::LeaveJointSkipped, 20);
}

#[test]
fn a_removed_log_that_is_forgotten_is_caught() {
    caught(Mutant::RemovedLogForgotten, 200);
}
