//! What a build needs beside a Rust toolchain: a C++ compiler and libclang (RocksDB's bindings are
//! generated at build time), rustfmt and clippy for the checks, and what cuts links between nodes.
//!
//! Installs what is missing where that takes no password; else says exactly what to install.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// Sees to it that the workspace can be built.
pub fn ensure_build() -> Result<()> {
    let mut missing = Vec::new();
    if !has_libclang() {
        missing.push("libclang-dev");
    }
    if !["c++", "g++", "clang++"].iter().any(|compiler| runs(compiler, &["--version"])) {
        missing.push("g++");
    }
    if missing.is_empty() {
        return Ok(());
    }
    println!("missing: {}", missing.join(", "));
    install(&missing)?;
    if !has_libclang() {
        bail!("libclang-dev is installed, but no libclang*.so was found: set LIBCLANG_PATH");
    }
    Ok(())
}

/// Sees to it that tests of clusters can cut links between nodes, where that is possible at all.
///
/// Without it these tests say what they leave out, so nothing here is an error.
pub fn try_network() {
    let mut missing = Vec::new();
    for (program, args, package) in
        [("ip", ["netns", "list"].as_slice(), "iproute2"), ("nft", &["--version"], "nftables")]
    {
        if !runs(program, args) {
            missing.push(package);
        }
    }
    if missing.is_empty() {
        return;
    }
    println!("missing, to cut links between nodes: {}", missing.join(", "));
    if let Err(error) = install(&missing) {
        println!("tests that cut links will be left out: {error:#}");
    }
}

/// Sees to it that the files of `deploy/`, `terraform/` and `ansible/` can be checked and
/// containers run, on machines that exist for tests alone: nobody's own machine gets a container
/// engine or a Prometheus that starts by itself.
///
/// Without it these tests say what they leave out, so nothing here is an error.
pub fn try_deploy() {
    if std::env::var_os("CI").is_none() {
        return;
    }
    let mut missing = Vec::new();
    for (program, packages) in [
        ("shellcheck", ["shellcheck"].as_slice()),
        ("promtool", &["prometheus"]),
        ("go", &["golang-go"]),
        ("podman", &["podman", "crun", "iptables", "containernetworking-plugins"]),
        ("buildah", &["buildah"]),
        ("dnsmasq", &["dnsmasq-base", "golang-github-containernetworking-plugin-dnsname"]),
    ] {
        if !found(program) {
            missing.extend_from_slice(packages);
        }
    }
    if !Path::new("/usr/share/gocode/src/github.com/Masterminds/sprig").is_dir() {
        missing.extend(["golang-github-masterminds-sprig-dev", "golang-k8s-sigs-yaml-dev"]);
    }
    if missing.is_empty() {
        return;
    }
    println!("missing, to check what is deployed: {}", missing.join(", "));
    if let Err(error) = install(&missing) {
        println!("tests that need them will be left out: {error:#}");
    }
}

/// True when a program of this name is to be had.
fn found(program: &str) -> bool {
    let places = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];
    places.iter().any(|place| Path::new(place).join(program).is_file())
}

/// What the clients of other makers need, which the tests run against a node.
const CLIENTS: &str = "cluster-tests/e2e/clients/requirements.txt";

/// Sees to it that tests can run clients of other makers: their Python packages, in a virtual
/// environment beside the folder of build results.
///
/// Without it these tests say what they leave out, so nothing here is an error.
pub fn try_clients(root: &Path, cache: &Path) {
    let environment = cache.join("clients-venv");
    let python = environment.join("bin/python");
    if !python.is_file() {
        let made = Command::new("python3").args(["-m", "venv"]).arg(&environment).status();
        if !made.is_ok_and(|status| status.success()) {
            // What is half made would look whole the next time.
            let _ = std::fs::remove_dir_all(&environment);
            println!("tests of clients will be left out: no python3 with its venv module");
            return;
        }
    }
    let mut install = Command::new(&python);
    install.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"]);
    if !install.arg(root.join(CLIENTS)).status().is_ok_and(|status| status.success()) {
        let _ = std::fs::remove_dir_all(&environment);
        println!("tests of clients will be left out: pip could not install {CLIENTS}");
    }
}

/// Sees to it that rustfmt and clippy are there.
pub fn ensure_checkers() -> Result<()> {
    for (command, component) in [("fmt", "rustfmt"), ("clippy", "clippy")] {
        if runs("cargo", &[command, "--version"]) {
            continue;
        }
        println!("adding {component} to the toolchain …");
        if !runs("rustup", &["component", "add", component]) {
            bail!("install {component}: rustup component add {component}");
        }
    }
    Ok(())
}

fn install(packages: &[&str]) -> Result<()> {
    let by_hand = format!("apt-get install {}", packages.join(" "));
    if !Path::new("/usr/bin/apt-get").is_file() {
        bail!("install {} (on Debian: {by_hand})", packages.join(" and "));
    }
    let prefix: &[&str] = if output("id", &["-u"]).is_some_and(|id| id.trim() == "0") {
        &[]
    } else if runs("sudo", &["-n", "true"]) {
        &["sudo", "-n"]
    } else {
        bail!("not root, and sudo asks for a password. Please run: sudo {by_hand}");
    };
    println!("installing {} …", packages.join(" "));
    let mut args = vec!["install", "--yes", "--no-install-recommends"];
    args.extend_from_slice(packages);
    if apt(prefix, &args).is_err() {
        // A fresh image has no lists of packages yet.
        apt(prefix, &["update"])?;
        apt(prefix, &args).with_context(|| format!("please run: {by_hand}"))?;
    }
    Ok(())
}

fn apt(prefix: &[&str], args: &[&str]) -> Result<()> {
    // `env` sets the variable on the far side of sudo too.
    let mut words = prefix.to_vec();
    words.extend_from_slice(&["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "--quiet"]);
    words.extend_from_slice(args);
    let (program, rest) = words.split_first().context("there is at least apt-get")?;
    let status = Command::new(program).args(rest).stdin(Stdio::null()).status();
    let status = status.with_context(|| format!("start {program}"))?;
    if !status.success() {
        bail!("apt-get {} failed ({status})", args.join(" "));
    }
    Ok(())
}

/// True when libclang is where bindgen looks for it, with the headers that belong to it.
fn has_libclang() -> bool {
    if std::env::var_os("LIBCLANG_PATH").is_some_and(|path| !path.is_empty()) {
        return true;
    }
    let mut dirs = vec![
        PathBuf::from("/usr/lib/x86_64-linux-gnu"),
        PathBuf::from("/usr/lib/aarch64-linux-gnu"),
        PathBuf::from("/usr/lib64"),
        PathBuf::from("/usr/local/lib"),
    ];
    for parent in ["/usr/lib", "/usr/lib64", "/opt"] {
        for name in names_in(Path::new(parent)) {
            if name.starts_with("llvm") {
                dirs.push(Path::new(parent).join(name).join("lib"));
            }
        }
    }
    dirs.iter().any(|dir| names_in(dir).iter().any(|name| is_libclang(name)))
}

/// `libclang.so` or `libclang-14.so`. The library of a run-time package, `libclang-14.0.6.so`,
/// comes without the compiler's own headers and is not enough.
fn is_libclang(name: &str) -> bool {
    let inner = name.strip_prefix("libclang").and_then(|rest| rest.strip_suffix(".so"));
    let version = inner.map(|inner| inner.trim_start_matches('-'));
    version.is_some_and(|version| version.chars().all(|c| c.is_ascii_digit()))
}

fn names_in(dir: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
    entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

fn runs(program: &str, args: &[&str]) -> bool {
    let quiet = Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    quiet.is_ok_and(|status| status.success())
}

fn output(program: &str, args: &[&str]) -> Option<String> {
    let output = Command::new(program).args(args).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::is_libclang;

    #[test]
    fn only_a_development_package_counts() {
        for (name, expected) in [
            ("libclang.so", true),
            ("libclang-14.so", true),
            ("libclang-14.so.1", false),
            ("libclang-14.0.6.so", false),
            ("libclang-cpp.so", false),
            ("libclangAST.a", false),
        ] {
            assert_eq!(is_libclang(name), expected, "{name}");
        }
    }
}
