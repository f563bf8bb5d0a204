//! More than a service can do, in virtual time: with its protections on, it does what it can and is back at once; with
//! them off, it works for nobody, and goes on like that when the flood is over, for as long as its clients try again.
//!
//! Nodes over simulated disks, one shard, and a crowd that sends in an open loop: nobody waits for anybody.

mod crowd;
mod service;

use std::time::Duration;

use crowd::{Crowd, Manners, Tally};
use service::{CAPACITY, Service};
use target_service::node::{NodeConfig, Protections};

/// Messages a second in quiet times: the service can do half as many again.
const QUIET: u64 = (CAPACITY as u64) * 2 / 3;
/// Three times what it can do.
const FLOOD: u64 = (CAPACITY as u64) * 3;

fn protected(_: &mut NodeConfig) {}

fn unprotected(config: &mut NodeConfig) {
    config.protections = Protections {
        deadlines: false,
        priorities: false,
        admission: false,
        ..Protections::default()
    };
}

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// Goodput as a share of what the service can do.
fn share(good: f64) -> f64 {
    good / f64::from(CAPACITY)
}

#[tokio::test(start_paused = true)]
async fn three_times_what_it_can_do_costs_little_and_is_over_at_once() {
    let service = Service::start(3, protected).await;
    let crowd = Crowd::of(&service, 1, Manners::Polite).await;
    let stretches = [(QUIET, secs(5)), (FLOOD, secs(60)), (QUIET, secs(5))];
    let [before, during, after] = crowd.sends(stretches).await;
    assert!(before.success() > 0.999, "{before:?}");
    assert!(share(during.goodput()) >= 0.8, "{during:?}");
    assert!(
        during.refusals() > 1000,
        "it was asked for more than it could do: {during:?}"
    );
    let slowest = during.slowest_refusal();
    assert!(slowest <= Duration::from_millis(10), "a refusal took {slowest:?}");
    assert!(
        during.slowest_success_at_first() <= Duration::from_millis(250),
        "{during:?}"
    );
    let first = after.sent_within(Duration::from_millis(500));
    assert!(first.success() > 0.9, "back within half a second: {first:?}");
    let rest = after.sent_after(secs(1));
    assert!(rest.success() > 0.999, "and altogether within one: {rest:?}");
    let status = service.admission().await;
    let send = status.classes.iter().find(|class| class.class == "send").unwrap();
    assert!(send.shed > 1000 && send.waiting == 0, "{send:?}");
}

#[tokio::test(start_paused = true)]
async fn without_protections_it_collapses_and_the_collapse_outlives_the_flood() {
    let service = Service::start(1, unprotected).await;
    let crowd = Crowd::of(&service, 1, Manners::Storm).await;
    let stretches = [(QUIET, secs(10)), (FLOOD, secs(20)), (QUIET, secs(40))];
    let [before, during, after] = crowd.sends(stretches).await;
    assert!(
        before.success() > 0.99,
        "it is not for its load that it collapses: {before:?}"
    );
    let during = during.sent_after(secs(5));
    assert!(share(during.goodput()) < 0.05, "{during:?}");
    // The load is what it was before; only the retries are new, and they keep the queue as long as it is.
    let after = after.sent_after(secs(5));
    assert!(share(after.goodput()) < 0.05, "{after:?}");
    crowd.stops_trying_again();
    let [_, calm] = crowd.sends([(QUIET, secs(25)), (QUIET, secs(10))]).await;
    assert!(calm.success() > 0.999, "without retries it comes back: {calm:?}");
}

#[tokio::test(start_paused = true)]
async fn the_protections_hold_against_a_storm_of_retries_too() {
    let service = Service::start(1, protected).await;
    let crowd = Crowd::of(&service, 1, Manners::Storm).await;
    let [during, after] = crowd.sends([(FLOOD, secs(20)), (QUIET, secs(5))]).await;
    assert!(share(during.goodput()) >= 0.8, "{during:?}");
    let after = after.sent_after(secs(1));
    assert!(after.success() > 0.999, "{after:?}");
}

#[tokio::test(start_paused = true)]
async fn the_same_seed_gives_the_same_flood() {
    let once = async || {
        let service = Service::start(1, protected).await;
        let crowd = Crowd::of(&service, 7, Manners::Polite).await;
        crowd.sends([(FLOOD, secs(5))]).await
    };
    let (one, again): ([Tally; 1], [Tally; 1]) = (once().await, once().await);
    assert!(one == again, "{one:?} and {again:?}");
}

#[tokio::test(start_paused = true)]
async fn log_ins_are_let_in_along_the_ramp_and_never_cost_who_is_in() {
    let service = Service::start(1, |config| {
        config.bounds.logins_per_second = 40;
        config.bounds.login_burst = 20;
    })
    .await;
    let crowd = Crowd::of(&service, 1, Manners::Polite).await;
    service.ramp_logins(4, 40, secs(9)).await;
    let (logins, [sends]) = tokio::join!(crowd.logs_in(400, secs(9)), crowd.sends([(QUIET / 2, secs(9))]));
    // The area under the ramp: a mean of 22 a second.
    let let_in = logins.good_within(secs(9));
    assert!(let_in.abs_diff(198) <= 12, "{let_in} log-ins: {logins:?}");
    assert!(sends.success() > 0.99, "{sends:?}");
}
