//! Takes the files of a snapshot in.
//!
//! Files grow at their ends only, so their length says what is there. What a crash left of one is
//! not trusted by its length: the checksum of the whole file is compared before it gets a name.

use std::collections::BTreeSet;
use std::fmt;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Weak};

use alluvium_core::ids::{GroupId, SegmentId};

use super::{SegmentOffer, SnapshotOffer, Staged};
use crate::error::StoreError;
use crate::files;
use crate::options::SealStep;
use crate::segment::encode::{self, CheckedFile};
use crate::segment::threads::end_if_sync_failed;
use crate::segment::{Segment, file_name};
use crate::shared::Shared;
use crate::store::Store;

/// The folder of files on their way in, below the group's.
const INCOMING: &str = "incoming";

/// The files of one snapshot on their way in. What is there stays when this is dropped, for the
/// next staging of the group.
pub struct Staging {
    claim: Claim,
    offer: SnapshotOffer,
    dir: PathBuf,
    /// In offset order.
    parts: Vec<Part>,
    /// The file that was written last, by its place in `parts`.
    open: Option<(usize, CheckedFile)>,
}

/// One staging of a group at a time: two would write to the same files.
struct Claim {
    shared: Arc<Shared>,
    group: GroupId,
}

/// Where a segment of the snapshot comes from.
enum Part {
    /// This node has it.
    Here(Arc<Segment>),
    /// It is fetched.
    Fetched(Box<Fetched>),
}

struct Fetched {
    offer: SegmentOffer,
    segment: Segment,
    path: PathBuf,
    /// Length of the file so far.
    bytes: u64,
    /// It is complete, synced and as offered.
    checked: bool,
}

impl Store {
    /// Begins to take in what a leader offers, or goes on with what an earlier staging has left.
    /// Segments that are here stay as they are; those this process has not read yet are compared
    /// with their checksums first: blocks.
    ///
    /// # Errors
    /// [`StoreError::Staging`] when the offer contradicts itself or another staging of the group is
    /// under way, [`StoreError::NoRoom`] when the files do not fit.
    pub fn stage(&self, group: GroupId, offer: SnapshotOffer) -> Result<Staging, StoreError> {
        Staging::begin(Arc::clone(self.shared()), group, offer)
    }
}

impl Staging {
    fn begin(
        shared: Arc<Shared>,
        group: GroupId,
        offer: SnapshotOffer,
    ) -> Result<Staging, StoreError> {
        shared.replica_row(group)?;
        let dir = shared.segment_dir(group);
        let described = offer.describe(group, &dir)?;
        let claim = Claim::new(shared, group)?;
        let shared = &claim.shared;
        let here = segments_here(shared, group);
        let incoming = dir.join(INCOMING);
        let mut parts = Vec::with_capacity(described.len());
        for (offer, segment) in offer.segments.iter().zip(described) {
            let found = here.iter().find(|here| offer.is(here));
            parts.push(match found.filter(|here| is_whole(here)) {
                Some(here) => Part::Here(Arc::clone(here)),
                None => {
                    let path = incoming.join(offer.staging_name());
                    let offer = offer.clone();
                    let part = Fetched { offer, segment, path, bytes: 0, checked: false };
                    Part::Fetched(Box::new(part))
                }
            });
        }
        clear_unwanted(&incoming, &parts)?;
        let mut missing_bytes = 0;
        for part in &mut parts {
            let Part::Fetched(part) = part else { continue };
            part.look()?;
            missing_bytes += part.offer.file_bytes - part.bytes;
        }
        if 0 < missing_bytes && !shared.room.is_enough_for(missing_bytes) {
            return Err(StoreError::NoRoom);
        }
        if parts.iter().any(|part| matches!(part, Part::Fetched(_))) {
            create_dirs(shared, &dir, &incoming)?;
        }
        Ok(Staging { claim, offer, dir, parts, open: None })
    }

    /// What was offered.
    #[must_use]
    pub fn offer(&self) -> &SnapshotOffer {
        &self.offer
    }

    /// The segments that are not complete, in offset order, with how many bytes of each are there.
    #[must_use]
    pub fn missing(&self) -> Vec<(SegmentOffer, u64)> {
        let mut missing = Vec::new();
        for part in &self.parts {
            if let Part::Fetched(part) = part
                && part.bytes < part.offer.file_bytes
            {
                missing.push((part.offer.clone(), part.bytes));
            }
        }
        missing
    }

    /// Adds bytes to the end of a segment's file; `at` is where they belong. The last ones wait for
    /// the disk and compare the checksum: a file that is not what was offered is gone then.
    ///
    /// # Errors
    /// [`StoreError::Staging`] when they do not belong at the end of a segment that is missing, or
    /// the complete file is not what was offered. [`Staging::missing`] says where to go on.
    pub fn write(&mut self, segment: SegmentId, at: u64, bytes: &[u8]) -> Result<(), StoreError> {
        let (place, part) = self.missing_part(segment)?;
        let (there, length) = (part.bytes, part.offer.file_bytes);
        if at != there {
            return Err(self.wrong(format!("byte {at} of {segment} comes after byte {there}")));
        }
        if length - there < bytes.len() as u64 {
            let end = at.saturating_add(bytes.len() as u64);
            return Err(self.wrong(format!("{segment} has {length} bytes, not {end}")));
        }
        let mut file = match self.open.take() {
            Some((open, file)) if open == place => file,
            Some(_) | None => self.part(place)?.open()?,
        };
        let part = self.part(place)?;
        if let Err(source) = file.write_all(bytes) {
            // How much of it was written, the file says.
            let path = part.path.clone();
            part.look()?;
            return Err(StoreError::Io { action: "write", path, source });
        }
        part.bytes += bytes.len() as u64;
        let is_complete = part.bytes == length;
        self.claim.shared.metrics.snapshot_bytes.add(bytes.len() as u64);
        if is_complete {
            self.check(place, &file)
        } else {
            self.open = Some((place, file));
            Ok(())
        }
    }

    /// Gives the files their ids and names. The store remembers them until the checkpoint at the
    /// offer's position is installed, or another snapshot of the group is finished.
    ///
    /// # Errors
    /// [`StoreError::Staging`] when something is missing, or is not what was offered: what is whole
    /// serves the next staging.
    pub fn finish(mut self) -> Result<Staged, StoreError> {
        self.open = None;
        for place in 0..self.parts.len() {
            let Part::Fetched(part) = &self.parts[place] else { continue };
            if part.checked {
                continue;
            }
            let SegmentOffer { id, file_bytes, .. } = part.offer;
            if part.bytes < file_bytes {
                return Err(self.wrong(format!("{} of {file_bytes} bytes of {id}", part.bytes)));
            }
            let file = self.part(place)?.open()?;
            self.check(place, &file)?;
        }
        let Staging { claim, offer, dir, parts, .. } = self;
        let (shared, group) = (&claim.shared, claim.group);
        shared.reach(SealStep::StagedChecked);
        let segments = name_files(shared, &dir, parts)
            .inspect_err(|error| end_if_sync_failed(shared, error))?;
        // Nothing is left in it; if it stays all the same, the next start clears it.
        let _ = std::fs::remove_dir(dir.join(INCOMING));
        shared.reach(SealStep::StagedNamed);
        let SnapshotOffer { position, start, sealed_end, .. } = offer;
        let staged = Staged::new(group, position, start, sealed_end, segments);
        shared.staged.remember(staged.clone());
        Ok(staged)
    }

    /// Waits for the disk and compares a complete file with the offer; removes it if it is another.
    fn check(&mut self, place: usize, file: &CheckedFile) -> Result<(), StoreError> {
        let part = self.part(place)?;
        let same = match encode::seal(file, &part.path, Vec::new()) {
            Ok(found) => {
                let expected = (part.offer.file_bytes, part.segment.checksums);
                Ok((found.file_bytes, found.checksums) == expected)
            }
            // It does not end like a segment.
            Err(StoreError::Io { action: "read", .. }) => Ok(false),
            Err(error) => Err(error),
        };
        if let Ok(true) = same {
            part.checked = true;
            return Ok(());
        }
        // After a sync that failed, what the file holds is not known either.
        part.bytes = 0;
        let (id, path) = (part.offer.id, part.path.clone());
        remove(&path)?;
        match same {
            Ok(_) => Err(self.wrong(format!("{id} is not what was offered"))),
            Err(error) => {
                end_if_sync_failed(&self.claim.shared, &error);
                Err(error)
            }
        }
    }

    fn missing_part(&self, segment: SegmentId) -> Result<(usize, &Fetched), StoreError> {
        for (place, part) in self.parts.iter().enumerate() {
            match part {
                Part::Fetched(part) if part.offer.id == segment && !part.checked => {
                    return Ok((place, part));
                }
                Part::Fetched(_) | Part::Here(_) => {}
            }
        }
        Err(self.wrong(format!("{segment} is not missing")))
    }

    fn part(&mut self, place: usize) -> Result<&mut Fetched, StoreError> {
        match &mut self.parts[place] {
            Part::Fetched(part) => Ok(part),
            Part::Here(segment) => {
                let (group, reason) = (segment.group, format!("{} is here", segment.id));
                Err(StoreError::Staging { group, reason })
            }
        }
    }

    fn wrong(&self, reason: String) -> StoreError {
        StoreError::Staging { group: self.claim.group, reason }
    }
}

impl Claim {
    fn new(shared: Arc<Shared>, group: GroupId) -> Result<Claim, StoreError> {
        if !shared.stagings.lock().insert(group) {
            let reason = "another snapshot is being taken in".to_owned();
            return Err(StoreError::Staging { group, reason });
        }
        Ok(Claim { shared, group })
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.shared.stagings.lock().remove(&self.group);
    }
}

impl Fetched {
    /// Finds out how much is there.
    fn look(&mut self) -> Result<(), StoreError> {
        self.bytes = match std::fs::metadata(&self.path) {
            Ok(found) => found.len(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => 0,
            Err(error) => return Err(StoreError::io("look at", &self.path)(error)),
        };
        if self.offer.file_bytes < self.bytes {
            remove(&self.path)?;
            self.bytes = 0;
        }
        Ok(())
    }

    fn open(&self) -> Result<CheckedFile, StoreError> {
        CheckedFile::resume(&self.path).map_err(StoreError::io("open", &self.path))
    }
}

/// Moves complete files to where segments lie, under ids of this node. Until they are installed
/// they go with their last holder.
fn name_files(
    shared: &Shared,
    dir: &Path,
    parts: Vec<Part>,
) -> Result<Vec<Arc<Segment>>, StoreError> {
    let mut segments = Vec::with_capacity(parts.len());
    let mut is_any_new = false;
    for part in parts {
        segments.push(match part {
            Part::Here(segment) => segment,
            Part::Fetched(part) => {
                let Fetched { mut segment, path, .. } = *part;
                segment.id = shared.take_segment_id();
                segment.path = dir.join(file_name(segment.id));
                segment.verified = AtomicBool::new(true);
                std::fs::rename(&path, &segment.path).map_err(StoreError::io("rename", &path))?;
                segment.condemn();
                is_any_new = true;
                Arc::new(segment)
            }
        });
    }
    if is_any_new {
        files::sync_dir(dir)?;
    }
    Ok(segments)
}

/// Segments of the group that the manifest names, or that were staged and not installed yet. None
/// of a partition that was found damaged, or whose log is not open: nobody would keep the files.
fn segments_here(shared: &Shared, group: GroupId) -> Vec<Arc<Segment>> {
    let log = shared.logs.lock().get(&group).and_then(Weak::upgrade);
    let mut here = Vec::new();
    if let Some(log) = log.filter(|log| log.damage().is_none()) {
        here.extend(log.view().segments.iter().cloned());
    }
    for staged in shared.staged.of(group) {
        here.extend(staged.segments().iter().cloned());
    }
    here
}

fn is_whole(segment: &Segment) -> bool {
    if segment.is_verified() {
        return true;
    }
    let verified = segment.verify();
    if let Err(error) = &verified {
        tracing::warn!(%error, "a segment that is here is fetched again");
    }
    verified.is_ok()
}

fn create_dirs(shared: &Shared, dir: &Path, incoming: &Path) -> Result<(), StoreError> {
    let is_new = !dir.exists();
    std::fs::create_dir_all(incoming).map_err(StoreError::io("create", incoming))?;
    if is_new {
        files::sync_dir(&shared.dir.join("segments"))?;
    }
    Ok(())
}

/// Removes what an earlier staging left and this one has no use for.
fn clear_unwanted(incoming: &Path, parts: &[Part]) -> Result<(), StoreError> {
    if !incoming.exists() {
        return Ok(());
    }
    let mut wanted = BTreeSet::new();
    for part in parts {
        if let Part::Fetched(part) = part {
            wanted.insert(part.path.as_path());
        }
    }
    for path in files::list(incoming)? {
        if !wanted.contains(path.as_path()) {
            remove(&path)?;
        }
    }
    Ok(())
}

/// Clears, at start, what cannot serve a later staging of a group that is here.
pub(crate) fn clear_at_start(incoming: &Path, is_known: bool) -> Result<(), StoreError> {
    let mut is_any_kept = false;
    for path in files::list(incoming)? {
        let is_part = path.extension().is_some_and(|extension| extension == "part");
        if is_known && is_part {
            is_any_kept = true;
        } else {
            remove(&path)?;
        }
    }
    if is_any_kept {
        return Ok(());
    }
    std::fs::remove_dir(incoming).map_err(StoreError::io("remove", incoming))
}

/// Removes everything on its way into a group that is removed.
pub(crate) fn clear_group(dir: &Path) -> Result<(), StoreError> {
    let incoming = dir.join(INCOMING);
    if !incoming.exists() {
        return Ok(());
    }
    std::fs::remove_dir_all(&incoming).map_err(StoreError::io("remove", &incoming))
}

/// Whether this is the folder of files on their way in.
pub(crate) fn is_incoming(path: &Path) -> bool {
    path.is_dir() && path.file_name().is_some_and(|name| name == INCOMING)
}

fn remove(path: &Path) -> Result<(), StoreError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(StoreError::io("remove", path)(error))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

impl fmt::Debug for Staging {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Staging")
            .field("group", &self.claim.group)
            .field("position", &self.offer.position)
            .field("segments", &self.parts.len())
            .finish_non_exhaustive()
    }
}
