//! What a session is called outside: a number that nobody can guess.
//!
//! Inside, the sessions of a shard are counted, and that they rise is what tells a device's newer session from the one that it
//! replaced, at every shard that the device writes to. A counter can be guessed, though: the next one would act for somebody
//! else, at shards that haven't seen the real one yet. So a client is given the number sealed: together with a check of the
//! device that it was opened for, run through a block cipher whose key all nodes have. Any node opens it without asking anybody,
//! what doesn't open for the device that shows it is refused, and neither the log nor a backup holds a secret.
//!
//! The cipher is a Feistel network of eight rounds over SipHash-2-4, which is a keyed function made for short inputs. Of the 64
//! bits 36 number the session and 28 check it: a guess fits once in 2^28 times the number of shards.

use firedrill_proto::chat::v1::Caller;

use super::{
    api::{Answer, Reason, Refusal},
    config::NodeConfig,
};
use crate::chat::ids;

/// Bits of the number; those above check it.
const NUMBER_BITS: u32 = 36;
const ROUNDS: u64 = 8;

/// A 128-bit key.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Key(u64, u64);

/// Seals and opens the sessions of one cluster.
#[derive(Clone)]
pub(super) struct SessionSeal {
    key: Key,
    shards: u64,
}

impl std::fmt::Debug for SessionSeal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The key stays out of logs.
        f.debug_struct("SessionSeal").finish_non_exhaustive()
    }
}

impl SessionSeal {
    /// The seal of a cluster that is configured like this.
    pub(super) fn new(config: &NodeConfig) -> Self {
        Self {
            key: key_of(&config.session_key, &config.cluster),
            shards: u64::from(config.shards.max(1)),
        }
    }

    /// What a client is told of `session`, which was opened for this device; `None` once there are no numbers left.
    fn seal(&self, session: u64, user: u64, device: u32) -> Option<u64> {
        let shard = u64::from(ids::session_shard(session));
        let number = ids::session_counter(session)
            .checked_mul(self.shards)?
            .checked_add(shard)?;
        let check = self.check(number, user, device);
        (number >> NUMBER_BITS == 0).then(|| self.encipher(check << NUMBER_BITS | number))
    }

    /// The session that a device shows.
    fn open(&self, sealed: u64, user: u64, device: u32) -> Option<u64> {
        let block = self.decipher(sealed);
        let number = block & ((1 << NUMBER_BITS) - 1);
        (block >> NUMBER_BITS == self.check(number, user, device)).then(|| self.session(number))
    }

    /// An answer's session as its client is told it.
    pub(super) fn sealed(&self, session: u64, user: u64, device: u32) -> Answer<u64> {
        let sealed = self.seal(session, user, device);
        sealed.ok_or_else(|| {
            Refusal::new(
                Reason::Overloaded,
                "all numbers of sessions of this cluster are used up",
            )
        })
    }

    /// The session that a call shows; one that never was, where it wasn't given to this device. What else is wrong with the
    /// call is found first, as if it were any other that has ended.
    pub(super) fn opened(&self, sealed: u64, user: u64, device: u32) -> u64 {
        self.open(sealed, user, device).unwrap_or(ids::NO_SESSION)
    }

    /// The caller of a call, if it says who it is, with the session that it shows.
    pub(super) fn caller(&self, caller: &mut Option<Caller>) {
        if let Some(it) = caller {
            it.session = self.opened(it.session, it.user, it.device);
        }
    }

    /// The sessions that an operator names: whose they are isn't said. What was never a session stays one that isn't.
    pub(super) fn unchecked(&self, sealed: &mut [u64]) {
        for it in sealed {
            *it = self.session(self.decipher(*it) & ((1 << NUMBER_BITS) - 1));
        }
    }

    fn session(&self, number: u64) -> u64 {
        let shard = u32::try_from(number % self.shards).unwrap_or_default();
        ids::session_id(shard, number / self.shards)
    }

    fn check(&self, number: u64, user: u64, device: u32) -> u64 {
        sip(self.key, &[number, user, u64::from(device)]) >> NUMBER_BITS
    }

    fn round(&self, round: u64, half: u32) -> u32 {
        sip(self.key, &[round << 32 | u64::from(half)]) as u32
    }

    fn encipher(&self, block: u64) -> u64 {
        let (mut left, mut right) = ((block >> 32) as u32, block as u32);
        for round in 0..ROUNDS {
            (left, right) = (right, left ^ self.round(round, right));
        }
        u64::from(left) << 32 | u64::from(right)
    }

    fn decipher(&self, block: u64) -> u64 {
        let (mut left, mut right) = ((block >> 32) as u32, block as u32);
        for round in (0..ROUNDS).rev() {
            (left, right) = (right ^ self.round(round, left), left);
        }
        u64::from(left) << 32 | u64::from(right)
    }
}

/// Whether `text` is a key: 32 hexadecimal digits.
pub(super) fn is_key(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// What nodes compare of their keys: it tells different ones apart and gives none away.
pub(super) fn fingerprint(config: &NodeConfig) -> u64 {
    sip(key_of(&config.session_key, &config.cluster), &[u64::MAX])
}

/// The configured key. Without one, it follows from the cluster's name: enough against counting, not against somebody who
/// knows that name.
fn key_of(text: &str, cluster: &str) -> Key {
    let half = |at: std::ops::Range<usize>| text.get(at).and_then(|digits| u64::from_str_radix(digits, 16).ok());
    match (half(0..16), half(16..32)) {
        (Some(a), Some(b)) => Key(a, b),
        _ => {
            let mut words: Vec<u64> = cluster.bytes().map(u64::from).collect();
            words.push(0x73_65_73_73);
            Key(sip(Key(1, 2), &words), sip(Key(3, 4), &words))
        }
    }
}

/// SipHash-2-4 over whole words.
fn sip(key: Key, words: &[u64]) -> u64 {
    let mut v = [
        key.0 ^ 0x736f_6d65_7073_6575,
        key.1 ^ 0x646f_7261_6e64_6f6d,
        key.0 ^ 0x6c79_6765_6e65_7261,
        key.1 ^ 0x7465_6462_7974_6573,
    ];
    let last = (words.len() as u64 * 8) << 56;
    for word in words.iter().copied().chain([last]) {
        v[3] ^= word;
        sip_rounds(&mut v, 2);
        v[0] ^= word;
    }
    v[2] ^= 0xff;
    sip_rounds(&mut v, 4);
    v[0] ^ v[1] ^ v[2] ^ v[3]
}

fn sip_rounds(v: &mut [u64; 4], rounds: u32) {
    for _ in 0..rounds {
        v[0] = v[0].wrapping_add(v[1]);
        v[1] = v[1].rotate_left(13) ^ v[0];
        v[0] = v[0].rotate_left(32);
        v[2] = v[2].wrapping_add(v[3]);
        v[3] = v[3].rotate_left(16) ^ v[2];
        v[0] = v[0].wrapping_add(v[3]);
        v[3] = v[3].rotate_left(21) ^ v[0];
        v[2] = v[2].wrapping_add(v[1]);
        v[1] = v[1].rotate_left(17) ^ v[2];
        v[2] = v[2].rotate_left(32);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    const KEY: Key = Key(0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908);

    fn seal(shards: u64) -> SessionSeal {
        SessionSeal { key: KEY, shards }
    }

    #[test]
    fn the_hash_is_the_published_one() {
        // From the reference implementation's test vectors: inputs of 0, 8 and 16 bytes that count up from 0.
        assert_eq!(sip(KEY, &[]), 0x726f_db47_dd0e_0e31);
        assert_eq!(sip(KEY, &[0x0706_0504_0302_0100]), 0x93f5_f579_9a93_2462);
        assert_eq!(
            sip(KEY, &[0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908]),
            0x3f2a_cc7f_57c2_9bdb
        );
    }

    #[test]
    fn what_is_sealed_for_a_device_opens_for_no_other_and_under_no_other_key() {
        let seal = seal(4);
        let session = ids::session_id(3, 17);
        let sealed = seal.seal(session, 9, 1).unwrap();
        assert_eq!(seal.open(sealed, 9, 1), Some(session));
        assert_eq!((seal.open(sealed, 9, 2), seal.open(sealed, 8, 1)), (None, None));
        let other = SessionSeal {
            key: Key(KEY.0, KEY.1 ^ 1),
            shards: 4,
        };
        assert_eq!(other.open(sealed, 9, 1), None);
        assert_eq!(
            seal.seal(ids::session_id(0, 1 << NUMBER_BITS), 9, 1),
            None,
            "no numbers left"
        );
    }

    #[test]
    fn neighbours_of_a_session_are_refused() {
        let seal = seal(4);
        let sealed = seal.seal(ids::session_id(1, 1000), 9, 1).unwrap();
        let near = (1..5000).flat_map(|step| {
            [
                sealed.wrapping_add(step),
                sealed.wrapping_sub(step),
                sealed ^ step << 40,
            ]
        });
        let counters = (900..1100).map(|counter| ids::session_id(1, counter));
        let opened: Vec<u64> = near
            .chain(counters)
            .filter(|it| seal.open(*it, 9, 1).is_some())
            .collect();
        assert_eq!(opened, Vec::<u64>::new());
        // And nothing of the order of sessions is left in what clients see.
        let told: Vec<u64> = (1..200)
            .filter_map(|n| seal.seal(ids::session_id(1, n), 9, 1))
            .collect();
        let steps: BTreeSet<u64> = told.windows(2).map(|two| two[1].wrapping_sub(two[0])).collect();
        assert_eq!((told.len(), steps.len()), (199, 198));
    }

    #[test]
    fn a_key_is_32_hexadecimal_digits() {
        let key = "000102030405060708090a0b0c0d0e0f";
        assert!(is_key(key) && !is_key(&key[1..]) && !is_key(&key.replace('f', "g")));
        assert_eq!(
            (key_of(key, "a").0, key_of(key, "b").1),
            (0x0001_0203_0405_0607, 0x0809_0a0b_0c0d_0e0f)
        );
        assert!(key_of("", "a") != key_of("", "b"));
    }

    proptest! {
        #[test]
        fn whatever_is_sealed_opens_again(shard in 0u32..16, counter in 1u64..1 << 31, user: u64, device in 1u32..10) {
            let seal = seal(16);
            let session = ids::session_id(shard, counter);
            let sealed = seal.seal(session, user, device).unwrap();
            prop_assert_eq!(seal.open(sealed, user, device), Some(session));
            let mut named = [sealed];
            seal.unchecked(&mut named);
            prop_assert_eq!(named[0], session);
        }
    }
}
