//! Bad resume: after reconnecting from its cursor, a device loses or is sent again what the cursor had covered.

use super::{Promise, Tally, words};
use crate::history::{DeviceEvent, History, LOST_TO_A_GAP, SessionChange, SystemView};

pub(super) struct BadResume;

impl Promise for BadResume {
    fn name(&self) -> &'static str {
        "bad-resume"
    }

    fn about(&self) -> &'static str {
        "a stream goes on right after the cursor that was asked for"
    }

    fn judge(&self, _: &History, system: &SystemView, tally: &mut Tally) {
        tally.needs("no device reconnected and was then shown anything");
        for ((user, device), known) in &system.devices {
            let mut asked: Option<u64> = None;
            let mut incarnation = None;
            for (at, event) in &known.timeline {
                match event {
                    DeviceEvent::Session(index) => match &system.sessions[*index].change {
                        SessionChange::Connected { after, connection } if *connection > 1 => asked = Some(*after),
                        SessionChange::Current { .. } => {}
                        // What came first was not shown, since it was not the next.
                        SessionChange::Lost { reason } if reason == LOST_TO_A_GAP => {
                            if let Some(after) = asked.take() {
                                tally.oblige(1);
                                tally.broken(*at, || {
                                    format!(
                                        "{} resumed after {after} and was sent a later sequence than the next first at {}: the resume lost what came between",
                                        words::device(*user, *device),
                                        words::at(*at)
                                    )
                                });
                            }
                        }
                        _ => asked = None,
                    },
                    DeviceEvent::Shown(_) | DeviceEvent::Noticed(_) => {
                        let Some(shown) = system.entry(*event) else { continue };
                        let same = incarnation.is_none_or(|known| known == shown.incarnation);
                        incarnation = Some(shown.incarnation);
                        let Some(after) = asked.take().filter(|_| same) else {
                            continue;
                        };
                        tally.oblige(1);
                        if shown.sequence != after.saturating_add(1) {
                            tally.broken(*at, || {
                                let how = if shown.sequence > after {
                                    "lost what came between"
                                } else {
                                    "repeated what it had"
                                };
                                format!(
                                    "{} resumed after {after} and was sent {} first at {}: the resume {how}",
                                    words::device(*user, *device),
                                    shown.sequence,
                                    words::at(*at)
                                )
                            });
                        }
                    }
                }
            }
        }
    }
}
