//! The events of the examples, read from their files.

use std::path::{Path, PathBuf};

use alluvium_core::schema::StreamSchema;
use alluvium_query::files;
use arrow::array::RecordBatch;

/// Rows of one append.
const CHUNK_ROWS: usize = 8_192;

/// One `[[feed]]` of an `example.toml`.
pub struct Feed {
    /// Which stream.
    pub stream: String,
    /// Its events.
    pub file: PathBuf,
}

/// The package's folder as cargo names it for this run, not as it was when this program was built:
/// one cache of build results may serve several clones.
pub fn package_folder() -> PathBuf {
    let folder = std::env::var_os("CARGO_MANIFEST_DIR");
    folder.expect("cargo names the package's folder").into()
}

/// The folders of the examples.
pub fn examples() -> Vec<PathBuf> {
    let root = package_folder().join("../../../examples");
    let mut folders: Vec<PathBuf> = root
        .read_dir()
        .expect("examples lie beside the node")
        .map(|entry| entry.expect("a readable folder").path())
        .filter(|path| path.join("example.toml").exists())
        .collect();
    folders.sort();
    folders
}

/// The feeds of one example, in order. Each says its stream, then its file.
pub fn feeds(example: &Path) -> Vec<Feed> {
    let text = std::fs::read_to_string(example.join("example.toml")).expect("a readable file");
    let values = |key: &str| -> Vec<String> {
        let of_key =
            text.lines().filter_map(|line| line.split_once(" = ")).filter(|(k, _)| *k == key);
        of_key.map(|(_, value)| value.trim_matches('"').to_string()).collect()
    };
    let (streams, files) = (values("stream"), values("file"));
    assert_eq!(streams.len(), files.len(), "a feed has a stream and a file");
    let pairs = streams.into_iter().zip(files);
    pairs.map(|(stream, file)| Feed { stream, file: example.join(file) }).collect()
}

/// The events of a file, as the stream's log has them.
pub fn read(path: &Path, schema: &StreamSchema) -> Vec<RecordBatch> {
    let path = path.to_str().expect("a path of plain text");
    let chunks = files::open(path, None, schema, CHUNK_ROWS).expect("a file that can be read");
    chunks.map(|chunk| chunk.expect("rows of the stream")).collect()
}
