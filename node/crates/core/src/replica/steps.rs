//! What a leader does next so that its group becomes what the placement says.
//!
//! Pure: run by the shell of the leader on its ticks, from scratch each time, so that it does not
//! matter where a former leader stopped. Learners come first and become voters when they are caught
//! up. Voters change in one step through a joint configuration. Who stops being a voter becomes a
//! learner in that step, and leaves in a step of its own: that one is agreed by the new voters
//! only after they know that the change is done, so that none of them needs the leaving node again.
//!
//! Not here: where replicas should be (the placement).

use super::config::LAG_ENTRIES_MAX;
use super::effects::Role;
use super::members::Members;
use super::status::{Progress, Status};
use crate::ids::{Index, NodeId, Term};

/// What a group shall be.
#[derive(Clone, Copy, Debug)]
pub struct Goal<'a> {
    /// Its voters: one, or three and more.
    pub voters: &'a [NodeId],
    /// Who else shall hold a replica, without a vote.
    pub learners: &'a [NodeId],
    /// The voter that shall lead.
    pub leader: NodeId,
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Let these be the members: some more learn.
    AddLearners(Members),
    /// Let these be the members: other voters.
    Promote(Members),
    /// Let these be the members: some learn no more.
    RemoveLearners(Members),
    /// Hand leadership to this voter.
    Transfer(NodeId),
    /// Nothing: the goal is reached.
    Done,
}

/// The next step towards `goal`; none when there is something to wait for, or when this replica
/// does not lead. `settled` is [`super::Replica::can_checkpoint`].
#[must_use]
pub fn next_step(
    goal: &Goal<'_>,
    members: &Members,
    settled: bool,
    progress: &[Progress],
    status: &Status,
) -> Option<Step> {
    let wanted = Members::new(goal.voters.iter().copied(), goal.learners.iter().copied());
    let may_change = settled && !status.changing;
    if status.role != Role::Leader || !may_change || !wanted.make_a_group() {
        return None;
    }
    let here = status.leader?;
    let ready = |node: NodeId| node == here || is_caught_up(node, progress, status);

    let all: Vec<NodeId> = [&wanted.voters[..], &wanted.learners].concat();
    if all.iter().any(|node| !members.contains(*node)) {
        let learners = all.into_iter().chain(members.learners.iter().copied());
        let more = Members::new(members.voters.iter().copied(), learners);
        return Some(Step::AddLearners(more));
    }
    if members.voters != wanted.voters {
        return promote(goal, &wanted, members, here, ready);
    }
    if members.learners != wanted.learners {
        return Some(Step::RemoveLearners(wanted));
    }
    if goal.leader == here || !wanted.voters.contains(&goal.leader) {
        return Some(Step::Done);
    }
    ready(goal.leader).then_some(Step::Transfer(goal.leader))
}

/// Whether a node may throw its replica away, asked of the group's leader: the group has agreed to
/// do without it, and it shall not come back. `term` is the newest the asking replica has seen: a
/// leader of an older one may have been deposed by members of which the asker is one. A leader of
/// the same or a newer term knows of everything the asker's vote or log was ever counted for.
///
/// The catalogue's word is not enough for this: it may be ahead of the group or behind it, and a
/// voter that loses what it has promised to keep can lose it for everybody.
#[must_use]
pub fn lets_go(
    goal: &Goal<'_>,
    members: &Members,
    settled: bool,
    status: &Status,
    asker: NodeId,
    term: Term,
) -> bool {
    let leads = status.role == Role::Leader && term <= status.term;
    let is_settled = settled && !status.changing;
    let is_wanted = goal.voters.contains(&asker) || goal.learners.contains(&asker);
    leads && is_settled && !is_wanted && !members.contains(asker)
}

/// Other voters, once those that are new have caught up and the rest can do without those that are
/// away. A leader that stays no voter first hands over to one that does.
fn promote(
    goal: &Goal<'_>,
    wanted: &Members,
    members: &Members,
    here: NodeId,
    ready: impl Fn(NodeId) -> bool,
) -> Option<Step> {
    let mut new = wanted.voters.iter().filter(|voter| !members.voters.contains(voter));
    let ready_count = wanted.voters.iter().filter(|voter| ready(**voter)).count();
    if !new.all(|voter| ready(*voter)) || 2 * ready_count <= wanted.voters.len() {
        return None;
    }
    if !wanted.voters.contains(&here) {
        let mut staying: Vec<NodeId> = members.voters.clone();
        staying.retain(|voter| wanted.voters.contains(voter) && ready(*voter));
        let best = staying.iter().find(|voter| **voter == goal.leader).or(staying.first());
        if let Some(successor) = best {
            return Some(Step::Transfer(*successor));
        }
    }
    let learners = members.voters.iter().chain(&members.learners).copied();
    Some(Step::Promote(Members::new(wanted.voters.iter().copied(), learners)))
}

/// Whether a member may be counted on. What it has must reach the durable checkpoint too: after a
/// restart the leader's log begins there, and while voters change no other checkpoint is taken
/// that would help a voter further behind.
fn is_caught_up(node: NodeId, progress: &[Progress], status: &Status) -> bool {
    progress.iter().find(|member| member.node == node).is_some_and(|member| {
        let near = Index(member.matched.0.saturating_add(LAG_ENTRIES_MAX));
        let heard = member.active && member.matched != Index(0);
        heard && status.last_index <= near && status.covered <= member.matched
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const END: Index = Index(1_000);

    fn nodes(ids: &[u64]) -> Vec<NodeId> {
        ids.iter().copied().map(NodeId).collect()
    }

    fn status(leader: u64) -> Status {
        Status {
            role: Role::Leader,
            term: Term(3),
            leader: Some(NodeId(leader)),
            commit: END,
            applied: END,
            last_index: END,
            first_index: Index(900),
            covered: Index(899),
            changing: false,
            log_bytes: 0,
        }
    }

    /// n1 leads. `behind` are members that are not caught up, of which the last is silent.
    fn check(
        members: (&[u64], &[u64]),
        goal: (&[u64], &[u64], u64),
        behind: &[u64],
        expected: Option<Step>,
    ) {
        let members = Members::new(nodes(members.0), nodes(members.1));
        let all = members.voters.iter().chain(&members.learners);
        let progress: Vec<Progress> = all
            .map(|&node| Progress {
                node,
                matched: if behind.contains(&node.0) { Index(5) } else { Index(950) },
                active: behind.last() != Some(&node.0),
            })
            .collect();
        let (voters, learners) = (nodes(goal.0), nodes(goal.1));
        let goal = Goal { voters: &voters, learners: &learners, leader: NodeId(goal.2) };
        let step = next_step(&goal, &members, true, &progress, &status(1));
        assert_eq!(step, expected, "{members:?} to {goal:?}, behind {behind:?}");
    }

    fn change(kind: fn(Members) -> Step, voters: &[u64], learners: &[u64]) -> Option<Step> {
        Some(kind(Members::new(nodes(voters), nodes(learners))))
    }

    #[test]
    fn learners_come_first_and_leave_last() {
        check((&[1], &[]), (&[1, 2, 3], &[], 1), &[], change(Step::AddLearners, &[1], &[2, 3]));
        check((&[1], &[2, 3]), (&[1, 2, 3], &[], 1), &[3], None);
        let promoted = change(Step::Promote, &[1, 2, 3], &[]);
        check((&[1], &[2, 3]), (&[1, 2, 3], &[], 1), &[], promoted);
        let replaced = change(Step::Promote, &[1, 2, 4], &[3]);
        check((&[1, 2, 3], &[4]), (&[1, 2, 4], &[], 1), &[3], replaced);
        let left = change(Step::RemoveLearners, &[1, 2, 4], &[]);
        check((&[1, 2, 4], &[3]), (&[1, 2, 4], &[], 1), &[], left);
        check((&[1, 2, 4], &[3]), (&[1, 2, 4], &[3], 1), &[], Some(Step::Done));
    }

    #[test]
    fn there_are_never_two_voters() {
        check((&[1], &[]), (&[1, 2], &[], 1), &[], None);
        check((&[1], &[2]), (&[1, 2], &[], 1), &[], None);
        check((&[1, 2, 3], &[]), (&[1, 2], &[], 1), &[], None);
    }

    #[test]
    fn voters_that_could_not_agree_are_not_made() {
        // n1 and n2 go, and n3, which would decide alone, is silent.
        check((&[1, 2, 3], &[]), (&[3], &[], 3), &[3], None);
        check((&[1, 2, 3], &[4]), (&[2, 3, 4], &[], 2), &[2, 3], None);
    }

    #[test]
    fn a_leader_that_leaves_hands_over_first() {
        check((&[1, 2, 3], &[4]), (&[2, 3, 4], &[], 3), &[], Some(Step::Transfer(NodeId(3))));
        check((&[1, 2, 3], &[4]), (&[2, 3, 4], &[], 2), &[2], Some(Step::Transfer(NodeId(3))));
        check((&[1], &[2]), (&[2], &[], 2), &[], change(Step::Promote, &[2], &[1]));
    }

    #[test]
    fn leadership_goes_to_who_can_take_it() {
        check((&[1, 2, 3], &[]), (&[1, 2, 3], &[], 2), &[], Some(Step::Transfer(NodeId(2))));
        check((&[1, 2, 3], &[]), (&[1, 2, 3], &[], 2), &[2], None);
        check((&[1, 2, 3], &[]), (&[1, 2, 3], &[], 9), &[], Some(Step::Done));
    }

    #[test]
    fn nothing_is_done_while_members_change() {
        let members = Members::of_voters(nodes(&[1, 2, 3]));
        let voters = nodes(&[1]);
        let goal = Goal { voters: &voters, learners: &[], leader: NodeId(1) };
        let step = |settled, status: Status| next_step(&goal, &members, settled, &[], &status);
        assert_eq!(step(false, status(1)), None);
        assert_eq!(step(true, Status { changing: true, ..status(1) }), None);
        assert_eq!(step(true, Status { role: Role::Follower, ..status(1) }), None);
        assert!(step(true, status(1)).is_some());
    }

    #[test]
    fn who_is_out_of_the_group_may_go() {
        let voters = nodes(&[1, 2, 3]);
        let goal = Goal { voters: &voters, learners: &[], leader: NodeId(1) };
        let out = Members::of_voters(voters.clone());
        let learning = Members::new(voters.clone(), nodes(&[4]));
        let asks = |members: &Members, settled, status: Status, node, term| {
            lets_go(&goal, members, settled, &status, NodeId(node), Term(term))
        };
        assert!(asks(&out, true, status(1), 4, 3));
        assert!(asks(&out, true, status(1), 4, 2), "it has not heard of this leader");
        assert!(!asks(&out, true, status(1), 4, 4), "this leader was deposed");
        assert!(!asks(&learning, true, status(1), 4, 3), "it is a member");
        assert!(!asks(&out, true, status(1), 2, 3), "it is a voter");
        assert!(!asks(&Members::of_voters(nodes(&[1, 2])), true, status(1), 3, 3), "it comes back");
        assert!(!asks(&out, false, status(1), 4, 3), "two sets of voters decide");
        assert!(!asks(&out, true, Status { changing: true, ..status(1) }, 4, 3));
        assert!(!asks(&out, true, Status { role: Role::Follower, ..status(1) }, 4, 3));
    }
}
