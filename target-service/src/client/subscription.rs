//! A device's stream, and how it ended.

use std::{fmt, time::Duration};

use firedrill_proto::chat::v1::{SubscribeEvent, subscribe_event::Event};
use tonic::Streaming;

use super::{
    error::CallError,
    router::{Router, Target},
};

/// Why a stream gives nothing more. None of these lost anything: the device goes on from its cursor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StreamEnd {
    /// The service ended it and said why.
    Refused(CallError),
    /// The connection broke.
    Lost(String),
    /// Not even a heartbeat came for this long.
    Silent(Duration),
    /// The service ended it without a reason.
    Closed,
}

impl fmt::Display for StreamEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(why) => why.fmt(f),
            Self::Lost(why) => write!(f, "connection lost: {why}"),
            Self::Silent(waited) => write!(f, "silent for {} ms", waited.as_millis()),
            Self::Closed => f.write_str("closed by the service"),
        }
    }
}

/// A device's stream at one node. Dropping it unsubscribes.
#[derive(Debug)]
pub struct Subscription {
    pub(crate) events: Streaming<SubscribeEvent>,
    pub(crate) target: Target,
    pub(crate) router: Router,
    pub(crate) silence_max: Duration,
}

impl Subscription {
    /// Where the stream comes from.
    #[must_use]
    pub const fn target(&self) -> Target {
        self.target
    }

    /// The next event. Once this has failed the stream is over.
    ///
    /// # Errors
    /// [`StreamEnd`], within the client's silence bound if need be.
    pub async fn next(&mut self) -> Result<Event, StreamEnd> {
        // An event of a kind that this version doesn't know is skipped. The bound is on each wait, so a stream of
        // nothing but such events would still be alive.
        loop {
            let Ok(next) = tokio::time::timeout(self.silence_max, self.events.message()).await else {
                return Err(StreamEnd::Silent(self.silence_max));
            };
            match next {
                Ok(Some(SubscribeEvent { event: Some(event) })) => return Ok(event),
                Ok(Some(SubscribeEvent { event: None })) => {}
                Ok(None) => return Err(StreamEnd::Closed),
                Err(status) => {
                    let error = CallError::from_status(&status);
                    self.router.failed(self.target, &error);
                    return Err(match error {
                        CallError::Refused(_) => StreamEnd::Refused(error),
                        CallError::NotSent(why) | CallError::Unknown { message: why, .. } => StreamEnd::Lost(why),
                    });
                }
            }
        }
    }
}
