//! Shapes of trouble in the network: which links pass nothing.

use alluvium_core::ids::NodeId;

use crate::chance::Chance;
use crate::coverage::Event;

/// A shape of trouble in the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Two parts that do not reach each other.
    Parts,
    /// Two parts, of which one hears the other.
    OneWay,
    /// Two halves with one node between them that reaches everybody.
    Bridge,
    /// Everybody reaches the two beside it only.
    Ring,
    /// Some links come and go.
    Flapping,
}

impl Shape {
    /// Draws one.
    pub fn draw(chance: &mut Chance, one_way: bool) -> Shape {
        match chance.between(0, 8) {
            0 => Shape::Bridge,
            1 => Shape::Ring,
            2 => Shape::Flapping,
            3 | 4 if one_way => Shape::OneWay,
            _ => Shape::Parts,
        }
    }

    /// The links between these nodes that pass nothing, as (from, to).
    pub fn links(self, chance: &mut Chance, ids: &[NodeId]) -> Vec<(NodeId, NodeId)> {
        match self {
            Shape::Parts | Shape::OneWay => parts(chance, ids, self == Shape::OneWay),
            Shape::Bridge => bridge(chance, ids),
            Shape::Ring => ring(ids),
            Shape::Flapping => flapping(chance, ids),
        }
    }

    /// As what it counts.
    #[must_use]
    pub fn event(self) -> Event {
        match self {
            Shape::Parts => Event::Split,
            Shape::OneWay => Event::OneWaySplit,
            Shape::Bridge => Event::Bridge,
            Shape::Ring => Event::Ring,
            Shape::Flapping => Event::Flapping,
        }
    }
}

/// One node or a random part is cut off, both ways or one.
fn parts(chance: &mut Chance, ids: &[NodeId], one_way: bool) -> Vec<(NodeId, NodeId)> {
    let far = if chance.coin() {
        vec![*chance.pick(ids)]
    } else {
        ids.iter().copied().filter(|_| chance.coin()).collect()
    };
    let outward = chance.coin();
    links(ids, |from, to| {
        let leaves = far.contains(&from) && !far.contains(&to);
        let enters = !far.contains(&from) && far.contains(&to);
        match (one_way, outward) {
            (true, true) => leaves,
            (true, false) => enters,
            (false, _) => leaves || enters,
        }
    })
}

fn bridge(chance: &mut Chance, ids: &[NodeId]) -> Vec<(NodeId, NodeId)> {
    let between = *chance.pick(ids);
    let left: Vec<NodeId> = ids.iter().copied().filter(|_| chance.coin()).collect();
    links(ids, |from, to| {
        from != between && to != between && left.contains(&from) != left.contains(&to)
    })
}

fn ring(ids: &[NodeId]) -> Vec<(NodeId, NodeId)> {
    let place = |id: NodeId| ids.iter().position(|it| *it == id).expect("one of them");
    links(ids, |from, to| {
        let apart = place(from).abs_diff(place(to));
        apart != 1 && apart != ids.len() - 1
    })
}

fn flapping(chance: &mut Chance, ids: &[NodeId]) -> Vec<(NodeId, NodeId)> {
    let mut flapping = links(ids, |_, _| true);
    flapping.retain(|_| chance.once_in(3));
    flapping
}

fn links(ids: &[NodeId], mut blocked: impl FnMut(NodeId, NodeId) -> bool) -> Vec<(NodeId, NodeId)> {
    let mut all = Vec::new();
    for &from in ids {
        for &to in ids {
            if from != to && blocked(from, to) {
                all.push((from, to));
            }
        }
    }
    all
}
