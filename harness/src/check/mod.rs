//! What a service owes, one file for each promise.
//!
//! | promise | broken when |
//! |---|---|
//! | lost-acked | acknowledged, and not in the final read, or never shown where it is owed |
//! | vanished | seen once, absent from a later read |
//! | stale, unseen | absent from a read after its acknowledgement, present later; not shown when the run ended |
//! | duplicate-stored, duplicate-delivered, retry-duplicate | two positions; shown twice; a retry made a second one |
//! | phantom, aborted-read, corrupted, misattributed | never sent; failed and seen; another body, sender or log |
//! | divergent-order, sender-reorder, causal-reorder | two orders of one log; of one sender; reply before question |
//! | stream-regress, stream-gap, bad-resume, false-current | a device's stream goes back, skips, resumes wrongly, lies |
//! | own-device-staleness | what somebody sent is missing on another device of its own |
//! | cross-user-leak | anything of some people's given to another |
//! | membership-leak, history-leak | given what was said in a group while not belonging to it, or before |
//! | missed-after-join | not given the first message after joining |
//! | outsider-accepted | more than 200 members, or a stranger's message, taken by a group |
//! | phantom-contact | a contact without an import that it comes from |
//! | unread-count | what is counted as unread is not what others said and was not read |
//! | early-receipt, receipt-regress | a receipt of what was not there yet; marks that go back |
//! | ghost-online | said to be online long after falling silent |
//! | shrinking-history | what a session has seen is gone when it looks again |
//! | account | two accounts for a phone number, or an accepted one unknown |
//! | ownership | a node answers for what has moved away from it, or nobody does |
//! | consensus | two leaders in a term, something committed gone, replicas that differ |
//! | stuck | healed, and no progress |
//! | false-all-clear | the status page says that all is well too soon, or nothing while it isn't |
//! | assumptions, coverage, node-exit | the run was not what it claims to be |
//!
//! An operation that was acknowledged *must* have happened, one whose outcome is unknown *may* have, and becomes *must*
//! once any observer saw it; one that failed in every attempt must *not*. A promise that nothing of the run obliges is
//! not judged, and says why: never a pass.

mod aborted_read;
mod account;
mod assumptions;
mod bad_resume;
mod causal_reorder;
mod consensus;
mod corrupted;
mod coverage;
mod cross_user_leak;
mod divergent_order;
mod duplicate_delivered;
mod duplicate_stored;
mod early_receipt;
mod false_all_clear;
mod false_current;
mod ghost_online;
mod history_leak;
mod lost_acked;
mod marks;
mod membership_leak;
mod misattributed;
mod missed_after_join;
mod node_exit;
mod order;
mod outsider_accepted;
mod owing;
mod own_device_staleness;
mod ownership;
mod phantom;
mod phantom_contact;
mod promise;
mod receipt_regress;
mod replicas;
mod seen;
mod sender_reorder;
mod shrinking_history;
mod stale;
mod stream_gap;
mod stream_regress;
mod stuck;
#[cfg(test)]
mod tests;
mod unread_count;
mod unseen;
mod vanished;
mod words;

pub use promise::{Finding, Promise, Tally, Verdict, judge};

/// Every promise.
pub const ALL: &[&dyn Promise] = &[
    &lost_acked::LostAcked,
    &vanished::Vanished,
    &stale::Stale,
    &unseen::Unseen,
    &duplicate_stored::DuplicateStored,
    &duplicate_delivered::DuplicateDelivered,
    &duplicate_stored::RetryDuplicate,
    &phantom::Phantom,
    &aborted_read::AbortedRead,
    &corrupted::Corrupted,
    &misattributed::Misattributed,
    &divergent_order::DivergentOrder,
    &sender_reorder::SenderReorder,
    &causal_reorder::CausalReorder,
    &stream_regress::StreamRegress,
    &stream_gap::StreamGap,
    &bad_resume::BadResume,
    &false_current::FalseCurrent,
    &own_device_staleness::OwnDeviceStaleness,
    &cross_user_leak::CrossUserLeak,
    &membership_leak::MembershipLeak,
    &history_leak::HistoryLeak,
    &missed_after_join::MissedAfterJoin,
    &outsider_accepted::OutsiderAccepted,
    &unread_count::UnreadCount,
    &early_receipt::EarlyReceipt,
    &receipt_regress::ReceiptRegress,
    &ghost_online::GhostOnline,
    &shrinking_history::ShrinkingHistory,
    &account::Account,
    &phantom_contact::PhantomContact,
    &ownership::Ownership,
    &consensus::Consensus,
    &stuck::Stuck,
    &false_all_clear::FalseAllClear,
    &assumptions::Assumptions,
    &coverage::Coverage,
    &node_exit::NodeExit,
];

/// The promise called `name`.
#[must_use]
pub fn promise_named(name: &str) -> Option<&'static dyn Promise> {
    ALL.iter().copied().find(|promise| promise.name() == name)
}
