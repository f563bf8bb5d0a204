//! The latest points of several shards' histories that fit together.

use std::collections::BTreeMap;

use super::tail::Marks;

/// What is known of one shard's history: points that can be stopped at, and how its outboxes stood there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Timeline {
    ends: Vec<u64>,
    /// By the other shard: from which point on these marks hold, rising.
    marks: BTreeMap<u32, Vec<(usize, Marks)>>,
}

impl Timeline {
    /// Adds a point behind the last one. `marks` are those that differ from it.
    pub fn push(&mut self, end: u64, marks: &[Marks]) {
        let point = self.ends.len();
        self.ends.push(end);
        for &mark in marks {
            self.marks.entry(mark.other).or_default().push((point, mark));
        }
    }

    fn at(&self, point: usize, other: u32) -> Marks {
        let known = self.marks.get(&other).map_or(&[][..], Vec::as_slice);
        let before = known.partition_point(|(from, _)| *from <= point);
        match before.checked_sub(1).and_then(|at| known.get(at)) {
            Some((_, marks)) => *marks,
            None => Marks {
                other,
                ..Marks::default()
            },
        }
    }

    /// The last point up to `point` at which `holds`, which holds up to some point and never again behind it.
    fn back(&self, point: usize, other: u32, holds: impl Fn(Marks) -> bool) -> Option<usize> {
        (0..=point).rev().find(|point| holds(self.at(*point, other)))
    }
}

/// Why no points fit together: some shard's copy began too late for where another's ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the copy of shard {late} begins behind the end of that of shard {early}: they don't overlap in time")]
pub struct NoCut {
    /// The shard that would have to go back before its copy begins.
    pub late: u32,
    /// The shard whose copy doesn't reach far enough.
    pub early: u32,
}

/// The latest points that fit together, as the index of each shard's last entry. Every set of points that fits lies at or
/// before these.
///
/// # Errors
/// [`NoCut`].
pub fn latest(shards: &BTreeMap<u32, Timeline>) -> Result<BTreeMap<u32, u64>, NoCut> {
    let mut points: BTreeMap<u32, usize> = BTreeMap::new();
    for (&shard, timeline) in shards {
        let last = timeline.ends.len().checked_sub(1);
        let last = last.ok_or(NoCut {
            late: shard,
            early: shard,
        })?;
        points.insert(shard, last);
    }
    // Each round takes at least one shard back by one point, or is the last.
    loop {
        let mut moved = false;
        for (&sender, from) in shards {
            for (&recipient, to) in shards.iter().filter(|(recipient, _)| **recipient != sender) {
                let posted = from.at(points[&sender], recipient).posted;
                if to.at(points[&recipient], sender).accepted > posted {
                    let back = to.back(points[&recipient], sender, |marks| marks.accepted <= posted);
                    points.insert(
                        recipient,
                        back.ok_or(NoCut {
                            late: recipient,
                            early: sender,
                        })?,
                    );
                    moved = true;
                }
                let accepted = to.at(points[&recipient], sender).accepted;
                if from.at(points[&sender], recipient).trimmed > accepted {
                    let back = from.back(points[&sender], recipient, |marks| marks.trimmed <= accepted);
                    points.insert(
                        sender,
                        back.ok_or(NoCut {
                            late: sender,
                            early: recipient,
                        })?,
                    );
                    moved = true;
                }
            }
        }
        if !moved {
            break;
        }
    }
    Ok(points
        .into_iter()
        .map(|(shard, point)| (shard, shards[&shard].ends[point]))
        .collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SHARDS: u32 = 3;

    /// At which step an entry was applied, and how the shard stood to others behind it.
    type Applied = (usize, BTreeMap<u32, Marks>);

    /// A history of all shards: at each step one posts to another, one takes in what another posted, or one trims what
    /// another has taken in.
    #[derive(Clone, Debug, Default)]
    struct History {
        /// Of each shard.
        applied: BTreeMap<u32, Vec<Applied>>,
    }

    fn history(steps: &[(u8, u32, u32)]) -> History {
        let mut history = History::default();
        let mut now: BTreeMap<u32, BTreeMap<u32, Marks>> = BTreeMap::new();
        for (step, &(act, a, b)) in steps.iter().enumerate() {
            let (a, b) = (a % SHARDS, b % SHARDS);
            if a == b {
                continue;
            }
            let theirs = now.get(&b).and_then(|of| of.get(&a)).copied().unwrap_or_default();
            let own = now.entry(a).or_default().entry(b).or_default();
            own.other = b;
            match act % 3 {
                0 => own.posted += 1,
                1 => own.accepted = theirs.posted,
                _ => own.trimmed = theirs.accepted,
            }
            let marks = now[&a].clone();
            history.applied.entry(a).or_default().push((step, marks));
        }
        history
    }

    /// The copy of a shard: everything that it applied in these steps, behind what it was before.
    fn copied(history: &History, shard: u32, steps: (usize, usize)) -> Timeline {
        let mut timeline = Timeline::default();
        let all = history.applied.get(&shard).map_or(&[][..], Vec::as_slice);
        let before = all.iter().filter(|(step, _)| *step < steps.0).count();
        let base: Vec<Marks> = match before.checked_sub(1) {
            Some(at) => all[at].1.values().copied().collect(),
            None => Vec::new(),
        };
        timeline.push(before as u64, &base);
        for (at, (step, marks)) in all.iter().enumerate().skip(before) {
            if *step < steps.1 {
                let marks: Vec<Marks> = marks.values().copied().collect();
                timeline.push(at as u64 + 1, &marks);
            }
        }
        timeline
    }

    fn fits(history: &History, cut: &BTreeMap<u32, u64>) -> bool {
        let marks = |shard: u32, other: u32| {
            let at = usize::try_from(cut[&shard]).unwrap().checked_sub(1)?;
            history.applied.get(&shard)?[at].1.get(&other).copied()
        };
        let mut pairs = cut.keys().flat_map(|a| cut.keys().map(move |b| (*a, *b)));
        pairs.all(|(a, b)| {
            let (from, to) = (marks(a, b).unwrap_or_default(), marks(b, a).unwrap_or_default());
            a == b || (to.accepted <= from.posted && from.trimmed <= to.accepted)
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]

        /// What is found fits, and is no earlier than the moment at which the last copy began.
        #[test]
        fn the_cut_fits_and_has_all_that_was_when_the_last_copy_began(
            steps in proptest::collection::vec((0u8..3, 0u32..3, 0u32..3), 1..120),
            begins in [0usize..60, 0usize..60, 0usize..60],
            more in [0usize..60, 0usize..60, 0usize..60],
        ) {
            let history = history(&steps);
            let moment = *begins.iter().max().unwrap();
            let shards: BTreeMap<u32, Timeline> = (0..SHARDS)
                .zip(begins.iter().zip(more))
                .map(|(shard, (begin, more))| (shard, copied(&history, shard, (*begin, moment + more))))
                .collect();
            let cut = latest(&shards).unwrap();
            prop_assert!(fits(&history, &cut), "{cut:?} of {history:?}");
            for (shard, end) in &cut {
                let all = history.applied.get(shard).map_or(&[][..], Vec::as_slice);
                let then = all.iter().filter(|(step, _)| *step < moment).count() as u64;
                prop_assert!(*end >= then, "shard {shard} ends at {end}, and was at {then}");
            }
        }

        /// Copies that don't overlap are refused, or fit all the same.
        #[test]
        fn whatever_was_copied_what_is_found_fits(
            steps in proptest::collection::vec((0u8..3, 0u32..3, 0u32..3), 1..120),
            copies in [(0usize..60, 0usize..60), (0usize..60, 0usize..60), (0usize..60, 0usize..60)],
        ) {
            let history = history(&steps);
            let shards: BTreeMap<u32, Timeline> = (0..SHARDS)
                .zip(copies)
                .map(|(shard, (begin, more))| (shard, copied(&history, shard, (begin, begin + more))))
                .collect();
            if let Ok(cut) = latest(&shards) {
                prop_assert!(fits(&history, &cut), "{cut:?} of {history:?}");
            }
        }
    }

    #[test]
    fn copies_that_do_not_overlap_name_both() {
        let (mut early, mut late) = (Timeline::default(), Timeline::default());
        let mark = |other, posted, accepted, trimmed| Marks {
            other,
            posted,
            accepted,
            trimmed,
        };
        early.push(5, &[mark(1, 3, 0, 0)]);
        late.push(9, &[mark(0, 0, 4, 0)]);
        let shards = BTreeMap::from([(0, early.clone()), (1, late)]);
        assert_eq!(latest(&shards), Err(NoCut { late: 1, early: 0 }));
        let mut goes_on = early;
        goes_on.push(6, &[mark(1, 4, 0, 0)]);
        let shards = BTreeMap::from([(0, goes_on), (1, shards[&1].clone())]);
        assert_eq!(latest(&shards), Ok(BTreeMap::from([(0, 6), (1, 9)])));
    }
}
