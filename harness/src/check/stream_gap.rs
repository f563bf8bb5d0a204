//! Stream gap: a device's stream skips a position and goes on. (The difference protocols of Telegram and Discord: apply
//! when local + 1, ignore when smaller, a gap when larger.) A device that is sent a later sequence shows nothing, gives
//! the stream up and asks again from its cursor: that is how it mends a gap, and how a gap is seen.

use super::{Promise, Tally, words};
use crate::history::{DeviceEvent, History, LOST_TO_A_GAP, SessionChange, SystemView};

pub(super) struct StreamGap;

impl Promise for StreamGap {
    fn name(&self) -> &'static str {
        "stream-gap"
    }

    fn about(&self) -> &'static str {
        "a device's stream has every position"
    }

    fn judge(&self, _: &History, system: &SystemView, tally: &mut Tally) {
        tally.needs("nothing was shown");
        for ((user, device), known) in &system.devices {
            let mut last: Option<u64> = None;
            let mut incarnation = None;
            for (at, event) in &known.timeline {
                match event {
                    DeviceEvent::Session(index) => match &system.sessions[*index].change {
                        // The first connection says where the stream begins for this device.
                        SessionChange::Connected { after, .. } => last = last.or(Some(*after)),
                        SessionChange::Lost { reason } if reason == LOST_TO_A_GAP => {
                            tally.oblige(1);
                            tally.broken(*at, || {
                                format!(
                                    "{} was sent something else than the next after {} and gave its stream up at {}",
                                    words::device(*user, *device),
                                    last.unwrap_or(0),
                                    words::at(*at)
                                )
                            });
                        }
                        _ => {}
                    },
                    DeviceEvent::Shown(_) | DeviceEvent::Noticed(_) => {
                        let Some(shown) = system.entry(*event) else { continue };
                        if incarnation.is_some_and(|known| known != shown.incarnation) {
                            last = None;
                        }
                        incarnation = Some(shown.incarnation);
                        let Some(before) = last else {
                            last = Some(shown.sequence);
                            continue;
                        };
                        tally.oblige(1);
                        if shown.sequence > before.saturating_add(1) {
                            tally.broken(*at, || {
                                format!(
                                    "{} was given sequence {} at {} right after {before}",
                                    words::device(*user, *device),
                                    shown.sequence,
                                    words::at(*at)
                                )
                            });
                        }
                        last = Some(before.max(shown.sequence));
                    }
                }
            }
        }
    }
}
