//! Outboxes to other shards: durable queues, in order, from which the leader sends.

use std::collections::BTreeMap;

use firedrill_proto::chat::v1::{OutboxItem, TrimOutboxCommand};

use super::{Applier, Step};
use crate::chat::{error::ChatError, ids, keys::Key, records::OutboxHead, refused::Refused, reply::Reply, store};

/// Recipients by the shard that owns them.
pub(super) type ByShard = BTreeMap<u32, Vec<u64>>;

impl Applier<'_> {
    /// Deals `users` to their shards. Each shard is sent one item for all of its users.
    pub(super) fn by_shard(&self, users: impl IntoIterator<Item = u64>) -> ByShard {
        let mut dealt = ByShard::new();
        for user in users {
            dealt.entry(ids::owner(user, self.meta.shards)).or_default().push(user);
        }
        dealt
    }

    /// Whether each of these outboxes takes another item: all of them, or the work that fills them is refused.
    pub(super) fn room_in_outboxes(&self, shards: impl IntoIterator<Item = u32>, max: u64) -> Step<()> {
        for to_shard in shards {
            let head: OutboxHead = store::get(&self.table, &Key::outbox_head(to_shard))?.unwrap_or_default();
            if head.last_sequence - head.trimmed_through >= max {
                return Ok(Err(Refused::Full {
                    what: "the outbox to a recipient's shard",
                    max,
                }));
            }
        }
        Ok(Ok(()))
    }

    /// Appends one item, without its sequence, to each shard's outbox, for the users dealt to it.
    pub(super) fn post(&mut self, to: ByShard, item: &OutboxItem) -> Result<(), ChatError> {
        for (to_shard, recipients) in to {
            let item = OutboxItem {
                recipients,
                ..item.clone()
            };
            self.post_one(to_shard, item)?;
        }
        Ok(())
    }

    /// Appends one item, without its sequence, to the outbox to a shard.
    pub(super) fn post_one(&mut self, to_shard: u32, mut item: OutboxItem) -> Result<(), ChatError> {
        let head_key = Key::outbox_head(to_shard);
        let mut head: OutboxHead = store::get(&self.table, &head_key)?.unwrap_or_default();
        head.last_sequence += 1;
        item.outbox_sequence = head.last_sequence;
        store::put(&mut self.table, &Key::outbox(to_shard, head.last_sequence), &item)?;
        store::put(&mut self.table, &head_key, &head)?;
        self.meta.outbox_backlog += 1;
        self.applied.outboxes.insert(to_shard);
        Ok(())
    }

    /// Trims several outboxes: all of them, or none.
    pub(super) fn trim_outboxes(&mut self, outboxes: &[TrimOutboxCommand]) -> Step<Reply> {
        for it in outboxes {
            let head: OutboxHead = store::get(&self.table, &Key::outbox_head(it.to_shard))?.unwrap_or_default();
            if it.through > head.last_sequence {
                return Ok(Err(Refused::Malformed {
                    what: "it trims more of an outbox than was ever in it",
                }));
            }
        }
        let mut trimmed = BTreeMap::new();
        for it in outboxes {
            if let Ok(Reply::Trimmed { to_shard, through }) = self.trim_outbox(it.to_shard, it.through)? {
                trimmed.insert(to_shard, through);
            }
        }
        Ok(Ok(Reply::TrimmedAll(trimmed)))
    }

    /// Forgets what the recipient shard has accepted.
    pub(super) fn trim_outbox(&mut self, to_shard: u32, through: u64) -> Step<Reply> {
        let key = Key::outbox_head(to_shard);
        let mut head: OutboxHead = store::get(&self.table, &key)?.unwrap_or_default();
        if through > head.last_sequence {
            return Ok(Err(Refused::Malformed {
                what: "it trims more of an outbox than was ever in it",
            }));
        }
        if through > head.trimmed_through {
            for sequence in head.trimmed_through + 1..=through {
                self.trim(&Key::outbox(to_shard, sequence))?;
                self.meta.outbox_backlog -= 1;
            }
            head.trimmed_through = through;
            store::put(&mut self.table, &key, &head)?;
        }
        Ok(Ok(Reply::Trimmed {
            to_shard,
            through: head.trimmed_through,
        }))
    }
}
