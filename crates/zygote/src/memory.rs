//! Makes all memory of a process follow its children: engines exempt parts of theirs (`MADV_DONTFORK`), which a child then has not at all.

use crate::sys::{self, Result, nr};
use crate::text;

/// `MADV_DOFORK`.
const DO_FORK: usize = 11;

/// Undoes every exemption; how many there were.
pub fn follow() -> Result<usize> {
    let mut area = None;
    let mut undone = 0;
    text::lines(b"/proc/self/smaps\0", |line| {
        if let Some(found) = mapping(line) {
            area = Some(found);
        } else if exempt(line)
            && let Some((first, last)) = area
        {
            sys::numbers(nr::MADVISE, &[first, last - first, DO_FORK])?;
            undone += 1;
        }
        Ok(())
    })?;
    Ok(undone)
}

/// First and last address of a mapping, if a line of `/proc/self/smaps` begins one (proc(5)).
fn mapping(line: &[u8]) -> Option<(usize, usize)> {
    let (first, rest) = text::number(line, 16)?;
    let (last, rest) = text::number(rest.strip_prefix(b"-")?, 16)?;
    let found = (usize::try_from(first).ok()?, usize::try_from(last).ok()?);
    rest.starts_with(b" ").then_some(found).filter(|(first, last)| first < last)
}

/// Whether a line says that the mapping above it is not copied on a fork.
fn exempt(line: &[u8]) -> bool {
    text::after(line, b"VmFlags:")
        .is_some_and(|flags| flags.split(|b| *b == b' ').any(|f| f == b"dc"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mappings_and_their_flags_are_told_apart() {
        let line = b"7f0a1000-7f0a3000 rw-p 00000000 00:00 0 ";
        assert_eq!(mapping(line), Some((0x7f0a_1000, 0x7f0a_3000)));
        assert_eq!(mapping(b"Size:                  8 kB"), None);
        assert!(exempt(b"VmFlags: rd wr mr mw me dc sd "));
        assert!(!exempt(b"VmFlags: rd wr mr mw me sd ") && !exempt(b"dc"));
    }
}
