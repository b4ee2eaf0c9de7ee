//! Random appends, cuts, retentions and restarts beside the simplest model: a start and an end.

use proptest::prelude::*;

use super::rig::{Rig, copy_dir, options};

#[derive(Clone, Debug)]
enum Step {
    Append(u64),
    Cut,
    Retain(prop::sample::Index),
    Settle,
    Reopen,
    Crash,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => prop_oneof![1_u64..5, 1_u64..300, Just(5_000_u64)].prop_map(Step::Append),
        4 => Just(Step::Cut),
        1 => any::<prop::sample::Index>().prop_map(Step::Retain),
        1 => Just(Step::Settle),
        1 => Just(Step::Reopen),
        1 => Just(Step::Crash),
    ]
}

proptest! {
    // Each case opens databases several times: seconds, not milliseconds.
    #![proptest_config(ProptestConfig {
        cases: 16, max_shrink_iters: 64, failure_persistence: None, ..Default::default()
    })]

    #[test]
    fn the_log_is_the_model(steps in prop::collection::vec(step(), 1..40)) {
        let mut dir = tempfile::tempdir().unwrap();
        let mut rig = Rig::open(dir.path(), options()).unwrap();
        let (mut start, mut end) = (0, 0);
        for step in steps {
            match step {
                Step::Append(count) => {
                    rig.append(count);
                    end += count;
                }
                Step::Cut => {
                    rig.cut().unwrap();
                }
                Step::Retain(at) => {
                    start = start.max(at.index(usize::try_from(end).unwrap() + 1) as u64);
                    rig.retain(start);
                }
                Step::Settle => {
                    rig.settle();
                    rig.check();
                }
                Step::Reopen => {
                    drop(rig);
                    rig = Rig::open(dir.path(), options()).unwrap();
                    rig.retain(start);
                }
                Step::Crash => {
                    // What a process that is gone from one moment to the next leaves: nothing was
                    // flushed. Crashes in the middle of sealing are in `crash.rs`.
                    let copy = tempfile::tempdir().unwrap();
                    rig.settle();
                    copy_dir(dir.path(), copy.path());
                    drop(rig);
                    dir = copy;
                    rig = Rig::open(dir.path(), options()).unwrap();
                    rig.retain(start);
                }
            }
            let view = rig.log.view();
            prop_assert_eq!(view.end.0, end);
            prop_assert_eq!(view.start.0.max(start), view.start.0);
            let first = view.segments.first().map_or(view.sealed_end, |segment| segment.first);
            prop_assert!(first <= view.start.max(view.sealed_end), "nothing kept is missing");
        }
        rig.settle();
        rig.check();
        drop(rig);
        let rig = Rig::open(dir.path(), options()).unwrap();
        prop_assert_eq!(rig.replica.machine().end.0, end);
        rig.settle();
        rig.check();
    }
}
