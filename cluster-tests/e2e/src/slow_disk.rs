//! A file system on a loop device that the kernel slows down for one process: synced writes of a
//! node on it take as long as on a failing disk.
//!
//! Written for the two forms of control groups that Linux has. Nothing else is slowed down: the
//! limit holds for the node's group and this device only.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::measure::is_root;

/// What the trial writes, and how fast it may.
const TRIAL_KIB: u64 = 512;
const TRIAL_BYTES_PER_SECOND: u64 = 1 << 20;

/// A mounted file system and a control group, removed when dropped.
#[derive(Debug)]
pub struct SlowDisk {
    // Dropped in this order.
    mount: Mount,
    device: LoopDevice,
    group: Group,
    _scratch: tempfile::TempDir,
}

impl SlowDisk {
    /// Makes one of this size, as fast as the disk below; where that is not possible, says why.
    pub fn mount(mib: u64) -> Result<SlowDisk, String> {
        if !is_root() {
            return Err("mounting needs root".to_owned());
        }
        let scratch = tempfile::tempdir().map_err(|error| error.to_string())?;
        let image = scratch.path().join("image");
        let file = std::fs::File::create(&image).map_err(|error| error.to_string())?;
        file.set_len(mib << 20).map_err(|error| error.to_string())?;
        run(Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&image))?;
        let group = Group::new()?;
        let device = LoopDevice::new(&image)?;
        let mount = Mount::new(&device, scratch.path().join("disk"))?;
        let disk = SlowDisk { mount, device, group, _scratch: scratch };
        disk.try_out()?;
        Ok(disk)
    }

    /// Where it is mounted.
    pub fn dir(&self) -> &Path {
        &self.mount.dir
    }

    /// Lets a process feel it, with all its threads.
    pub fn hold(&self, pid: u32) -> std::io::Result<()> {
        std::fs::write(self.group.dir.join("cgroup.procs"), pid.to_string())
    }

    /// Slows down what is written; `None`: as fast as the disk below.
    pub fn limit(&self, bytes_per_second: Option<u64>) -> Result<(), String> {
        self.group.limit(&self.device.number, bytes_per_second)
    }

    /// Whether the kernel does what it is told.
    fn try_out(&self) -> Result<(), String> {
        self.limit(Some(TRIAL_BYTES_PER_SECOND))?;
        let procs = self.group.dir.join("cgroup.procs");
        let write = format!(
            "echo $$ > {} && exec dd if=/dev/zero of={} bs=64k count={} conv=fdatasync",
            procs.display(),
            self.dir().join("trial").display(),
            TRIAL_KIB / 64
        );
        let begun = Instant::now();
        run(Command::new("sh").args(["-c", &write]))?;
        let took = begun.elapsed();
        self.limit(None)?;
        let expected = Duration::from_millis(TRIAL_KIB * 1_000 / (TRIAL_BYTES_PER_SECOND >> 10));
        if took < expected / 2 {
            return Err(format!("{TRIAL_KIB} KiB are written in {took:?}: limits are not obeyed"));
        }
        Ok(())
    }
}

/// A file as a block device.
#[derive(Debug)]
struct LoopDevice {
    path: String,
    /// `MAJOR:MINOR`.
    number: String,
}

impl LoopDevice {
    fn new(image: &Path) -> Result<LoopDevice, String> {
        let said = run(Command::new("losetup").args(["--find", "--show"]).arg(image))?;
        let mut device = LoopDevice { path: said.trim().to_owned(), number: String::new() };
        let name = device.path.trim_start_matches("/dev/");
        let number = std::fs::read_to_string(format!("/sys/block/{name}/dev"));
        let number = number.map_err(|error| error.to_string())?;
        number.trim().clone_into(&mut device.number);
        Ok(device)
    }
}

impl Drop for LoopDevice {
    fn drop(&mut self) {
        complain(run(Command::new("losetup").args(["--detach", &self.path])));
    }
}

#[derive(Debug)]
struct Mount {
    dir: PathBuf,
}

impl Mount {
    fn new(device: &LoopDevice, dir: PathBuf) -> Result<Mount, String> {
        std::fs::create_dir(&dir).map_err(|error| error.to_string())?;
        run(Command::new("mount").arg(&device.path).arg(&dir))?;
        Ok(Mount { dir })
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // Lazily: a node that is being killed may still hold files.
        complain(run(Command::new("umount").arg("-l").arg(&self.dir)));
    }
}

/// A control group.
#[derive(Debug)]
struct Group {
    dir: PathBuf,
    form: Form,
}

/// Which form of control groups.
#[derive(Clone, Copy, Debug)]
enum Form {
    /// A tree for each resource.
    Separate,
    /// One tree.
    Unified,
}

impl Group {
    fn new() -> Result<Group, String> {
        let (root, form) = root()?;
        let dir = root.join(format!("alluvium-e2e-{}", std::process::id()));
        std::fs::create_dir(&dir).map_err(|error| format!("{}: {error}", dir.display()))?;
        Ok(Group { dir, form })
    }

    fn limit(&self, device: &str, bytes_per_second: Option<u64>) -> Result<(), String> {
        let (file, line) = match (self.form, bytes_per_second) {
            (Form::Separate, bytes) => {
                ("blkio.throttle.write_bps_device", format!("{device} {}", bytes.unwrap_or(0)))
            }
            (Form::Unified, Some(bytes)) => ("io.max", format!("{device} wbps={bytes}")),
            (Form::Unified, None) => ("io.max", format!("{device} wbps=max")),
        };
        std::fs::write(self.dir.join(file), line).map_err(|error| format!("{file}: {error}"))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // It can go once its last process is gone.
        let procs = std::fs::read_to_string(self.dir.join("cgroup.procs")).unwrap_or_default();
        let outside = self.dir.with_file_name("cgroup.procs");
        for pid in procs.lines() {
            complain(std::fs::write(&outside, pid).map_err(|error| error.to_string()));
        }
        complain(std::fs::remove_dir(&self.dir).map_err(|error| error.to_string()));
    }
}

/// Where control groups are made that limit block devices.
fn root() -> Result<(PathBuf, Form), String> {
    let separate = PathBuf::from("/sys/fs/cgroup/blkio");
    if separate.join("blkio.throttle.write_bps_device").exists() {
        return Ok((separate, Form::Separate));
    }
    for dir in ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"] {
        let dir = PathBuf::from(dir);
        let there = std::fs::read_to_string(dir.join("cgroup.controllers")).unwrap_or_default();
        if there.split_whitespace().any(|controller| controller == "io") {
            let enabled = std::fs::write(dir.join("cgroup.subtree_control"), "+io");
            return match enabled {
                Ok(()) => Ok((dir, Form::Unified)),
                Err(error) => Err(format!("control groups cannot limit devices: {error}")),
            };
        }
    }
    Err("there are no control groups that limit block devices".to_owned())
}

fn run(command: &mut Command) -> Result<String, String> {
    let output = command.stdin(Stdio::null()).output().map_err(|error| error.to_string())?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).trim().to_owned());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[allow(clippy::print_stderr, reason = "a drop has nobody to return an error to")]
fn complain<T>(done: Result<T, String>) {
    if let Err(error) = done {
        eprintln!("left behind: {error}");
    }
}
