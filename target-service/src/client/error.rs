//! How an attempt failed, and whether it may have happened all the same.

use std::{error::Error as _, fmt, time::Duration};

use tonic::{Code, ConnectError, Status};

use crate::{
    grpc::from_status,
    node::{Reason, Refusal},
};

/// A failed attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallError {
    /// The service refused, for a reason that says that nothing happened.
    Refused(Refusal),
    /// No connection was made, so the request was never written: nothing happened.
    NotSent(String),
    /// The request may have taken effect, or still may.
    Unknown {
        /// What kept the outcome from us.
        cause: UnknownCause,
        /// In words, with values.
        message: String,
    },
}

/// Why an outcome is unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum UnknownCause {
    /// The deadline passed first.
    Deadline,
    /// The connection broke while the request was under way.
    Lost,
    /// The service itself doesn't know.
    Maybe,
    /// An answer outside the service's contract.
    Other,
}

impl UnknownCause {
    /// A stable word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Deadline => "deadline",
            Self::Lost => "lost",
            Self::Maybe => "maybe",
            Self::Other => "other",
        }
    }
}

impl CallError {
    /// Reads the status of a failed call.
    #[must_use]
    pub fn from_status(status: &Status) -> Self {
        if let Some(refusal) = from_status(status) {
            return if refusal.reason.surely_not_done() {
                Self::Refused(refusal)
            } else {
                Self::unknown(UnknownCause::Maybe, refusal.message)
            };
        }
        let said = status.message();
        if never_connected(status) {
            return Self::NotSent(said.to_owned());
        }
        let cause = match status.code() {
            Code::DeadlineExceeded => UnknownCause::Deadline,
            // What tonic makes of a deadline that passed, on either side.
            Code::Cancelled if said.contains("Timeout expired") => UnknownCause::Deadline,
            Code::Unavailable | Code::Unknown | Code::Internal | Code::Cancelled => UnknownCause::Lost,
            _ => UnknownCause::Other,
        };
        Self::unknown(cause, format!("{:?}: {said}", status.code()))
    }

    pub(crate) fn deadline(timeout: Duration) -> Self {
        Self::unknown(
            UnknownCause::Deadline,
            format!("no answer within {} ms", timeout.as_millis()),
        )
    }

    fn unknown(cause: UnknownCause, message: String) -> Self {
        Self::Unknown { cause, message }
    }

    /// Whether the attempt surely had no effect and never will have.
    #[must_use]
    pub const fn surely_not_done(&self) -> bool {
        !matches!(self, Self::Unknown { .. })
    }

    /// Whether another attempt at the same request can succeed.
    #[must_use]
    pub const fn may_retry(&self) -> bool {
        match self {
            Self::Refused(refusal) => !matches!(
                refusal.reason,
                Reason::SessionEnded
                    | Reason::NoSuchUser
                    | Reason::NoSuchDevice
                    | Reason::NoSuchConversation
                    | Reason::NotMember
                    | Reason::GroupFull
                    | Reason::WrongCode
                    | Reason::Resync
                    | Reason::UnsupportedVersion
                    | Reason::Invalid
            ),
            Self::NotSent(_) | Self::Unknown { .. } => true,
        }
    }

    /// When the service asked to be tried again, counted from its answer.
    #[must_use]
    pub const fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused(refusal) => refusal.retry_after,
            Self::NotSent(_) | Self::Unknown { .. } => None,
        }
    }

    /// A stable word for the kind of failure: the refusal's reason, `NOT_SENT`, or the cause of not knowing.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Refused(refusal) => refusal.reason.as_str(),
            Self::NotSent(_) => "NOT_SENT",
            Self::Unknown { cause, .. } => cause.as_str(),
        }
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(refusal) => write!(f, "refused: {refusal}"),
            Self::NotSent(why) => write!(f, "not sent: {why}"),
            Self::Unknown { cause, message } => write!(f, "outcome unknown ({}): {message}", cause.as_str()),
        }
    }
}

impl std::error::Error for CallError {}

/// Whether `status` comes of a connection that could not be made.
fn never_connected(status: &Status) -> bool {
    let mut source = status.source();
    while let Some(error) = source {
        if error.is::<ConnectError>() {
            return true;
        }
        source = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grpc::to_status;

    #[test]
    fn only_maybe_and_broken_calls_are_unknown() {
        for reason in Reason::ALL {
            let error = CallError::from_status(&to_status(&Refusal::new(reason, "x")));
            assert_eq!(error.surely_not_done(), reason != Reason::Maybe, "{error}");
        }
        for code in [
            Code::Unavailable,
            Code::Internal,
            Code::Unknown,
            Code::DeadlineExceeded,
            Code::DataLoss,
        ] {
            let error = CallError::from_status(&Status::new(code, "x"));
            assert!(!error.surely_not_done(), "{error}");
            assert!(error.may_retry());
        }
    }

    #[test]
    fn a_failed_dial_surely_did_nothing() {
        let error = ConnectError("refused".into());
        let status = Status::from_error(Box::new(error));
        assert_eq!(CallError::from_status(&status).word(), "NOT_SENT");
        // The words alone prove nothing.
        let alike = Status::unavailable("refused");
        assert_eq!(CallError::from_status(&alike).word(), "lost");
    }

    #[test]
    fn a_passed_deadline_is_told_from_a_broken_connection() {
        let status = Status::from_error(Box::new(tonic::TimeoutExpired(())));
        assert_eq!(CallError::from_status(&status).word(), "deadline");
    }

    #[test]
    fn what_can_not_succeed_is_not_tried_again() {
        for (reason, again) in [
            (Reason::NotLeader, true),
            (Reason::Overloaded, true),
            (Reason::Expired, true),
            (Reason::SessionEnded, false),
            (Reason::NoSuchUser, false),
            (Reason::Invalid, false),
        ] {
            assert_eq!(
                CallError::Refused(Refusal::new(reason, "x")).may_retry(),
                again,
                "{reason:?}"
            );
        }
    }
}
