//! Any bytes as a segment of the write-ahead log.
#![no_main]

use target_service::storage::log::{fuzz_open, fuzz_open_sealed};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    fuzz_open(bytes);
    fuzz_open_sealed(bytes);
});
