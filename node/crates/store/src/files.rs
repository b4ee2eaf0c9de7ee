//! Files that are whole or not there.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::error::StoreError;

/// Makes what happened to the names in `dir` durable.
pub(crate) fn sync_dir(dir: &Path) -> Result<(), StoreError> {
    File::open(dir).and_then(|file| file.sync_all()).map_err(StoreError::io("sync directory", dir))
}

/// Writes `bytes` under `name`: after a crash the file has either its former content or this one.
pub(crate) fn write_whole(dir: &Path, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
    let temporary = dir.join(format!("{name}.tmp"));
    let path = dir.join(name);
    let mut file = File::create(&temporary).map_err(StoreError::io("create", &temporary))?;
    file.write_all(bytes)
        .and_then(|()| file.sync_all())
        .map_err(StoreError::io("write", &temporary))?;
    std::fs::rename(&temporary, &path).map_err(StoreError::io("rename", &temporary))?;
    sync_dir(dir)
}

/// What lies directly in `dir`, in order of the names.
pub(crate) fn list(dir: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(StoreError::io("list", dir))? {
        paths.push(entry.map_err(StoreError::io("list", dir))?.path());
    }
    paths.sort();
    Ok(paths)
}

/// Bytes of the files directly in `dir` and in the folders below it.
pub(crate) fn tree_bytes(dir: &Path) -> u64 {
    let mut total = 0;
    let mut folders = vec![dir.to_path_buf()];
    while let Some(folder) = folders.pop() {
        // A file may go away while we look: what cannot be read counts nothing.
        let Ok(entries) = std::fs::read_dir(&folder) else { continue };
        for entry in entries.flatten() {
            match entry.metadata() {
                Ok(metadata) if metadata.is_dir() => folders.push(entry.path()),
                Ok(metadata) => total += metadata.len(),
                Err(_) => {}
            }
        }
    }
    total
}
