//! latency.hlog: response times in the interval log of HdrHistogram, which its own tools read. One histogram for each
//! second and class, in microseconds from the intended time.

use std::{collections::BTreeMap, time::Duration};

use hdrhistogram::{
    Histogram,
    serialization::{
        V2DeflateSerializer,
        interval_log::{IntervalLogWriterBuilder, Tag},
    },
};

use crate::{
    base::Nanos,
    history::{Class, History, Outcome},
};

use super::{judgement::Judgement, output::Output};

/// Response times are held to three digits, up to this.
const HIGHEST_US: u64 = 3_600_000_000;
/// Intervals beyond this go into the last one.
const SECONDS_MAX: u64 = 100_000;

/// Writes latency.hlog.
pub(super) struct LatencyLog;

impl Output for LatencyLog {
    fn file_name(&self) -> &'static str {
        "latency.hlog"
    }

    fn about(&self) -> &'static str {
        "response times of each second and class, for HdrHistogram's tools"
    }

    fn render(&self, judgement: &Judgement) -> Result<Vec<u8>, String> {
        let mut log = Vec::new();
        let mut serializer = V2DeflateSerializer::new();
        let mut writer = IntervalLogWriterBuilder::new()
            .add_comment("microseconds from the intended time; seconds from the run's origin")
            .with_base_time(std::time::UNIX_EPOCH)
            .with_max_value_divisor(1000.0)
            .begin_log_with(&mut log, &mut serializer)
            .map_err(|e| e.to_string())?;
        for ((second, class), histogram) in histograms(&judgement.history)? {
            writer
                .write_histogram(
                    &histogram,
                    Duration::from_secs(second),
                    Duration::from_secs(1),
                    Tag::new(class.name()),
                )
                .map_err(|e| format!("{e:?}"))?;
        }
        Ok(log)
    }
}

fn histograms(history: &History) -> Result<BTreeMap<(u64, Class), Histogram<u64>>, String> {
    let mut histograms = BTreeMap::new();
    let mut put = |class: Class, intended: Nanos, done: Nanos| -> Result<(), String> {
        let second = intended.since(Nanos(0)).as_secs().min(SECONDS_MAX);
        let known = match histograms.entry((second, class)) {
            std::collections::btree_map::Entry::Occupied(known) => known.into_mut(),
            std::collections::btree_map::Entry::Vacant(new) => {
                new.insert(Histogram::<u64>::new_with_bounds(1, HIGHEST_US, 3).map_err(|e| e.to_string())?)
            }
        };
        let us = u64::try_from(done.since(intended).as_micros()).unwrap_or(u64::MAX);
        known.saturating_record(us.max(1));
        Ok(())
    };
    for system in history.systems.values() {
        for operation in system.operations.iter().filter(|o| o.outcome == Outcome::Ok) {
            put(operation.class, operation.intended, operation.done)?;
        }
        for delivery in &system.deliveries {
            if let Some(shown) = delivery.shown {
                put(Class::Deliver, delivery.intended, shown)?;
            }
        }
    }
    Ok(histograms)
}
