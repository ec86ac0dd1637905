//! Frames: how lines lie in segment files and in the journal. Each says what it holds and proves that it is whole.
//!
//! ```text
//! "HLF1" · encoding u8 (0 as they are, 1 zstd) · 3 zeros · sequence number of the first line u64 · lines u32
//! · bytes of the lines u32 · bytes of the body u32 · 4 zeros · checksum 8 bytes · body          numbers little-endian
//! ```
//! The checksum is the start of the SHA-256 of everything else.

use std::io;

use sha2::{Digest, Sha256};

use super::chunk::CHUNK_BYTES_MAX;

/// Bytes before the body.
pub(super) const HEADER: usize = 40;
/// Bytes of the header that the checksum covers.
const CHECKED: usize = 32;
const MAGIC: &[u8; 4] = b"HLF1";
const RAW: u8 = 0;
const ZSTD: u8 = 1;
/// Logs are written far more often than read: the fastest level.
const ZSTD_LEVEL: i32 = 1;

/// A frame's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    encoding: u8,
    /// Sequence number of the first line.
    pub(super) first_seq: u64,
    /// Lines.
    pub(super) count: u32,
    raw_len: usize,
    body_len: usize,
    check: [u8; 8],
}

impl Header {
    /// `None` if this is no header.
    pub(super) fn parse(bytes: &[u8; HEADER]) -> Option<Self> {
        let (magic, rest) = bytes.split_first_chunk()?;
        let ([encoding, 0, 0, 0], rest) = rest.split_first_chunk()? else { return None };
        let (first_seq, rest) = rest.split_first_chunk()?;
        let (count, rest) = rest.split_first_chunk()?;
        let (raw_len, rest) = rest.split_first_chunk()?;
        let (body_len, rest) = rest.split_first_chunk()?;
        let ([0, 0, 0, 0], check) = rest.split_first_chunk()? else { return None };
        let header = Self {
            encoding: *encoding,
            first_seq: u64::from_le_bytes(*first_seq),
            count: u32::from_le_bytes(*count),
            raw_len: usize::try_from(u32::from_le_bytes(*raw_len)).ok()?,
            body_len: usize::try_from(u32::from_le_bytes(*body_len)).ok()?,
            check: check.try_into().ok()?,
        };
        // Incompressible bytes grow a little.
        let plausible =
            header.raw_len <= CHUNK_BYTES_MAX && header.body_len <= CHUNK_BYTES_MAX + (1 << 16);
        (magic == MAGIC && plausible).then_some(header)
    }

    /// Bytes after the header.
    pub(super) fn body_len(&self) -> usize {
        self.body_len
    }

    /// The lines' bytes; `None` if header or body is damaged.
    pub(super) fn decode(&self, header: &[u8; HEADER], body: &[u8]) -> Option<Vec<u8>> {
        if body.len() != self.body_len || checksum(header, body)? != self.check {
            return None;
        }
        match self.encoding {
            RAW => Some(body.to_vec()),
            ZSTD => zstd::bulk::decompress(body, self.raw_len).ok(),
            _ => None,
        }
        .filter(|raw| raw.len() == self.raw_len)
    }
}

/// A frame of compressed lines.
pub(super) fn compressed(first_seq: u64, count: u32, raw: &[u8]) -> io::Result<Vec<u8>> {
    frame(ZSTD, first_seq, count, raw.len(), &zstd::bulk::compress(raw, ZSTD_LEVEL)?)
}

/// A frame of lines as they are.
pub(super) fn plain(first_seq: u64, count: u32, raw: &[u8]) -> io::Result<Vec<u8>> {
    frame(RAW, first_seq, count, raw.len(), raw)
}

fn frame(
    encoding: u8,
    first_seq: u64,
    count: u32,
    raw_len: usize,
    body: &[u8],
) -> io::Result<Vec<u8>> {
    let length = |n: usize| u32::try_from(n).map_err(io::Error::other).map(u32::to_le_bytes);
    let mut out = Vec::with_capacity(HEADER + body.len());
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&[encoding, 0, 0, 0]);
    out.extend_from_slice(&first_seq.to_le_bytes());
    out.extend_from_slice(&count.to_le_bytes());
    out.extend_from_slice(&length(raw_len)?);
    out.extend_from_slice(&length(body.len())?);
    out.extend_from_slice(&[0; 4]);
    let check = checksum_of(&out, body);
    out.extend_from_slice(&check);
    out.extend_from_slice(body);
    Ok(out)
}

fn checksum(header: &[u8; HEADER], body: &[u8]) -> Option<[u8; 8]> {
    header.first_chunk::<CHECKED>().map(|checked| checksum_of(checked, body))
}

fn checksum_of(checked: &[u8], body: &[u8]) -> [u8; 8] {
    let hash = Sha256::new().chain_update(checked).chain_update(body).finalize();
    let mut check = [0; 8];
    check.iter_mut().zip(hash).for_each(|(to, from)| *to = from);
    check
}

/// The frames at the start of `bytes`, each with its lines' bytes and its own length; ends at the first that is not whole.
pub(super) fn whole(bytes: &[u8]) -> impl Iterator<Item = (Header, Vec<u8>, usize)> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let (head, after) = rest.split_first_chunk()?;
        let header = Header::parse(head)?;
        let (body, after) = after.split_at_checked(header.body_len)?;
        let raw = header.decode(head, body)?;
        rest = after;
        Some((header, raw, HEADER + header.body_len))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_round_trip_and_a_torn_one_ends_the_row() {
        let text = b"some lines ".repeat(100);
        let mut file = compressed(7, 3, &text).unwrap();
        let first = file.len();
        file.extend(plain(10, 1, b"tail").unwrap());
        let all: Vec<_> = whole(&file).map(|(h, raw, n)| (h.first_seq, h.count, raw, n)).collect();
        assert_eq!(
            all,
            [(7, 3, text.clone(), first), (10, 1, b"tail".to_vec(), file.len() - first)]
        );
        for cut in 0..file.len() {
            assert_eq!(whole(&file[..cut]).count(), usize::from(cut >= first), "cut at {cut}");
        }
    }

    #[test]
    fn every_flipped_byte_is_noticed() {
        let good = compressed(7, 3, &b"abc".repeat(50)).unwrap();
        for i in 0..good.len() {
            let mut bad = good.clone();
            bad[i] ^= 0x01;
            assert_eq!(whole(&bad).count(), 0, "byte {i}");
        }
    }
}
