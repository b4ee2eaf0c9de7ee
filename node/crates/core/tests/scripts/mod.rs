//! What golden scripts of all kinds share: running every script of a folder. Scripts lie in
//! `testscripts/`; after a wanted change run with `UPDATE_GOLDENFILES=1` and read the difference.

use std::path::Path;

/// Runs every script of a folder, each with a runner of its own.
pub fn run_scripts<R: goldenscript::Runner + Default>(folder: &str) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testscripts").join(folder);
    let mut scripts: Vec<_> = std::fs::read_dir(&folder)
        .expect("the folder of the scripts")
        .map(|entry| entry.expect("an entry of the folder").path())
        .collect();
    scripts.sort();
    assert!(!scripts.is_empty(), "no scripts in {}", folder.display());
    for script in scripts {
        let run = goldenscript::run(&mut R::default(), &script);
        run.unwrap_or_else(|error| panic!("{}: {error}", script.display()));
    }
}
