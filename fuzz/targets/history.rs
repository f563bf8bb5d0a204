//! Any bytes as a run's history, compressed or not.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| firedrill::history::fuzz_read(bytes));
