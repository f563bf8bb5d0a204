//! Looks at a system's status page at a constant spacing, all through a run, and writes down what it said each time.

use std::{sync::Arc, time::Duration};

use tokio::{sync::watch, task::JoinSet};

use crate::{
    base::RunClock,
    history::{Announced, Event, Recorder},
    system::System,
};

/// From one look to the next, whatever became of the one before.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Looks until `stop` says so; nothing to do for a system without a status page.
pub(super) fn read(
    system: &Arc<dyn System>,
    recorder: &Recorder,
    clock: RunClock,
    stop: &watch::Receiver<bool>,
    tasks: &mut JoinSet<()>,
) {
    if !system.has_status_page() {
        return;
    }
    let (system, recorder, mut stop) = (Arc::clone(system), recorder.clone(), stop.clone());
    tasks.spawn(async move {
        let mut due = clock.now();
        // Each look ends by itself within a bound, so that few are under way.
        let mut looks = JoinSet::new();
        loop {
            let (system, recorder) = (Arc::clone(&system), recorder.clone());
            looks.spawn(async move {
                let asked = clock.now();
                let statement = system.status_page().await;
                recorder.record(Event::Announced(Announced {
                    asked,
                    at: clock.now(),
                    system: system.name().to_owned(),
                    statement,
                }));
            });
            while looks.try_join_next().is_some() {}
            due = due.plus(LOOK_EVERY);
            tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => return,
                () = clock.sleep_until(due) => {}
            }
        }
    });
}
