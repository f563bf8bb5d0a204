//! A disk of one's own for a node: what a program did not sync is lost when the power goes.
//!
//! A process that is killed loses nothing that it wrote: the kernel has it. So a power loss needs a disk that forgets. This
//! is a FUSE file system, served by threads of the harness. It passes through to a folder, the one below, what programs
//! sync, and keeps the rest in memory, where everybody sees it until the power is gone. Killing a node leaves its disk as
//! it is; a power loss cuts the disks of all its targets between the same two writes, kills the nodes, and mounts the disks
//! anew, over what is below, when the nodes start again.
//!
//! What becomes durable by what is said in `durable`. Beside that:
//!
//! - O_SYNC, O_DSYNC and msync(2) come here as the fsync that they are. O_DIRECT alone makes nothing durable: it goes round
//!   the page cache, not round the cache of the disk. sync_file_range(2) makes nothing durable, as its man page warns.
//!   sync(2) and syncfs(2) never reach a FUSE file system and make nothing durable here.
//! - Pages written through a shared mapping stay in the kernel until msync or munmap; a power loss takes them too.
//! - Locks are the kernel's own, and end with whoever holds them.
//! - A power loss takes all that was not synced. A real one may leave any part of it: writes that were under way are not
//!   torn here.
//! - A disk that lies answers every fsync and makes nothing durable: its power loss leaves what was there when it was
//!   mounted.
//!
//! Nothing in the harness touches a mounted disk by its path: whoever waits for itself can't even be killed.
//!
//! - `content`: a file's bytes. - `names`: changes of names. - `node`: files and folders.
//! - `volatile`: what programs see. - `durable`: what is below.
//! - `power`: whether there is any. - `serve`: the kernel's requests. - `mount`: mounting, and finding mounts.

mod content;
mod durable;
mod mount;
mod names;
mod node;
mod power;
mod serve;
#[cfg(test)]
mod tests;
mod volatile;

pub use mount::{DiskSpec, Mounted, available, mounted_by, unmount};
pub use power::{Disk, PowerLoss};
pub use volatile::Unsynced;
