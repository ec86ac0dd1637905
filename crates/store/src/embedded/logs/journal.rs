//! The journal: lines that are durable but do not fill a block yet. It is read once, at start, and emptied whenever a block is written,
//! so it stays about as small as one block.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::chunk::Chunk;
use super::frame;

/// The open file.
#[derive(Debug)]
pub(super) struct Journal {
    file: File,
    length: u64,
}

impl Journal {
    /// Opens or creates the journal. Answers also with its lines from `from_seq` on: the others are in blocks. What is torn is cut off.
    pub(super) fn open(path: &Path, from_seq: u64) -> io::Result<(Self, Chunk)> {
        let mut file =
            File::options().read(true).write(true).create(true).truncate(false).open(path)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let mut length = 0;
        let mut lines = Chunk::empty(from_seq);
        for (header, raw, frame_len) in frame::whole(&bytes) {
            length += u64::try_from(frame_len).map_err(io::Error::other)?;
            if header.first_seq < from_seq {
                continue;
            }
            if lines.count == 0 {
                lines.first_seq = header.first_seq;
            }
            lines.count += header.count;
            lines.bytes.extend_from_slice(&raw);
        }
        file.set_len(length)?;
        Ok((Self { file, length }, lines))
    }

    /// Appends lines durably. After an error nothing of them counts.
    pub(super) fn append(&mut self, lines: &Chunk) -> io::Result<()> {
        let frame = frame::plain(lines.first_seq, lines.count, &lines.bytes)?;
        let written =
            self.file.write_all_at(&frame, self.length).and_then(|()| self.file.sync_data());
        if let Err(e) = written {
            self.file.set_len(self.length).unwrap_or_default();
            return Err(e);
        }
        self.length += u64::try_from(frame.len()).map_err(io::Error::other)?;
        Ok(())
    }

    /// Empties it; its lines are in a block now. If this fails they are skipped by their numbers at the next start.
    pub(super) fn clear(&mut self) -> io::Result<()> {
        if self.length > 0 {
            self.file.set_len(0)?;
            self.length = 0;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::line::tests::line;
    use super::*;

    fn chunk(first_seq: u64, texts: &[&str]) -> Chunk {
        let mut chunk = Chunk::empty(first_seq);
        texts.iter().for_each(|t| chunk.push(&line("f", 1, t)));
        chunk
    }

    #[test]
    fn whole_frames_come_back_and_a_torn_end_is_cut_off() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        let (mut journal, empty) = Journal::open(&path, 5).unwrap();
        assert_eq!(empty, Chunk::empty(5));
        journal.append(&chunk(5, &["a", "b"])).unwrap();
        journal.append(&chunk(7, &["c"])).unwrap();
        let whole = std::fs::read(&path).unwrap();
        let torn = [&whole[..], &frame::plain(8, 1, b"torn").unwrap()[..20]].concat();
        std::fs::write(&path, torn).unwrap();

        let (mut journal, lines) = Journal::open(&path, 5).unwrap();
        assert_eq!(lines, chunk(5, &["a", "b", "c"]));
        assert_eq!(std::fs::read(&path).unwrap(), whole);
        let (_, later) = Journal::open(&path, 7).unwrap();
        assert_eq!(later, chunk(7, &["c"]));

        journal.clear().unwrap();
        let (_, none) = Journal::open(&path, 8).unwrap();
        assert_eq!(none.count, 0);
    }
}
