//! The directory: leases, generations, and what an operator or a fault makes it answer instead.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::Duration,
};

use super::{Answer, Door, Publication};

/// Bounds and times of a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DirectoryOptions {
    /// For how long caches may keep an answer with doors.
    pub ttl: Duration,
    /// For how long caches may keep an empty one.
    pub negative_ttl: Duration,
    /// Where no lease is left, answer with the doors whose leases ran out last, rather than with none. A gateway that
    /// withdrew itself is not among them.
    pub keep_last: bool,
    /// Names that are held, those that ran out included.
    pub names_max: usize,
    /// Longest lease.
    pub lease_max: Duration,
}

impl Default for DirectoryOptions {
    fn default() -> Self {
        Self {
            ttl: Duration::from_secs(10),
            negative_ttl: Duration::from_secs(5),
            keep_last: false,
            names_max: 1024,
            lease_max: Duration::from_secs(3600),
        }
    }
}

/// What the directory is made to answer instead of what it knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Distortion {
    /// Nothing.
    Empty,
    /// What it knew when this began, whatever is published or withdrawn meanwhile.
    Stale,
    /// The doors that it knows, all at this address.
    Poison(String),
    /// What it knows, without these doors.
    Without(BTreeSet<String>),
    /// What it knows, to be kept for this long.
    Ttl(Duration),
}

/// Why a publication or a withdrawal was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PublishError {
    /// A later life of the gateway has spoken.
    Outlived {
        /// The name.
        name: String,
        /// The generation that was refused.
        generation: u64,
        /// The generation that has spoken.
        held: u64,
    },
    /// There is no room for another name.
    Full {
        /// The bound.
        names_max: usize,
    },
    /// Something in it can't be.
    Invalid(String),
}

impl fmt::Display for PublishError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Outlived { name, generation, held } => write!(
                f,
                "generation {generation} of {name} is outlived: generation {held} has spoken; start anew to get a higher one"
            ),
            Self::Full { names_max } => write!(f, "there are {names_max} names: no room for another"),
            Self::Invalid(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for PublishError {}

/// What a directory has done, since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DirectoryCounts {
    /// Questions.
    pub asked: u64,
    /// Answers without a door.
    pub answered_empty: u64,
    /// Publications taken, renewals included.
    pub published: u64,
    /// Withdrawals that took a door away.
    pub withdrawn: u64,
    /// Publications and withdrawals refused.
    pub refused: u64,
}

#[derive(Clone, Debug)]
struct Held {
    door: Door,
    generation: u64,
    healthy: bool,
    /// None once it was withdrawn.
    expires: Option<Duration>,
}

/// Who is where.
#[derive(Clone, Debug)]
pub struct Directory {
    options: DirectoryOptions,
    held: BTreeMap<String, Held>,
    distorted: Option<(Distortion, Duration)>,
    frozen: Vec<Door>,
    counts: DirectoryCounts,
}

impl Directory {
    /// An empty directory.
    #[must_use]
    pub fn new(options: DirectoryOptions) -> Self {
        Self {
            options,
            held: BTreeMap::new(),
            distorted: None,
            frozen: Vec::new(),
            counts: DirectoryCounts::default(),
        }
    }

    /// Takes what a gateway says of itself, until its lease runs out.
    ///
    /// # Errors
    /// [`PublishError`]; nothing was changed.
    pub fn publish(&mut self, said: &Publication, now: Duration) -> Result<(), PublishError> {
        let outcome = self.check(said);
        if outcome.is_err() {
            self.counts.refused += 1;
            return outcome;
        }
        let door = Door {
            name: said.name.clone(),
            zone: said.zone.clone(),
            address: said.address.clone(),
        };
        let held = Held {
            door,
            generation: said.generation,
            healthy: said.healthy,
            expires: Some(now + said.lease),
        };
        self.held.insert(said.name.clone(), held);
        self.counts.published += 1;
        Ok(())
    }

    fn check(&self, said: &Publication) -> Result<(), PublishError> {
        let invalid = |why: String| Err(PublishError::Invalid(why));
        if said.name.is_empty() || said.name.len() > NAME_BYTES_MAX || said.zone.len() > NAME_BYTES_MAX {
            return invalid(format!(
                "the name {:?} or the zone {:?} is empty or longer than {NAME_BYTES_MAX} bytes",
                said.name, said.zone
            ));
        }
        if said.address.is_empty() || said.address.len() > ADDRESS_BYTES_MAX {
            return invalid(format!(
                "{} has no address of at most {ADDRESS_BYTES_MAX} bytes",
                said.name
            ));
        }
        if said.lease.is_zero() || said.lease > self.options.lease_max {
            return invalid(format!(
                "the lease of {} is {:?}: it lasts longer than nothing and at most {:?}",
                said.name, said.lease, self.options.lease_max
            ));
        }
        self.fresh(&said.name, said.generation)?;
        if !self.held.contains_key(&said.name) && self.held.len() >= self.options.names_max {
            return Err(PublishError::Full {
                names_max: self.options.names_max,
            });
        }
        Ok(())
    }

    fn fresh(&self, name: &str, generation: u64) -> Result<(), PublishError> {
        match self.held.get(name) {
            Some(held) if held.generation > generation => Err(PublishError::Outlived {
                name: name.to_owned(),
                generation,
                held: held.generation,
            }),
            _ => Ok(()),
        }
    }

    /// Takes a gateway's door away. Its generation is remembered, so that nothing older brings it back.
    ///
    /// # Errors
    /// [`PublishError::Outlived`]; nothing was changed.
    pub fn withdraw(&mut self, name: &str, generation: u64) -> Result<(), PublishError> {
        if let Err(error) = self.fresh(name, generation) {
            self.counts.refused += 1;
            return Err(error);
        }
        if let Some(held) = self.held.get_mut(name) {
            held.generation = generation;
            if held.expires.take().is_some() {
                self.counts.withdrawn += 1;
            }
        }
        Ok(())
    }

    /// Answers a client.
    pub fn resolve(&mut self, now: Duration) -> Answer {
        self.counts.asked += 1;
        let answer = self.look(now);
        if answer.doors.is_empty() {
            self.counts.answered_empty += 1;
        }
        answer
    }

    /// What [`Directory::resolve`] would answer.
    #[must_use]
    pub fn look(&self, now: Duration) -> Answer {
        let (mut doors, kept) = self.known(now);
        match self.distortion(now) {
            None | Some(Distortion::Ttl(_)) => {}
            Some(Distortion::Empty) => doors.clear(),
            Some(Distortion::Stale) => doors.clone_from(&self.frozen),
            Some(Distortion::Poison(address)) => {
                for door in &mut doors {
                    door.address.clone_from(address);
                }
            }
            Some(Distortion::Without(names)) => doors.retain(|door| !names.contains(&door.name)),
        }
        let ttl = if let Some(Distortion::Ttl(ttl)) = self.distortion(now) {
            *ttl
        } else if doors.is_empty() {
            self.options.negative_ttl
        } else {
            self.options.ttl
        };
        Answer { doors, ttl, kept }
    }

    /// The doors under a lease: the healthy ones, or all where none is. Where there is no lease, those that had one last.
    fn known(&self, now: Duration) -> (Vec<Door>, bool) {
        let live = |held: &&Held| held.expires.is_some_and(|expires| now < expires);
        let doors = |wanted: &dyn Fn(&&Held) -> bool| -> Vec<Door> {
            let held = self.held.values().filter(|held| wanted(held));
            held.map(|held| held.door.clone()).collect()
        };
        let healthy = doors(&|held| live(held) && held.healthy);
        if !healthy.is_empty() {
            return (healthy, false);
        }
        let any = doors(&live);
        if !any.is_empty() || !self.options.keep_last {
            return (any, false);
        }
        let last = doors(&|held| held.expires.is_some());
        let kept = !last.is_empty();
        (last, kept)
    }

    /// What distorts answers now.
    #[must_use]
    pub fn distortion(&self, now: Duration) -> Option<&Distortion> {
        let (distortion, until) = self.distorted.as_ref()?;
        (now < *until).then_some(distortion)
    }

    /// Distorts answers until `until`, by itself no longer; none ends it now. The new one replaces an old one, but a
    /// staleness that is said again goes on with what it froze first.
    pub fn distort(&mut self, distortion: Option<Distortion>, until: Duration, now: Duration) {
        let goes_on = distortion == Some(Distortion::Stale) && self.distortion(now) == Some(&Distortion::Stale);
        if !goes_on {
            self.frozen = self.known(now).0;
        }
        self.distorted = distortion.map(|distortion| (distortion, until));
    }

    /// What was done so far.
    #[must_use]
    pub const fn counts(&self) -> DirectoryCounts {
        self.counts
    }

    /// Doors under a lease, healthy or not.
    #[must_use]
    pub fn live(&self, now: Duration) -> usize {
        let leases = self.held.values().filter_map(|held| held.expires);
        leases.filter(|expires| now < *expires).count()
    }
}

/// Longest name of a gateway or a zone, in bytes.
const NAME_BYTES_MAX: usize = 64;
/// Longest address, in bytes.
const ADDRESS_BYTES_MAX: usize = 256;
