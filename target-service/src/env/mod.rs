//! The seam: time, randomness, network and disk. The same service code runs on the real ones and on simulated ones.
//!
//! A node runs on one current-thread tokio runtime in both worlds. tokio's own clock is the monotonic clock: it is the
//! real one in production and a paused, jumping one under simulation.

mod clock;
mod disk;
mod disk_sim;
#[cfg(test)]
mod disk_tests;
mod disk_volatile;
#[cfg(test)]
mod disk_volatile_tests;
mod transport;

pub use clock::{Clock, WallClock};
pub use disk::{Disk, DiskError, DiskFile, DiskResult, RealDisk};
pub(crate) use disk::{parent, read_all, replace};
pub use disk_sim::SimDisk;
pub use disk_volatile::VolatileDisk;
pub use transport::Transport;

use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// A node's own randomness: one stream for each use, so that a new use never shifts an old one.
#[derive(Clone, Copy, Debug)]
pub struct Streams {
    seed: u64,
}

impl Streams {
    /// The streams of `seed`.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self { seed }
    }

    /// The stream called `name`.
    #[must_use]
    pub fn stream(&self, name: &str) -> ChaCha8Rng {
        ChaCha8Rng::seed_from_u64(xxh3_64_with_seed(name.as_bytes(), self.seed))
    }
}
