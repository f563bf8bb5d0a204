//! The benchmarks can't rot: each is run by CI and described, and their shared arithmetic is right.

use std::{fs, path::Path, time::Duration};

#[path = "../benches/common/distribution.rs"]
mod distribution;
#[path = "../benches/common/table.rs"]
mod table;

use distribution::{Distribution, show};
use table::Table;

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn each_benchmark_is_run_by_ci_and_described() {
    let manifest: toml::Table = read("Cargo.toml").parse().unwrap();
    let benches = manifest["bench"].as_array().unwrap();
    assert!(!benches.is_empty());
    let (ci, doc) = (read("../.ci/run"), read("../docs/benchmarks.md"));
    for bench in benches {
        let name = bench["name"].as_str().unwrap();
        assert_eq!(bench["harness"].as_bool(), Some(false), "{name} prints its own tables");
        assert!(ci.contains(&format!("--bench {name} ")), ".ci/run does not run {name}");
        assert!(
            doc.contains(&format!("| `{name}` |")),
            "docs/benchmarks.md does not say what {name} is"
        );
    }
}

#[test]
fn quantiles_are_samples_of_the_nearest_rank() {
    let of = |count: u64| Distribution::of((1..=count).rev().map(Duration::from_millis).collect());
    let at = |count: u64, per_mille: usize| of(count).at(per_mille).map(|at| at.as_millis());
    assert_eq!(at(0, 500), None);
    assert_eq!((at(1, 0), at(1, 500), at(1, 1000)), (Some(1), Some(1), Some(1)));
    assert_eq!(
        (at(10, 0), at(10, 500), at(10, 501), at(10, 1000)),
        (Some(1), Some(5), Some(6), Some(10))
    );
    assert_eq!(
        (at(50, 950), at(50, 990), at(1000, 990)),
        (Some(48), Some(50), Some(990))
    );
    assert_eq!(
        of(2).cells(),
        ["2", "1.00 ms", "1.00 ms", "2.00 ms", "2.00 ms", "2.00 ms"]
    );
    assert_eq!(of(0).cells(), ["0", "–", "–", "–", "–", "–"]);
    assert_eq!(of(2).cells().len(), Distribution::HEAD.len());
}

#[test]
fn durations_have_three_figures_and_a_unit() {
    for (us, text) in [
        (0, "0.00 µs"),
        (7, "7.00 µs"),
        (12_340, "12.3 ms"),
        (123_400, "123 ms"),
        (2_500_000, "2.50 s"),
    ] {
        assert_eq!(show(Duration::from_micros(us)), text);
    }
}

#[test]
fn a_table_is_markdown_whose_columns_are_aligned() {
    let mut table = Table::new("Title", &["way", "p50"]);
    table.row("direct", ["1.00 µs".to_owned()]);
    table.row("short", []);
    table.note("A note.");
    let expected = "**Title**\n\n| way    |     p50 |\n|--------|--------:|\n| direct | 1.00 µs |\n| short  |         |\n\nA note.\n";
    assert_eq!(table.to_string(), expected);
}
