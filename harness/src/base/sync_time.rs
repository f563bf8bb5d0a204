//! What a folder's disk takes to make a write durable: no acknowledged write is faster.

use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::time::Duration;

use super::RunClock;

/// Bytes of one write.
const BLOCK: usize = 4096;
/// Writes go over and over the same megabyte: a log's segments are written ahead as well.
const BLOCKS: u64 = 256;

/// Times of up to `count` writes of 4 KiB in `dir`, each with its fdatasync, shortest first; at least one, and none begun
/// later than `within`.
///
/// # Errors
/// When the folder can't be written.
pub fn sync_times(dir: &Path, count: usize, within: Duration) -> std::io::Result<Vec<Duration>> {
    let name = dir.join(format!(".firedrill-sync-{}", std::process::id()));
    let mut file = std::fs::File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(&name)?;
    // Without a name from here on, so that nothing is left behind whatever happens.
    std::fs::remove_file(&name)?;
    let clock = RunClock::start();
    let began = clock.now();
    let block = [0x5a_u8; BLOCK];
    let mut times = Vec::with_capacity(count);
    while times.is_empty() || (times.len() < count && clock.now().since(began) < within) {
        let before = clock.now();
        file.seek(SeekFrom::Start((times.len() as u64 % BLOCKS) * BLOCK as u64))?;
        file.write_all(&block)?;
        file.sync_data()?;
        times.push(clock.now().since(before));
    }
    times.sort_unstable();
    Ok(times)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_are_timed_sorted_bounded_and_leave_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let times = sync_times(dir.path(), 5, Duration::from_secs(60)).unwrap();
        assert_eq!(times.len(), 5);
        assert!(times.is_sorted() && times[0] > Duration::ZERO, "{times:?}");
        assert_eq!(sync_times(dir.path(), 5, Duration::ZERO).unwrap().len(), 1);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        assert!(sync_times(&dir.path().join("absent"), 5, Duration::ZERO).is_err());
    }
}
