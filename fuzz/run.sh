#!/usr/bin/env bash
# Fuzzing guided by coverage.
#
#   fuzz/run.sh TARGET [SECONDS]      fuzz one target (log, wire, scenario, history) or all of them, 60 s each unless said
#   fuzz/run.sh TARGET again FILE     give a target one input, as the end of a run that found something says
#
# What was found is in target/fuzz/found/TARGET, what is worth trying again next time in target/fuzz/corpus/TARGET.
# Needs a C++ compiler beside the Rust toolchain.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
targets=(log wire scenario history)

usage() { sed -n '2,9s/^# \{0,1\}//p' "$0" >&2; exit 2; }
[ $# -ge 1 ] || usage
case " ${targets[*]} all " in *" $1 "*) ;; *) usage ;; esac
if [ "$1" = all ]; then chosen=("${targets[@]}"); else chosen=("$1"); fi

# The versions that the project is built of; what only the fuzzer needs is added.
cp "$root/Cargo.lock" "$root/fuzz/Cargo.lock"
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$root/target}"
RUSTC_WRAPPER="$root/fuzz/rustc" cargo build --quiet --manifest-path "$root/fuzz/Cargo.toml" "${chosen[@]/#/--bin=}"

if [ "${2:-}" = again ]; then
  [ $# = 3 ] && [ "$1" != all ] || usage
  exec "$CARGO_TARGET_DIR/debug/$1" "$3"
fi

for target in "${chosen[@]}"; do
  found=$root/target/fuzz/found/$target
  corpus=$root/target/fuzz/corpus/$target
  seeds=$root/fuzz/corpus/$target
  [ "$target" != scenario ] || seeds=$root/scenarios
  mkdir -p "$found" "$corpus"
  before=$(ls "$found")
  code=0
  "$CARGO_TARGET_DIR/debug/$target" "$corpus" "$seeds" -max_total_time="${2:-60}" -max_len=65536 -timeout=20 \
    -rss_limit_mb=2048 -artifact_prefix="$found/" -print_final_stats=1 >"$corpus.log" 2>&1 || code=$?
  grep -E '^stat::number_of_executed_units|^stat::new_units_added|cov: [0-9]+ ' "$corpus.log" | tail -n 3 | sed "s/^/$target: /"
  if [ "$code" != 0 ]; then
    tail -n 40 "$corpus.log"
    for file in "$found"/*; do
      case " $before " in *"$(basename "$file")"*) continue ;; esac
      printf '%s: failed with %s; again:\n  fuzz/run.sh %s again %s\n' "$target" "$code" "$target" "$file"
    done
    exit 1
  fi
done
