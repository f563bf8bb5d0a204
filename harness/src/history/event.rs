//! What a history holds. See docs/history-format.md.
//!
//! Times are on the run's clock. An operation is written once, when its outcome is known (or when the run gives up
//! on it, as [`Outcome::Unknown`]); its own times say when it was meant, sent and done.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Announced, ChangeKind, GroupChange, Marks, Noticed, Placement, Told};
use crate::base::Nanos;

/// The version of the format that this build writes.
pub const FORMAT: &str = "firedrill.history/v1";

/// The first record of a history: all that is needed to judge it again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Header {
    /// [`FORMAT`].
    pub format: String,
    /// The frozen plan, as JSON of `plan::Plan`. Not typed here, so that the history stands below the plan.
    pub plan: serde_json::Value,
    /// Wall-clock time of the origin, RFC 3339.
    pub started: String,
    /// The harness's version, and what it ran on.
    pub versions: BTreeMap<String, String>,
}

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Event {
    /// The run entered a phase.
    Phase(PhaseEvent),
    /// An attempt of an operation ended.
    Op(Operation),
    /// A message was shown on a device.
    Shown(Shown),
    /// A device was given an entry of its stream that is no message.
    Noticed(Noticed),
    /// A user was told something that it asked for.
    Told(Told),
    /// A device's session changed.
    Session(SessionEvent),
    /// A fault moved on.
    Fault(FaultEvent),
    /// What a system said of itself.
    Observed(Observed),
    /// What the status page said.
    Announced(Announced),
    /// A log was read: in part while the load ran, and whole at the end.
    Read(ReadBack),
    /// A process of the system under test started or ended.
    Process(ProcessEvent),
    /// The harness noticed something about itself: trouble, a limit, a refusal. Never a verdict on the system.
    Harness(HarnessEvent),
}

impl Event {
    /// When it happened (for an operation: when it was done).
    #[must_use]
    pub const fn at(&self) -> Nanos {
        match self {
            Self::Phase(e) => e.at,
            Self::Op(e) => e.done,
            Self::Shown(e) => e.at,
            Self::Noticed(e) => e.at,
            Self::Told(e) => e.ended,
            Self::Session(e) => e.at,
            Self::Fault(e) => e.at,
            Self::Observed(e) => e.at,
            Self::Announced(e) => e.at,
            Self::Read(e) => e.ended,
            Self::Process(e) => e.at,
            Self::Harness(e) => e.at,
        }
    }
}

/// The phases of a run, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Starting the system, signing accounts up, opening sessions.
    Prepare,
    /// Load runs; the steady state is awaited.
    WarmUp,
    /// The steady state holds: the band is taken from here.
    Steady,
    /// Faults are being injected. Step times count from its start.
    Disturb,
    /// All faults are healed; load goes on, recovery is watched.
    Settle,
    /// Load has stopped; what is owed is awaited.
    Drain,
    /// Sessions are ended, so that no earlier attempt can still take effect.
    Fence,
    /// The authoritative read.
    ReadBack,
    /// The system is being stopped. What ends from here on is expected.
    TearDown,
}

/// The run entered a phase.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PhaseEvent {
    /// When.
    pub at: Nanos,
    /// Which.
    pub phase: Phase,
}

/// The classes of operations that recovery is reported for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// Creating an account.
    SignUp,
    /// Opening a session for a device.
    LogIn,
    /// A message from intent to acknowledgement.
    Send,
    /// A message from the intent to send it to its showing on one device of the recipient. Not written as
    /// [`Operation`]s: derived from sends and [`Shown`].
    Deliver,
    /// Resuming a device's stream until it is current.
    Sync,
    /// Reading a conversation.
    Read,
    /// Changing who belongs to a group, and looking at one.
    Group,
    /// Adding to an address book, and looking at one's contacts.
    Contacts,
    /// Opening the app: one's own conversations, whether they are current or not.
    Open,
    /// Saying how far one was given and has read a conversation.
    Receipt,
    /// Asking who is online.
    Presence,
    /// Writing a key to a system that is a key-value store.
    Put,
    /// A request to a system of which nothing is known but that it answers.
    Request,
}

/// What became of an attempt. Unknown is never absent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Acknowledged.
    Ok,
    /// Surely did not happen.
    Failed,
    /// May have happened: time-out, broken connection, cancelled.
    Unknown,
    /// The generator had no room and never sent it.
    Shed,
}

/// Refusals with which a service that works decides that something may not be: who asked has its answer. Nothing
/// happened, so the outcome is [`Outcome::Failed`], and nobody was kept from anything.
pub const DECISIONS: [&str; 3] = ["GROUP_FULL", "NOT_MEMBER", "NO_SUCH_CONVERSATION"];

/// Whether `error` is one of [`DECISIONS`].
#[must_use]
pub fn is_decision(error: Option<&str>) -> bool {
    error.is_some_and(|error| DECISIONS.contains(&error))
}

/// One attempt of one operation, whole.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Operation {
    /// The operation; its attempts share it.
    pub id: u64,
    /// From 1.
    pub attempt: u32,
    /// True when no attempt follows this one: the operation's own outcome is this attempt's, except that an earlier
    /// unknown attempt may still take effect.
    pub last: bool,
    /// The system it went to.
    pub system: String,
    /// The session (device) that did it; the probe's own number for a probe.
    pub session: u64,
    /// Its class.
    pub class: Class,
    /// What it needed, such as `shard:3`: the part that a fault takes away. Empty when not known.
    pub needs: String,
    /// Labels for groups: `zone` -> `europe`, `cohort` -> `latest`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub groups: BTreeMap<String, String>,
    /// True for an operation of the constant-spaced probe.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub probe: bool,
    /// When the schedule meant the operation's first attempt to be sent: the same for all its attempts.
    pub intended: Nanos,
    /// When this attempt was sent; equal to `done` for one that was shed.
    pub sent: Nanos,
    /// When its outcome was known.
    pub done: Nanos,
    /// What became of it.
    pub outcome: Outcome,
    /// The node that answered, if one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answered_by: Option<String>,
    /// Why it is not ok: a short stable reason, such as `NOT_LEADER` or `deadline`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// What it was about.
    pub subject: Subject,
}

/// What an operation was about, as far as promises need it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Subject {
    /// A sign-up.
    Account {
        /// The phone number.
        phone: String,
        /// The account, when the answer named one.
        user: Option<u64>,
        /// Whether this call made it, when the answer said so.
        created: Option<bool>,
    },
    /// A log-in.
    Device {
        /// The account.
        user: u64,
        /// The device.
        device: u32,
        /// The service's session, when the answer named one.
        session: Option<u64>,
    },
    /// An item put into an ordered log, such as a message into a conversation or a value under a key.
    Item {
        /// The item's own identity: unique within the run, and carried inside the body.
        item: u64,
        /// The log: `c:<conversation>` or `k:<key>`.
        log: String,
        /// Who put it: the sender's account, 0 where there are none.
        author: u64,
        /// Who is owed it: the accounts; empty where nobody subscribes, and for a group.
        owed: Vec<u64>,
        /// True for a group: its members at the item's position are owed it.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        group: bool,
        /// The number that the author's device gave it, counted up by one for each operation of the device.
        client_id: u64,
        /// Hash of the body.
        hash: u64,
        /// Position in the log, when the answer named one.
        position: Option<u64>,
        /// Whether the answer said that this was an earlier answer again.
        repeated: Option<bool>,
    },
    /// A change of who belongs to a group.
    Change {
        /// The group's log.
        log: String,
        /// What was asked for.
        change: ChangeKind,
        /// Who asked.
        actor: u64,
        /// Whom it concerns beside the actor.
        users: Vec<u64>,
        /// The number that the actor's device gave it, counted together with those of items.
        client_id: u64,
        /// Position in the log, when the answer named one: the last of all where nothing was left to change.
        position: Option<u64>,
        /// How many belong to the group then, when the answer said so.
        members: Option<u64>,
    },
    /// Numbers that are added to an address book.
    Import {
        /// Whose address book.
        user: u64,
        /// The numbers.
        phones: Vec<String>,
        /// How many of them were not in it before, when the answer said so.
        added: Option<u64>,
    },
    /// Somebody says how far it was given and has read a conversation.
    Receipt {
        /// The conversation's log.
        log: String,
        /// Whose marks are to move.
        user: u64,
        /// Up to which position it says that it was given it.
        delivered: u64,
        /// Up to which it says that it has read it.
        read: u64,
        /// Where the marks are now, when the answer said so.
        marks: Option<Marks>,
    },
    /// Nothing that a promise could hold on to.
    Nothing,
}

/// A message shown on a device.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Shown {
    /// When.
    pub at: Nanos,
    /// The system.
    pub system: String,
    /// The device's session in the generator.
    pub session: u64,
    /// The device's account.
    pub user: u64,
    /// The device.
    pub device: u32,
    /// How often the device has connected, from 1.
    pub connection: u32,
    /// The server's incarnation of the stream.
    pub incarnation: u64,
    /// Position in the device's own stream.
    pub sequence: u64,
    /// The log: `c:<conversation>`.
    pub log: String,
    /// Position in the log.
    pub position: u64,
    /// The author as the service names it.
    pub author: u64,
    /// The identity found inside the body; none when the body could not be read.
    pub item: Option<u64>,
    /// Hash of the body as it arrived.
    pub hash: u64,
    /// True when the device dropped it as a repetition on the wire (at-least-once): not shown to the person.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub repeated_on_wire: bool,
}

/// A device's session changed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SessionEvent {
    /// When.
    pub at: Nanos,
    /// The system.
    pub system: String,
    /// The session in the generator.
    pub session: u64,
    /// The device's account.
    pub user: u64,
    /// The device.
    pub device: u32,
    /// How.
    pub change: SessionChange,
}

/// The reason of [`SessionChange::Lost`] when the device itself gave the stream up: it was sent a sequence that is not the
/// next, and asks for what is missing.
pub const LOST_TO_A_GAP: &str = "gap";

/// How a session changed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "change", rename_all = "snake_case")]
pub enum SessionChange {
    /// The stream is open again (or for the first time).
    Connected {
        /// How often the device has connected, from 1.
        connection: u32,
        /// The cursor it asked to resume after.
        after: u64,
    },
    /// The stream broke or stalled beyond its bound.
    Lost {
        /// Why.
        reason: String,
    },
    /// The service said that the device is owed nothing beyond this position.
    Current {
        /// The position.
        sequence: u64,
        /// The incarnation.
        incarnation: u64,
    },
    /// The device fell silent: it reads nothing, says nothing and opens nothing, and its connection stands.
    Dozed,
    /// It goes on.
    Woke,
    /// The session was ended by the fence.
    Fenced,
}

/// A fault moved on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FaultEvent {
    /// When this was known. For `Installed` and `Healed` the time that counts is `effective`/`healed` inside.
    pub at: Nanos,
    /// Unique within the run, such as `2-partition` (the step's number from 1 and its verb) or `2-partition.3` for
    /// the third burst of a flap.
    pub id: String,
    /// The verb.
    pub kind: String,
    /// The system.
    pub system: String,
    /// What it hit: nodes, or links such as `n1->n2/back_end`.
    pub targets: Vec<String>,
    /// The parts of the service that it takes away, in the words of [`Operation::needs`]; empty when not known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub needs: Vec<String>,
    /// When the nodes were asked whom it hits: the oldest of the words that it rests on. None where that is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolved: Option<Nanos>,
    /// How it moved on.
    pub change: FaultChange,
}

/// How a fault moved on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "change", rename_all = "snake_case")]
pub enum FaultChange {
    /// The command was given.
    Requested,
    /// It bites; the evidence is from outside its own code path.
    Installed {
        /// When the evidence was true.
        effective: Nanos,
        /// What was seen.
        evidence: String,
    },
    /// It does not apply here.
    Skipped {
        /// Why.
        reason: String,
    },
    /// It may or may not bite.
    Indeterminate {
        /// What was seen.
        reason: String,
    },
    /// Its end was asked for.
    HealRequested,
    /// It has ended; evidence as above.
    Healed {
        /// When the evidence was true.
        healed: Nanos,
        /// What was seen.
        evidence: String,
    },
    /// It could not be undone: the host is dirty.
    HealFailed {
        /// What was seen.
        reason: String,
    },
}

/// What a node said of itself, or that it said nothing. Written when it changes, and at least once a second.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Observed {
    /// When the answer was in.
    pub at: Nanos,
    /// When it was asked, where that is known: what it says was so at some instant between the two.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked: Option<Nanos>,
    /// The system.
    pub system: String,
    /// The node.
    pub node: String,
    /// Its answer; none when it gave none in time.
    pub status: Option<NodeStatus>,
}

impl Observed {
    /// Whether what this says is surely no older than what `earlier` says.
    #[must_use]
    pub fn is_after(&self, earlier: &Self) -> bool {
        self.asked.unwrap_or(self.at) >= earlier.at
    }
}

/// A node's own words.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// For each replicated group on the node.
    pub groups: Vec<GroupStatus>,
    /// The service's own count of what it owes: unacknowledged outbox and device deliveries.
    pub backlog: u64,
    /// Where the parts are, of a service whose parts move.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub placement: Option<Placement>,
    /// Everything else worth a number: queue depths, log bytes, fsync latencies.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub gauges: BTreeMap<String, f64>,
}

/// One replicated group on one node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupStatus {
    /// The group: `shard:3`, or `etcd`.
    pub group: String,
    /// Whether the node says it leads.
    pub leader: bool,
    /// The term.
    pub term: u64,
    /// The committed index.
    pub commit: u64,
    /// The applied index.
    pub applied: u64,
    /// Digest of the applied state; 0 when not asked for.
    #[serde(default)]
    pub digest: u64,
}

/// One read of one log: of the whole of it after the fence, where it is the authority, or of what is new in it while the
/// load runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReadBack {
    /// When the read began.
    pub began: Nanos,
    /// When it ended.
    pub ended: Nanos,
    /// The system.
    pub system: String,
    /// The log.
    pub log: String,
    /// True when the read was linearizable and reached the log's end.
    pub complete: bool,
    /// The position behind which it read, for a read while the load ran; none for the whole log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<u64>,
    /// What it held, in order.
    pub items: Vec<ReadItem>,
    /// Of a group's log: the changes of who belongs to it, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<GroupChange>,
}

/// An item found by a read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadItem {
    /// Position in the log.
    pub position: u64,
    /// The author as the service names it.
    pub author: u64,
    /// The identity found inside the body; none when the body could not be read.
    pub item: Option<u64>,
    /// Hash of the body.
    pub hash: u64,
}

/// A process of the system under test.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProcessEvent {
    /// When it was seen.
    pub at: Nanos,
    /// The system.
    pub system: String,
    /// The node.
    pub node: String,
    /// Its process id.
    pub pid: u32,
    /// What happened.
    pub change: ProcessChange,
}

/// What happened to a process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "change", rename_all = "snake_case")]
pub enum ProcessChange {
    /// It was started.
    Started,
    /// All its threads stopped: it is frozen.
    Stopped {
        /// True when this run asked for it.
        asked_for: bool,
    },
    /// It goes on.
    Continued,
    /// It ended.
    Ended {
        /// `exit 0`, `signal 9`.
        how: String,
        /// True when this run asked for it.
        asked_for: bool,
    },
}

/// The harness noticed something about itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HarnessEvent {
    /// When.
    pub at: Nanos,
    /// What.
    pub kind: HarnessKind,
    /// In words.
    pub text: String,
}

/// What the harness noticed about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HarnessKind {
    /// Worth knowing.
    Note,
    /// The harness itself stood still (stopped, swapped, starved): what it measured then is not to be trusted.
    Stalled,
    /// The steady state was not reached in time.
    NotSteady,
    /// The drain did not end in time.
    NotDrained,
    /// The fence after the drain was not confirmed everywhere: an earlier attempt may still take effect.
    NotFenced,
    /// What a step waits for did not come.
    NotTriggered,
    /// Something could not be healed or ended: the host is dirty.
    Dirty,
    /// The run was interrupted.
    Interrupted,
    /// Something of the harness failed.
    Failure,
}
