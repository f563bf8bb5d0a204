//! Seeded mutations, for fuzzing without coverage: what a fuzzer does to a corpus, without what it learns. Two packages'
//! tests include this file.
//!
//! Each mutant has a number of its own and depends on the seed and that number alone, so that one can be made again
//! without those before it.

use std::{
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    time::Duration,
};

use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

/// Mutants of one target, unless `FUZZ_COUNT` says otherwise.
const COUNT: u64 = 3000;
/// How long one target may take, unless `FUZZ_SECONDS` says otherwise.
const SECONDS: u64 = 10;
/// The seed, unless `FUZZ_SEED` says otherwise.
const SEED: u64 = 2014;
/// Most changes of one mutant.
const CHANGES_MAX: u64 = 6;
/// No mutant is longer.
const BYTES_MAX: usize = 1 << 16;

/// The folder of a target's corpus.
pub(crate) fn corpus_of(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../fuzz/corpus")
        .join(target)
}

/// The files below `dir`, in order.
pub(crate) fn files(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    let entries = fs::read_dir(dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    for entry in entries {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            let bytes = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            found.push((path, bytes));
        }
    }
    found.sort();
    found
}

/// Holds the committed corpus to what its makers make, so that it stays real; with `FUZZ_CORPUS=write` writes it.
pub(crate) fn hold_corpus(target: &str, made: &[(&str, Vec<u8>)]) {
    let dir = corpus_of(target);
    if std::env::var("FUZZ_CORPUS").is_ok_and(|value| value == "write") {
        fs::create_dir_all(&dir).expect("the folder can be made");
        for (name, bytes) in made {
            fs::write(dir.join(name), bytes).expect("the file can be written");
        }
    }
    for (name, bytes) in made {
        let kept = fs::read(dir.join(name)).unwrap_or_default();
        assert!(
            kept == *bytes,
            "fuzz/corpus/{target}/{name} is not what is made now: FUZZ_CORPUS=write cargo test --test fuzz_smoke"
        );
    }
}

/// Feeds every file of `corpus` and then its mutants to `target`, until the count or the time is used up.
///
/// # Panics
/// When `target` does, with the command that makes the same mutant again.
#[expect(
    clippy::disallowed_methods,
    reason = "a bound in time, which decides only how many mutants there are"
)]
pub(crate) fn smoke(name: &str, corpus: &[Vec<u8>], target: impl Fn(&[u8])) {
    let number = |key: &str, unless: u64| {
        std::env::var(key)
            .ok()
            .and_then(|text| text.parse().ok())
            .unwrap_or(unless)
    };
    let (seed, first) = (number("FUZZ_SEED", SEED), number("FUZZ_FIRST", 0));
    let count = number("FUZZ_COUNT", COUNT);
    let within = Duration::from_secs(number("FUZZ_SECONDS", SECONDS));
    let tell = std::env::var_os("FUZZ_TELL").is_some();
    assert!(!corpus.is_empty(), "{name} has no corpus");
    let began = std::time::Instant::now();
    let mut done = 0;
    for index in first..first.saturating_add(count) {
        if tell {
            eprintln!("{name}: {index}");
        }
        // Every file as it is comes before any mutant.
        let whole = usize::try_from(index).ok().and_then(|index| corpus.get(index));
        let input = whole.cloned().unwrap_or_else(|| mutant(corpus, seed, index));
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| target(&input))) {
            eprintln!(
                "{name}: mutant {index} of seed {seed} ({} bytes) fails; again:\n  \
                 FUZZ_SEED={seed} FUZZ_FIRST={index} FUZZ_COUNT=1 cargo test --test fuzz_smoke {name}\n{:?}",
                input.len(),
                String::from_utf8_lossy(&input[..input.len().min(400)])
            );
            std::panic::resume_unwind(panic);
        }
        done += 1;
        if began.elapsed() >= within && done >= corpus.len() {
            break;
        }
    }
    println!(
        "{name}: {done} inputs of seed {seed} in {:.1} s",
        began.elapsed().as_secs_f64()
    );
}

/// The mutant `index` of `corpus`.
pub(crate) fn mutant(corpus: &[Vec<u8>], seed: u64, index: u64) -> Vec<u8> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed ^ index.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let mut bytes = pick(&mut rng, corpus).clone();
    for _ in 0..=rng.next_u64() % CHANGES_MAX {
        change(&mut rng, corpus, &mut bytes);
    }
    bytes.truncate(BYTES_MAX);
    bytes
}

fn pick<'a, T>(rng: &mut ChaCha8Rng, of: &'a [T]) -> &'a T {
    &of[below(rng, of.len())]
}

/// A number below `end`, or 0.
fn below(rng: &mut ChaCha8Rng, end: usize) -> usize {
    let end = u64::try_from(end).unwrap_or(u64::MAX).max(1);
    usize::try_from(rng.next_u64() % end).unwrap_or(0)
}

fn change(rng: &mut ChaCha8Rng, corpus: &[Vec<u8>], bytes: &mut Vec<u8>) {
    /// Numbers at the edges of their types, as text and as bytes.
    const EDGES: [u64; 8] = [0, 1, 127, 255, 65_535, u32::MAX as u64, i64::MAX as u64, u64::MAX];
    let at = below(rng, bytes.len());
    match rng.next_u64() % 9 {
        // A bit flips.
        0 if !bytes.is_empty() => bytes[at] ^= 1 << below(rng, 8),
        // A byte becomes another.
        1 if !bytes.is_empty() => bytes[at] = u8::try_from(below(rng, 256)).unwrap_or(0),
        // The rest is cut off.
        2 => bytes.truncate(at),
        // Some of it is missing.
        3 => drop(bytes.drain(at..(at + 1 + below(rng, 16)).min(bytes.len()).max(at))),
        // Some of it comes twice.
        4 => {
            let piece = bytes[at..(at + 1 + below(rng, 64)).min(bytes.len())].to_vec();
            bytes.splice(at..at, piece);
        }
        // It goes on as another file does.
        5 => {
            let other = pick(rng, corpus);
            bytes.truncate(at);
            bytes.extend_from_slice(&other[below(rng, other.len())..]);
        }
        // A line comes again somewhere else.
        6 => {
            let lines: Vec<Vec<u8>> = bytes
                .split_inclusive(|byte| *byte == b'\n')
                .map(<[u8]>::to_vec)
                .collect();
            if !lines.is_empty() {
                let (line, to) = (pick(rng, &lines).clone(), below(rng, lines.len()));
                let to: usize = lines[..to].iter().map(Vec::len).sum();
                bytes.splice(to..to, line);
            }
        }
        // A number in a text becomes another.
        7 => {
            let is_digit = |byte: &u8| byte.is_ascii_digit();
            if let Some(from) = bytes[at..].iter().position(is_digit).map(|from| at + from) {
                let len = bytes[from..].iter().take_while(|byte| is_digit(byte)).count();
                bytes.splice(from..from + len, pick(rng, &EDGES).to_string().into_bytes());
            }
        }
        // A number in bytes becomes another.
        _ => {
            let number = pick(rng, &EDGES).to_le_bytes();
            let number = &number[..1 << below(rng, 4)];
            let end = (at + number.len()).min(bytes.len());
            bytes.splice(at..end, number.iter().copied());
        }
    }
}
