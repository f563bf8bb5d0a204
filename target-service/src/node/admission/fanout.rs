//! Bounded fan-out: bytes of an outbox that are on their way and not acknowledged.
//!
//! One message to a large group leaves as one item for each shard of its members, body and all. What bounds the number of
//! items alone lets a few hundred large bodies through at once, between two nodes that have votes and heartbeats to exchange.

use std::collections::VecDeque;

/// What one outbox has on its way.
#[derive(Debug)]
pub(crate) struct InFlight {
    /// None where the protection is off.
    bytes_max: Option<usize>,
    bytes: usize,
    /// Sequences and sizes, in order.
    sent: VecDeque<(u64, usize)>,
}

impl InFlight {
    pub(crate) const fn new(bytes_max: Option<usize>) -> Self {
        Self {
            bytes_max,
            bytes: 0,
            sent: VecDeque::new(),
        }
    }

    /// How many of the items of these sizes may be sent now: as many as fit; one, if nothing is on its way, whatever its
    /// size.
    pub(crate) fn fitting(&self, sizes: impl IntoIterator<Item = usize>) -> usize {
        let Some(bytes_max) = self.bytes_max else {
            return usize::MAX;
        };
        let mut bytes = self.bytes;
        let mut fits = 0;
        for size in sizes {
            bytes += size;
            if bytes > bytes_max && (fits > 0 || self.bytes > 0) {
                break;
            }
            fits += 1;
        }
        fits
    }

    /// An item was sent.
    pub(crate) fn sent(&mut self, sequence: u64, size: usize) {
        if self.bytes_max.is_some() {
            self.bytes += size;
            self.sent.push_back((sequence, size));
        }
    }

    /// Everything up to `through` has arrived.
    pub(crate) fn acknowledged(&mut self, through: u64) {
        while let Some((sequence, size)) = self.sent.front().copied()
            && sequence <= through
        {
            self.sent.pop_front();
            self.bytes -= size;
        }
    }

    /// What was on its way counts as lost.
    pub(crate) fn lost(&mut self) {
        self.sent.clear();
        self.bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn one_item_always_goes_and_more_only_as_they_fit() {
        let mut in_flight = InFlight::new(Some(100));
        assert_eq!(in_flight.fitting([500, 1]), 1, "else it would never go");
        in_flight.sent(1, 60);
        assert_eq!(in_flight.fitting([30, 10, 1]), 2);
        assert_eq!(in_flight.fitting([41]), 0);
        in_flight.acknowledged(1);
        assert_eq!(in_flight.fitting([41, 59, 1]), 2);
        assert_eq!(InFlight::new(None).fitting([usize::MAX]), usize::MAX);
    }

    proptest! {
        /// Whatever is sent and acknowledged, there is never more on its way than the bound, but for a single item.
        #[test]
        fn the_bound_holds(steps in proptest::collection::vec((1..200usize, 0..4u8), 1..200)) {
            let mut in_flight = InFlight::new(Some(300));
            let (mut sent, mut acked) = (0, 0);
            for (size, step) in steps {
                match step {
                    0 => { acked = (acked + size as u64 % 5).min(sent); in_flight.acknowledged(acked); }
                    1 if size % 7 == 0 => { in_flight.lost(); sent = acked; }
                    _ => if in_flight.fitting([size]) == 1 { sent += 1; in_flight.sent(sent, size); },
                }
                prop_assert!(in_flight.bytes <= 300 || in_flight.sent.len() == 1);
                prop_assert_eq!(in_flight.sent.len() as u64, sent - acked);
            }
        }
    }
}
