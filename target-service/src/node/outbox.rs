//! Carrying a shard's outboxes to their recipient shards: the leader sends, the recipient's leader proposes and, once it
//! is committed, acknowledges. Everything here is lost with leadership and learnt again from the state machines.

use std::{collections::BTreeMap, time::Duration};

use firedrill_proto::chat::v1::{OutboxAck, OutboxBatch, OutboxItem, peer_message::Message};

use prost::Message as _;

use super::{admission::InFlight, net::Net};
use crate::chat::{ChatError, Machine};

/// Batches on their way before an acknowledgement is needed.
const WINDOW_BATCHES: u64 = 4;

/// Acknowledged items that are left in an outbox before they are trimmed, and for how long at most: fewer entries.
const TRIM_ITEMS: u64 = 256;
const TRIM_AFTER: Duration = Duration::from_millis(100);

/// For how long a batch isn't proposed again after its recipient had no room, unless anybody made room: each proposal is an
/// entry in the log, and the outbox repeats itself much faster than a device that is away comes back.
const FULL_RETRY: Duration = Duration::from_secs(2);
/// For how long not even then.
const FULL_RETRY_MIN: Duration = Duration::from_millis(300);

/// One outbox on its way.
#[derive(Debug)]
struct Pump {
    /// Gone from the outbox.
    trimmed: u64,
    acked: u64,
    sent: u64,
    resend_at: Duration,
    /// Batches that may be on their way: 1 while nothing is heard.
    window: u64,
    /// Which of the recipient's members is tried when its leader isn't known.
    turn: usize,
    trim_at: Option<Duration>,
    trimming: bool,
    in_flight: InFlight,
}

/// A way to find the nodes of another shard.
pub(super) trait Directory {
    /// The leader, as far as this node knows.
    fn leader(&self, shard: u32) -> Option<u64>;
    /// The members.
    fn members(&self, shard: u32) -> &[u64];
}

/// The outboxes of one shard that this node leads.
#[derive(Debug)]
pub(super) struct Outbox {
    shard: u32,
    batch: u64,
    /// Bytes on their way to one shard; none is no bound.
    bytes_max: Option<usize>,
    resend: Duration,
    pumps: BTreeMap<u32, Pump>,
}

impl Outbox {
    pub(super) const fn new(shard: u32, batch: usize, bytes_max: Option<usize>, resend: Duration) -> Self {
        Self {
            shard,
            batch: batch as u64,
            bytes_max,
            resend,
            pumps: BTreeMap::new(),
        }
    }

    /// This node leads now: begins with what the state machine says.
    pub(super) fn start(&mut self, machine: &Machine, now: Duration) -> Result<(), ChatError> {
        self.pumps.clear();
        for outbox in machine.outbox_shards()? {
            let pump = Pump::new(outbox.trimmed_through, self.bytes_max, now);
            self.pumps.insert(outbox.to_shard, pump);
        }
        Ok(())
    }

    pub(super) fn stop(&mut self) {
        self.pumps.clear();
    }

    /// Sends what the window allows to `to`.
    pub(super) fn pump(
        &mut self,
        to: u32,
        machine: &Machine,
        directory: &impl Directory,
        net: &mut Net,
        now: Duration,
    ) -> Result<(), ChatError> {
        let fresh = || Pump::new(0, self.bytes_max, now);
        let pump = self.pumps.entry(to).or_insert_with(fresh);
        while pump.sent - pump.acked < self.batch * pump.window {
            let mut items = machine.outbox_pending(to, pump.sent, self.batch as usize)?;
            // What doesn't fit goes once the recipient has acknowledged some of it.
            items.truncate(pump.in_flight.fitting(items.iter().map(OutboxItem::encoded_len)));
            let Some(last) = items.last().map(|item| item.outbox_sequence) else {
                break;
            };
            if pump.sent == pump.acked {
                pump.resend_at = now + self.resend;
            }
            pump.sent = last;
            for item in &items {
                pump.in_flight.sent(item.outbox_sequence, item.encoded_len());
            }
            let members = directory.members(to);
            let node = match directory.leader(to) {
                Some(leader) => leader,
                None if members.is_empty() => break,
                None => members[pump.turn % members.len()],
            };
            let batch = OutboxBatch {
                from_shard: self.shard,
                to_shard: to,
                items,
            };
            net.send(node, to, Message::Outbox(batch));
        }
        Ok(())
    }

    /// The recipient has committed everything up to `through`.
    pub(super) fn acknowledged(&mut self, ack: OutboxAck, now: Duration) {
        if let Some(pump) = self.pumps.get_mut(&ack.to_shard)
            && ack.through > pump.acked
        {
            pump.acked = ack.through;
            pump.in_flight.acknowledged(ack.through);
            pump.sent = pump.sent.max(ack.through);
            pump.window = WINDOW_BATCHES;
            pump.resend_at = now + self.resend;
            pump.trim_at = pump.trim_at.or(Some(now + TRIM_AFTER));
        }
    }

    /// Outboxes whose batches were not acknowledged in time: they go back to where they were, and are sent anew.
    pub(super) fn overdue(&mut self, now: Duration) -> Vec<u32> {
        let mut overdue = Vec::new();
        for (to, pump) in &mut self.pumps {
            if pump.sent > pump.acked && now >= pump.resend_at {
                pump.sent = pump.acked;
                pump.in_flight.lost();
                pump.window = 1;
                pump.turn = pump.turn.wrapping_add(1);
                overdue.push(*to);
            }
        }
        overdue
    }

    /// Outboxes to be trimmed now, and up to where. Each is named once until [`Outbox::trimmed`].
    pub(super) fn due_for_trim(&mut self, now: Duration) -> Vec<(u32, u64)> {
        let mut due = Vec::new();
        for (to, pump) in &mut self.pumps {
            let enough = pump.acked - pump.trimmed >= TRIM_ITEMS || pump.trim_at.is_some_and(|at| now >= at);
            if enough && !pump.trimming && pump.acked > pump.trimmed {
                pump.trimming = true;
                pump.trim_at = None;
                due.push((*to, pump.acked));
            }
        }
        due
    }

    /// Trimming ended, successfully or not.
    pub(super) fn trimmed(&mut self, to: u32, through: Option<u64>, now: Duration) {
        if let Some(pump) = self.pumps.get_mut(&to) {
            pump.trimming = false;
            pump.trimmed = pump.trimmed.max(through.unwrap_or_default());
            if pump.trimmed < pump.acked {
                pump.trim_at = pump.trim_at.or(Some(now + TRIM_AFTER));
            }
        }
    }
}

impl Pump {
    const fn new(trimmed: u64, bytes_max: Option<usize>, now: Duration) -> Self {
        Self {
            in_flight: InFlight::new(bytes_max),
            trimmed,
            acked: trimmed,
            sent: trimmed,
            resend_at: now,
            window: WINDOW_BATCHES,
            turn: 0,
            trim_at: None,
            trimming: false,
        }
    }
}

/// What this node, leading a shard, is taking in of another shard's outbox.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Intake {
    /// Everything up to here is proposed, if not accepted already.
    pub(super) proposed: u64,
    /// Who sent last: acknowledgements go there.
    pub(super) origin: u64,
    /// Since when the recipient of what comes next is known to have no room, and whether somebody made room since.
    full: Option<(Duration, bool)>,
}

/// What to do about a batch.
#[derive(Debug, PartialEq)]
pub(super) enum Intent {
    /// All of it is known, or a part before it is missing: say how far it is accepted.
    Acknowledge,
    /// All of it that is new is on its way already.
    Wait,
    /// Propose these.
    Propose(Vec<OutboxItem>),
}

impl Intake {
    /// What was proposed was accepted up to `accepted` only: what stands there has no room, and what was proposed behind
    /// it fares the same.
    pub(super) fn found_full(&mut self, accepted: u64, now: Duration) {
        self.proposed = accepted;
        self.full = Some((now, false));
    }

    /// All that was proposed was accepted.
    pub(super) const fn found_room(&mut self) {
        self.full = None;
    }

    /// Somebody made room; whether it is the one that is waited for is seen by proposing.
    pub(super) const fn room_was_made(&mut self) {
        if let Some((_, room_made)) = &mut self.full {
            *room_made = true;
        }
    }

    fn is_full(&self, now: Duration) -> bool {
        self.full.is_some_and(|(since, room_made)| {
            let retry = if room_made { FULL_RETRY_MIN } else { FULL_RETRY };
            now < since + retry
        })
    }

    /// Looks at a batch, `accepted` being what the state machine has.
    pub(super) fn consider(&self, items: Vec<OutboxItem>, accepted: u64, now: Duration) -> Intent {
        if self.is_full(now) {
            return Intent::Acknowledge;
        }
        let known = accepted.max(self.proposed);
        match items.last() {
            Some(last) if last.outbox_sequence > known => {}
            Some(last) if last.outbox_sequence > accepted => return Intent::Wait,
            _ => return Intent::Acknowledge,
        }
        let fresh: Vec<_> = items.into_iter().filter(|item| item.outbox_sequence > known).collect();
        let expected = (known + 1..).zip(&fresh);
        if { expected }.all(|(sequence, item)| item.outbox_sequence == sequence) {
            Intent::Propose(fresh)
        } else {
            Intent::Acknowledge
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn items(range: std::ops::RangeInclusive<u64>) -> Vec<OutboxItem> {
        range
            .map(|outbox_sequence| OutboxItem {
                outbox_sequence,
                ..Default::default()
            })
            .collect()
    }

    #[test]
    fn a_batch_is_proposed_once_and_only_what_follows() {
        let intake = Intake {
            proposed: 5,
            origin: 1,
            full: None,
        };
        let now = Duration::ZERO;
        assert_eq!(intake.consider(items(1..=3), 3, now), Intent::Acknowledge);
        assert_eq!(intake.consider(items(2..=5), 3, now), Intent::Wait);
        assert_eq!(intake.consider(items(2..=7), 3, now), Intent::Propose(items(6..=7)));
        assert_eq!(intake.consider(items(7..=8), 3, now), Intent::Acknowledge, "a gap");
        assert_eq!(intake.consider(items(9..=9), 8, now), Intent::Propose(items(9..=9)));
        assert_eq!(intake.consider(Vec::new(), 3, now), Intent::Acknowledge);
    }

    #[test]
    fn a_full_recipient_is_not_asked_again_for_a_while() {
        let ms = Duration::from_millis;
        let mut intake = Intake {
            proposed: 8,
            ..Intake::default()
        };
        intake.found_full(3, ms(100));
        assert_eq!(intake.consider(items(4..=8), 3, ms(2099)), Intent::Acknowledge);
        assert_eq!(
            intake.consider(items(4..=8), 3, ms(2100)),
            Intent::Propose(items(4..=8))
        );
        intake.room_was_made();
        assert_eq!(intake.consider(items(4..=8), 3, ms(399)), Intent::Acknowledge);
        assert_eq!(intake.consider(items(4..=8), 3, ms(400)), Intent::Propose(items(4..=8)));
        intake.found_full(3, ms(400));
        assert_eq!(
            intake.consider(items(4..=8), 3, ms(700)),
            Intent::Acknowledge,
            "it was another's room"
        );
        intake.found_room();
        assert_eq!(intake.consider(items(4..=8), 3, ms(700)), Intent::Propose(items(4..=8)));
    }

    #[test]
    fn an_outbox_is_trimmed_when_it_is_worth_it_or_after_a_while() {
        let ms = Duration::from_millis;
        let ack = |through| OutboxAck {
            from_shard: 0,
            to_shard: 2,
            through,
        };
        let mut outbox = Outbox::new(0, 128, None, ms(150));
        outbox.pumps.insert(2, Pump::new(0, None, ms(0)));
        outbox.acknowledged(ack(10), ms(0));
        assert!(outbox.due_for_trim(ms(50)).is_empty());
        assert_eq!(outbox.due_for_trim(ms(100)), [(2, 10)]);
        outbox.acknowledged(ack(400), ms(100));
        assert!(outbox.due_for_trim(ms(300)).is_empty(), "one at a time");
        outbox.trimmed(2, Some(10), ms(300));
        assert_eq!(outbox.due_for_trim(ms(300)), [(2, 400)]);
        outbox.trimmed(2, None, ms(301));
        assert!(outbox.due_for_trim(ms(302)).len() == 1, "a failed trim is tried again");
    }

    #[test]
    fn what_is_not_acknowledged_goes_back_and_is_tried_elsewhere() {
        let ms = Duration::from_millis;
        let mut outbox = Outbox::new(0, 128, None, ms(150));
        let mut pump = Pump::new(7, None, ms(0));
        pump.sent = 20;
        pump.resend_at = ms(150);
        outbox.pumps.insert(2, pump);
        assert!(outbox.overdue(ms(149)).is_empty());
        assert_eq!(outbox.overdue(ms(150)), [2]);
        let pump = &outbox.pumps[&2];
        assert_eq!((pump.sent, pump.window, pump.turn), (7, 1, 1));
        assert!(outbox.overdue(ms(500)).is_empty(), "nothing is on its way");
    }
}
