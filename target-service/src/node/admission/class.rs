//! What kinds of calls there are, and which of them is worth more while not all can be served.

use super::settings::Costs;

/// A class of calls of clients, the most precious first. Replication is above them all and is no class: it never waits.
///
/// Who is in is served before who wants in. Acknowledgements come first, since each makes room and costs next to nothing;
/// a sign-up can wait for a minute, and costs the most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Class {
    /// Acknowledgements and receipts.
    Acknowledge,
    /// Messages and changes of groups.
    Send,
    /// Opening a session and its stream.
    Login,
    /// Reading: lists, histories, members, contacts.
    Sync,
    /// Codes, accounts, address books.
    SignUp,
}

impl Class {
    /// How many there are.
    pub(crate) const COUNT: usize = 5;

    /// All, the most precious first.
    pub(crate) const ALL: [Self; Self::COUNT] = [Self::Acknowledge, Self::Send, Self::Login, Self::Sync, Self::SignUp];

    /// Its name, as status writes it.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Acknowledge => "acknowledge",
            Self::Send => "send",
            Self::Login => "login",
            Self::Sync => "sync",
            Self::SignUp => "sign_up",
        }
    }

    /// Its place in [`Class::ALL`].
    pub(crate) const fn index(self) -> usize {
        self as usize
    }

    /// Its share of the node's time while all classes want more than theirs.
    pub(crate) const fn weight(self) -> u32 {
        match self {
            Self::Acknowledge => 4,
            Self::Send => 8,
            Self::Login => 4,
            Self::Sync => 2,
            Self::SignUp => 1,
        }
    }

    /// What one call costs, in percent of a send.
    pub(crate) const fn cost_percent(self, costs: &Costs) -> u32 {
        match self {
            Self::Acknowledge => costs.acknowledge,
            Self::Send => costs.send,
            Self::Login => costs.login,
            Self::Sync => costs.sync,
            Self::SignUp => costs.sign_up,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_listed_in_their_order() {
        assert!(Class::ALL.is_sorted());
        for (place, class) in Class::ALL.into_iter().enumerate() {
            assert_eq!(class.index(), place);
            assert!(class.weight() > 0);
        }
    }
}
