//! Identifiers and where they are routed.
//!
//! The upper 16 bits of a user id or a conversation id are its routing bucket; bucket `b` belongs to shard
//! `b % shards`. A session id carries the shard that opened it in its upper 16 bits, so that ids of different shards
//! never collide. All hashes are xxh3 over big-endian bytes: stable between machines and versions.

use xxhash_rust::xxh3::xxh3_64;

use super::refused::Refused;

/// How far an id is shifted to leave its bucket.
const BUCKET_SHIFT: u32 = 48;

/// The counter part of a user or session id.
const COUNTER_MASK: u64 = (1 << BUCKET_SHIFT) - 1;

/// Shortest phone number, in digits.
pub const PHONE_MIN: usize = 5;

/// Longest phone number, in digits. E.164 ends at 15; test populations use longer ones.
pub const PHONE_MAX: usize = 20;

/// The routing bucket of a user, a conversation or a hash.
#[must_use]
pub const fn bucket(id: u64) -> u16 {
    (id >> BUCKET_SHIFT) as u16
}

/// The shard that owns `bucket`, of `shards`. `shards` of 0 counts as 1.
#[must_use]
pub const fn shard_of(bucket: u16, shards: u32) -> u32 {
    let shards = if shards == 0 { 1 } else { shards };
    bucket as u32 % shards
}

/// The shard that a user or conversation id belongs to, of `shards`.
#[must_use]
pub const fn owner(id: u64, shards: u32) -> u32 {
    shard_of(bucket(id), shards)
}

/// The direct conversation of two users, whichever is named first.
#[must_use]
pub fn conversation_id(a: u64, b: u64) -> u64 {
    let mut pair = [0; 16];
    pair[..8].copy_from_slice(&a.min(b).to_be_bytes());
    pair[8..].copy_from_slice(&a.max(b).to_be_bytes());
    xxh3_64(&pair)
}

/// The conversation of the group that a device makes under `client_id`: a repeated making makes the same group.
#[must_use]
pub fn group_id(creator: u64, device: u32, client_id: u64) -> u64 {
    let mut maker = [0; 20];
    maker[..8].copy_from_slice(&creator.to_be_bytes());
    maker[8..12].copy_from_slice(&device.to_be_bytes());
    maker[12..].copy_from_slice(&client_id.to_be_bytes());
    xxh3_64(&maker)
}

/// The digits of a phone number: one leading `+`, and spaces, dots, hyphens and parentheses between digits, are
/// dropped, so that one number has one spelling.
///
/// # Errors
/// When another character occurs, or the number of digits is not in [`PHONE_MIN`]`..=`[`PHONE_MAX`].
pub fn normalise_phone(phone: &str) -> Result<String, Refused> {
    let mut digits = String::with_capacity(PHONE_MAX);
    for (at, c) in phone.trim().chars().enumerate() {
        match c {
            '0'..='9' if digits.len() < PHONE_MAX => digits.push(c),
            '+' if at == 0 => {}
            ' ' | '.' | '-' | '(' | ')' => {}
            _ => return Err(Refused::PhoneInvalid),
        }
    }
    if digits.len() < PHONE_MIN {
        return Err(Refused::PhoneInvalid);
    }
    Ok(digits)
}

/// The routing bucket of a normalised phone number.
#[must_use]
pub fn phone_bucket(normalised: &str) -> u16 {
    bucket(xxh3_64(normalised.as_bytes()))
}

/// The shard that signs `phone` up.
///
/// # Errors
/// When `phone` is not a phone number.
pub fn phone_shard(phone: &str, shards: u32) -> Result<u32, Refused> {
    Ok(shard_of(phone_bucket(&normalise_phone(phone)?), shards))
}

/// The id of the `counter`-th user of a shard, whose phone number hashes to `bucket`.
#[must_use]
pub const fn user_id(bucket: u16, counter: u64) -> u64 {
    ((bucket as u64) << BUCKET_SHIFT) | (counter & COUNTER_MASK)
}

/// The id of the `counter`-th session of `shard`.
#[must_use]
pub const fn session_id(shard: u32, counter: u64) -> u64 {
    ((shard as u64) << BUCKET_SHIFT) | (counter & COUNTER_MASK)
}

/// The shard that opened `session`.
#[must_use]
pub const fn session_shard(session: u64) -> u32 {
    (session >> BUCKET_SHIFT) as u32
}

/// Most shards that the identifiers can tell apart.
pub const SHARDS_MAX: u32 = 1 << 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_number_has_one_spelling() {
        let plain = normalise_phone("+49 (30) 1234-567").unwrap();
        assert_eq!(plain, "49301234567");
        assert_eq!(normalise_phone("49301234567").unwrap(), plain);
        assert_eq!(phone_shard("+49.30.1234567", 7), phone_shard("49301234567", 7));
    }

    #[test]
    fn what_is_no_number_is_refused() {
        let too_long = "1".repeat(PHONE_MAX + 1);
        for bad in ["", "1234", "+", "12345a", "123+456", "١٢٣٤٥", &too_long] {
            assert_eq!(normalise_phone(bad), Err(Refused::PhoneInvalid), "{bad:?}");
        }
        assert!(normalise_phone(&"1".repeat(PHONE_MAX)).is_ok());
    }

    #[test]
    fn a_conversation_has_no_direction_and_ids_keep_their_bucket() {
        assert_eq!(conversation_id(3, 9), conversation_id(9, 3));
        assert_ne!(conversation_id(3, 9), conversation_id(3, 8));
        assert_eq!(bucket(user_id(0xbeef, 17)), 0xbeef);
        assert_eq!(session_shard(session_id(5, 17)), 5);
        assert_eq!(owner(user_id(11, 1), 4), 3);
        assert_eq!(shard_of(9, 0), 0);
    }

    #[test]
    fn hashes_are_the_same_for_ever() {
        // Changing these moves every account and conversation to another shard.
        assert_eq!(
            (phone_bucket("49301234567"), conversation_id(1, 2)),
            (57479, 14_160_562_377_131_761_837)
        );
        assert_ne!(group_id(1, 1, 2), group_id(1, 2, 1));
    }
}
