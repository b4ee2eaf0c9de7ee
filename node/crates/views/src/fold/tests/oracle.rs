//! What a view is, computed as plainly as possible: one event after the other, nothing cut, stored
//! or merged ahead of time.

use std::collections::BTreeMap;

use super::case::{BAD, Event, Shape, WORSE};
use super::tally::text;
use crate::fold::{Counts, WindowKind};

/// A row of the answer: name, window, id and the texts of both aggregates.
pub(super) type Answer = (Option<String>, Option<i64>, Option<i64>, [String; 2]);

type By = (Option<&'static str>, Option<i64>);

#[derive(Clone, Debug)]
struct Group {
    by: By,
    /// The window's start, or the pane's.
    start: Option<i64>,
    last: i64,
    values: [Vec<i64>; 2],
}

#[derive(Debug)]
pub(super) struct Oracle<'a> {
    shape: &'a Shape,
    groups: Vec<Group>,
    newest: Option<i64>,
    pub counts: Counts,
}

impl Oracle<'_> {
    pub(super) fn of<'a>(shape: &'a Shape, events: &[Event]) -> Oracle<'a> {
        let counts = Counts::default();
        let mut oracle = Oracle { shape, groups: Vec::new(), newest: None, counts };
        for event in events {
            oracle.fold(event);
            oracle.newest = oracle.newest.max(event.time);
        }
        oracle
    }

    fn fold(&mut self, event: &Event) {
        if self.shape.filtered {
            match event.value {
                Some(WORSE) => return self.counts.quarantined += 1,
                Some(value) if value < 500 => {}
                Some(_) | None => return self.counts.filtered += 1,
            }
        }
        if event.value == Some(BAD) {
            return self.counts.quarantined += 1;
        }
        if let (Some(end), Some(line)) = (self.end(event.time), self.expired_to())
            && end <= line
        {
            return self.counts.expired += 1;
        }
        let mut added = Group {
            by: (event.name.filter(|_| self.shape.by_name), self.shape.by_id.then_some(event.id)),
            start: self.start(event.time),
            last: event.time.unwrap_or(0),
            values: [Vec::new(), Vec::new()],
        };
        let (mut near, rest): (Vec<Group>, Vec<Group>) =
            self.groups.iter().cloned().partition(|group| self.is_near(group, &added));
        near.sort_by_key(|group| group.start);
        for group in near {
            added.start = added.start.min(group.start);
            added.last = added.last.max(group.last);
            for (values, more) in added.values.iter_mut().zip(group.values) {
                values.extend(more);
            }
        }
        let [all, positive] = &mut added.values;
        all.extend(event.value);
        positive.extend(event.value.filter(|value| 0 < *value));
        if added.values.iter().zip(self.shape.max).any(|(values, max)| max < values.len()) {
            return self.counts.quarantined += 1;
        }
        self.groups = rest;
        self.groups.push(added);
        self.counts.folded += 1;
    }

    fn is_near(&self, group: &Group, added: &Group) -> bool {
        if group.by != added.by {
            return false;
        }
        match (self.shape.window, group.start, added.start) {
            (Some(WindowKind::Session { gap }), Some(start), Some(time)) => {
                start - time < gap && time - group.last < gap && !self.is_gone(group)
            }
            _ => group.start == added.start,
        }
    }

    fn start(&self, time: Option<i64>) -> Option<i64> {
        match self.shape.window? {
            WindowKind::Tumble { size } => Some(time?.div_euclid(size) * size),
            WindowKind::Hop { .. } => Some(time?.div_euclid(20) * 20),
            WindowKind::Session { .. } => time,
        }
    }

    /// When the last window that an event at `time` is part of is over.
    fn end(&self, time: Option<i64>) -> Option<i64> {
        match self.shape.window? {
            WindowKind::Tumble { size } => Some(time?.div_euclid(size) * size + size),
            WindowKind::Hop { slide, size } => Some(time?.div_euclid(slide) * slide + size),
            WindowKind::Session { gap } => Some(time? + gap),
        }
    }

    fn expired_to(&self) -> Option<i64> {
        Some(self.newest? - self.shape.lateness - self.shape.retention?)
    }

    fn cutoff(&self) -> Option<i64> {
        let line = self.expired_to()?;
        match self.shape.window? {
            WindowKind::Tumble { .. } | WindowKind::Hop { .. } => Some(line),
            WindowKind::Session { .. } => {
                let step = (self.shape.retention? / 16).max(1_000_000);
                Some(line.div_euclid(step) * step)
            }
        }
    }

    fn is_gone(&self, session: &Group) -> bool {
        let end = session.start.and(self.end(Some(session.last)));
        matches!((end, self.cutoff()), (Some(end), Some(cutoff)) if end <= cutoff)
    }

    /// The groups that a reader sees, in order.
    pub(super) fn answer(&self) -> Vec<Answer> {
        let mut windows: BTreeMap<(By, Option<i64>), Vec<&Group>> = BTreeMap::new();
        let mut groups: Vec<&Group> = self.groups.iter().collect();
        groups.sort_by_key(|group| group.start);
        for group in groups {
            match (self.shape.window, group.start) {
                (Some(WindowKind::Hop { slide, size }), Some(pane)) => {
                    let mut start = pane.div_euclid(slide) * slide;
                    while pane < start + size {
                        windows.entry((group.by, Some(start))).or_default().push(group);
                        start -= slide;
                    }
                }
                _ => windows.entry((group.by, group.start)).or_default().push(group),
            }
        }
        let mut answers = Vec::new();
        for (((name, id), start), groups) in windows {
            let end = match self.shape.window {
                Some(WindowKind::Session { .. }) => start.map(|_| groups[0].last),
                _ => start,
            };
            // Of a hopping window its own end counts, not that of the last one.
            let is_gone = self.cutoff().zip(self.end(end)).is_some_and(|(line, end)| end <= line);
            if !is_gone {
                let values = [0, 1].map(|place| {
                    let each = groups.iter().flat_map(|group| group.values[place].iter());
                    text(&each.copied().collect::<Vec<_>>())
                });
                answers.push((name.map(str::to_owned), start, id, values));
            }
        }
        let is_one = self.shape.window.is_none() && !self.shape.by_name && !self.shape.by_id;
        if is_one && answers.is_empty() {
            answers.push((None, None, None, [String::new(), String::new()]));
        }
        answers.sort();
        answers
    }
}
