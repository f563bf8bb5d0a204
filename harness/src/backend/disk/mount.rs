//! Mounting a disk, and taking mounts away, one's own and those that a killed run has left.

use std::{
    ffi::OsString,
    fs, io,
    os::unix::ffi::OsStringExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Arc,
        mpsc::{Receiver, sync_channel},
    },
    time::Duration,
};

use fuser::{BackgroundSession, Config, MountOption, Session, SessionACL};
use nix::{
    fcntl::{OFlag, open},
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, unshare},
    sys::stat::Mode,
    unistd,
};

use super::{power::Disk, serve::Server, volatile::Volatile};

/// What a mount of a run is told by.
const SOURCE: &str = "firedrill:";
/// The kernel's door for file systems of programs.
const DOOR: &str = "/dev/fuse";
/// What mounts for whoever is not root, newest first.
const HELPERS: [&str; 2] = ["fusermount3", "fusermount"];
/// Requests that are served at once: a slow fsync must not hold up reads.
const THREADS: usize = 4;

/// How long whoever serves a disk may take to notice that it was unmounted.
const END_WITHIN: Duration = Duration::from_secs(5);

/// A disk for a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskSpec {
    /// Where the node finds it; made if absent.
    pub mount: PathBuf,
    /// The folder with what is durable; made if absent.
    pub below: PathBuf,
    /// Whether an fsync makes anything durable.
    pub honest: bool,
}

/// A disk that is mounted. Unmounted when it is dropped.
#[derive(Debug)]
pub struct Mounted {
    disk: Arc<Disk>,
    at: PathBuf,
    session: Option<BackgroundSession>,
    /// Told once nobody serves it any more.
    ended: Receiver<()>,
}

impl Mounted {
    /// Mounts a disk for `run`: it holds what the folder below does.
    ///
    /// # Errors
    /// When the folders can't be used, or the kernel refuses.
    pub fn new(spec: &DiskSpec, run: &str) -> io::Result<Self> {
        fs::create_dir_all(&spec.below)?;
        fs::create_dir_all(&spec.mount)?;
        let mut volatile = Volatile::empty(spec.below.clone(), spec.honest, super::serve::wall_clock);
        volatile.scan()?;
        let disk = Disk::new(volatile);
        let mut config = Config::default();
        config.mount_options = vec![
            MountOption::FSName(format!("{SOURCE}{run}")),
            MountOption::Subtype("firedrill".to_owned()),
            MountOption::DefaultPermissions,
            MountOption::NoDev,
            MountOption::NoSuid,
        ];
        config.n_threads = Some(THREADS);
        // A command may go on as another user.
        if unistd::geteuid().is_root() {
            config.acl = SessionACL::All;
        }
        let (end, ended) = sync_channel(1);
        let server = Server::new(Arc::clone(&disk), end);
        let session = Session::new(server, &spec.mount, &config)?.spawn()?;
        Ok(Self {
            disk,
            at: spec.mount.clone(),
            session: Some(session),
            ended,
        })
    }

    /// The disk itself.
    #[must_use]
    pub const fn disk(&self) -> &Arc<Disk> {
        &self.disk
    }

    /// Unmounts it; what was not synced is gone. Waits until nobody serves it any more.
    ///
    /// # Errors
    /// When it is still mounted.
    pub fn unmount(mut self) -> io::Result<()> {
        self.take_away()
    }

    fn take_away(&mut self) -> io::Result<()> {
        let Some(session) = self.session.take() else {
            return Ok(());
        };
        let gone = unmount(&self.at);
        // The end of the mount ends the threads that serve it, unless somebody still has a file open on it.
        let _ = self.ended.recv_timeout(END_WITHIN);
        drop(session);
        gone
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // Whatever is left is found by a sweep.
        let _ = self.take_away();
    }
}

/// Takes the mount at `path` away, whoever has files open on it and whether or not anybody serves it. Not an error when
/// there is none.
///
/// # Errors
/// When it is still there.
pub fn unmount(path: &Path) -> io::Result<()> {
    if unistd::geteuid().is_root() {
        let _ = umount2(path, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW);
    } else {
        for helper in HELPERS {
            let status = Command::new(helper)
                .args(["-u", "-q", "-z", "--"])
                .arg(path)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status();
            if status.is_ok_and(|status| status.success()) {
                break;
            }
        }
    }
    let left = mounts()?.into_iter().any(|mount| mount.at == path);
    if left {
        return Err(io::Error::other(format!("{} is still mounted", path.display())));
    }
    Ok(())
}

/// Where disks of `run` are mounted.
///
/// # Errors
/// When /proc is not there.
pub fn mounted_by(run: &str) -> io::Result<Vec<PathBuf>> {
    let source = format!("{SOURCE}{run}");
    let own = mounts()?.into_iter().filter(|mount| mount.source == source);
    Ok(own.map(|mount| mount.at).collect())
}

struct Mount {
    at: PathBuf,
    source: String,
}

/// The file systems of programs that are mounted.
fn mounts() -> io::Result<Vec<Mount>> {
    Ok(fs::read_to_string("/proc/self/mountinfo")?
        .lines()
        .filter_map(parse)
        .collect())
}

/// One line of mountinfo, as proc_pid_mountinfo(5) has it; none for other kinds of file systems.
fn parse(line: &str) -> Option<Mount> {
    let (place, rest) = line.split_once(" - ")?;
    let at = place.split(' ').nth(4)?;
    let mut rest = rest.split(' ');
    let kind = rest.next()?;
    let source = rest.next()?;
    (kind == "fuse" || kind.starts_with("fuse.")).then(|| Mount {
        at: OsString::from_vec(unescape(at)).into(),
        source: String::from_utf8_lossy(&unescape(source)).into_owned(),
    })
}

/// Spaces and the like stand as `\` and three octal digits.
fn unescape(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let code = (bytes[at] == b'\\')
            .then(|| text.get(at + 1..at + 4))
            .flatten()
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        out.push(code.unwrap_or(bytes[at]));
        at += if code.is_some() { 4 } else { 1 };
    }
    out
}

/// Whether disks can be mounted here. Tries it, and leaves nothing.
///
/// # Errors
/// What is missing, and what to do, in words.
pub fn available() -> Result<(), String> {
    if !Path::new(DOOR).exists() {
        return Err(format!(
            "there is no {DOOR}: load the kernel's module `fuse`, or give the container that device"
        ));
    }
    if !unistd::geteuid().is_root() {
        let door = fs::OpenOptions::new().read(true).write(true).open(DOOR);
        door.map_err(|error| format!("only root may open {DOOR} here ({error}): make it everybody's"))?;
        let found = std::env::var_os("PATH").is_some_and(|path| {
            std::env::split_paths(&path).any(|folder| HELPERS.iter().any(|helper| folder.join(helper).is_file()))
        });
        return if found {
            Ok(())
        } else {
            Err(
                "only root mounts without the program `fusermount3`: on Debian and Ubuntu `apt-get install fuse3`"
                    .to_owned(),
            )
        };
    }
    // In a thread with a view of its own on the mounts, so that nobody else ever sees this one.
    std::thread::spawn(attempt)
        .join()
        .unwrap_or(Err(nix::errno::Errno::EIO))
        .map_err(|errno| {
            format!(
                "the kernel refuses to mount a FUSE file system ({errno}): in a container, allow SYS_ADMIN and {DOOR}"
            )
        })
}

fn attempt() -> nix::Result<()> {
    unshare(CloneFlags::CLONE_NEWNS)?;
    let none: Option<&str> = None;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
    let door = open(DOOR, OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty())?;
    let fd = std::os::fd::AsRawFd::as_raw_fd(&door);
    let options = format!("fd={fd},rootmode=40000,user_id=0,group_id=0");
    let flags = MsFlags::MS_NODEV | MsFlags::MS_NOSUID;
    mount(Some(SOURCE), "/proc", Some("fuse"), flags, Some(options.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_mountinfo_is_read_with_its_escapes_and_others_are_passed_over() {
        let own = r"43 30 0:39 / /dev/shm/a\040b rw,nosuid shared:7 - fuse.firedrill firedrill:r\0401 rw,user_id=0";
        let mount = parse(own).unwrap();
        assert_eq!(mount.at, Path::new("/dev/shm/a b"));
        assert_eq!(mount.source, "firedrill:r 1");
        for other in [
            "",
            "43 30 0:39 / /x rw - ext4 firedrill:r1 rw",
            "43 30 - fuse firedrill:r1 rw",
        ] {
            assert!(parse(other).is_none(), "{other}");
        }
        assert_eq!(unescape(r"a\0b\\134"), br"a\0b\\");
    }

    #[test]
    fn asking_leaves_no_mount() {
        let _ = available();
        assert_eq!(mounted_by("").unwrap(), [] as [PathBuf; 0]);
    }
}
