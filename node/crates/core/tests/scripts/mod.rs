//! What golden scripts of all kinds share: running every script of a folder. Scripts lie in
//! `testscripts/`; after a wanted change run with `UPDATE_GOLDENFILES=1` and read the difference.

use std::path::PathBuf;

/// Runs every script of a folder, each with a runner of its own.
pub fn run_scripts<R: goldenscript::Runner + Default>(folder: &str) {
    let folder = package_folder().join("testscripts").join(folder);
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

/// The package's folder as cargo names it for this run, not as it was when this program was built:
/// one cache of build results may serve several clones.
fn package_folder() -> PathBuf {
    let folder = std::env::var_os("CARGO_MANIFEST_DIR");
    folder.expect("cargo names the package's folder").into()
}
