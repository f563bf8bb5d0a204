//! Bodies that say who they are: identity, padding, and a hash over both.
//!
//! So a body that comes back says which item it is, and whether a bit of it has changed, without asking anybody.
//! Layout: `FDm1`, the item (8 bytes, little endian), padding, xxh3 of all before (8 bytes, little endian).

use bytes::{BufMut as _, Bytes, BytesMut};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

const MAGIC: &[u8; 4] = b"FDm1";
const HASH_LENGTH: usize = 8;

/// The smallest body, in bytes.
pub const LENGTH_MIN: usize = MAGIC.len() + 8 + HASH_LENGTH;

/// The body of `item`, `length` bytes long and at least [`LENGTH_MIN`]. The padding differs from item to item.
#[must_use]
pub fn encode(item: u64, length: usize) -> Bytes {
    let length = length.max(LENGTH_MIN);
    let mut body = BytesMut::with_capacity(length + 8);
    body.put_slice(MAGIC);
    body.put_u64_le(item);
    let mut block = 0;
    while body.len() < length - HASH_LENGTH {
        body.put_u64_le(xxh3_64_with_seed(&item.to_le_bytes(), block));
        block += 1;
    }
    body.truncate(length - HASH_LENGTH);
    body.put_u64_le(xxh3_64(&body));
    body.freeze()
}

/// The item that `body` carries; none when it is not one of ours or has changed.
#[must_use]
pub fn decode(body: &[u8]) -> Option<u64> {
    let (covered, hash) = body.split_last_chunk::<HASH_LENGTH>()?;
    let (item, _) = covered.strip_prefix(MAGIC)?.split_first_chunk::<8>()?;
    (xxh3_64(covered) == u64::from_le_bytes(*hash)).then(|| u64::from_le_bytes(*item))
}

/// The hash of a whole body, as histories hold it.
#[must_use]
pub fn hash(body: &[u8]) -> u64 {
    xxh3_64(body)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn an_item_comes_back(item in any::<u64>(), length in 0..2000usize) {
            let body = encode(item, length);
            prop_assert_eq!(body.len(), length.max(LENGTH_MIN));
            prop_assert_eq!(decode(&body), Some(item));
        }

        #[test]
        fn any_changed_bit_is_seen(item in any::<u64>(), length in 20..300usize, at in any::<usize>(), bit in 0..8u8) {
            let mut body = encode(item, length).to_vec();
            let at = at % body.len();
            body[at] ^= 1 << bit;
            prop_assert_eq!(decode(&body), None);
        }

        #[test]
        fn noise_is_nobody(noise in proptest::collection::vec(any::<u8>(), 0..100)) {
            prop_assert_eq!(decode(&noise), None);
        }
    }

    #[test]
    fn cut_bodies_are_nobody() {
        let body = encode(7, 64);
        assert!((0..64).all(|length| decode(&body[..length]).is_none()));
    }
}
