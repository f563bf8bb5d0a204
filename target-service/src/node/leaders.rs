//! Leadership that goes where the map wants it: away from nodes that are being drained, and to whom a migration wishes.
//! Callers wait while it goes, and none of them fails.

use std::collections::BTreeSet;

use super::run::Node;
use crate::{consensus::Replica, placement};

/// Ticks between two attempts.
const ASK_TICKS: u64 = 5;

impl Node {
    /// Hands over what this node is not to lead: one look's worth.
    pub(super) fn drive_leaders(&mut self, ticks: u64) {
        if !ticks.is_multiple_of(ASK_TICKS) {
            return;
        }
        let me = self.config.node;
        let leaves = placement::leaves(&self.map, me);
        let mut avoid = self.shunned();
        let all = self.config.peers.keys().copied();
        avoid.extend(all.filter(|node| placement::leaves(&self.map, *node)));
        for (&id, shard) in self.shards.iter_mut().filter(|(_, shard)| shard.led.is_some()) {
            let replica = &mut shard.replica;
            if replica.is_handing_over() {
                continue;
            }
            match placement::wished(&self.map, id) {
                // Where it isn't fit to lead, the next look asks again, until the wish is given up.
                Some(to) if to != me => drop(replica.transfer(to, &avoid)),
                Some(_) => {}
                None if leaves => hand_to_anybody(replica, &avoid),
                None => {}
            }
        }
        if let Some(council) = self.council.as_mut().filter(|_| leaves) {
            let replica = &mut council.replica;
            if replica.is_leader() && !replica.is_handing_over() {
                hand_to_anybody(replica, &avoid);
            }
        }
    }
}

/// Hands over to a voter that can lead at once: if there is none, nobody is better served.
fn hand_to_anybody(replica: &mut Replica, avoid: &BTreeSet<u64>) {
    let mut voters = replica.voters();
    voters.sort_by_key(|node| (u64::MAX - replica.matched(*node).unwrap_or(0), *node));
    for voter in voters {
        if replica.transfer(voter, avoid).is_ok() {
            return;
        }
    }
}
