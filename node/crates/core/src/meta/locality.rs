//! How far from each other nodes stand.
//!
//! Tiers are compared place by place, the widest first, key and value together: two nodes share
//! as many tiers as are equal before the first that differs. Nodes that say nothing share nothing.

use super::member_form::LOCALITY_TIERS_MAX;
use super::members::Member;

/// How close nodes are to each other: of each tier, how many pairs share it and all wider ones. A
/// lesser one is better, the widest tier deciding first: another region before another zone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Closeness([u32; LOCALITY_TIERS_MAX]);

impl Closeness {
    /// Of all pairs of these nodes.
    #[must_use]
    pub fn among(members: &[&Member]) -> Closeness {
        let mut closeness = Closeness::default();
        for (place, member) in members.iter().enumerate() {
            closeness.add(&Closeness::to_others(member, &members[..place]));
        }
        closeness
    }

    /// Of the pairs that one node forms with others.
    #[must_use]
    pub fn to_others(member: &Member, others: &[&Member]) -> Closeness {
        let mut closeness = Closeness::default();
        for other in others {
            for pairs in &mut closeness.0[..tiers_shared(member, other)] {
                *pairs += 1;
            }
        }
        closeness
    }

    fn add(&mut self, other: &Closeness) {
        for (pairs, more) in self.0.iter_mut().zip(other.0) {
            *pairs += more;
        }
    }
}

fn tiers_shared(one: &Member, other: &Member) -> usize {
    let tiers = one.locality.iter().zip(&other.locality).take(LOCALITY_TIERS_MAX);
    tiers.take_while(|(mine, theirs)| mine == theirs).count()
}
