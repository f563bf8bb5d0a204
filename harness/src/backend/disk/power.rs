//! The power of disks: on, failing at one instant for several, off.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use nix::errno::Errno;

use super::volatile::{Unsynced, Volatile};

/// One disk, and whether it has power.
#[derive(Debug)]
pub struct Disk {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    volatile: Volatile,
    power: Power,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Power {
    On,
    /// Nothing is done and nothing answered: whoever asks is about to be killed, and must not see an error that no
    /// machine without power could show it.
    Failing,
    Off,
}

impl Disk {
    pub(super) fn new(volatile: Volatile) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State {
                volatile,
                power: Power::On,
            }),
            changed: Condvar::new(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something on the disk. Waits while its power fails, and is an I/O error once it has none.
    pub(super) fn with<T>(&self, act: impl FnOnce(&mut Volatile) -> Result<T, Errno>) -> Result<T, Errno> {
        let mut state = self.lock();
        while state.power == Power::Failing {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        match state.power {
            Power::On => act(&mut state.volatile),
            Power::Failing | Power::Off => Err(Errno::EIO),
        }
    }

    /// What a power loss would take now.
    #[must_use]
    pub fn unsynced(&self) -> Unsynced {
        self.lock().volatile.unsynced()
    }

    fn set(&self, power: Power) {
        self.lock().power = power;
        self.changed.notify_all();
    }
}

/// A power loss under way: nothing becomes durable any more, and nobody is answered. Dropped when whoever ran on the disks
/// has been sent its end: then they are off.
#[derive(Debug)]
#[must_use = "the disks are off as soon as it is dropped"]
pub struct PowerLoss {
    disks: Vec<Arc<Disk>>,
    /// What each disk has lost, in their order.
    pub lost: Vec<Unsynced>,
}

impl PowerLoss {
    /// Cuts the power of all `disks` between the same two acts.
    pub fn of(disks: Vec<Arc<Disk>>) -> Self {
        let lost = {
            let mut states: Vec<_> = disks.iter().map(|disk| disk.lock()).collect();
            for state in &mut states {
                state.power = Power::Failing;
            }
            states.iter().map(|state| state.volatile.unsynced()).collect()
        };
        Self { disks, lost }
    }
}

impl Drop for PowerLoss {
    fn drop(&mut self) {
        for disk in &self.disks {
            disk.set(Power::Off);
        }
    }
}
