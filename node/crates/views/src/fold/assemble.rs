//! Windows put together when they are read: hopping ones from their panes, sessions of several
//! partitions from those that touch.

use super::definition::WindowKind;
use super::error::FoldError;
use super::layout::{Layout, WindowLayout};
use super::merge::{Merged, Wanted};
use super::stored::KeyRange;

/// The panes of a definition with hopping windows.
pub(super) struct Panes<'a> {
    window: &'a WindowLayout,
    slide: i64,
    size: i64,
}

pub(super) fn panes(layout: &Layout) -> Option<Panes<'_>> {
    let window = layout.window.as_ref()?;
    match window.kind {
        WindowKind::Hop { slide, size } => Some(Panes { window, slide, size }),
        WindowKind::Tumble { .. } | WindowKind::Session { .. } => None,
    }
}

impl Panes<'_> {
    /// The starts of the windows that a pane is part of, latest first.
    fn windows(&self, pane: i64) -> impl Iterator<Item = i64> + use<> {
        let (slide, size) = (self.slide, self.size);
        let last = pane.div_euclid(slide).saturating_mul(slide);
        let starts = std::iter::successors(Some(last), move |start| start.checked_sub(slide));
        starts.take_while(move |start| pane < start.saturating_add(size))
    }
}

/// The panes that the windows in a range of keys are made of, and perhaps some more.
pub(super) fn pane_range(layout: &Layout, range: &KeyRange) -> KeyRange {
    let Some(panes) = panes(layout) else { return range.clone() };
    let start = match panes.window.start_in(&range.start) {
        Some(start) => panes.window.key_of_start(start),
        None => Vec::new(),
    };
    let end = range.end.as_ref().and_then(|end| {
        let last = panes.window.start_in(end)?;
        Some(panes.window.key_of_start(last.saturating_add(panes.size)))
    });
    KeyRange { start, end }
}

/// The panes that windows with these keys are made of, and perhaps some more; no pane is in two.
pub(super) fn pane_ranges(layout: &Layout, keys: &[Vec<u8>]) -> Vec<KeyRange> {
    let Some(panes) = panes(layout) else { return Vec::new() };
    let mut starts: Vec<i64> = keys.iter().filter_map(|key| panes.window.start_in(key)).collect();
    starts.sort_unstable();
    starts.dedup();
    let mut ranges: Vec<KeyRange> = Vec::new();
    if starts.len() < keys.len() {
        // Groups without a window.
        ranges.push(KeyRange { start: vec![0], end: Some(vec![1]) });
    }
    for start in starts {
        let end = panes.window.key_of_start(start.saturating_add(panes.size));
        let start = panes.window.key_of_start(start);
        match ranges.last_mut() {
            Some(last) if last.end.as_ref().is_some_and(|end| start <= *end) => {
                last.end = Some(end);
            }
            Some(_) | None => ranges.push(KeyRange { start, end: Some(end) }),
        }
    }
    ranges
}

/// The wanted windows, each merged from its panes, earlier ones first, into an empty table.
pub(super) fn windows(
    layout: &Layout,
    groups: &Merged,
    wanted: &Wanted,
    mut whole: Merged,
) -> Result<Merged, FoldError> {
    let Some(panes) = panes(layout) else { return Ok(whole) };
    let mut slots: Vec<(Vec<u8>, u32)> =
        groups.slots().into_iter().map(|slot| (groups.key(slot), slot)).collect();
    slots.sort_unstable();
    for (key, number) in slots {
        let Some(pane) = panes.window.start_in(&key) else {
            if wanted.contains(&key) {
                let slot = whole.slot(&key);
                whole.merge(&[slot], &groups.states, &[number])?;
            }
            continue;
        };
        let rest = &key[panes.window.key_of_start(pane).len()..];
        for start in panes.windows(pane) {
            let mut window = panes.window.key_of_start(start);
            window.extend_from_slice(rest);
            if wanted.contains(&window) {
                let slot = whole.slot(&window);
                whole.merge(&[slot], &groups.states, &[number])?;
            }
        }
    }
    Ok(whole)
}

/// Merges sessions that touch, and gives the slots of those that are left.
pub(super) fn sessions(layout: &Layout, groups: &mut Merged) -> Result<Vec<u32>, FoldError> {
    let Some(gap) = layout.session_gap() else { return Ok(groups.slots()) };
    // Newest first within each group, as keys are.
    let mut keys: Vec<(Vec<u8>, u32)> =
        groups.slots().into_iter().map(|slot| (groups.key(slot), slot)).collect();
    keys.sort_unstable();
    let mut kept = Vec::new();
    let mut earlier: Option<(Vec<u8>, u32)> = None;
    for (key, slot) in keys.into_iter().rev() {
        let (prefix, start) = layout.session_in(&key)?;
        let prefix = prefix.to_vec();
        if let (Some((group, first)), Some(start)) = (&earlier, start)
            && *group == prefix
            && start.saturating_sub(groups.lasts[*first as usize]) < gap
        {
            let (first, mut bytes) = (*first, Vec::new());
            for states in groups.kept() {
                bytes.clear();
                states.encode(slot, &mut bytes);
                states.merge(first, &mut bytes.as_slice())?;
            }
            let last = groups.lasts[slot as usize];
            let merged = &mut groups.lasts[first as usize];
            *merged = (*merged).max(last);
            continue;
        }
        kept.push(slot);
        earlier = start.map(|_| (prefix, slot));
    }
    Ok(kept)
}
