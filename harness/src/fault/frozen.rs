//! Which faults hold which nodes frozen: a node goes on only when the last of them has ended.

use std::collections::{BTreeMap, BTreeSet};

use crate::target::NodeName;

/// The nodes that are frozen, and by whom.
#[derive(Debug, Default)]
pub(super) struct Frozen {
    by: BTreeMap<NodeName, BTreeSet<String>>,
}

impl Frozen {
    /// Fault `id` freezes `nodes`.
    pub(super) fn hold(&mut self, id: &str, nodes: &[NodeName]) {
        for node in nodes {
            self.by.entry(node.clone()).or_default().insert(id.to_owned());
        }
    }

    /// Fault `id` lets go of `nodes`: those that nobody holds any more, and those that another fault still holds.
    pub(super) fn release(&mut self, id: &str, nodes: &[NodeName]) -> (Vec<NodeName>, Vec<NodeName>) {
        nodes.iter().cloned().partition(|node| {
            let Some(by) = self.by.get_mut(node) else { return true };
            by.remove(id);
            let free = by.is_empty();
            if free {
                self.by.remove(node);
            }
            free
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<NodeName> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn a_node_goes_on_when_the_last_fault_lets_go() {
        let mut frozen = Frozen::default();
        frozen.hold("1", &names(&["n1", "n2"]));
        frozen.hold("2", &names(&["n1"]));
        assert_eq!(frozen.release("2", &names(&["n1"])), (names(&[]), names(&["n1"])));
        assert_eq!(
            frozen.release("1", &names(&["n1", "n2"])),
            (names(&["n1", "n2"]), names(&[]))
        );
        assert_eq!(
            frozen.release("1", &names(&["n1"])),
            (names(&["n1"]), names(&[])),
            "once more does no harm"
        );
    }
}
