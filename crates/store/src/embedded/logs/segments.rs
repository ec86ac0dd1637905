//! Segment files: blocks one after the other, the newest file growing. A file is named after its first line's sequence number.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::chunk::CHUNK_BYTES_MAX;
use super::frame::{self, HEADER, Header};
use super::index::Block;
use crate::format::sync_folder;

const SUFFIX: &str = ".seg";

/// The file of a segment.
pub(super) fn path(folder: &Path, segment: u64) -> PathBuf {
    folder.join(format!("{segment:020}{SUFFIX}"))
}

/// All segments of a folder, oldest first.
pub(super) fn list(folder: &Path) -> io::Result<Vec<u64>> {
    let mut segments = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        let number =
            name.to_str().and_then(|n| n.strip_suffix(SUFFIX)).and_then(|n| n.parse().ok());
        segments.extend::<Option<u64>>(number);
    }
    segments.sort_unstable();
    Ok(segments)
}

/// The segment that grows.
#[derive(Debug)]
pub(super) struct Segments {
    folder: PathBuf,
    /// Bytes after which the next segment begins.
    bytes_max: u64,
    current: Option<Current>,
}

#[derive(Debug)]
struct Current {
    segment: u64,
    file: File,
    length: u64,
}

impl Segments {
    /// Goes on with the newest segment, of which the first `length` bytes are whole; what is beyond is cut off.
    pub(super) fn open(
        folder: PathBuf,
        bytes_max: u64,
        newest: Option<(u64, u64)>,
    ) -> io::Result<Self> {
        let current = match newest {
            None => None,
            Some((segment, length)) => {
                let file = File::options().write(true).open(path(&folder, segment))?;
                if file.metadata()?.len() > length {
                    tracing::warn!(
                        segment,
                        length,
                        "cutting a torn block off the newest log segment"
                    );
                    file.set_len(length)?;
                }
                Some(Current { segment, file, length })
            }
        };
        Ok(Self { folder, bytes_max, current })
    }

    /// The segment that grows.
    pub(super) fn newest(&self) -> Option<u64> {
        self.current.as_ref().map(|c| c.segment)
    }

    /// Appends a frame durably and says where. After an error nothing of it is left, or at most a torn end that the next start cuts off.
    pub(super) fn append(&mut self, first_seq: u64, frame: &[u8]) -> io::Result<(u64, u64)> {
        let length = u64::try_from(frame.len()).map_err(io::Error::other)?;
        if self.current.as_ref().is_none_or(|c| c.length + length > self.bytes_max) {
            self.current = Some(self.create(first_seq)?);
        }
        let Some(current) = self.current.as_mut() else {
            return Err(io::Error::other("no segment"));
        };
        let offset = current.length;
        let written =
            current.file.write_all_at(frame, offset).and_then(|()| current.file.sync_data());
        if let Err(e) = written {
            current.file.set_len(offset).unwrap_or_default();
            return Err(e);
        }
        current.length += length;
        Ok((current.segment, offset))
    }

    /// Takes back the last append, from `offset` on.
    pub(super) fn take_back(&mut self, offset: u64) {
        if let Some(current) = self.current.as_mut() {
            current.file.set_len(offset).unwrap_or_default();
            current.length = offset;
        }
    }

    fn create(&self, segment: u64) -> io::Result<Current> {
        // It may exist, empty, if the disk was full when its first block was written.
        let file = File::options()
            .create(true)
            .truncate(true)
            .write(true)
            .open(path(&self.folder, segment))?;
        sync_folder(&self.folder)?;
        Ok(Current { segment, file, length: 0 })
    }
}

/// Removes a segment's file.
pub(super) fn remove(folder: &Path, segment: u64) -> io::Result<()> {
    match fs::remove_file(path(folder, segment)) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

/// Shows every whole block of a segment from `offset` on; answers where they end.
pub(super) fn scan<E: From<io::Error>>(
    folder: &Path,
    segment: u64,
    offset: u64,
    mut visit: impl FnMut(&Block, &[u8]) -> Result<(), E>,
) -> Result<u64, E> {
    let file = File::open(path(folder, segment))?;
    let mut offset = offset;
    while let Some((header, raw, length)) = read_at(&file, offset)? {
        let block =
            Block { first_seq: header.first_seq, count: header.count, segment, offset, length };
        visit(&block, &raw)?;
        offset += length;
    }
    Ok(offset)
}

/// The frame at `offset`; `None` if there is no whole one.
fn read_at(file: &File, offset: u64) -> io::Result<Option<(Header, Vec<u8>, u64)>> {
    let mut head = [0; HEADER];
    if !read_exact_at(file, &mut head, offset)? {
        return Ok(None);
    }
    let Some(header) = Header::parse(&head) else { return Ok(None) };
    let mut body = vec![0; header.body_len()];
    if !read_exact_at(file, &mut body, offset + HEADER as u64)? {
        return Ok(None);
    }
    let length = u64::try_from(HEADER + body.len()).map_err(io::Error::other)?;
    Ok(header.decode(&head, &body).map(|raw| (header, raw, length)))
}

/// `false` if the file ends before.
fn read_exact_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<bool> {
    match file.read_exact_at(buffer, offset) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(e) => Err(e),
    }
}

/// The lines of a block; `None` if it was removed meanwhile or is damaged.
pub(super) fn read(folder: &Path, block: &Block) -> io::Result<Option<Vec<u8>>> {
    let file = match File::open(path(folder, block.segment)) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e),
    };
    let length = usize::try_from(block.length).unwrap_or(usize::MAX);
    if length > CHUNK_BYTES_MAX + (1 << 16) + HEADER {
        return Ok(None);
    }
    let mut bytes = vec![0; length];
    if !read_exact_at(&file, &mut bytes, block.offset)? {
        return Ok(None);
    }
    Ok(frame::whole(&bytes).next().map(|(_, raw, _)| raw))
}
