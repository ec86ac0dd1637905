//! Notes of a message, one after the other in one value.

use bytes::Bytes;
use model::ports::NOTES_MAX;

/// `notes` with one more at the end.
pub(super) fn append(notes: Option<&[u8]>, note: &[u8]) -> Vec<u8> {
    let mut all = split(notes.unwrap_or_default());
    if all.len() >= NOTES_MAX {
        all.truncate(NOTES_MAX - 1);
    }
    let mut out = Vec::with_capacity(notes.map_or(0, <[u8]>::len) + 4 + note.len());
    for kept in all.into_iter().chain([note]) {
        // Notes are at most some KiB long: the port's limit.
        let length = u32::try_from(kept.len()).unwrap_or(u32::MAX);
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(kept);
    }
    out
}

/// The notes one by one.
pub(super) fn read(notes: &[u8]) -> Vec<Bytes> {
    split(notes).into_iter().map(Bytes::copy_from_slice).collect()
}

fn split(mut rest: &[u8]) -> Vec<&[u8]> {
    let mut found = Vec::new();
    while let Some((length, behind)) = rest.split_first_chunk() {
        let length = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX);
        let Some((note, behind)) = behind.split_at_checked(length) else { break };
        found.push(note);
        rest = behind;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_come_back_as_they_were() {
        let one = append(None, b"first");
        let two = append(Some(&one), b"");
        let three = append(Some(&two), b"third\0");
        assert_eq!(read(&three), [&b"first"[..], b"", b"third\0"]);
        assert_eq!(read(&three[..three.len() - 1]), [&b"first"[..], b""], "a torn end");
    }

    #[test]
    fn the_newest_takes_the_last_place() {
        let mut notes = None;
        for n in 0..NOTES_MAX + 5 {
            notes = Some(append(notes.as_deref(), n.to_string().as_bytes()));
        }
        let all = read(&notes.unwrap());
        assert_eq!(all.len(), NOTES_MAX);
        assert_eq!(all[NOTES_MAX - 2], (NOTES_MAX - 2).to_string());
        assert_eq!(all[NOTES_MAX - 1], (NOTES_MAX + 4).to_string());
    }
}
