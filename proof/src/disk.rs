//! Small disks that fill up and fail: ext4 on a loop device, whose image lies in a small tmpfs.
//!
//! Needs root and loop devices. Where there are none, [`SmallDisk::make`] says so on the real standard error, and the same
//! scenarios remain in the simulation (`engine/tests/sim/faults.rs`). Whatever was mounted is unmounted when the disk is dropped.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What the disk is made of.
pub struct Shape {
    pub tmpfs_mib: u64,
    pub ext4_mib: u64,
    /// Options of mkfs.ext4.
    pub mkfs: &'static [&'static str],
}

struct Mounted(PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        if run("umount", &[self.0.as_os_str()]).is_err() {
            // A process that outlived its test still has files there.
            let _ = run("umount", &["-l".as_ref(), self.0.as_os_str()]);
        }
    }
}

pub struct SmallDisk {
    // In the order in which they have to go.
    ext4: Option<Mounted>,
    tmpfs: Mounted,
    home: tempfile::TempDir,
}

/// Past the test harness, which hides what passing tests print.
pub fn say_skipped(test: &str, why: &str) {
    let _ = writeln!(std::io::stderr(), "SKIPPED {test}: {why}");
}

fn run(program: &str, args: &[&std::ffi::OsStr]) -> Result<(), String> {
    let output = Command::new(program).args(args).output().map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{program}: {}", String::from_utf8_lossy(&output.stderr).trim()))
}

impl SmallDisk {
    /// `None` where such a disk cannot be made; `test` and the reason are said aloud.
    pub fn make(test: &str, shape: &Shape) -> Option<SmallDisk> {
        match SmallDisk::try_make(shape) {
            Ok(disk) => Some(disk),
            Err(why) => {
                say_skipped(test, &format!("no small disk can be mounted here ({why})"));
                None
            }
        }
    }

    fn try_make(shape: &Shape) -> Result<SmallDisk, String> {
        let home = tempfile::tempdir().map_err(|error| error.to_string())?;
        let (under, image) = (home.path().join("under"), home.path().join("under/image"));
        std::fs::create_dir(&under).map_err(|error| error.to_string())?;
        let size = format!("size={}m", shape.tmpfs_mib);
        run(
            "mount",
            &["-t".as_ref(), "tmpfs".as_ref(), "-o".as_ref(), size.as_ref(), "none".as_ref(), under.as_ref()],
        )?;
        let tmpfs = Mounted(under);
        let file = std::fs::File::create(&image).map_err(|error| error.to_string())?;
        file.set_len(shape.ext4_mib << 20).map_err(|error| error.to_string())?;
        let mut args: Vec<&std::ffi::OsStr> = vec!["-q".as_ref(), "-F".as_ref(), "-m".as_ref(), "0".as_ref()];
        args.extend(shape.mkfs.iter().map(std::ffi::OsStr::new));
        args.push(image.as_ref());
        run("mkfs.ext4", &args)?;
        let mut disk = SmallDisk { ext4: None, tmpfs, home };
        std::fs::create_dir(disk.path()).map_err(|error| error.to_string())?;
        disk.mount()?;
        Ok(disk)
    }

    fn mount(&mut self) -> Result<(), String> {
        let image = self.tmpfs.0.join("image");
        run("mount", &["-o".as_ref(), "loop".as_ref(), image.as_ref(), self.path().as_ref()])?;
        self.ext4 = Some(Mounted(self.path()));
        Ok(())
    }

    /// Where it is mounted.
    pub fn path(&self) -> PathBuf {
        self.home.path().join("disk")
    }

    /// A place beside it, on a healthy disk.
    pub fn beside(&self) -> &Path {
        self.home.path()
    }

    /// Take all room of the file system: what is written next meets ENOSPC.
    pub fn fill(&self) {
        fill(&self.path().join("filler"));
    }

    pub fn empty(&self) {
        std::fs::remove_file(self.path().join("filler")).unwrap();
    }

    /// Take all room beneath the file system: writes to blocks that it never wrote before meet EIO.
    pub fn starve(&self) {
        fill(&self.tmpfs.0.join("filler"));
    }

    /// Have the file system meet an error of its own, as a disk that failed under its journal causes: made with `-e remount-ro`, it
    /// takes no write from then on. Says why not, where the kernel cannot be asked.
    pub fn end(&self) -> Result<(), String> {
        let mounts = std::fs::read_to_string("/proc/mounts").map_err(|error| error.to_string())?;
        let place = self.path().display().to_string();
        let line = mounts.lines().find(|line| line.split(' ').nth(1) == Some(&place)).ok_or("it is not mounted")?;
        let device = line.split(' ').next().unwrap_or_default().trim_start_matches("/dev/");
        let trigger = format!("/sys/fs/ext4/{device}/trigger_fs_error");
        std::fs::write(&trigger, "a test").map_err(|error| format!("{trigger}: {error}"))
    }

    /// Give back what was taken beneath, and have the file system checked and mounted anew.
    pub fn repair(&mut self) {
        let filler = self.tmpfs.0.join("filler");
        if filler.exists() {
            std::fs::remove_file(filler).unwrap();
        }
        self.ext4 = None;
        let image = self.tmpfs.0.join("image");
        let status = Command::new("e2fsck").arg("-fy").arg(&image).output().unwrap().status;
        // 1: errors were mended.
        assert!(matches!(status.code(), Some(0 | 1)), "e2fsck: {status}");
        self.mount().unwrap();
    }
}

fn fill(path: &Path) {
    let mut file = std::fs::File::create(path).unwrap();
    for step in [1 << 20, 4096] {
        let bytes = vec![1; step];
        while file.write_all(&bytes).is_ok() {}
    }
    let _ = file.sync_all();
}
