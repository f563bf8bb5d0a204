//! The directory: how it is made to answer something else than it knows, and how that shows.

use std::{collections::BTreeSet, time::Duration};

use firedrill_proto::chat::v1::{DistortRequest, DistortionKind};
use target_service::{client::Directory, discovery::Answer};

use crate::{base::RunClock, system::Answering};

/// How long the directory may take to answer.
pub(super) const ANSWER_WITHIN: Duration = Duration::from_secs(2);
/// How long the end of it may take to show: gateways say anew that they are there.
const SHOW_WITHIN: Duration = Duration::from_secs(15);
/// Between two looks.
const AGAIN_AFTER: Duration = Duration::from_millis(50);
/// No fault lasts as long: the directory ends it by itself then.
const LASTS: Duration = Duration::from_secs(3600);
/// Where nobody listens.
const NOWHERE: &str = "127.0.0.1:1";

/// Asks the directory to answer so, or what it knows where `answering` is none.
pub(super) async fn set(directory: &Directory, answering: Option<&Answering>) -> Result<String, String> {
    let mut request = DistortRequest {
        for_ms: u64::try_from(LASTS.as_millis()).unwrap_or(u64::MAX),
        ..DistortRequest::default()
    };
    let kind = match answering {
        None => DistortionKind::None,
        Some(Answering::Empty) => DistortionKind::Empty,
        Some(Answering::Stale) => DistortionKind::Stale,
        Some(Answering::Poison) => {
            NOWHERE.clone_into(&mut request.address);
            DistortionKind::Poison
        }
        Some(Answering::Without(names)) => {
            request.names.clone_from(names);
            DistortionKind::Without
        }
        Some(Answering::Ttl(ttl)) => {
            request.ttl_ms = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
            DistortionKind::Ttl
        }
    };
    request.kind = kind.into();
    let taken = directory.distort(request).await;
    taken.map_err(|error| format!("the directory did not take it: {error}"))?;
    Ok(format!("the directory was asked for {}", kind.as_str_name()))
}

/// Asks the directory, as somebody who looks for a gateway does, until it answers so.
pub(super) async fn show(directory: &Directory, answering: Option<&Answering>) -> Result<String, String> {
    let clock = RunClock::start();
    let deadline = clock.now().plus(SHOW_WITHIN);
    loop {
        let seen = match (directory.resolve().await, directory.status().await) {
            (Ok(answer), Ok(status)) => {
                let said = words(&answer);
                if is_so(answering, &answer, status.distortion(), status.live) {
                    return Ok(said);
                }
                said
            }
            (Err(error), _) | (_, Err(error)) => format!("the directory gave no answer: {error}"),
        };
        if clock.now() >= deadline {
            return Err(seen);
        }
        clock.sleep(AGAIN_AFTER).await;
    }
}

/// Whether this is how it answers then.
fn is_so(answering: Option<&Answering>, answer: &Answer, kind: DistortionKind, live: u64) -> bool {
    let doors = &answer.doors;
    match answering {
        None => kind == DistortionKind::None && (live == 0 || !doors.is_empty()),
        Some(Answering::Empty) => doors.is_empty(),
        Some(Answering::Stale) => kind == DistortionKind::Stale,
        Some(Answering::Poison) => !doors.is_empty() && doors.iter().all(|door| door.address == NOWHERE),
        Some(Answering::Without(names)) => {
            let without: BTreeSet<&String> = names.iter().collect();
            kind == DistortionKind::Without && doors.iter().all(|door| !without.contains(&door.name))
        }
        Some(Answering::Ttl(ttl)) => answer.ttl == *ttl,
    }
}

fn words(answer: &Answer) -> String {
    let doors: Vec<String> = answer
        .doors
        .iter()
        .map(|door| format!("{} at {}", door.name, door.address))
        .collect();
    let doors = if doors.is_empty() {
        "nobody".to_owned()
    } else {
        doors.join(", ")
    };
    format!("it answers {doors}, for {} ms", answer.ttl.as_millis())
}
