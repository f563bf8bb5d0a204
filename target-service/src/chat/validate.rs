//! Bounds on what clients ask. A front checks them before proposing; the state machine checks them again, since what
//! stands in the log may come from another version.

use std::collections::BTreeSet;

use firedrill_proto::chat::v1::{GroupChangeKind, GroupCommand};

use super::{
    ids::{conversation_id, group_id, normalise_phone, owner, phone_shard, session_shard},
    refused::Refused,
};

/// Devices of an account are numbered from 1 to this.
pub const DEVICES_MAX: u32 = 10;

/// Most bytes of a message's body.
pub const BODY_BYTES_MAX: usize = 64 * 1024;

/// Most members of a group.
pub const GROUP_MEMBERS_MAX: u64 = 200;

/// Most accounts that a group remembers as removed.
pub const REMOVED_MAX: u64 = 1000;

/// Groups of more members don't tell each of them what each has read: whoever wants to know asks.
pub const RECEIPT_MEMBERS_MAX: usize = 16;

/// Most unread messages of a conversation that are counted.
pub const UNREAD_MAX: u64 = 1000;

/// Bytes of the last message that a list of conversations shows.
pub const HEAD_BYTES_MAX: usize = 80;

/// Most numbers in one import.
pub const IMPORT_MAX: usize = 500;

/// Most numbers in an address book.
pub const CONTACTS_MAX: u64 = 5000;

/// Most accounts that are told when a number's account appears.
pub const INTERESTED_MAX: u64 = 1000;

/// Digits of a code for a sign-up.
pub const CODE_DIGITS: usize = 6;

/// Most sessions that one command fences: at ten bytes each they fit into the largest request.
pub const FENCE_SESSIONS_MAX: usize = 16_384;

/// Most outbox items that one command accepts.
pub const OUTBOX_ITEMS_MAX: usize = 4096;

/// Most bytes of the outbox items that one command accepts.
pub const OUTBOX_BYTES_MAX: usize = 4 << 20;

/// Most deliveries that one acknowledgement lets go: the state machine does nothing else meanwhile.
pub const ACKNOWLEDGED_MAX: u64 = 4096;

/// Most items that one query returns, whatever limit it asked for.
pub const QUERY_ITEMS_MAX: usize = 1000;

/// A sign-up on `shard` of `shards`; returns the normalised phone number.
///
/// # Errors
/// When `phone` is not a phone number, or another shard signs it up.
pub fn sign_up(phone: &str, shard: u32, shards: u32) -> Result<String, Refused> {
    let digits = normalise_phone(phone)?;
    at_home(phone_shard(&digits, shards)?, shard)?;
    Ok(digits)
}

/// A code for a sign-up.
///
/// # Errors
/// When it is not of the length that codes have, or not digits.
pub fn code(code: &str) -> Result<(), Refused> {
    if code.len() == CODE_DIGITS && code.bytes().all(|digit| digit.is_ascii_digit()) {
        Ok(())
    } else {
        Err(Refused::WrongCode)
    }
}

/// The opening of a session on `shard` of `shards`. Whether the account exists is only known when it is applied.
///
/// # Errors
/// When the device number is out of range, or another shard owns the account.
pub fn open_session(user: u64, device: u32, shard: u32, shards: u32) -> Result<(), Refused> {
    self::device(device)?;
    at_home(owner(user, shards), shard)
}

/// A send on `shard` of `shards`; returns the conversation.
///
/// # Errors
/// When the device number is out of range, the body is too large, the sender sends to itself, the session was not
/// opened by the sender's shard, or another shard is the conversation's home.
pub fn send(send: &SendShape, shard: u32, shards: u32) -> Result<u64, Refused> {
    device(send.device)?;
    if send.body_bytes > BODY_BYTES_MAX {
        return Err(Refused::BodyTooLarge {
            bytes: send.body_bytes as u64,
            max: BODY_BYTES_MAX as u64,
        });
    }
    if send.group != 0 {
        if send.recipient != 0 {
            return Err(Refused::Malformed {
                what: "it names a group and a recipient",
            });
        }
        acts(send.sender, send.session, shards)?;
        at_home(owner(send.group, shards), shard)?;
        return Ok(send.group);
    }
    if send.sender == send.recipient {
        return Err(Refused::SelfSend { user: send.sender });
    }
    acts(send.sender, send.session, shards)?;
    let conversation = conversation_id(send.sender, send.recipient);
    at_home(owner(conversation, shards), shard)?;
    Ok(conversation)
}

/// What [`send`] looks at of a message.
#[derive(Clone, Copy, Debug)]
pub struct SendShape {
    /// The sending account.
    pub sender: u64,
    /// Its device.
    pub device: u32,
    /// The device's session.
    pub session: u64,
    /// The receiving account.
    pub recipient: u64,
    /// The group that it goes to; 0 when it goes to the recipient.
    pub group: u64,
    /// Size of the body.
    pub body_bytes: usize,
}

/// A change of a group on `shard` of `shards`; returns the group.
///
/// # Errors
/// When a bound is broken, it is of no known kind, the session was not opened by the actor's shard, or another shard is
/// the group's home.
pub fn change_group(change: &GroupCommand, shard: u32, shards: u32) -> Result<u64, Refused> {
    device(change.device)?;
    let users = change.users.len();
    at_most(
        "members",
        users,
        usize::try_from(GROUP_MEMBERS_MAX).unwrap_or(usize::MAX),
    )?;
    let malformed = |what| Err(Refused::Malformed { what });
    let id = match change.kind() {
        GroupChangeKind::Unspecified => {
            return malformed("a change of a group of a kind that this version doesn't know");
        }
        GroupChangeKind::GroupCreate => group_id(change.actor, change.device, change.client_id),
        GroupChangeKind::GroupAdd | GroupChangeKind::GroupRemove if users == 0 => {
            return malformed("a change of a group that concerns nobody");
        }
        GroupChangeKind::GroupJoin | GroupChangeKind::GroupLeave if users > 0 => {
            return malformed("who joins or leaves does so alone");
        }
        _ => change.conversation,
    };
    if change.users.contains(&0) {
        return malformed("user 0 can not be a member");
    }
    acts(change.actor, change.session, shards)?;
    at_home(owner(id, shards), shard)?;
    Ok(id)
}

/// The numbers of an import, each once, normalised.
///
/// # Errors
/// When there are more than [`IMPORT_MAX`], or one is no phone number.
pub fn import(phones: &[String]) -> Result<BTreeSet<String>, Refused> {
    at_most("numbers", phones.len(), IMPORT_MAX)?;
    phones.iter().map(|phone| normalise_phone(phone)).collect()
}

/// What concerns one device of an account (acknowledge, subscribe) on `shard` of `shards`.
///
/// # Errors
/// When the device number is out of range, or another shard owns the account.
pub fn own_device(user: u64, device: u32, shard: u32, shards: u32) -> Result<(), Refused> {
    open_session(user, device, shard, shards)
}

/// A read of `conversation` on `shard` of `shards`.
///
/// # Errors
/// When another shard is its home.
pub fn history(conversation: u64, shard: u32, shards: u32) -> Result<(), Refused> {
    at_home(owner(conversation, shards), shard)
}

/// A fence of `sessions` sessions.
///
/// # Errors
/// When it is more than [`FENCE_SESSIONS_MAX`].
pub fn fence(sessions: usize) -> Result<(), Refused> {
    at_most("sessions", sessions, FENCE_SESSIONS_MAX)
}

/// A batch of `items` outbox items of `from_shard`, of `shards`.
///
/// # Errors
/// When it is more than [`OUTBOX_ITEMS_MAX`], or there is no such shard.
pub fn outbox(from_shard: u32, items: usize, shards: u32) -> Result<(), Refused> {
    if from_shard >= shards {
        return Err(Refused::Malformed {
            what: "an outbox of a shard that does not exist",
        });
    }
    at_most("outbox items", items, OUTBOX_ITEMS_MAX)
}

/// A session acts for the account whose shard opened it.
fn acts(user: u64, session: u64, shards: u32) -> Result<(), Refused> {
    if session_shard(session) == owner(user, shards) {
        Ok(())
    } else {
        Err(Refused::SessionEnded { session })
    }
}

fn device(device: u32) -> Result<(), Refused> {
    if (1..=DEVICES_MAX).contains(&device) {
        Ok(())
    } else {
        Err(Refused::DeviceInvalid { device })
    }
}

fn at_home(owner: u32, shard: u32) -> Result<(), Refused> {
    if owner == shard {
        Ok(())
    } else {
        Err(Refused::Misrouted { owner })
    }
}

fn at_most(what: &'static str, count: usize, max: usize) -> Result<(), Refused> {
    if count <= max {
        return Ok(());
    }
    Err(Refused::TooMany {
        what,
        count: count as u64,
        max: max as u64,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::ids::{session_id, user_id};

    fn shape() -> SendShape {
        SendShape {
            sender: user_id(3, 1),
            device: 1,
            session: session_id(3, 1),
            recipient: user_id(5, 2),
            group: 0,
            body_bytes: 10,
        }
    }

    #[test]
    fn each_bound_of_a_send_is_checked() {
        let good = shape();
        let home = owner(conversation_id(good.sender, good.recipient), 8);
        assert_eq!(send(&good, home, 8), Ok(conversation_id(good.sender, good.recipient)));
        let elsewhere = (home + 1) % 8;
        assert_eq!(send(&good, elsewhere, 8), Err(Refused::Misrouted { owner: home }));
        let bad = SendShape { device: 11, ..good };
        assert_eq!(send(&bad, home, 8), Err(Refused::DeviceInvalid { device: 11 }));
        let bad = SendShape { device: 0, ..good };
        assert_eq!(send(&bad, home, 8), Err(Refused::DeviceInvalid { device: 0 }));
        let bad = SendShape {
            body_bytes: BODY_BYTES_MAX + 1,
            ..good
        };
        assert!(matches!(send(&bad, home, 8), Err(Refused::BodyTooLarge { .. })));
        let edge = SendShape {
            body_bytes: BODY_BYTES_MAX,
            ..good
        };
        assert!(send(&edge, home, 8).is_ok());
        let bad = SendShape {
            recipient: good.sender,
            ..good
        };
        assert_eq!(send(&bad, home, 8), Err(Refused::SelfSend { user: good.sender }));
        let bad = SendShape {
            session: session_id(4, 1),
            ..good
        };
        assert!(matches!(send(&bad, home, 8), Err(Refused::SessionEnded { .. })));
    }

    #[test]
    fn batches_are_bounded() {
        assert!(fence(FENCE_SESSIONS_MAX).is_ok());
        assert!(matches!(fence(FENCE_SESSIONS_MAX + 1), Err(Refused::TooMany { .. })));
        assert!(outbox(1, OUTBOX_ITEMS_MAX, 2).is_ok());
        assert!(matches!(
            outbox(1, OUTBOX_ITEMS_MAX + 1, 2),
            Err(Refused::TooMany { .. })
        ));
        assert!(matches!(outbox(2, 1, 2), Err(Refused::Malformed { .. })));
    }

    #[test]
    fn a_stale_route_names_the_owner() {
        let user = user_id(6, 1);
        assert_eq!(open_session(user, 1, 2, 4), Ok(()));
        assert_eq!(open_session(user, 1, 3, 4), Err(Refused::Misrouted { owner: 2 }));
        assert_eq!(own_device(user, 1, 0, 4), Err(Refused::Misrouted { owner: 2 }));
        assert_eq!(history(user, 1, 4), Err(Refused::Misrouted { owner: 2 }));
        assert_eq!(
            sign_up("+1 234 567", phone_shard("1234567", 4).unwrap(), 4).unwrap(),
            "1234567"
        );
    }
}
