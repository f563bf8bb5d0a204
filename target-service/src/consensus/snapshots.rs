//! How long a replica waits for a snapshot that it sent.

use raft::ProgressState;

use super::Replica;

impl Replica {
    /// Whether `follower` was sent a snapshot, and neither has answered nor was given up.
    #[must_use]
    pub fn waits_for_snapshot(&self, follower: u64) -> bool {
        let state = |id| self.raw.raft.prs().get(id).map(|progress| progress.state);
        self.is_leader()
            && self.snapshots_out.contains_key(&follower)
            && state(follower) == Some(ProgressState::Snapshot)
    }

    /// A snapshot on its way to `follower` has come further: it is waited for anew.
    pub fn snapshot_moves(&mut self, follower: u64) {
        let due = self.ticks + self.snapshot_ticks;
        if let Some(until) = self.snapshots_out.get_mut(&follower) {
            *until = due;
        }
    }
}
