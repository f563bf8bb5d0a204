//! The controller over gRPC, as a stranger on this machine would use it.

#![cfg(target_os = "linux")]

mod common;

use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Stdio},
};

use common::{Bench, PATIENCE, small, text, waited_for};
use firedrill::base::RunClock;
use firedrill_proto::firedrill::v1::{
    AbortRunRequest, GetRunRequest, HealRequest, InjectRequest, InjectResponse, ListFaultsRequest, ListRunsRequest,
    RunEvent, StartRunRequest, WatchRunRequest, controller_client::ControllerClient, run_event::Event,
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tonic::{Code, Status, transport::Channel};
use tonic_types::StatusExt as _;

/// A controller in a process of its own.
struct Served {
    child: Child,
    channel: Channel,
}

impl Served {
    async fn start(bench: &Bench) -> Self {
        let mut command = bench.firedrill(&["serve", "--listen", "127.0.0.1:0"]);
        let mut child = command.stdout(Stdio::piped()).spawn().expect("the command starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("it is piped"))
            .read_line(&mut line)
            .expect("it says where it listens");
        let address = line
            .trim()
            .strip_prefix("listening ")
            .expect("it says where it listens");
        let channel = Channel::from_shared(format!("http://{address}")).expect("an address");
        Self {
            child,
            channel: channel.connect().await.expect("it listens"),
        }
    }

    fn controller(&self) -> ControllerClient<Channel> {
        ControllerClient::new(self.channel.clone()).max_decoding_message_size(64 << 20)
    }

    /// Asks it to end and returns its exit code.
    fn end(&mut self) -> Option<i32> {
        kill(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGTERM).expect("it is ours");
        assert!(waited_for(|| self.child.try_wait().expect("it is our child").is_some()));
        self.child.wait().expect("it is our child").code()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // Both fail when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The events of a run until one is what is waited for, that one last.
async fn until(events: &mut tonic::Streaming<RunEvent>, is_it: impl Fn(&Event) -> bool) -> Vec<Event> {
    let mut seen = Vec::new();
    let all = async {
        while let Some(event) = events.message().await.expect("the stream goes on") {
            let event = event.event.expect("an event is of some kind");
            let it = is_it(&event);
            seen.push(event);
            if it {
                return true;
            }
        }
        false
    };
    let clock = RunClock::start();
    let came = tokio::select! {
        biased;
        came = all => came,
        () = clock.sleep(PATIENCE) => false,
    };
    assert!(came, "it did not come; seen: {seen:#?}");
    seen
}

fn phase(name: &'static str) -> impl Fn(&Event) -> bool {
    move |event| matches!(event, Event::Phase(phase) if phase.phase == name)
}

fn ended(event: &Event) -> bool {
    matches!(event, Event::Ended(_))
}

fn fault_is(id: &str, change: &'static str) -> impl Fn(&Event) -> bool {
    move |event| matches!(event, Event::Fault(fault) if fault.id == id && fault.change == change)
}

/// The reason in the details, which a program acts on.
fn reason(status: &Status) -> String {
    let details = status.get_error_details();
    details.error_info().map(|info| info.reason.clone()).unwrap_or_default()
}

fn start(out: &Path) -> StartRunRequest {
    StartRunRequest {
        scenario_yaml: small("  - at: 10m\n    transfer_leader: { shard: 0, to: any_follower }"),
        scenario_path: "small.yaml".to_owned(),
        out_dir: out.display().to_string(),
        ..StartRunRequest::default()
    }
}

/// A run that a controller has brought to where faults can be injected by hand.
struct Stage {
    controller: ControllerClient<Channel>,
    run: String,
    events: tonic::Streaming<RunEvent>,
}

impl Stage {
    async fn set(served: &Served, bench: &Bench) -> Self {
        let mut controller = served.controller();
        let started = controller
            .start_run(start(&bench.path("out")))
            .await
            .expect("it starts")
            .into_inner();
        let request = WatchRunRequest {
            run: started.run.clone(),
        };
        let mut events = controller
            .watch_run(request)
            .await
            .expect("it can be watched")
            .into_inner();
        until(&mut events, phase("disturb")).await;
        Self {
            controller,
            run: started.run,
            events,
        }
    }

    async fn inject(&mut self, step: &str, lease_ms: u32) -> Result<InjectResponse, Status> {
        let request = InjectRequest {
            run: self.run.clone(),
            step_yaml: step.to_owned(),
            lease_ms,
        };
        self.controller.inject(request).await.map(tonic::Response::into_inner)
    }

    async fn heal(&mut self, fault: &str) -> Result<Vec<String>, Status> {
        let request = HealRequest {
            run: self.run.clone(),
            fault: fault.to_owned(),
        };
        let healed = self.controller.heal(request).await?;
        Ok(healed.into_inner().healed)
    }

    async fn refused(&mut self, step: &str, lease_ms: u32, words: &str) {
        let status = self.inject(step, lease_ms).await.expect_err(step);
        assert_eq!(status.code(), Code::InvalidArgument, "{step}: {status}");
        assert!(status.message().contains(words), "{step}: {status}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_is_started_watched_broken_by_hand_and_aborted() {
    let bench = Bench::new();
    let mut served = Served::start(&bench).await;
    let mut stage = Stage::set(&served, &bench).await;

    let busy = stage
        .controller
        .start_run(start(&bench.path("two")))
        .await
        .expect_err("one at a time");
    assert_eq!(
        (busy.code(), reason(&busy).as_str()),
        (Code::ResourceExhausted, "BUSY"),
        "{busy}"
    );
    let runs = stage
        .controller
        .list_runs(ListRunsRequest {})
        .await
        .expect("a list")
        .into_inner()
        .runs;
    assert_eq!(runs.len(), 1);
    assert_eq!((runs[0].state.as_str(), runs[0].phase.as_str()), ("running", "disturb"));

    // What a step by hand can't mean is refused by name, and a lease is needed and bounded.
    stage.refused("freeze: leader", 0, "lease_ms").await;
    stage.refused("freeze: leader", 600_001, "600000").await;
    stage.refused("{ at: 1s, freeze: leader }", 1000, "`at`").await;
    let when = "{ when: { event: steady, within: 1s }, freeze: leader }";
    stage.refused(when, 1000, "`when`").await;
    stage
        .refused("{ freeze: leader, heal_after: 2s }", 1000, "heal_after")
        .await;
    stage.refused("freeze: { node: n9 }", 1000, "n9").await;
    stage.refused("freezze: leader", 1000, "freeze").await;
    let stranger = InjectRequest {
        run: "77".to_owned(),
        step_yaml: "freeze: leader".to_owned(),
        lease_ms: 1000,
    };
    let stranger = stage.controller.inject(stranger).await.expect_err("not started here");
    assert_eq!(
        (stranger.code(), reason(&stranger).as_str()),
        (Code::NotFound, "NO_SUCH_RUN")
    );

    // Healed when it is asked to be, once.
    let by_hand = stage.inject("freeze: { node: n1 }", 600_000).await.expect("it bites");
    assert_eq!(
        (by_hand.outcome.as_str(), by_hand.targets),
        ("installed", vec!["n1".to_owned()])
    );
    assert!(by_hand.evidence.contains("state T"), "{}", by_hand.evidence);
    assert_eq!(
        stage.heal(&by_hand.fault).await.expect("it heals"),
        [by_hand.fault.as_str()]
    );
    let again = stage.heal(&by_hand.fault).await.expect_err("it lasts no more");
    assert_eq!(
        (again.code(), reason(&again).as_str()),
        (Code::NotFound, "NO_SUCH_FAULT")
    );

    // By its lease, and before it by its own `heal_after`.
    let leased = stage.inject("freeze: { node: n2 }", 300).await.expect("it bites");
    until(&mut stage.events, fault_is(&leased.fault, "healed")).await;
    let short = stage
        .inject("{ freeze: { node: n3 }, heal_after: 300ms }", 600_000)
        .await
        .expect("it bites");
    until(&mut stage.events, fault_is(&short.fault, "healed")).await;

    // An abort heals what lasts.
    let lasting = stage.inject("freeze: { node: n1 }", 600_000).await.expect("it bites");
    let run = stage.run.clone();
    let abort = AbortRunRequest { run: run.clone() };
    stage.controller.abort_run(abort).await.expect("it is aborted");
    let rest = until(&mut stage.events, ended).await;
    assert!(rest.iter().any(fault_is(&lasting.fault, "healed")), "{rest:#?}");
    let Some(Event::Ended(end)) = rest.last() else {
        panic!("the last is its end")
    };
    assert_eq!(end.exit_code, 130, "{:?}", end.reasons);
    let request = GetRunRequest { run: run.clone() };
    let ended_run = stage
        .controller
        .get_run(request)
        .await
        .expect("it is known")
        .into_inner();
    assert_eq!((ended_run.state.as_str(), ended_run.exit_code), ("aborted", 130));
    let late = stage.inject("freeze: leader", 1000).await.expect_err("it has ended");
    assert_eq!(
        (late.code(), reason(&late).as_str()),
        (Code::FailedPrecondition, "NOT_NOW")
    );

    // Whoever comes late is told all of it.
    let request = WatchRunRequest { run };
    let mut late = stage
        .controller
        .watch_run(request)
        .await
        .expect("it is known")
        .into_inner();
    let told = until(&mut late, ended).await;
    assert!(phase("prepare")(&told[0]), "from the beginning: {:?}", told[0]);
    assert!(
        told.iter().any(fault_is(&lasting.fault, "installed")),
        "faults are told"
    );
    assert!(told.iter().any(phase("tear_down")), "to the end");
    assert_eq!(told.last(), rest.last(), "with the same end");
    assert_eq!(served.end(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn faults_health_and_reflection_are_served_and_an_end_ends_the_runs() {
    let bench = Bench::new();
    let mut served = Served::start(&bench).await;
    let request = ListFaultsRequest {};
    let faults = served
        .controller()
        .list_faults(request)
        .await
        .expect("a list")
        .into_inner()
        .faults;
    let freeze = faults
        .iter()
        .find(|fault| fault.verb == "freeze")
        .expect("freeze is a verb");
    assert!(freeze.backends.contains(&"process".to_owned()) && !freeze.example_yaml.is_empty());

    let mut health = tonic_health::pb::health_client::HealthClient::new(served.channel.clone());
    let request = tonic_health::pb::HealthCheckRequest {
        service: "firedrill.v1.Controller".to_owned(),
    };
    let status = health
        .check(request)
        .await
        .expect("health is served")
        .into_inner()
        .status;
    assert_eq!(
        status,
        i32::from(tonic_health::pb::health_check_response::ServingStatus::Serving)
    );
    assert!(
        services(&served.channel)
            .await
            .contains(&"firedrill.v1.Controller".to_owned())
    );

    let wrong = StartRunRequest {
        scenario_yaml: "version: 1\nnaame: x\n".to_owned(),
        ..start(&bench.path("wrong"))
    };
    let wrong = served.controller().start_run(wrong).await.expect_err("not a scenario");
    assert_eq!(
        (wrong.code(), reason(&wrong).as_str()),
        (Code::InvalidArgument, "INVALID_SCENARIO")
    );
    assert!(wrong.message().contains("small.yaml:2:1"), "{wrong}");

    // A controller that ends heals and ends its runs first.
    let stage = Stage::set(&served, &bench).await;
    drop(stage);
    assert_eq!(served.end(), Some(0));
    assert_eq!(bench.run_json()["exit_code"], 130);
    assert_eq!(common::processes_of(&bench.path("out")), Vec::<u32>::new());
}

/// The services that reflection names.
async fn services(channel: &Channel) -> Vec<String> {
    use tonic_reflection::pb::v1::{
        ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
        server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
    };
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut client = ServerReflectionClient::new(channel.clone());
    let answers = client.server_reflection_info(tokio_stream::once(request)).await;
    let answer = answers.expect("reflection is served").into_inner().message().await;
    match answer.expect("an answer").and_then(|answer| answer.message_response) {
        Some(MessageResponse::ListServicesResponse(list)) => {
            list.service.into_iter().map(|service| service.name).collect()
        }
        other => panic!("not a list of services: {other:?}"),
    }
}

#[test]
fn only_loopback_is_served() {
    let bench = Bench::new();
    let refused = bench
        .firedrill(&["serve", "--listen", "0.0.0.0:0"])
        .output()
        .expect("the command starts");
    assert_eq!(refused.status.code(), Some(2), "{}", text(&refused));
    assert!(text(&refused).contains("not a loopback address"), "{}", text(&refused));
}
