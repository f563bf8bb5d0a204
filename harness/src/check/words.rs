//! How a witness names things.

use crate::{
    base::Nanos,
    history::{Item, SystemView},
};

/// A time of the run: `12.345 s`.
pub(super) fn at(time: Nanos) -> String {
    format!("{:.3} s", time.as_millis_f64() / 1e3)
}

/// A message with its own story.
pub(super) fn message(item: &Item) -> String {
    let acked = match (item.acked, &item.acked_by) {
        (Some(time), Some(node)) => format!("acknowledged {} by {node}", at(time)),
        (Some(time), None) => format!("acknowledged {}", at(time)),
        (None, _) => match item.seen {
            Some(time) => format!("never acknowledged, first seen {}", at(time)),
            None => "never acknowledged".to_owned(),
        },
    };
    format!(
        "message {} (user {} in {}, sent {}, {acked})",
        item.item,
        item.author,
        item.log,
        at(item.sent)
    )
}

/// A message by its number, with its story where it has one.
pub(super) fn message_by_number(system: &SystemView, item: u64) -> String {
    system
        .items
        .get(&item)
        .map_or_else(|| format!("message {item}"), message)
}

/// A device.
pub(super) fn device(user: u64, device: u32) -> String {
    format!("device {device} of user {user}")
}
