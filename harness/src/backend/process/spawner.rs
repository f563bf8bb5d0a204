//! The thread that all nodes are children of.
//!
//! The kernel ends a child "with its parent" when the *thread* that made it ends, so nodes are made by one thread that
//! lives as long as their backend. When the harness is killed, that thread dies with it and the kernel kills every
//! node, frozen ones included. When the backend is dropped, the thread ends and takes what is left with it.

use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command};

use nix::libc;
use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::unistd::getppid;
use tokio::sync::{mpsc, oneshot};

/// Starts that wait for the thread at a time.
const WAITING_MAX: usize = 64;
#[cfg(target_os = "linux")]
/// By how much nodes are nicer than the harness: about a third of its share where the two compete.
const NICE: libc::c_int = 5;

type Request = (Command, oneshot::Sender<io::Result<Child>>);

/// A handle of the thread.
#[derive(Debug)]
pub(super) struct Spawner {
    requests: mpsc::Sender<Request>,
}

impl Spawner {
    pub(super) fn start() -> io::Result<Self> {
        let (requests, mut waiting) = mpsc::channel::<Request>(WAITING_MAX);
        std::thread::Builder::new().name("spawner".to_owned()).spawn(move || {
            give_way();
            while let Some((mut command, answer)) = waiting.blocking_recv() {
                // Nobody waits for the answer any more: the child would have no owner.
                if let Err(Ok(mut orphan)) = answer.send(command.spawn()) {
                    let _ = orphan.kill();
                    let _ = orphan.wait();
                }
            }
        })?;
        Ok(Self { requests })
    }

    /// Starts `command` as a child that dies with this process, in a process group of its own, so that Ctrl-C on the
    /// terminal reaches the harness alone.
    pub(super) async fn spawn(&self, mut command: Command) -> io::Result<Child> {
        command.process_group(0);
        die_with_parent(&mut command);
        let gone = || io::Error::other("the thread that starts nodes has ended");
        let (answer, answered) = oneshot::channel();
        self.requests.send((command, answer)).await.map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }
}

/// Lets the calling thread, and so every node that it makes, yield to the harness when processors are short: a load
/// generator that waits for the system it measures measures itself. A node that is slower for it is seen to be slower.
fn give_way() {
    // Elsewhere this would be said of the whole process.
    #[cfg(target_os = "linux")]
    // SAFETY: takes three numbers; 0 stands for the calling thread. Lowering one's own priority is always allowed.
    unsafe {
        libc::setpriority(libc::PRIO_PROCESS, 0, NICE)
    };
}

fn die_with_parent(command: &mut Command) {
    let parent = nix::unistd::getpid();
    // SAFETY: between fork and exec only prctl and getppid are called, which are safe there, and nothing allocates.
    unsafe {
        command.pre_exec(move || {
            prctl::set_pdeathsig(Signal::SIGKILL)?;
            // The parent may have died before that took hold.
            if getppid() != parent {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            Ok(())
        });
    }
}
