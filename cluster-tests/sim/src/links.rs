//! Links that pass nothing: who is cut off from whom, in which way, and for how long.

use alluvium_core::ids::NodeId;

use crate::coverage::Event;
use crate::plan::SECOND;
use crate::violation::Violation;
use crate::world::{Happening, World};

/// A shape of trouble in the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
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

impl World {
    /// Trouble in the network begins.
    pub(crate) fn split(&mut self) -> Result<(), Violation> {
        if self.calm {
            return Ok(());
        }
        let shape = self.draw_shape();
        let ids = self.living();
        self.blocked = match shape {
            Shape::Parts | Shape::OneWay => self.parts(&ids, shape),
            Shape::Bridge => self.bridge(&ids),
            Shape::Ring => ring(&ids),
            Shape::Flapping => self.flapping_links(&ids),
        }
        .into_iter()
        .collect();
        self.coverage.count(match shape {
            Shape::Parts => Event::Split,
            Shape::OneWay => Event::OneWaySplit,
            Shape::Bridge => Event::Bridge,
            Shape::Ring => Event::Ring,
            Shape::Flapping => Event::Flapping,
        });
        self.trace.line(self.now, format_args!("{shape:?}: {:?}", self.blocked));
        if shape == Shape::Flapping {
            self.flapping = self.blocked.iter().copied().collect();
            self.flap_later();
        }
        let length = self.chance.around(self.plan.split_length);
        self.after(length, Happening::Whole);
        Ok(())
    }

    /// Links that come and go do so.
    pub(crate) fn flap(&mut self) -> Result<(), Violation> {
        if self.flapping.is_empty() || self.calm {
            return Ok(());
        }
        for link in self.flapping.clone() {
            if self.chance.coin() && !self.blocked.remove(&link) {
                self.blocked.insert(link);
            }
        }
        self.trace.line(self.now, format_args!("links flap: {:?}", self.blocked));
        self.flap_later();
        Ok(())
    }

    /// The network is whole again.
    pub(crate) fn whole(&mut self) -> Result<(), Violation> {
        self.blocked.clear();
        self.flapping.clear();
        self.trace.line(self.now, format_args!("the network is whole"));
        self.sometime(self.plan.split_every, Happening::Split);
        Ok(())
    }

    /// A node that was cut off is not any more.
    pub(crate) fn thaw(&mut self, id: NodeId) -> Result<(), Violation> {
        self.blocked.retain(|&(from, to)| from != id && to != id);
        self.trace.line(self.now, format_args!("{id} is reached again"));
        Ok(())
    }

    fn draw_shape(&mut self) -> Shape {
        match self.chance.between(0, 8) {
            0 => Shape::Bridge,
            1 => Shape::Ring,
            2 => Shape::Flapping,
            3 | 4 if self.plan.one_way => Shape::OneWay,
            _ => Shape::Parts,
        }
    }

    /// One node or a random part is cut off, both ways or one.
    fn parts(&mut self, ids: &[NodeId], shape: Shape) -> Vec<(NodeId, NodeId)> {
        let far = if self.chance.coin() {
            vec![*self.chance.pick(ids)]
        } else {
            ids.iter().copied().filter(|_| self.chance.coin()).collect()
        };
        let outward = self.chance.coin();
        links(ids, |from, to| {
            let leaves = far.contains(&from) && !far.contains(&to);
            let enters = !far.contains(&from) && far.contains(&to);
            match shape {
                Shape::OneWay if outward => leaves,
                Shape::OneWay => enters,
                Shape::Parts | Shape::Bridge | Shape::Ring | Shape::Flapping => leaves || enters,
            }
        })
    }

    fn bridge(&mut self, ids: &[NodeId]) -> Vec<(NodeId, NodeId)> {
        let between = *self.chance.pick(ids);
        let left: Vec<NodeId> = ids.iter().copied().filter(|_| self.chance.coin()).collect();
        links(ids, |from, to| {
            from != between && to != between && left.contains(&from) != left.contains(&to)
        })
    }

    fn flapping_links(&mut self, ids: &[NodeId]) -> Vec<(NodeId, NodeId)> {
        let mut flapping = links(ids, |_, _| true);
        flapping.retain(|_| self.chance.once_in(3));
        flapping
    }

    fn flap_later(&mut self) {
        let soon = self.chance.between(SECOND / 5, 2 * SECOND);
        self.after(soon, Happening::Flap);
    }
}

fn ring(ids: &[NodeId]) -> Vec<(NodeId, NodeId)> {
    let place = |id: NodeId| ids.iter().position(|it| *it == id).expect("one of them");
    links(ids, |from, to| {
        let apart = place(from).abs_diff(place(to));
        apart != 1 && apart != ids.len() - 1
    })
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
