//! A process that is not our child, held by a descriptor: what is sent through it never reaches another process that
//! got the same number. Linux only.

use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::time::Duration;

use nix::libc;
use tokio::io::unix::AsyncFd;

use crate::base::RunClock;

/// A process, held.
#[derive(Debug)]
pub(super) struct PidFd {
    descriptor: AsyncFd<OwnedFd>,
}

impl PidFd {
    /// Holds the process that has this number now.
    pub(super) fn open(pid: u32) -> io::Result<Self> {
        let pid = libc::pid_t::try_from(pid).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        // SAFETY: takes two numbers, and returns a new descriptor or -1.
        let raw = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
        let raw = i32::try_from(raw).unwrap_or(-1);
        if raw < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor is new and nobody else's.
        let owned = unsafe { OwnedFd::from_raw_fd(raw) };
        // SAFETY: the descriptor is owned by the registration and closed only after it.
        let descriptor = unsafe { AsyncFd::register(owned) }?;
        Ok(Self { descriptor })
    }

    /// Ends the process at once; frozen ones too.
    pub(super) fn kill(&self) -> io::Result<()> {
        let descriptor = self.descriptor.get_ref().as_raw_fd();
        // SAFETY: the descriptor is open, and a null info is allowed.
        let sent = unsafe {
            libc::syscall(
                libc::SYS_pidfd_send_signal,
                descriptor,
                libc::SIGKILL,
                std::ptr::null::<libc::siginfo_t>(),
                0,
            )
        };
        if sent == 0 {
            return Ok(());
        }
        match io::Error::last_os_error() {
            gone if gone.raw_os_error() == Some(libc::ESRCH) => Ok(()),
            error => Err(error),
        }
    }

    /// Waits until it has ended; false when it has not in time.
    pub(super) async fn ended(&self, clock: RunClock, within: Duration) -> bool {
        tokio::select! {
            biased;
            ended = self.descriptor.readable() => ended.is_ok(),
            () = clock.sleep(within) => false,
        }
    }
}
