//! A device's stream: messages and what is no message count through one sequence.

use super::{Device, DeviceEvent, SystemView};

/// One entry of a device's stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// How often the device had connected.
    pub connection: u32,
    /// The server's incarnation of the stream.
    pub incarnation: u64,
    /// Position in the stream.
    pub sequence: u64,
    /// True when the device dropped it as a repetition.
    pub repeated_on_wire: bool,
    /// The message that it is; none when it is none, or could not be read.
    pub item: Option<u64>,
}

impl SystemView {
    /// The entry of a stream that happened on a device, if it was one.
    #[must_use]
    pub fn entry(&self, event: DeviceEvent) -> Option<Entry> {
        match event {
            DeviceEvent::Shown(index) => {
                let shown = &self.shown[index];
                Some(Entry {
                    connection: shown.connection,
                    incarnation: shown.incarnation,
                    sequence: shown.sequence,
                    repeated_on_wire: shown.repeated_on_wire,
                    item: shown.item,
                })
            }
            DeviceEvent::Noticed(index) => {
                let noticed = &self.noticed[index];
                Some(Entry {
                    connection: noticed.connection,
                    incarnation: noticed.incarnation,
                    sequence: noticed.sequence,
                    repeated_on_wire: noticed.repeated_on_wire,
                    item: None,
                })
            }
            DeviceEvent::Session(_) => None,
        }
    }

    /// The entries of a device's stream in the order in which they came.
    pub fn entries<'a>(&'a self, device: &'a Device) -> impl Iterator<Item = Entry> + 'a {
        device.timeline.iter().filter_map(|(_, event)| self.entry(*event))
    }
}
