//! Files that a runtime has open to read from, as a virtual machine has its library of classes: a child opens them anew, for a copy of the descriptor would have one
//! position with all other children.

use crate::sys::{self, EINVAL, Result, call, nr, numbers, word};

/// Longest path in bytes, with the zero byte behind it.
const PATH_BYTES: usize = 128;
/// Of the mode of a file: what it is, and that it is one of bytes.
const KIND: u32 = 0o170_000;
const REGULAR: u32 = 0o100_000;

/// One that is open.
#[derive(Clone, Copy, Debug)]
pub struct Source {
    path: [u8; PATH_BYTES],
    identity: [u64; 2],
    position: usize,
}

/// The file behind a descriptor, which is open to be read alone; `None` if it is none that can be opened anew. An empty one is not, for what the kernel makes up has no
/// size.
pub fn source(fd: i32, path: &[u8]) -> Result<Option<Source>> {
    const CURRENT: usize = 1;
    let Status { identity, mode, bytes } = status(fd)?;
    let mut place = [0; PATH_BYTES];
    let Some(room) = place.get_mut(..path.len()).filter(|room| room.len() < PATH_BYTES) else {
        return Ok(None);
    };
    if mode & KIND != REGULAR || bytes == 0 || path.first() != Some(&b'/') {
        return Ok(None);
    }
    room.copy_from_slice(path);
    let position = numbers(nr::LSEEK, &[word(fd), 0, CURRENT])?;
    Ok(Some(Source { path: place, identity, position }))
}

/// In a child: opens it again by its path, which has to lead to the same file.
pub fn open(source: &Source) -> Result<i32> {
    const FROM_START: usize = 0;
    let fd = sys::open(&source.path, 0)?;
    if status(fd)?.identity != source.identity {
        return Err(EINVAL);
    }
    numbers(nr::LSEEK, &[word(fd), source.position, FROM_START])?;
    Ok(fd)
}

struct Status {
    /// Device and number.
    identity: [u64; 2],
    mode: u32,
    bytes: u64,
}

fn status(fd: i32) -> Result<Status> {
    /// Words of `struct stat`: it has 144 bytes on x86-64 and 128 on aarch64.
    const WORDS: usize = 18;
    /// Which of them begins with the mode.
    const MODE_AT: usize = if cfg!(target_arch = "x86_64") { 3 } else { 2 };
    const BYTES_AT: usize = 6;
    let mut words = [0_u64; WORDS];
    // SAFETY: the kernel writes a `struct stat`, which is not larger.
    unsafe { call(nr::FSTAT, [word(fd), words.as_mut_ptr().addr(), 0, 0, 0, 0]) }?;
    let [device, inode, ..] = words;
    let at = |place: usize| words.get(place).copied().unwrap_or_default();
    let mode = u32::try_from(at(MODE_AT) & 0xffff_ffff).map_err(|_| EINVAL)?;
    Ok(Status { identity: [device, inode], mode, bytes: at(BYTES_AT) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_opened_anew_where_it_stood() {
        let path = std::env::current_exe().unwrap();
        let path = path.to_str().unwrap().as_bytes();
        let mut ended = path.to_vec();
        ended.push(0);
        let fd = sys::open(&ended, 0).unwrap();
        let mut head = [0; 4];
        assert_eq!(sys::read(fd, &mut head), Ok(4));
        assert_eq!(&head, b"\x7fELF");
        let found = source(fd, path).unwrap().unwrap();
        let fresh = open(&found).unwrap();
        let (mut one, mut other) = ([0; 16], [0; 16]);
        assert_eq!(sys::read(fresh, &mut one), Ok(16));
        assert_eq!(sys::read(fd, &mut other), Ok(16), "it has a position of its own");
        assert_eq!(one, other);
        let moved = Source { identity: [0, 0], ..found };
        assert_eq!(open(&moved), Err(EINVAL), "another file has its name");
        for fd in [fd, fresh] {
            sys::close(fd);
        }
    }

    #[test]
    fn what_is_no_file_of_bytes_is_none() {
        for path in [&b"/dev/zero\0"[..], b"/proc/self/stat\0", b"/\0"] {
            let fd = sys::open(path, 0).unwrap();
            let name = path.strip_suffix(b"\0").unwrap();
            assert!(source(fd, name).unwrap().is_none());
            sys::close(fd);
        }
    }
}
