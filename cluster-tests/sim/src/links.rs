//! Links that pass nothing: who is cut off from whom, and for how long.

use alluvium_core::ids::NodeId;

use crate::plan::SECOND;
use crate::shapes::Shape;
use crate::violation::Violation;
use crate::world::{Happening, World};

impl World {
    /// Trouble in the network begins.
    pub(crate) fn split(&mut self) -> Result<(), Violation> {
        if self.calm {
            return Ok(());
        }
        let shape = Shape::draw(&mut self.chance, self.plan.one_way);
        let ids = self.living();
        self.blocked = shape.links(&mut self.chance, &ids).into_iter().collect();
        self.coverage.count(shape.event());
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

    fn flap_later(&mut self) {
        let soon = self.chance.between(SECOND / 5, 2 * SECOND);
        self.after(soon, Happening::Flap);
    }
}
