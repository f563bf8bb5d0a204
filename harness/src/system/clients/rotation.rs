//! Which node is asked: one, until an attempt there does not end well; then the next.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::ClientNode;

/// The nodes in order, and the one that is asked now.
#[derive(Debug)]
pub(super) struct Rotation {
    nodes: Vec<ClientNode>,
    current: AtomicUsize,
}

/// An attempt on one node. Dropped before [`Try::went_well`], as a caller does that has waited long enough, it counts
/// against the node.
#[derive(Debug)]
pub(super) struct Try<'a> {
    rotation: &'a Rotation,
    index: usize,
    well: bool,
}

impl Rotation {
    /// `nodes` is not empty.
    pub(super) fn new(nodes: Vec<ClientNode>) -> Self {
        Self {
            nodes,
            current: AtomicUsize::new(0),
        }
    }

    /// The node to ask now; none when there is none at all.
    pub(super) fn try_current(&self) -> Option<Try<'_>> {
        let index = self.current.load(Ordering::Relaxed);
        (index < self.nodes.len()).then(|| Try {
            rotation: self,
            index,
            well: false,
        })
    }
}

impl Try<'_> {
    pub(super) fn node(&self) -> &ClientNode {
        &self.rotation.nodes[self.index]
    }

    pub(super) fn index(&self) -> usize {
        self.index
    }

    /// The node answered as a node that is well does, be it with a refusal.
    pub(super) fn went_well(mut self) {
        self.well = true;
    }
}

impl Drop for Try<'_> {
    fn drop(&mut self) {
        if self.well {
            return;
        }
        // Only who still asks this node moves on: of many attempts that fail together, one moves, and once.
        let next = (self.index + 1) % self.rotation.nodes.len();
        let current = &self.rotation.current;
        let _moved = current.compare_exchange(self.index, next, Ordering::Relaxed, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rotation(count: u16) -> Rotation {
        let node = |i: u16| ClientNode {
            name: format!("n{i}"),
            address: ([127, 0, 0, 1], i).into(),
        };
        Rotation::new((1..=count).map(node).collect())
    }

    #[test]
    fn it_stays_while_all_is_well_and_moves_once_for_many_failures() {
        let nodes = rotation(3);
        let asked = || nodes.try_current().expect("there are nodes");
        asked().went_well();
        assert_eq!(asked().node().name, "n1");
        let (a, b) = (asked(), asked());
        assert_eq!(
            (a.index(), b.index()),
            (1, 1),
            "the look before was dropped and moved it"
        );
        drop(a);
        drop(b);
        let third = asked();
        assert_eq!(third.node().name, "n3");
        drop(third);
        assert_eq!(asked().node().name, "n1", "and round again");
        assert!(rotation(0).try_current().is_none());
    }
}
