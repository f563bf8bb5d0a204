//! Between the controller's types and firedrill.v1, in one place.

use firedrill_proto::firedrill::v1 as wire;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::{
    base::Nanos,
    controller::{Ended, LiveEvent, RunError, RunInfo, Tick, change_in_words},
    fault::VerbInfo,
    history::{Class, phase_name},
};

/// The domain of `google.rpc.ErrorInfo` in refusals of the controller.
pub const DOMAIN: &str = "firedrill.v1";
/// The scenario is not valid: exit code 3.
pub const INVALID_SCENARIO: &str = "INVALID_SCENARIO";
/// The scenario asks for what this backend or build can't do: exit code 4.
pub const CAPABILITY_MISSING: &str = "CAPABILITY_MISSING";

/// A refusal with its reason in the details.
pub(super) fn refusal(error: &RunError) -> Status {
    let (code, reason) = match error {
        RunError::Invalid(_) => (Code::InvalidArgument, INVALID_SCENARIO),
        RunError::CapabilityMissing(_) => (Code::FailedPrecondition, CAPABILITY_MISSING),
        RunError::Busy(_) => (Code::ResourceExhausted, "BUSY"),
        RunError::NotFound(_) => (Code::NotFound, "NO_SUCH_RUN"),
        RunError::NoSuchFault(_) => (Code::NotFound, "NO_SUCH_FAULT"),
        RunError::NotNow(_) => (Code::FailedPrecondition, "NOT_NOW"),
        RunError::Failure(_) => (Code::Internal, "FAILURE"),
    };
    let details = ErrorDetails::with_error_info(reason, DOMAIN, <[(String, String); 0]>::default());
    Status::with_error_details(code, error.to_string(), details)
}

pub(super) fn event(event: LiveEvent) -> wire::RunEvent {
    use wire::run_event::Event;
    let (at, event) = match event {
        LiveEvent::Phase(phase) => (
            phase.at,
            Event::Phase(wire::PhaseChanged {
                phase: phase_name(phase.phase),
            }),
        ),
        LiveEvent::Fault(fault) => {
            let (change, evidence) = change_in_words(&fault.change);
            let (change, evidence) = (change.to_owned(), evidence.to_owned());
            let changed = wire::FaultChanged {
                id: fault.id,
                kind: fault.kind,
                targets: fault.targets,
                change,
                evidence,
            };
            (fault.at, Event::Fault(changed))
        }
        LiveEvent::Progress(tick) => (tick.at, Event::Progress(progress(&tick))),
        LiveEvent::Note { at, text, warning } => {
            let level = if warning { "warning" } else { "info" }.to_owned();
            (at, Event::Note(wire::Note { text, level }))
        }
        LiveEvent::Ended(ended) => (ended.at, Event::Ended(run_ended(ended))),
    };
    wire::RunEvent {
        at_ms: whole_millis(at),
        event: Some(event),
    }
}

fn run_ended(ended: Ended) -> wire::RunEnded {
    let Ended {
        verdict,
        exit_code,
        reasons,
        run_json,
        summary,
        summary_coloured,
        ..
    } = ended;
    wire::RunEnded {
        verdict,
        exit_code,
        reasons,
        run_json,
        summary,
        summary_coloured,
    }
}

fn progress(tick: &Tick) -> wire::Progress {
    let classes = tick
        .progress
        .classes
        .iter()
        .map(|(class, progress)| wire::ClassProgress {
            class: class_name(*class),
            ok: progress.ok,
            failed: progress.failed,
            unknown: progress.unknown,
            shed: progress.shed,
            success_ratio: progress.success.unwrap_or(f64::NAN),
            p99_ms: progress.p99_ms.unwrap_or(f64::NAN),
        });
    wire::Progress {
        classes: classes.collect(),
        faults_active: tick.faults_active,
        backlog: tick.progress.owed,
        sessions_connected: tick.progress.sessions_connected,
        sessions: tick.progress.sessions_total,
    }
}

pub(super) fn run(info: RunInfo) -> wire::Run {
    wire::Run {
        run: info.id,
        scenario: info.scenario,
        state: info.state.to_owned(),
        dir: info.dir.display().to_string(),
        verdict: info.verdict,
        exit_code: info.exit_code,
        phase: info.phase,
    }
}

pub(super) fn fault_kind(verb: &VerbInfo) -> wire::FaultKind {
    let backends = crate::backend::ALL.iter();
    let able = backends.filter(|backend| verb.needs.iter().all(|need| backend.capabilities.contains(need)));
    wire::FaultKind {
        verb: verb.name.to_owned(),
        summary: verb.summary.to_owned(),
        group: verb.group.name().to_owned(),
        backends: able.map(|backend| backend.name.to_owned()).collect(),
        example_yaml: verb.example.to_owned(),
    }
}

fn class_name(class: Class) -> String {
    match serde_json::to_value(class) {
        Ok(serde_json::Value::String(name)) => name,
        _ => format!("{class:?}"),
    }
}

fn whole_millis(at: Nanos) -> u64 {
    at.0 / 1_000_000
}
