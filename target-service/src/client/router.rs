//! Where to send a request: the shard map, and a guess at each shard's leader that attempts keep correcting.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use firedrill_proto::chat::v1::RoutesResponse;

use super::error::CallError;
use crate::{
    chat::ids,
    node::{Reason, Refusal},
};

/// Where an attempt goes, and what its request must say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// The node.
    pub node: u64,
    /// The shard that the request belongs to.
    pub shard: u32,
    /// The epoch of the shard map that says so.
    pub epoch: u64,
}

#[derive(Debug, Default)]
struct Shard {
    members: Vec<u64>,
    leader: Option<u64>,
    /// Newest term in which a leader was named to us.
    term: u64,
    /// Where the search stands when no leader is known.
    next: usize,
    /// Nodes that failed us, each with the newest term known then: hints at them are idle unless of a later term.
    failed: BTreeMap<u64, u64>,
}

impl Shard {
    fn target(&self) -> u64 {
        self.leader
            .unwrap_or_else(|| self.members[self.next % self.members.len()])
    }

    /// Looks elsewhere than at `node` from now on.
    fn leave(&mut self, node: u64) {
        if self.leader == Some(node) {
            self.leader = None;
        }
        let at = self.members.iter().position(|member| *member == node);
        self.next = at.unwrap_or(self.next).wrapping_add(1) % self.members.len();
    }

    fn hint(&mut self, from: u64, leader: Option<u64>, term: u64) {
        let newest = self.term;
        self.term = newest.max(term);
        let useful = leader.filter(|leader| {
            *leader != from
                && term >= newest
                && self.members.contains(leader)
                && self.failed.get(leader).is_none_or(|failed| term > *failed)
        });
        match useful {
            Some(leader) => self.leader = Some(leader),
            None => self.leave(from),
        }
    }

    fn failed(&mut self, node: u64) {
        self.failed.insert(node, self.term);
        self.leave(node);
    }

    fn worked(&mut self, node: u64) {
        self.failed.remove(&node);
        self.leader = Some(node);
    }
}

#[derive(Debug, Default)]
struct Map {
    epoch: u64,
    shards: Vec<Shard>,
    stale: bool,
}

/// The shard map as clients know it. Cloning shares it.
#[derive(Clone, Debug, Default)]
pub struct Router {
    map: Arc<Mutex<Map>>,
}

impl Router {
    /// A router that knows nothing yet: [`Router::install`] a map first.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn map(&self) -> MutexGuard<'_, Map> {
        self.map.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes over a node's shard map, unless a newer one is known. The leaders that it names are believed, unless an
    /// attempt at them has failed in the newest term known.
    ///
    /// # Errors
    /// When the map is no map: no shards, a shard missing, or one without nodes.
    pub fn install(&self, routes: &RoutesResponse) -> Result<(), String> {
        let mut shards = Vec::new();
        for number in 0..routes.shards {
            let route = routes.routes.iter().find(|route| route.shard == number);
            let route = route.filter(|route| !route.nodes.is_empty());
            let route = route.ok_or_else(|| {
                format!(
                    "the shard map of epoch {} has no nodes for shard {number}",
                    routes.epoch
                )
            })?;
            shards.push(Shard {
                members: route.nodes.clone(),
                leader: (route.leader != 0).then_some(route.leader),
                ..Shard::default()
            });
        }
        if shards.is_empty() {
            return Err(format!("the shard map of epoch {} has no shards", routes.epoch));
        }
        let mut map = self.map();
        if routes.epoch < map.epoch {
            return Ok(());
        }
        if routes.epoch == map.epoch && map.shards.len() == shards.len() {
            for (new, old) in shards.iter_mut().zip(&map.shards) {
                new.leader = new
                    .leader
                    .filter(|leader| !old.failed.contains_key(leader))
                    .or(old.leader);
                (new.term, new.next, new.failed) = (old.term, old.next, old.failed.clone());
            }
        }
        *map = Map {
            epoch: routes.epoch,
            shards,
            stale: false,
        };
        Ok(())
    }

    /// Whether a map is wanting: there is none, or a node has refused the one there is.
    #[must_use]
    pub fn needs_map(&self) -> bool {
        let map = self.map();
        map.stale || map.shards.is_empty()
    }

    /// Number of shards; 0 without a map.
    #[must_use]
    pub fn shards(&self) -> u32 {
        u32::try_from(self.map().shards.len()).unwrap_or(u32::MAX)
    }

    /// The shard of a user's account.
    #[must_use]
    pub fn shard_of_user(&self, user: u64) -> u32 {
        ids::owner(user, self.shards())
    }

    /// The home shard of the conversation of two users.
    #[must_use]
    pub fn shard_of_pair(&self, a: u64, b: u64) -> u32 {
        ids::owner(ids::conversation_id(a, b), self.shards())
    }

    /// The home shard of a conversation.
    #[must_use]
    pub fn shard_of_conversation(&self, conversation: u64) -> u32 {
        ids::owner(conversation, self.shards())
    }

    /// The shard that signs a phone number up. What is no number goes to shard 0, to be refused there.
    #[must_use]
    pub fn shard_of_phone(&self, phone: &str) -> u32 {
        ids::phone_shard(phone, self.shards()).unwrap_or(0)
    }

    /// Where an attempt at `shard` goes now; `None` without a map or for a shard that isn't.
    #[must_use]
    pub fn target(&self, shard: u32) -> Option<Target> {
        let map = self.map();
        let node = map.shards.get(shard as usize)?.target();
        Some(Target {
            node,
            shard,
            epoch: map.epoch,
        })
    }

    /// Learns from an attempt at `target` that was answered.
    pub fn worked(&self, target: Target) {
        self.learn(target, |shard| shard.worked(target.node));
    }

    /// Learns that the node of `target` was asked to hand its shard over to `to`.
    pub fn handed_over(&self, target: Target, to: u64) {
        self.learn(target, |shard| {
            shard.leader = shard.members.contains(&to).then_some(to);
        });
    }

    /// Learns from an attempt at `target` that failed.
    pub fn failed(&self, target: Target, error: &CallError) {
        match error {
            CallError::Refused(refusal) => self.refused(target, refusal),
            CallError::NotSent(_) | CallError::Unknown { .. } => self.learn(target, |shard| shard.failed(target.node)),
        }
    }

    fn refused(&self, target: Target, refusal: &Refusal) {
        match refusal.reason {
            Reason::NotLeader => self.learn(target, |shard| shard.hint(target.node, refusal.leader, refusal.term)),
            Reason::NoQuorum => self.learn(target, |shard| shard.failed(target.node)),
            Reason::StaleRoute => {
                let mut map = self.map();
                map.stale |= refusal.epoch > map.epoch || refusal.epoch == 0;
            }
            // Only who leads the shard refuses like this.
            Reason::SessionEnded
            | Reason::NoSuchUser
            | Reason::NoSuchDevice
            | Reason::NoSuchConversation
            | Reason::NotMember
            | Reason::GroupFull
            | Reason::WrongCode
            | Reason::Resync => self.worked(target),
            Reason::UnsupportedVersion
            | Reason::BrokenBuild
            | Reason::VerificationDown
            | Reason::Overloaded
            | Reason::Invalid
            | Reason::Expired
            | Reason::Maybe => {}
        }
    }

    fn learn(&self, target: Target, change: impl FnOnce(&mut Shard)) {
        let mut map = self.map();
        if map.epoch == target.epoch
            && let Some(shard) = map.shards.get_mut(target.shard as usize)
        {
            change(shard);
        }
    }
}

#[cfg(test)]
mod tests {
    use firedrill_proto::chat::v1::Route;
    use proptest::prelude::*;

    use super::*;

    fn routes(epoch: u64, shards: u32) -> RoutesResponse {
        let route = |shard| Route {
            shard,
            nodes: vec![1, 2, 3],
            leader: 0,
        };
        RoutesResponse {
            epoch,
            shards,
            routes: (0..shards).map(route).collect(),
        }
    }

    fn router() -> Router {
        let router = Router::new();
        assert!(router.needs_map());
        router.install(&routes(1, 2)).unwrap();
        router
    }

    fn not_leader(leader: Option<u64>, term: u64) -> CallError {
        CallError::Refused(Refusal {
            leader,
            term,
            ..Refusal::new(Reason::NotLeader, "x")
        })
    }

    fn lost() -> CallError {
        CallError::from_status(&tonic::Status::unavailable("x"))
    }

    fn at(router: &Router, node: u64) -> Target {
        Target {
            node,
            ..router.target(0).unwrap()
        }
    }

    #[test]
    fn a_hint_is_followed_and_success_remembered() {
        let router = router();
        router.failed(at(&router, 1), &not_leader(Some(3), 4));
        assert_eq!(router.target(0).unwrap().node, 3);
        router.worked(at(&router, 3));
        assert_eq!(router.target(0).unwrap().node, 3);
        assert_eq!(router.target(1).unwrap().node, 1, "the other shard has heard nothing");
    }

    #[test]
    fn a_dead_leader_is_not_gone_back_to_at_the_word_of_who_has_not_noticed() {
        let router = router();
        router.failed(at(&router, 1), &not_leader(Some(3), 4));
        router.failed(at(&router, 3), &lost());
        assert_eq!(router.target(0).unwrap().node, 1);
        router.failed(at(&router, 1), &not_leader(Some(3), 4));
        assert_eq!(router.target(0).unwrap().node, 2);
        // A later term is news.
        router.failed(at(&router, 2), &not_leader(Some(3), 5));
        assert_eq!(router.target(0).unwrap().node, 3);
    }

    #[test]
    fn a_hint_of_an_older_term_is_idle() {
        let router = router();
        router.failed(at(&router, 1), &not_leader(Some(3), 9));
        router.failed(at(&router, 3), &not_leader(Some(2), 8));
        assert_ne!(router.target(0).unwrap().node, 3);
        router.failed(at(&router, 1), &not_leader(Some(7), 9));
        assert!([1, 2, 3].contains(&router.target(0).unwrap().node), "7 is no member");
    }

    #[test]
    fn a_newer_map_replaces_and_an_older_one_does_not() {
        let router = router();
        let stale = |epoch| {
            CallError::Refused(Refusal {
                epoch,
                ..Refusal::new(Reason::StaleRoute, "x")
            })
        };
        router.failed(at(&router, 1), &stale(1));
        assert!(!router.needs_map(), "the node is no further than we are");
        router.failed(at(&router, 1), &stale(2));
        assert!(router.needs_map());
        let old = at(&router, 1);
        router.install(&routes(2, 4)).unwrap();
        assert_eq!((router.shards(), router.needs_map()), (4, false));
        router.install(&routes(1, 2)).unwrap();
        assert_eq!(router.shards(), 4);
        // What an attempt under the old map learnt says nothing about the new one.
        router.worked(Target { node: 3, ..old });
        assert_eq!(router.target(0).unwrap().node, 1);
    }

    #[test]
    fn a_map_of_the_same_epoch_brings_news_of_leaders_but_not_of_those_that_failed() {
        let router = router();
        router.worked(at(&router, 1));
        let mut news = routes(1, 2);
        news.routes[0].leader = 2;
        router.install(&news).unwrap();
        assert_eq!(router.target(0).unwrap().node, 2);
        router.failed(at(&router, 2), &lost());
        router.install(&news).unwrap();
        assert_eq!(router.target(0).unwrap().node, 3);
        router.handed_over(at(&router, 3), 1);
        assert_eq!(router.target(0).unwrap().node, 1);
    }

    #[test]
    fn a_map_with_holes_is_refused() {
        let mut holed = routes(1, 3);
        holed.routes.remove(1);
        assert!(Router::new().install(&holed).unwrap_err().contains("shard 1"));
        assert!(Router::new().install(&RoutesResponse::default()).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Whatever was heard before, a leader that serves is found within two rounds of the members while the others
        /// say nothing wrong.
        #[test]
        fn the_leader_is_found(
            past in proptest::collection::vec((1_u64..4, 0_u8..3, proptest::option::of(1_u64..4), 0_u64..20), 0..40),
            leader in 1_u64..4,
        ) {
            let router = router();
            for (node, kind, hint, term) in past {
                let target = at(&router, node);
                match kind {
                    0 => router.worked(target),
                    1 => router.failed(target, &lost()),
                    _ => router.failed(target, &not_leader(hint, term)),
                }
            }
            let mut tries = 0;
            loop {
                let target = router.target(0).unwrap();
                if target.node == leader {
                    break;
                }
                router.failed(target, &not_leader(None, 20));
                tries += 1;
                prop_assert!(tries <= 6, "still at {}", target.node);
            }
        }
    }
}
