//! Everything that any observer saw, one after the other: shown on a device, or found by a read.

use super::words;
use crate::{base::Nanos, history::SystemView};

/// One sighting of a body.
pub(super) struct Seen<'a> {
    pub(super) at: Nanos,
    pub(super) item: Option<u64>,
    pub(super) hash: u64,
    pub(super) author: u64,
    pub(super) log: &'a str,
    pub(super) position: u64,
    /// Who saw it, for what was shown and what somebody was told.
    pub(super) user: Option<u64>,
    device: u32,
    told: bool,
}

impl Seen<'_> {
    /// Where it was seen, in words.
    pub(super) fn place(&self) -> String {
        let (log, position, at) = (self.log, self.position, words::at(self.at));
        match self.user {
            Some(user) => format!(
                "{} {} at {at} ({log}/{position})",
                if self.told { "read on" } else { "shown on" },
                words::device(user, self.device)
            ),
            None => format!("read at {at} ({log}/{position})"),
        }
    }
}

pub(super) fn all(system: &SystemView) -> impl Iterator<Item = Seen<'_>> {
    let shown = system.shown.iter().map(|s| Seen {
        at: s.at,
        item: s.item,
        hash: s.hash,
        author: s.author,
        log: &s.log,
        position: s.position,
        user: Some(s.user),
        device: s.device,
        told: false,
    });
    let read = system.reads.iter().flat_map(|r| {
        r.items.iter().map(|i| Seen {
            at: r.ended,
            item: i.item,
            hash: i.hash,
            author: i.author,
            log: &r.log,
            position: i.position,
            user: None,
            device: 0,
            told: false,
        })
    });
    let told = system.told.iter().flat_map(|told| {
        let messages = told.answer.messages().into_iter();
        messages.flat_map(move |(log, items)| {
            items.iter().map(move |i| Seen {
                at: told.ended,
                item: i.item,
                hash: i.hash,
                author: i.author,
                log,
                position: i.position,
                user: Some(told.user),
                device: told.device,
                told: true,
            })
        })
    });
    shown.chain(read).chain(told)
}
