//! Any bytes as messages of consensus, requests of clients, and commands of a shard's log.
#![no_main]

use target_service::{chat::fuzz_calls, consensus::rig::fuzz_step};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    fuzz_step(bytes);
    fuzz_calls(bytes);
});
