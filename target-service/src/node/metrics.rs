//! What a node measures of itself, for whoever collects it: over OTLP when the standard variables ask for it
//! (`process/telemetry.rs`), otherwise into nothing. Nothing in the node depends on it.
//!
//! [`METRICS`] is the one list: instruments are made from it, docs/metrics.md is written from it, and a test sees that each
//! one reaches a collector. Names follow OpenTelemetry's conventions where they have one; the rest is `chat.*`. No metric has
//! anything of a user's in it: neither ids nor phone numbers nor bodies.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use opentelemetry::{
    KeyValue,
    metrics::{Counter, Gauge, Histogram, Meter},
};

use super::{admission::Class, api::Answer, inbox::Inbox, routes::PLACEMENT, run::Node};

/// What a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A sum that only grows.
    Counter,
    /// What is so now.
    Gauge,
    /// A distribution.
    Histogram,
}

impl Kind {
    /// As OpenTelemetry writes it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// One metric of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metric {
    /// Its name.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// Its unit, as UCUM writes it.
    pub unit: &'static str,
    /// What each of its points says besides.
    pub attributes: &'static [&'static str],
    /// What it means.
    pub about: &'static str,
}

macro_rules! metrics {
    ($($constant:ident: $kind:ident $name:literal, $unit:literal, [$($attribute:literal),*], $about:literal;)+) => {
        $(
            const $constant: Metric = Metric {
                name: $name,
                kind: Kind::$kind,
                unit: $unit,
                attributes: &[$($attribute),*],
                about: $about,
            };
        )+

        /// Every metric of a node.
        pub const METRICS: &[Metric] = &[$($constant),+];
    };
}

metrics! {
    OPERATIONS: Counter "chat.operations", "{operation}", ["chat.operation", "chat.class", "chat.outcome"],
        "Calls that were answered, by what was asked, the class in which it waits, and `ok` or the reason of the refusal.";
    DURATION: Histogram "chat.operation.duration", "s", ["chat.operation", "chat.class", "chat.outcome"],
        "From the arrival of a call at the node to its answer, queues included; of a stream, to its start.";
    QUEUE_DEPTH: Gauge "chat.queue.depth", "{item}", ["chat.queue"],
        "What waits: calls for the loop (`inbox`), batches of peers for the loop (`peers`), calls at the gate by class (`gate.send` and so on), proposals and reads for their outcome (`proposals`, `reads`), outbox items for their shard (`outbox`), entries for devices (`deliveries`).";
    QUEUE_BYTES: Gauge "chat.queue.bytes", "By", ["chat.queue"],
        "Bytes of peers' batches that wait for the loop (`peers`).";
    GATE_WAIT: Gauge "chat.admission.wait", "s", [],
        "How long it takes to do all that waits at the gate.";
    REFUSALS: Counter "chat.admission.refusals", "{call}", ["chat.class", "chat.reason"],
        "Calls that the gate turned away: `shed` when they came, `expired` when their turn came too late.";
    SESSIONS: Gauge "chat.sessions", "{session}", [],
        "Devices' streams that are open at the node.";
    TERM: Gauge "chat.raft.term", "{term}", ["chat.shard"],
        "The term of the node's replica of a shard, or of the placement group (`placement`).";
    APPLIED: Gauge "chat.raft.applied", "{entry}", ["chat.shard"],
        "Index of the last entry that the replica has applied.";
    COMMITTED: Gauge "chat.raft.committed", "{entry}", ["chat.shard"],
        "Index of the last entry that the replica knows to be committed.";
    LEADER: Gauge "chat.raft.leader", "{node}", ["chat.shard"],
        "Id of the shard's leader as the node knows it; 0 when it knows none.";
    LEADS: Gauge "chat.raft.leads", "{shard}", [],
        "How many shards the node leads.";
    FSYNC: Histogram "chat.log.fsync.duration", "s", [],
        "How long one sync of the log takes; one serves all shards of a turn.";
    LOG_BYTES: Gauge "chat.log.size", "By", [],
        "Bytes of the log on the disk.";
    PEER_DROPPED: Counter "chat.peer.dropped", "{batch}", [],
        "Batches of peers that were dropped because the loop was behind.";
    MALFORMED: Counter "chat.peer.malformed", "{message}", [],
        "Messages of peers that can't have been meant.";
    QUARANTINED: Gauge "chat.shards.quarantined", "{shard}", [],
        "Replicas of the node that are set aside because their state is damaged.";
    SNAPSHOTS: Gauge "chat.snapshots", "{transfer}", ["chat.direction"],
        "Snapshots on their way to followers (`out`) and from leaders (`in`).";
}

/// Upper bounds of the buckets of durations, seconds.
const DURATION_BOUNDS: [f64; 16] = [
    0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0,
];
/// The class of what operators ask.
const OPERATOR: &str = "operator";
/// Ticks between two looks at what is so now.
const LOOK_TICKS: u64 = 32;

fn meter() -> Meter {
    opentelemetry::global::meter("target-service")
}

fn counter(meter: &Meter, metric: &Metric) -> Counter<u64> {
    let built = meter.u64_counter(metric.name);
    built.with_unit(metric.unit).with_description(metric.about).build()
}

fn gauge(meter: &Meter, metric: &Metric) -> Gauge<u64> {
    let built = meter.u64_gauge(metric.name);
    built.with_unit(metric.unit).with_description(metric.about).build()
}

fn durations(meter: &Meter, metric: &Metric) -> Histogram<f64> {
    let built = meter.f64_histogram(metric.name);
    let built = built.with_unit(metric.unit).with_description(metric.about);
    built.with_boundaries(DURATION_BOUNDS.to_vec()).build()
}

/// What is measured of calls, outside of the loop: also of those that never reach it.
#[derive(Clone, Debug)]
pub(crate) struct Operations {
    inner: Arc<(Counter<u64>, Histogram<f64>)>,
}

impl Default for Operations {
    fn default() -> Self {
        let meter = meter();
        Self {
            inner: Arc::new((counter(&meter, &OPERATIONS), durations(&meter, &DURATION))),
        }
    }
}

impl Operations {
    /// A call was answered, `took` after it had come.
    pub(crate) fn answered<T>(&self, name: &'static str, class: Option<Class>, answer: &Answer<T>, took: Duration) {
        let outcome = match answer {
            Ok(_) => "ok",
            Err(refusal) => refusal.reason.as_str(),
        };
        let said = [
            KeyValue::new("chat.operation", name),
            KeyValue::new("chat.class", class.map_or(OPERATOR, Class::as_str)),
            KeyValue::new("chat.outcome", outcome),
        ];
        self.inner.0.add(1, &said);
        self.inner.1.record(took.as_secs_f64(), &said);
    }
}

/// What is measured by the loop.
pub(super) struct Instruments {
    depth: Gauge<u64>,
    bytes: Gauge<u64>,
    wait: Gauge<f64>,
    refusals: Counter<u64>,
    sessions: Gauge<u64>,
    term: Gauge<u64>,
    applied: Gauge<u64>,
    committed: Gauge<u64>,
    leader: Gauge<u64>,
    leads: Gauge<u64>,
    fsync: Histogram<f64>,
    log: Gauge<u64>,
    dropped: Counter<u64>,
    malformed: Counter<u64>,
    quarantined: Gauge<u64>,
    snapshots: Gauge<u64>,
    /// What the counters were told already.
    told: BTreeMap<(&'static str, &'static str), u64>,
    looked: u64,
}

impl Default for Instruments {
    fn default() -> Self {
        let meter = meter();
        let wait = meter.f64_gauge(GATE_WAIT.name).with_unit(GATE_WAIT.unit);
        Self {
            depth: gauge(&meter, &QUEUE_DEPTH),
            bytes: gauge(&meter, &QUEUE_BYTES),
            wait: wait.with_description(GATE_WAIT.about).build(),
            refusals: counter(&meter, &REFUSALS),
            sessions: gauge(&meter, &SESSIONS),
            term: gauge(&meter, &TERM),
            applied: gauge(&meter, &APPLIED),
            committed: gauge(&meter, &COMMITTED),
            leader: gauge(&meter, &LEADER),
            leads: gauge(&meter, &LEADS),
            fsync: durations(&meter, &FSYNC),
            log: gauge(&meter, &LOG_BYTES),
            dropped: counter(&meter, &PEER_DROPPED),
            malformed: counter(&meter, &MALFORMED),
            quarantined: gauge(&meter, &QUARANTINED),
            snapshots: gauge(&meter, &SNAPSHOTS),
            told: BTreeMap::new(),
            looked: 0,
        }
    }
}

impl Instruments {
    pub(super) fn synced(&self, took: Duration) {
        self.fsync.record(took.as_secs_f64(), &[]);
    }

    /// What came to the sum `now` since it was told last.
    fn since(&mut self, what: (&'static str, &'static str), now: u64) -> u64 {
        let before = self.told.insert(what, now).unwrap_or_default();
        now.saturating_sub(before)
    }
}

/// The names of a shard and a queue, in a point.
fn of_shard(shard: u32) -> [KeyValue; 1] {
    let name = match shard {
        PLACEMENT => "placement".to_owned(),
        shard => shard.to_string(),
    };
    [KeyValue::new("chat.shard", name)]
}

fn of_queue(queue: impl Into<opentelemetry::StringValue>) -> [KeyValue; 1] {
    [KeyValue::new("chat.queue", queue.into())]
}

impl Node {
    /// Tells what is so now, from time to time.
    pub(super) fn measure(&mut self, inbox: &Inbox) {
        if self.ticks() < self.instruments.looked + LOOK_TICKS {
            return;
        }
        self.instruments.looked = self.ticks();
        self.measure_queues(inbox);
        self.measure_refusals(inbox);
        self.measure_shards();
        let to = &self.instruments;
        to.wait.record(self.gate.work().as_secs_f64(), &[]);
        to.log.record(self.log.stats().bytes, &[]);
        to.quarantined.record(self.quarantined.len() as u64, &[]);
        for (direction, count) in [("out", self.outgoing.len()), ("in", self.incoming.len())] {
            to.snapshots
                .record(count as u64, &[KeyValue::new("chat.direction", direction)]);
        }
    }

    fn measure_queues(&self, inbox: &Inbox) {
        let to = &self.instruments;
        let shards = || self.shards.values();
        let counts = || shards().map(|shard| shard.machine.counts());
        let queues = [
            ("inbox", inbox.calls.len() as u64),
            ("peers", inbox.peers.len() as u64),
            ("proposals", shards().map(|shard| shard.pending.len() as u64).sum()),
            ("reads", shards().map(|shard| shard.reads() as u64).sum()),
            ("outbox", counts().map(|counts| counts.outbox_backlog).sum()),
            ("deliveries", counts().map(|counts| counts.delivery_backlog).sum()),
        ];
        for (queue, depth) in queues {
            to.depth.record(depth, &of_queue(queue));
        }
        for (class, _, waiting) in self.gate.counts() {
            to.depth
                .record(waiting as u64, &of_queue(format!("gate.{}", class.as_str())));
        }
        to.bytes.record(inbox.peer_room.taken() as u64, &of_queue("peers"));
        to.sessions
            .record(shards().map(|shard| shard.streams.len() as u64).sum(), &[]);
    }

    fn measure_refusals(&mut self, inbox: &Inbox) {
        let counts: Vec<_> = self.gate.counts().map(|(class, count, _)| (class, count)).collect();
        let to = &mut self.instruments;
        for (class, count) in counts {
            for (reason, now) in [("shed", count.shed), ("expired", count.expired)] {
                let more = to.since((class.as_str(), reason), now);
                let said = [
                    KeyValue::new("chat.class", class.as_str()),
                    KeyValue::new("chat.reason", reason),
                ];
                to.refusals.add(more, &said);
            }
        }
        let more = to.since(("peers", "dropped"), inbox.peers_dropped());
        to.dropped.add(more, &[]);
        let more = to.since(("peers", "malformed"), self.malformed);
        to.malformed.add(more, &[]);
    }

    fn measure_shards(&self) {
        let to = &self.instruments;
        let shards = self.shards.iter();
        let shards = shards.map(|(id, shard)| (*id, &shard.replica, shard.machine.applied().0));
        let council = self.council.iter();
        let council = council.map(|it| (PLACEMENT, &it.replica, it.machine.applied().0));
        let mut leads = 0;
        for (id, replica, applied) in shards.chain(council) {
            let said = of_shard(id);
            to.term.record(replica.term(), &said);
            to.applied.record(applied, &said);
            to.committed.record(replica.commit(), &said);
            to.leader.record(replica.leader(), &said);
            leads += u64::from(replica.is_leader() && id != PLACEMENT);
        }
        to.leads.record(leads, &[]);
    }
}

/// docs/metrics.md.
#[must_use]
pub fn reference() -> String {
    let mut out = String::from(
        "# Metrics of a node\n\n\
         A node exports them over OTLP when `OTEL_EXPORTER_OTLP_ENDPOINT` or `OTEL_EXPORTER_OTLP_METRICS_ENDPOINT` is set (and \
         `OTEL_SDK_DISABLED` and `OTEL_METRICS_EXPORTER=none` don't forbid it), every five seconds unless \
         `OTEL_METRIC_EXPORT_INTERVAL` says otherwise. The resource says which node it is (`service.name`, \
         `service.instance.id`, `firedrill.zone`). Nothing in them is of a user: no id, no phone number, no text.\n\n\
         This file is written from `target-service/src/node/metrics.rs`; `METRICS=write cargo test -p firedrill -p \
         target-service --lib metrics` writes it anew.\n\n\
         | name | kind | unit | attributes | meaning |\n|---|---|---|---|---|\n",
    );
    for it in METRICS {
        let attributes: Vec<String> = it.attributes.iter().map(|name| format!("`{name}`")).collect();
        out.push_str(&format!(
            "| `{}` | {} | `{}` | {} | {} |\n",
            it.name,
            it.kind.as_str(),
            it.unit,
            attributes.join(", "),
            it.about
        ));
    }
    out
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, env, fs};

    use super::*;

    #[test]
    fn the_reference_is_what_the_code_has() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/metrics.md");
        if env::var("METRICS").is_ok_and(|asked| asked == "write") {
            fs::write(file, reference()).unwrap();
        }
        let written = fs::read_to_string(file).unwrap();
        assert_eq!(
            written,
            reference(),
            "write it anew: METRICS=write cargo test -p firedrill -p target-service --lib metrics"
        );
    }

    #[test]
    fn names_are_unique_and_of_one_family() {
        let names: BTreeSet<_> = METRICS.iter().map(|it| it.name).collect();
        assert_eq!(names.len(), METRICS.len());
        assert!(names.iter().all(|name| name.starts_with("chat.")));
        assert!(METRICS.iter().all(|it| it.about.ends_with('.') && !it.unit.is_empty()));
    }
}
