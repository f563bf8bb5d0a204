//! One record as bytes, with a checksum over all of it.

/// Bytes of a frame before its payload.
pub(super) const HEADER: usize = 17;

/// No frame is longer: a length beyond it is damage, known without reading on.
pub(super) const MAX_PAYLOAD: usize = 64 << 20;

/// A frame that was read, and what follows it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Frame<'a> {
    /// How much of the segment had been synced when this was written, in bytes.
    pub(super) durable: u32,
    pub(super) shard: u32,
    pub(super) kind: u8,
    pub(super) payload: &'a [u8],
    /// Bytes of the whole frame.
    pub(super) len: usize,
}

/// Appends a frame to `out`.
pub(super) fn write(out: &mut Vec<u8>, durable: u32, shard: u32, kind: u8, payload: &[u8]) {
    assert!(payload.len() <= MAX_PAYLOAD, "what is longer could never be read again");
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&u32::try_from(payload.len()).unwrap_or(u32::MAX).to_le_bytes());
    out.extend_from_slice(&durable.to_le_bytes());
    out.extend_from_slice(&shard.to_le_bytes());
    out.push(kind);
    out.extend_from_slice(payload);
    let crc = crc32c::crc32c(&out[start + 4..]);
    out[start..start + 4].copy_from_slice(&crc.to_le_bytes());
}

/// Reads the frame at the start of `bytes`, or says what is wrong with it.
pub(super) fn read(bytes: &[u8]) -> Result<Frame<'_>, &'static str> {
    let header = bytes.get(..HEADER).ok_or("a frame's header is cut off")?;
    let word = |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    let payload_len = word(4) as usize;
    let kind = header[16];
    if payload_len > MAX_PAYLOAD || kind == 0 {
        return Err("a frame's header is impossible");
    }
    let len = HEADER + payload_len;
    let whole = bytes.get(..len).ok_or("a frame is cut off")?;
    if crc32c::crc32c(&whole[4..]) != word(0) {
        return Err("a frame's checksum is wrong");
    }
    Ok(Frame {
        durable: word(8),
        shard: word(12),
        kind,
        payload: &whole[HEADER..],
        len,
    })
}
