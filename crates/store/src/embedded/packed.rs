//! A file of bytes: [`HEADER`] bytes (format, encoding, length as a little-endian 64-bit number), then the bytes, compressed if that helps.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use bytes::Bytes;
use model::Result;

use crate::fault;

/// Most bytes of a file, before they are compressed; well over [`model::limits::PACKAGE_BYTES`].
pub(super) const BYTES_MAX: usize = 256 << 20;
/// Bytes of a file before its contents.
const HEADER: usize = 10;
const FORMAT: u8 = 1;
const RAW: u8 = 0;
const ZSTD: u8 = 1;
/// The usual trade between size and time; files are written once.
const ZSTD_LEVEL: i32 = 3;

/// Writes a file that is not there yet; its bytes are on disk when this returns, its name may not be.
pub(super) fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let (header, body) = encode(bytes)?;
    let mut file = File::create_new(path)?;
    file.write_all(&header)?;
    file.write_all(body.as_deref().unwrap_or(bytes))?;
    file.sync_all()
}

/// A file as it lies there, for [`decode`]; none if there is none.
pub(super) fn read(path: &Path) -> Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(file) => Ok(Some(file)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(fault::file(e)),
    }
}

/// The header, and the compressed bytes if they are fewer.
fn encode(bytes: &[u8]) -> io::Result<([u8; HEADER], Option<Vec<u8>>)> {
    let compressed = zstd::bulk::compress(bytes, ZSTD_LEVEL)?;
    let body = Some(compressed).filter(|c| c.len() < bytes.len());
    let mut header = [0; HEADER];
    header[0] = FORMAT;
    header[1] = if body.is_some() { ZSTD } else { RAW };
    let length = u64::try_from(bytes.len()).map_err(io::Error::other)?;
    header[2..].copy_from_slice(&length.to_le_bytes());
    Ok((header, body))
}

/// What was written; `None` if the file is damaged, as far as that shows.
pub(super) fn decode(file: Vec<u8>) -> Option<Bytes> {
    let (header, body) = file.split_first_chunk::<HEADER>()?;
    let [FORMAT, encoding, length @ ..] = header else { return None };
    // Damage must not make us reserve memory.
    let length = usize::try_from(u64::from_le_bytes(*length)).ok().filter(|n| *n <= BYTES_MAX)?;
    match *encoding {
        RAW if body.len() == length => Some(Bytes::from(file).slice(HEADER..)),
        ZSTD => {
            zstd::bulk::decompress(body, length).ok().filter(|b| b.len() == length).map(Bytes::from)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip(bytes: &[u8]) -> (usize, Bytes) {
        let (header, body) = encode(bytes).unwrap();
        let file = [&header, body.as_deref().unwrap_or(bytes)].concat();
        (file.len(), decode(file).unwrap())
    }

    #[test]
    fn what_does_not_shrink_is_stored_as_it_is() {
        let random = model::ids::Digest::of(b"random").as_bytes().to_vec();
        let (len, back) = round_trip(&random);
        assert_eq!((len, &*back), (HEADER + random.len(), &*random));
        assert_eq!(round_trip(b"").0, HEADER);
    }

    #[test]
    fn what_shrinks_is_compressed() {
        let text = b"hello hello hello ".repeat(1000);
        let (len, back) = round_trip(&text);
        assert!(len < text.len() / 20, "{len}");
        assert_eq!(&*back, &*text);
    }

    #[test]
    fn damage_is_no_panic_and_no_huge_allocation() {
        let (header, body) = encode(&b"abc".repeat(100)).unwrap();
        let good = [&header[..], &body.unwrap()].concat();
        for i in 0..good.len() {
            assert!(decode(good[..i].to_vec()).is_none(), "cut at {i}");
            let mut bad = good.clone();
            bad[i] ^= 0xff;
            if let Some(bytes) = decode(bad) {
                assert!(*bytes != *b"abc".repeat(100), "flipped byte {i}");
            }
        }
    }
}
