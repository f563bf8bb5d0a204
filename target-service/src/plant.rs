//! Deliberately wrong behaviours, each of which a promise must catch: the one list of them.
//!
//! They exist only in binaries built with the feature `plants`; asking another binary for one is an error, never a silent
//! pass. Some are the node's (`node/plants.rs`), most the state machine's (`chat/plants.rs`): each looks for its own.

use serde::{Deserialize, Serialize};

macro_rules! plants {
    ($($(#[doc = $about:literal])+ $plant:ident = $name:literal,)+) => {
        /// A deliberately wrong behaviour.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum Plant {
            $(
                $(#[doc = $about])+
                #[serde(rename = $name)]
                $plant,
            )+
        }

        impl Plant {
            /// Every plant.
            pub const ALL: &[Self] = &[$(Self::$plant),+];

            /// Its name, as configuration and status write it.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$plant => $name,)+
                }
            }
        }
    };
}

plants! {
    /// Answers a send as soon as the leader has proposed it, and never syncs its log.
    AckBeforeDurable = "ack-before-durable",
    /// Answers once a majority has it in memory: nobody has written or synced it.
    ForgetAfterPowerLoss = "forget-after-power-loss",
    /// Every 50th delivery is appended to the user's log twice, under two sequences.
    Redeliver = "redeliver",
    /// Every 50th delivery is held back until the next one of its conversation has gone to the user.
    Reorder = "reorder",
    /// Every 100th delivery never happens.
    DropDelivery = "drop-delivery",
    /// A byte of every 100th delivery's body is flipped.
    Corrupt = "corrupt",
    /// Client ids are forgotten at once: a repeated send is stored again.
    DupStore = "dup-store",
    /// Answers reads of a conversation from what the replica has applied, whoever leads.
    Stale = "stale",
    /// Groups take more members than they may have.
    NoLimit = "no-limit",
    /// Whoever was removed from an open group is still sent what is said in it.
    LeakMembership = "leak-membership",
    /// A new member reads what was said before it came.
    LeakHistory = "leak-history",
    /// Whoever came last is not sent the first message after that.
    MissJoined = "miss-joined",
    /// A stranger's message to a group is taken.
    AcceptStrangers = "accept-strangers",
    /// A contact that was found also appears in the list of somebody else.
    PhantomContact = "phantom-contact",
    /// Every 10th message is not counted as unread.
    MiscountUnread = "miscount-unread",
    /// A receipt says what it is told, whether there was a delivery or not.
    EarlyReceipt = "early-receipt",
    /// A repeated sign-up makes another account.
    DoubleAccount = "double-account",
    /// Every 10th message is also shown to a user whom it doesn't concern.
    CrossLeak = "cross-leak",
    /// A sender's own devices are not shown every 10th of its messages.
    ForgetOwnDevices = "forget-own-devices",
    /// Whoever has logged in anew sees its conversations end earlier than they do.
    ShrinkHistory = "shrink-history",
    /// Every device that ever logged in is said to be online, heard of or not.
    GhostOnline = "ghost-online",
    /// A node goes on answering reads of a shard that it holds no more.
    ServeAfterRemoval = "serve-after-removal",
    /// Snapshots leave out which client ids were used: a replica that was given one stores a repeated send again.
    ForgetDedup = "forget-dedup",
}

impl Plant {
    /// The plant called `name`.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|plant| plant.as_str() == name)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn plants_are_found_by_their_names_which_configuration_writes_too() {
        for plant in Plant::ALL {
            assert_eq!(Plant::named(plant.as_str()), Some(*plant));
            assert_eq!(serde_json::to_value(plant).unwrap(), plant.as_str());
        }
        let names: BTreeSet<_> = Plant::ALL.iter().map(|plant| plant.as_str()).collect();
        assert_eq!(names.len(), Plant::ALL.len());
        assert_eq!(Plant::named("re-deliver"), None);
    }
}
