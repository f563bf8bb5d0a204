//! How the registry's messages grow with the number of its members, for one heal after a flap: naive against digests.
//!
//! `cargo bench -p target-service --bench registry_growth [-- --seeds N]`. Simulated and seeded: the figures are counts,
//! the same on every machine.

use target_service::registry::{
    Mode,
    flap::{self, Flap, Heal},
    growth,
};

const NS: [u32; 5] = [8, 16, 24, 32, 48];

fn main() {
    let seeds = seeds();
    println!(
        "One flap of 1 s, links back within 200 ms, four members in each process, 20 sessions at each; seeds 1 to {seeds}."
    );
    println!(
        "{:<8} {:>3} {:>10} {:>12} {:>11} {:>10}",
        "mode", "n", "messages", "entries", "queue peak", "agreed ms"
    );
    let mut exponents = Vec::new();
    for mode in Mode::ALL {
        let (mut messages, mut entries) = (Vec::new(), Vec::new());
        for n in NS {
            let heals: Vec<Heal> = (1..=seeds).map(|seed| flap::run(Flap::new(mode, n, seed))).collect();
            let median = |of: fn(&Heal) -> u64| {
                let mut counts: Vec<u64> = heals.iter().map(of).collect();
                counts.sort_unstable();
                counts[counts.len() / 2]
            };
            let agreed = median(|heal| heal.agreed_ms.unwrap_or(u64::MAX));
            let agreed = if agreed == u64::MAX {
                "never".to_owned()
            } else {
                agreed.to_string()
            };
            let (said, carried) = (median(|heal| heal.messages), median(|heal| heal.entries));
            let peak = median(|heal| heal.queue_peak as u64);
            println!(
                "{:<8} {n:>3} {said:>10} {carried:>12} {peak:>11} {agreed:>10}",
                mode.as_str()
            );
            messages.push((n, said));
            entries.push((n, carried));
        }
        exponents.push((mode, growth::exponent(&messages), growth::exponent(&entries)));
    }
    for (mode, messages, entries) in exponents {
        let power = |exponent: Option<f64>| exponent.map_or("-".to_owned(), |exponent| format!("n^{exponent:.2}"));
        println!(
            "{:<8} messages grow with {}, entries with {}",
            mode.as_str(),
            power(messages),
            power(entries)
        );
    }
}

/// `--seeds N`; whatever else cargo passes is passed over.
fn seeds() -> u64 {
    let mut arguments = std::env::args().skip_while(|argument| argument != "--seeds").skip(1);
    match arguments.next().map(|number| number.parse()) {
        None => 5,
        Some(Ok(seeds @ 1..=1000)) => seeds,
        Some(_) => {
            eprintln!("--seeds takes a number from 1 to 1000");
            std::process::exit(2);
        }
    }
}
