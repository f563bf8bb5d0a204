//! The runtime of the commands that run something.

use super::output::note;
use crate::base::Exit;

/// Threads of the runtime. The load's own lag is what counts: more of them than cores only take turns.
const WORKERS: usize = 2;

/// Runs `work` to its end.
pub(super) fn block_on(work: impl Future<Output = Exit>) -> Exit {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .enable_all()
        .build();
    match runtime {
        // Boxed: a run's future is large for the stack of a main thread.
        Ok(runtime) => runtime.block_on(Box::pin(work)),
        Err(error) => {
            note(&format!("failed to start the runtime: {error}"));
            Exit::Internal
        }
    }
}
