//! Stream gap: a device's stream skips a position and goes on. (The difference protocols of Telegram and Discord: apply
//! when local + 1, ignore when smaller, a gap when larger.)

use super::{Promise, Tally, words};
use crate::history::{DeviceEvent, History, SessionChange, SystemView};

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
                    DeviceEvent::Session(index) => {
                        // The first connection says where the stream begins for this device.
                        if let SessionChange::Connected { after, .. } = system.sessions[*index].change {
                            last = last.or(Some(after));
                        }
                    }
                    DeviceEvent::Shown(index) => {
                        let shown = &system.shown[*index];
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
                                    "{} was shown sequence {} at {} right after {before}",
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
