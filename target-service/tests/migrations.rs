//! The matrix: every operation of the placement of shards, hit in each of its phases by each of what may hit it, while
//! people use the cluster. The operation ends, done or aborted with the source serving, and every promise is judged.
//!
//! Here half of the cells are run: each phase of each operation with two of the four hits, which change from phase to phase.
//! All cells with many seeds, on all cores and resumable:
//! `cargo run --release -p target-service --example seeds -- --rehearsals --seeds 5000`.
//! One seed alone, with its trace in a file:
//! `SIM_SEED=17 SIM_TRACE=trace.txt cargo test -p target-service --test migrations chosen_seeds -- --nocapture`

use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
};

use firedrill_proto::chat::v1::OperationPhase;
use target_service::sim::{Outcome, SimOptions, cells, simulate};

fn complain(seed: u64, outcome: &Outcome) -> String {
    let violations: Vec<String> = outcome.violations.iter().map(ToString::to_string).collect();
    let cell = SimOptions::rehearsal(seed).cell.map(|cell| cell.to_string());
    format!(
        "seed {seed} ({}) broke {} promises:\n{}\nreproduce: SIM_SEED={seed} cargo test -p target-service --test \
         migrations chosen_seeds -- --nocapture",
        cell.unwrap_or_default(),
        violations.len(),
        violations.join("\n")
    )
}

/// A slice of half of the cells, one seed each. Slices are tests of their own, so that they run beside each other.
fn slice(turn: usize) {
    let mut ends = BTreeMap::<&str, u64>::new();
    let (mut acknowledged, mut stale) = (0, 0);
    for seed in (0..cells().len()).filter(|cell| (cell + cell / 4) % 4 == turn) {
        let seed = seed as u64;
        let outcome = simulate(&SimOptions::rehearsal(seed)).unwrap();
        assert!(outcome.violations.is_empty(), "{}", complain(seed, &outcome));
        assert!(outcome.acknowledged > 0, "seed {seed} exercised nothing");
        let rehearsed = outcome.rehearsed.expect("it is a rehearsal");
        assert!(rehearsed.hit, "seed {seed}: the operation did not come to its phase");
        let ended = rehearsed.ended.map_or("NEVER", |phase| phase.as_str_name());
        *ends.entry(ended).or_default() += 1;
        acknowledged += outcome.acknowledged;
        stale += outcome.stale_routes.0;
    }
    println!("{ends:?}, {acknowledged} acknowledged, {stale} stale routes followed");
    // Only what was asked to be aborted is, nearly: whoever is killed comes back.
    let done = ends.get(OperationPhase::Done.as_str_name()).copied().unwrap_or(0);
    assert!(done * 10 >= ends.values().sum::<u64>() * 9, "{ends:?}");
    assert!(acknowledged > 500 && stale > 0, "{acknowledged} {stale}");
}

#[test]
fn cells_0_of_2() {
    slice(0);
}

#[test]
fn cells_1_of_2() {
    slice(1);
}

#[test]
fn chosen_seeds() {
    let Ok(text) = env::var("SIM_SEED") else { return };
    let seeds: BTreeSet<u64> = match text.split_once("..") {
        Some((first, end)) => (first.parse().unwrap()..end.parse().unwrap()).collect(),
        None => [text.parse().unwrap()].into(),
    };
    for seed in seeds {
        let mut options = SimOptions::rehearsal(seed);
        options.plant = env::var("SIM_PLANT")
            .ok()
            .and_then(|plant| target_service::node::Plant::named(&plant));
        options.keep_lines = env::var_os("SIM_TRACE").is_some();
        let outcome = simulate(&options).unwrap();
        println!(
            "seed {seed} ({}): {:?}, {} acknowledged, converged after {:?}",
            options.cell.unwrap(),
            outcome.rehearsed,
            outcome.acknowledged,
            outcome.converged,
        );
        if let Some(path) = env::var_os("SIM_TRACE") {
            fs::write(path, outcome.trace.2.join("\n")).unwrap();
        }
        assert!(outcome.violations.is_empty(), "{}", complain(seed, &outcome));
    }
}
