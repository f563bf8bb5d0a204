//! The list of verbs. To add one: a file beside this one, and a line in [`for_each_verb`].

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::scene::{Resolved, Scene};
use super::spec::{SpecError, Verb as _, VerbInfo};
use super::{
    delay::Delay, discovery::Discovery, doze::Doze, flap::Flap, freeze::Freeze, isolate::Isolate, kill::Kill,
    load::Load, move_replica::MoveReplica, partition::Partition, power_loss::PowerLoss, relaunch::Relaunch,
    restart::Restart, stop::Stop, transfer_leader::TransferLeader, verification::Verification,
};
use crate::backend::{Capability, Plane};
use crate::target::{Roster, Target};

/// Calls `$callback! { key: Type, ... }` with every verb, in the order in which they are listed.
///
/// A scenario's step is a struct with one optional field for each; the callback writes its fields. The types are named
/// as in `firedrill::fault`.
#[macro_export]
macro_rules! for_each_verb {
    ($callback:ident) => {
        $callback! {
            kill: Kill,
            stop: Stop,
            freeze: Freeze,
            restart: Restart,
            power_loss: PowerLoss,
            partition: Partition,
            isolate: Isolate,
            delay: Delay,
            flap: Flap,
            transfer_leader: TransferLeader,
            move_replica: MoveReplica,
            load: Load,
            relaunch: Relaunch,
            verification: Verification,
            discovery: Discovery,
            doze: Doze,
        }
    };
}

macro_rules! define {
    ($($key:ident: $Verb:ident),* $(,)?) => {
        /// A fault as written: one verb and its value.
        #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
        #[serde(rename_all = "snake_case", deny_unknown_fields)]
        pub enum FaultSpec {
            $(
                #[doc = concat!("`", stringify!($key), "`")]
                $Verb($Verb),
            )*
        }

        /// Every verb.
        pub const ALL: &[VerbInfo] = &[$($Verb::INFO),*];

        impl FaultSpec {
            /// How its verb describes itself.
            #[must_use]
            pub const fn info(&self) -> &'static VerbInfo {
                match self { $(Self::$Verb(_) => &$Verb::INFO,)* }
            }

            /// Checks all that can be checked before anything runs.
            ///
            /// # Errors
            /// What is wrong, with the value and the remedy.
            pub fn check(&self, roster: &Roster) -> Result<(), SpecError> {
                match self { $(Self::$Verb(verb) => verb.check(roster),)* }
            }

            pub(super) fn resolve(&self, scene: &mut Scene<'_>) -> Result<Resolved, SpecError> {
                match self { $(Self::$Verb(verb) => verb.resolve(scene),)* }
            }

            /// The targets in it.
            #[must_use]
            pub fn targets(&self) -> Vec<&Target> {
                match self { $(Self::$Verb(verb) => verb.targets(),)* }
            }

            /// The plane it acts on, for a verb that has one.
            #[must_use]
            pub fn plane(&self) -> Option<Plane> {
                match self { $(Self::$Verb(verb) => verb.plane(),)* }
            }

            /// Everything it needs of a backend and a system.
            #[must_use]
            pub fn needs(&self) -> BTreeSet<Capability> {
                match self { $(Self::$Verb(verb) => verb.needs(),)* }
            }
        }
    };
}

for_each_verb!(define);

impl FaultSpec {
    /// Its verb's name.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        self.info().name
    }
}

/// The verb called `name`.
#[must_use]
pub fn find(name: &str) -> Option<&'static VerbInfo> {
    ALL.iter().find(|info| info.name == name)
}
