//! A disk whose power can be cut: ext4 on a loop image, shut down by the kernel in mid-flight.

use std::ffi::OsStr;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

const LOOK_PERIOD: Duration = Duration::from_millis(20);
const LOOKS_MAX: usize = 1500;

/// What the file system still writes when it is shut down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cut {
    /// The file system's own journal first: metadata that was not synced survives, data does not.
    JournalFlushed,
    /// Nothing more.
    Nothing,
}

/// The image, mounted or not. Unmounted when dropped.
pub(crate) struct Image {
    file: PathBuf,
    pub(crate) mount_point: PathBuf,
    is_mounted: bool,
}

impl Image {
    /// A fresh file system of `mib` in `folder`, mounted. No blocks are kept back for root.
    pub(crate) fn make(folder: &Path, mib: u64) -> Self {
        let (file, mount_point) = (folder.join("disk.img"), folder.join("disk"));
        std::fs::File::create(&file).unwrap().set_len(mib << 20).unwrap();
        std::fs::create_dir(&mount_point).unwrap();
        run("mkfs.ext4", [OsStr::new("-q"), "-m".as_ref(), "0".as_ref(), file.as_ref()]).unwrap();
        let mut image = Self { file, mount_point, is_mounted: false };
        image.mount();
        image
    }

    /// Cuts the power; from here on every write and sync of the mounted file system fails. `begun` is told
    /// just before.
    pub(crate) fn cut(&self, cut: Cut, begun: impl FnOnce()) {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/python/cut_power.py");
        let flag = match cut {
            Cut::JournalFlushed => "1",
            Cut::Nothing => "2",
        };
        let mut command = Command::new("python3");
        command.arg(script).arg(&self.mount_point).arg(flag).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut cutter = command.spawn().unwrap();
        cutter.stdout.take().unwrap().read_exact(&mut [0; 6]).unwrap();
        begun();
        cutter.stdin.take().unwrap().write_all(b"\n").unwrap();
        assert!(cutter.wait().unwrap().success(), "the power could not be cut");
    }

    /// The power is back: what was in memory is gone, what is on the disk is mounted again.
    pub(crate) fn mount_again(&mut self) {
        run("umount", [&self.mount_point]).unwrap();
        self.is_mounted = false;
        self.wait_until_unused();
        self.mount();
    }

    /// A mount namespace that still has it mounted, as that of a gateway just killed or of another run of this
    /// test, would bring the file system back as it is in memory: shut down.
    fn wait_until_unused(&self) {
        for _ in 0..LOOKS_MAX {
            let losetup = Command::new("losetup").arg("--associated").arg(&self.file).output().unwrap();
            if losetup.stdout.is_empty() {
                return;
            }
            std::thread::sleep(LOOK_PERIOD);
        }
        panic!("{} is still mounted somewhere; run one power test at a time", self.file.display());
    }

    fn mount(&mut self) {
        run("mount", [OsStr::new("-o"), "loop".as_ref(), self.file.as_ref(), self.mount_point.as_ref()]).unwrap();
        self.is_mounted = true;
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        if self.is_mounted
            && let Err(why) = run("umount", [&self.mount_point])
        {
            eprintln!("{} is still mounted: {why}", self.mount_point.display());
        }
    }
}

fn run<S: AsRef<OsStr>>(program: &str, arguments: impl IntoIterator<Item = S>) -> Result<(), String> {
    let output = Command::new(program).args(arguments).output().map_err(|error| format!("{program}: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    output.status.success().then_some(()).ok_or_else(|| format!("{program}: {}: {said}", output.status))
}

/// Whether this user may make and mount file systems; says loudly so if not.
pub(crate) fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output().unwrap();
    let is_root = id.stdout.trim_ascii() == b"0";
    if !is_root {
        eprintln!("\n  SKIPPED, NOTHING IS PROVED: cutting the power needs root (mount, loop device, ioctl)\n");
    }
    is_root
}
