//! Refusals on the wire: the one place that knows how a [`Refusal`] is written as a gRPC status and read from one.
//!
//! The contract stands atop `messaging.proto`: `ErrorInfo` of the domain `chat.v1` holds the reason and what a client
//! acts on, `RetryInfo` when to come back. The code is for those who look no further.

use tonic::{Code, Status};
use tonic_types::{ErrorDetail, ErrorInfo, RetryInfo, StatusExt as _};

use crate::node::{Reason, Refusal};

/// The `ErrorInfo` domain of every refusal.
pub const DOMAIN: &str = "chat.v1";

/// Longest message of a refusal on the wire, in bytes: it travels in a header.
const MESSAGE_BYTES_MAX: usize = 1024;

const fn code(reason: Reason) -> Code {
    match reason {
        Reason::NotLeader | Reason::NoQuorum | Reason::VerificationDown => Code::Unavailable,
        Reason::WrongCode | Reason::NotMember => Code::PermissionDenied,
        Reason::Resync => Code::OutOfRange,
        Reason::StaleRoute | Reason::SessionEnded | Reason::GroupFull => Code::FailedPrecondition,
        Reason::UnsupportedVersion => Code::FailedPrecondition,
        Reason::BrokenBuild => Code::Internal,
        Reason::Overloaded => Code::ResourceExhausted,
        Reason::NoSuchUser | Reason::NoSuchDevice | Reason::NoSuchConversation => Code::NotFound,
        Reason::Invalid => Code::InvalidArgument,
        Reason::Expired => Code::DeadlineExceeded,
        Reason::Maybe => Code::Unknown,
    }
}

/// Writes a refusal as a status.
#[must_use]
pub fn to_status(refusal: &Refusal) -> Status {
    let numbers = [
        ("shard", refusal.shard.map(u64::from)),
        ("leader", refusal.leader),
        ("term", (refusal.term > 0).then_some(refusal.term)),
        ("epoch", (refusal.epoch > 0).then_some(refusal.epoch)),
    ];
    let known = numbers
        .into_iter()
        .filter_map(|(key, value)| Some((key.to_owned(), value?.to_string())));
    let info = ErrorInfo {
        reason: refusal.reason.as_str().to_owned(),
        domain: DOMAIN.to_owned(),
        metadata: known.collect(),
    };
    let mut details = vec![ErrorDetail::ErrorInfo(info)];
    if refusal.retry_after.is_some() {
        details.push(RetryInfo::new(refusal.retry_after).into());
    }
    let message = &refusal.message;
    let longest = message.len().min(MESSAGE_BYTES_MAX);
    let end = (0..=longest)
        .rev()
        .find(|at| message.is_char_boundary(*at))
        .unwrap_or(0);
    Status::with_error_details_vec(code(refusal.reason), &message[..end], details)
}

/// Reads a refusal from a status; `None` when the status is none of ours.
#[must_use]
pub fn from_status(status: &Status) -> Option<Refusal> {
    let info = status.get_details_error_info()?;
    if info.domain != DOMAIN {
        return None;
    }
    let number = |key: &str| info.metadata.get(key).and_then(|value| value.parse::<u64>().ok());
    Some(Refusal {
        reason: Reason::from_wire(&info.reason)?,
        shard: number("shard").and_then(|shard| shard.try_into().ok()),
        leader: number("leader"),
        term: number("term").unwrap_or(0),
        epoch: number("epoch").unwrap_or(0),
        retry_after: status.get_details_retry_info().and_then(|retry| retry.retry_delay),
        message: status.message().to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn refusals() -> impl Strategy<Value = Refusal> {
        (
            proptest::sample::select(&Reason::ALL[..]),
            any::<Option<u32>>(),
            any::<Option<u64>>(),
            any::<(u64, u64)>(),
            proptest::option::of((0_u64..1_000_000, 0_u32..1_000_000_000)),
            "[^\u{0}]{0,64}",
        )
            .prop_map(|(reason, shard, leader, (term, epoch), retry, message)| Refusal {
                reason,
                shard,
                leader,
                term,
                epoch,
                retry_after: retry.map(|(s, ns)| Duration::new(s, ns)),
                message,
            })
    }

    proptest! {
        #[test]
        fn a_refusal_survives_the_wire(refusal in refusals()) {
            let status = to_status(&refusal);
            prop_assert_eq!(from_status(&status), Some(refusal.clone()));
            // And the HTTP headers, where tonic really puts it.
            let headers = status.into_http::<()>().into_parts().0.headers;
            let read = Status::from_header_map(&headers).expect("a status");
            prop_assert_eq!(from_status(&read), Some(refusal));
        }

        #[test]
        fn noise_is_no_refusal(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let status = Status::with_details(Code::Unavailable, "noise", bytes.into());
            prop_assert_eq!(from_status(&status), None);
        }
    }

    #[test]
    fn the_codes_are_those_of_the_contract() {
        let proto = include_str!("../../../proto/chat/v1/messaging.proto");
        for reason in Reason::ALL {
            let word = reason.as_str();
            let status = to_status(&Refusal::new(reason, "x"));
            // UNAVAILABLE in the contract is Unavailable here.
            let code = format!("{:?}", status.code()).to_uppercase();
            let line = proto.lines().take_while(|line| line.starts_with("//")).find(|line| {
                line.split(|c: char| !(c.is_ascii_uppercase() || c == '_'))
                    .any(|said| said == word)
            });
            let line = line.unwrap_or_else(|| panic!("{word} does not stand atop messaging.proto"));
            assert!(
                line.replace('_', "").contains(&code),
                "{word}: {code} is not in {line:?}"
            );
        }
    }

    #[test]
    fn another_domain_is_not_ours_and_a_long_message_is_cut() {
        let elsewhere = ErrorInfo {
            reason: "NOT_LEADER".to_owned(),
            domain: "elsewhere.v1".to_owned(),
            metadata: std::iter::empty().collect(),
        };
        let status = Status::with_error_details_vec(Code::Unavailable, "", vec![elsewhere.into()]);
        assert_eq!(from_status(&status), None);
        let long = to_status(&Refusal::new(Reason::Invalid, "ü".repeat(2000)));
        assert_eq!(long.message().len(), MESSAGE_BYTES_MAX);
    }
}
