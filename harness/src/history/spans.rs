//! A run as a trace: one root span, a span for each phase and each fault, events for what changed inside them.
//!
//! A pure function of the history. The report's trace file and the live exporter both come from here, so that they
//! cannot disagree. Ids are derived from the run, so that a workload can name the root before it has ended.

use std::collections::BTreeMap;

use xxhash_rust::xxh3::{xxh3_64_with_seed, xxh3_128};

use super::{Event, FaultChange, FaultEvent, Header, NodeStatus, Observed, Phase, PhaseEvent, ProcessChange};
use crate::base::Nanos;

/// The ids of a run's trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceIds {
    /// The trace. Never 0.
    pub trace: u128,
    /// The run's own span, parent of all others. Never 0.
    pub root: u64,
}

impl TraceIds {
    /// The ids of the run with this header.
    #[must_use]
    pub fn of(header: &Header) -> Self {
        let identity = format!("{}\n{}", header.started, header.plan);
        let trace = xxh3_128(identity.as_bytes()).max(1);
        Self {
            trace,
            root: Self { trace, root: 0 }.span("run"),
        }
    }

    /// The id of the span called `name` in this trace.
    #[must_use]
    pub fn span(&self, name: &str) -> u64 {
        let seed = u64::try_from(self.trace & u128::from(u64::MAX)).unwrap_or(0);
        xxh3_64_with_seed(name.as_bytes(), seed).max(1)
    }

    /// The W3C `traceparent` that makes a call a child of the run.
    #[must_use]
    pub fn traceparent(&self) -> String {
        format!("00-{:032x}-{:016x}-01", self.trace, self.root)
    }
}

/// A finished span.
#[derive(Clone, Debug, PartialEq)]
pub struct SpanRecord {
    /// Its id.
    pub id: u64,
    /// Its parent's id; 0 for the root.
    pub parent: u64,
    /// Its name, such as `firedrill.fault kill`.
    pub name: String,
    /// When it began.
    pub start: Nanos,
    /// When it ended.
    pub end: Nanos,
    /// What is known of it, by attribute name.
    pub attributes: BTreeMap<String, String>,
    /// What happened inside it, in order of time.
    pub events: Vec<SpanEvent>,
    /// Why it did not go well; none when it did.
    pub error: Option<String>,
}

/// Something that happened inside a span.
#[derive(Clone, Debug, PartialEq)]
pub struct SpanEvent {
    /// When.
    pub at: Nanos,
    /// What.
    pub name: String,
    /// What is known of it.
    pub attributes: BTreeMap<String, String>,
}

/// The most events that one span holds; later ones are counted in `firedrill.events_dropped`.
pub const EVENTS_MAX: usize = 256;

/// Turns events, in order, into finished spans.
#[derive(Clone, Debug)]
pub struct SpanTracker {
    ids: TraceIds,
    root: SpanRecord,
    phase: Option<SpanRecord>,
    faults: BTreeMap<String, SpanRecord>,
    leaders: BTreeMap<String, (String, u64)>,
}

impl SpanTracker {
    /// A tracker for the run with this header.
    #[must_use]
    pub fn new(header: &Header) -> Self {
        let ids = TraceIds::of(header);
        let text = |key: &str| match &header.plan[key] {
            serde_json::Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let mut root = span(ids.root, 0, "firedrill.run".to_owned(), Nanos(0));
        for key in ["scenario", "seed", "backend"] {
            root.attributes.insert(format!("firedrill.{key}"), text(key));
        }
        Self {
            ids,
            root,
            phase: None,
            faults: BTreeMap::new(),
            leaders: BTreeMap::new(),
        }
    }

    /// The trace's ids.
    #[must_use]
    pub const fn ids(&self) -> TraceIds {
        self.ids
    }

    /// How many faults bite at this moment, as far as the events told.
    #[must_use]
    pub fn faults_active(&self) -> usize {
        self.faults
            .values()
            .filter(|span| span.attributes.get(OUTCOME).is_some_and(|o| o == "installed"))
            .count()
    }

    /// Takes the next event; returns the spans that it ended.
    pub fn on_event(&mut self, event: &Event) -> Vec<SpanRecord> {
        match event {
            Event::Phase(event) => self.on_phase(event),
            Event::Fault(event) => self.on_fault(event),
            Event::Observed(Observed {
                at,
                node,
                status: Some(status),
                ..
            }) => {
                self.on_status(*at, node, status);
                Vec::new()
            }
            Event::Process(event) => {
                let mut attributes = BTreeMap::from([("firedrill.node".to_owned(), event.node.clone())]);
                let name = match &event.change {
                    ProcessChange::Started => "process started",
                    ProcessChange::Stopped { asked_for } => {
                        attributes.insert("firedrill.asked_for".to_owned(), asked_for.to_string());
                        "process stopped"
                    }
                    ProcessChange::Continued => "process goes on",
                    ProcessChange::Ended { how, asked_for } => {
                        attributes.insert("firedrill.how".to_owned(), how.clone());
                        attributes.insert("firedrill.asked_for".to_owned(), asked_for.to_string());
                        "process ended"
                    }
                };
                self.note(event.at, name, attributes);
                Vec::new()
            }
            Event::Harness(event) => {
                let attributes = BTreeMap::from([("firedrill.text".to_owned(), event.text.clone())]);
                self.note(
                    event.at,
                    &format!("harness {:?}", event.kind).to_lowercase(),
                    attributes,
                );
                Vec::new()
            }
            _ => Vec::new(),
        }
    }

    /// Ends the run: everything still open ends at `at`. `verdict` goes onto the root, which comes last.
    pub fn finish(&mut self, at: Nanos, verdict: &str) -> Vec<SpanRecord> {
        let mut ended: Vec<SpanRecord> = std::mem::take(&mut self.faults).into_values().collect();
        for fault in &mut ended {
            fault
                .error
                .get_or_insert_with(|| "not healed when the run ended".to_owned());
        }
        ended.extend(self.phase.take());
        for open in &mut ended {
            open.end = at;
        }
        self.root.end = at;
        self.root
            .attributes
            .insert("test.case.result.status".to_owned(), verdict.to_owned());
        if verdict != "pass" {
            self.root.error = Some(verdict.to_owned());
        }
        ended.push(self.root.clone());
        ended
    }

    fn on_phase(&mut self, event: &PhaseEvent) -> Vec<SpanRecord> {
        let ended = self.phase.take().map(|mut span| {
            span.end = event.at;
            span
        });
        let name = phase_name(event.phase);
        self.phase = Some(span(
            self.ids.span(&format!("phase {name}")),
            self.ids.root,
            format!("firedrill.phase {name}"),
            event.at,
        ));
        ended.into_iter().collect()
    }

    fn on_fault(&mut self, event: &FaultEvent) -> Vec<SpanRecord> {
        let ids = self.ids;
        let open = self.faults.entry(event.id.clone()).or_insert_with(|| {
            let mut open = span(
                ids.span(&format!("fault {}", event.id)),
                ids.root,
                format!("firedrill.fault {}", event.kind),
                event.at,
            );
            open.attributes
                .insert("firedrill.fault.id".to_owned(), event.id.clone());
            open.attributes
                .insert("firedrill.fault.targets".to_owned(), event.targets.join(","));
            open.attributes
                .insert("firedrill.system".to_owned(), event.system.clone());
            open
        });
        let (outcome, at, detail, ends) = match &event.change {
            FaultChange::Requested => ("requested", event.at, String::new(), false),
            FaultChange::Installed { effective, evidence } => ("installed", *effective, evidence.clone(), false),
            FaultChange::Skipped { reason } => ("skipped", event.at, reason.clone(), true),
            FaultChange::Indeterminate { reason } => ("indeterminate", event.at, reason.clone(), false),
            FaultChange::HealRequested => ("heal requested", event.at, String::new(), false),
            FaultChange::Healed { healed, evidence } => ("healed", *healed, evidence.clone(), true),
            FaultChange::HealFailed { reason } => ("heal failed", event.at, reason.clone(), true),
        };
        let attributes = BTreeMap::from([("firedrill.evidence".to_owned(), detail.clone())]);
        add_event(
            open,
            SpanEvent {
                at,
                name: outcome.to_owned(),
                attributes,
            },
        );
        match &event.change {
            FaultChange::Installed { effective, .. } => {
                // The window that counts begins with the evidence, not with the command.
                open.start = *effective;
                open.attributes.insert(OUTCOME.to_owned(), outcome.to_owned());
            }
            FaultChange::Skipped { .. } | FaultChange::Indeterminate { .. } => {
                open.attributes.insert(OUTCOME.to_owned(), outcome.to_owned());
            }
            FaultChange::HealFailed { .. } => open.error = Some(detail),
            _ => {}
        }
        open.end = at;
        if ends {
            self.faults.remove(&event.id).into_iter().collect()
        } else {
            Vec::new()
        }
    }

    fn on_status(&mut self, at: Nanos, node: &str, status: &NodeStatus) {
        for group in status.groups.iter().filter(|group| group.leader) {
            let key = group.group.clone();
            let known = self.leaders.get(&key);
            if known.is_some_and(|(leader, term)| (leader == node && *term == group.term) || *term > group.term) {
                continue;
            }
            self.leaders.insert(key, (node.to_owned(), group.term));
            let attributes = BTreeMap::from([
                ("firedrill.group".to_owned(), group.group.clone()),
                ("firedrill.node".to_owned(), node.to_owned()),
                ("firedrill.term".to_owned(), group.term.to_string()),
            ]);
            self.note(at, "leader", attributes);
        }
    }

    fn note(&mut self, at: Nanos, name: &str, attributes: BTreeMap<String, String>) {
        add_event(
            &mut self.root,
            SpanEvent {
                at,
                name: name.to_owned(),
                attributes,
            },
        );
    }
}

const OUTCOME: &str = "firedrill.fault.outcome";

/// All spans of a whole history but for its verdict, which is not known before it is judged.
#[derive(Clone, Debug)]
pub struct Trace {
    ended: Vec<SpanRecord>,
    tracker: SpanTracker,
}

impl Trace {
    /// The spans of these events, in the order in which they were recorded.
    #[must_use]
    pub fn of(header: &Header, events: &[Event]) -> Self {
        let mut tracker = SpanTracker::new(header);
        let ended = events.iter().flat_map(|event| tracker.on_event(event)).collect();
        Self { ended, tracker }
    }

    /// The trace's ids.
    #[must_use]
    pub const fn ids(&self) -> TraceIds {
        self.tracker.ids()
    }

    /// Every span of the run, which ended at `at` with `verdict`; the root comes last.
    #[must_use]
    pub fn spans(&self, at: Nanos, verdict: &str) -> Vec<SpanRecord> {
        let mut spans = self.ended.clone();
        spans.extend(self.tracker.clone().finish(at, verdict));
        spans
    }
}

/// The phase's name as the history writes it.
#[must_use]
pub fn phase_name(phase: Phase) -> String {
    match serde_json::to_value(phase) {
        Ok(serde_json::Value::String(name)) => name,
        _ => format!("{phase:?}"),
    }
}

fn span(id: u64, parent: u64, name: String, start: Nanos) -> SpanRecord {
    SpanRecord {
        id,
        parent,
        name,
        start,
        end: start,
        attributes: BTreeMap::new(),
        events: Vec::new(),
        error: None,
    }
}

fn add_event(span: &mut SpanRecord, event: SpanEvent) {
    if span.events.len() < EVENTS_MAX {
        span.events.push(event);
    } else {
        let dropped = span
            .attributes
            .entry("firedrill.events_dropped".to_owned())
            .or_insert_with(|| "0".to_owned());
        *dropped = dropped.parse::<u64>().unwrap_or(0).saturating_add(1).to_string();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Header {
        Header {
            format: super::super::FORMAT.to_owned(),
            plan: serde_json::json!({"scenario": "x", "seed": 7, "backend": "process"}),
            started: "2026-01-01T00:00:00Z".to_owned(),
            versions: BTreeMap::new(),
        }
    }

    fn fault(at: u64, change: FaultChange) -> Event {
        Event::Fault(FaultEvent {
            at: Nanos(at),
            id: "1-kill".to_owned(),
            kind: "kill".to_owned(),
            system: "messaging".to_owned(),
            targets: vec!["n2".to_owned()],
            needs: Vec::new(),
            resolved: None,
            change,
        })
    }

    #[test]
    fn a_fault_is_a_span_over_the_window_of_its_evidence() {
        let mut tracker = SpanTracker::new(&header());
        assert!(tracker.on_event(&fault(10, FaultChange::Requested)).is_empty());
        assert_eq!(tracker.faults_active(), 0, "asked for is not bitten");
        tracker.on_event(&fault(
            14,
            FaultChange::Installed {
                effective: Nanos(12),
                evidence: "gone".to_owned(),
            },
        ));
        assert_eq!(tracker.faults_active(), 1);
        tracker.on_event(&fault(20, FaultChange::HealRequested));
        let ended = tracker.on_event(&fault(
            26,
            FaultChange::Healed {
                healed: Nanos(25),
                evidence: "up".to_owned(),
            },
        ));
        assert_eq!(tracker.faults_active(), 0);
        assert_eq!(ended.len(), 1);
        assert_eq!(
            (ended[0].start, ended[0].end, ended[0].parent),
            (Nanos(12), Nanos(25), tracker.ids().root)
        );
        assert_eq!(ended[0].events.len(), 4);
        assert_eq!(ended[0].error, None);
    }

    #[test]
    fn phases_follow_each_other_and_the_root_spans_all() {
        let mut tracker = SpanTracker::new(&header());
        let ids = tracker.ids();
        let phase = |at, phase| Event::Phase(PhaseEvent { at: Nanos(at), phase });
        assert!(tracker.on_event(&phase(1, Phase::WarmUp)).is_empty());
        let ended = tracker.on_event(&phase(5, Phase::Disturb));
        assert_eq!(
            (ended[0].name.as_str(), ended[0].start, ended[0].end),
            ("firedrill.phase warm_up", Nanos(1), Nanos(5))
        );
        tracker.on_event(&fault(
            6,
            FaultChange::Installed {
                effective: Nanos(6),
                evidence: String::new(),
            },
        ));
        let rest = tracker.finish(Nanos(9), "fail");
        assert_eq!(rest.len(), 3);
        let root = rest.last().unwrap();
        assert_eq!(
            (root.id, root.parent, root.start, root.end),
            (ids.root, 0, Nanos(0), Nanos(9))
        );
        assert_eq!(root.error.as_deref(), Some("fail"));
        assert!(
            rest[0].error.as_deref().unwrap().contains("not healed"),
            "an open fault is not passed over"
        );
    }

    #[test]
    fn ids_are_stable_and_differ_between_runs() {
        let a = TraceIds::of(&header());
        assert_eq!(a, TraceIds::of(&header()));
        let mut other = header();
        other.started.push('1');
        assert_ne!(a.trace, TraceIds::of(&other).trace);
        assert_eq!(a.traceparent().len(), 55);
    }

    #[test]
    fn events_in_one_span_are_bounded_and_the_rest_is_counted() {
        let mut open = span(1, 0, "x".to_owned(), Nanos(0));
        for at in 0..u64::try_from(EVENTS_MAX).unwrap() + 3 {
            add_event(
                &mut open,
                SpanEvent {
                    at: Nanos(at),
                    name: "e".to_owned(),
                    attributes: BTreeMap::new(),
                },
            );
        }
        assert_eq!(open.events.len(), EVENTS_MAX);
        assert_eq!(open.attributes["firedrill.events_dropped"], "3");
    }
}
