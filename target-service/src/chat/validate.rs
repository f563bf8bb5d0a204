//! Bounds on what clients ask. A front checks them before proposing; the state machine checks them again, since what
//! stands in the log may come from another version.

use super::{
    ids::{conversation_id, normalise_phone, owner, phone_shard, session_shard},
    refused::Refused,
};

/// Devices of an account are numbered from 1 to this.
pub const DEVICES_MAX: u32 = 10;

/// Most bytes of a message's body.
pub const BODY_BYTES_MAX: usize = 64 * 1024;

/// Most sessions that one command fences.
pub const FENCE_SESSIONS_MAX: usize = 100_000;

/// Most outbox items that one command accepts.
pub const OUTBOX_ITEMS_MAX: usize = 4096;

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
    if send.sender == send.recipient {
        return Err(Refused::SelfSend { user: send.sender });
    }
    if session_shard(send.session) != owner(send.sender, shards) {
        return Err(Refused::SessionEnded { session: send.session });
    }
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
    /// Size of the body.
    pub body_bytes: usize,
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
