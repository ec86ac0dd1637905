//! A runtime's own descriptors: what a child needs of them it gets anew, for a copy would be one and the same object in every child.

use crate::files::{self, Source};
use crate::serve::Place;
use crate::sys::{self, EINVAL, ENOSPC, Errno, Result, call, nr, numbers, word};
use crate::text::{self, Line};

/// Most descriptors of a runtime; Node.js has some twenty.
const MOST: usize = 48;
/// Most that one epoll watches.
const WATCHED: usize = 16;
/// Most bytes that may lie in a pipe: libuv keeps one in its own.
const WAITING_BYTES: usize = 64;
/// Longest name of what a descriptor stands for, in bytes.
const TARGET_BYTES: usize = 128;
/// Added to the number of a descriptor that nobody knows, to be told from an error of the kernel.
pub const UNKNOWN: i32 = 10_000;

const F_GETFD: usize = 1;
const F_GETFL: usize = 3;
const NONBLOCK: usize = 0o4000;
const CLOEXEC: usize = 0o2_000_000;
const ACCESS: usize = 3;
const READ_ONLY: usize = 0;

/// One that epoll watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Watched {
    fd: i32,
    events: u32,
    data: u64,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Event {
        count: u32,
    },
    Poll {
        watched: [Watched; WATCHED],
        count: usize,
    },
    /// `/dev/null`: libuv holds one for the time when descriptors run out.
    Null {
        access: usize,
    },
    Pipe {
        inode: u64,
        waiting: [u8; WAITING_BYTES],
        bytes: usize,
    },
    /// Open to be read.
    File(Source),
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    fd: i32,
    kind: Kind,
    nonblocking: bool,
    closed_by_exec: bool,
    readable_end: bool,
}

/// What a runtime has.
#[derive(Debug)]
pub struct Own {
    entries: [Option<Entry>; MOST],
}

static OWN: Place<Own> = Place::new(Own { entries: [None; MOST] });

/// Notes all descriptors but the first four and those that are known. An error with [`UNKNOWN`] added names one that no child could be given.
pub fn scan(known: &[i32]) -> Result<&'static Own> {
    // SAFETY: the one thread that waits uses it, here and later to read alone.
    let own = unsafe { &mut *OWN.at() };
    let mut count = 0;
    names(b"/proc/self/fd\0", |fd, folder| {
        let fd = i32::try_from(fd).map_err(|_| EINVAL)?;
        if fd == folder || fd <= 3 || known.contains(&fd) {
            return Ok(());
        }
        let place = own.entries.get_mut(count).ok_or(ENOSPC)?;
        *place = Some(look_at(fd)?);
        count += 1;
        Ok(())
    })?;
    Ok(own)
}

/// Every number that is a name in a folder, with the descriptor by which the folder is read. The path ends with a zero byte.
pub(crate) fn names(path: &[u8], mut take: impl FnMut(u64, i32) -> Result<()>) -> Result<()> {
    const DIRECTORY: usize = 0o200_000;
    /// Where `struct linux_dirent64` has its length and its name.
    const LENGTH_AT: usize = 16;
    const NAME_AT: usize = 19;
    let folder = sys::open(path, DIRECTORY)?;
    let mut buffer = [0_u8; 4096];
    loop {
        // SAFETY: the buffer is live, writable and as long as is said.
        let n = unsafe {
            call(nr::GETDENTS64, [word(folder), buffer.as_mut_ptr().addr(), buffer.len(), 0, 0, 0])
        }?;
        let mut rest = buffer.get(..n).unwrap_or_default();
        if rest.is_empty() {
            sys::close(folder);
            return Ok(());
        }
        while let [low, high, ..] = rest.get(LENGTH_AT..).unwrap_or_default() {
            let length = usize::from(u16::from_le_bytes([*low, *high])).max(1);
            let name = rest.get(NAME_AT..).unwrap_or_default();
            if let Some((number, _)) = text::number(name, 10) {
                take(number, folder)?;
            }
            rest = rest.get(length..).unwrap_or_default();
        }
    }
}

fn look_at(fd: i32) -> Result<Entry> {
    let number = u64::from(fd.unsigned_abs());
    let path = Line::<40>::new().text(b"/proc/self/fd/").number(number).text(b"\0");
    let mut target = [0_u8; TARGET_BYTES];
    // SAFETY: the path ends with a zero byte; the buffer is live, writable and as long as is said.
    let n = unsafe {
        let buffer = target.as_mut_ptr().addr();
        call(nr::READLINKAT, [0, path.as_bytes().as_ptr().addr(), buffer, target.len(), 0, 0])
    }?;
    let target = target.get(..n).unwrap_or_default();
    let flags = numbers(nr::FCNTL, &[word(fd), F_GETFL])?;
    let readable_end = flags & ACCESS == READ_ONLY;
    let kind = if target == b"anon_inode:[eventfd]" {
        event(fd)?
    } else if target == b"anon_inode:[eventpoll]" {
        poll(fd)?
    } else if target == b"/dev/null" {
        Kind::Null { access: flags & ACCESS }
    } else if let Some(rest) = target.strip_prefix(b"pipe:[") {
        let (inode, _) = text::number(rest, 10).ok_or(EINVAL)?;
        let mut waiting = [0; WAITING_BYTES];
        let bytes = if readable_end { peek(fd, &mut waiting)? } else { 0 };
        Kind::Pipe { inode, waiting, bytes }
    } else {
        let source = if readable_end { files::source(fd, target)? } else { None };
        Kind::File(source.ok_or(Errno(UNKNOWN + fd))?)
    };
    Ok(Entry {
        fd,
        kind,
        nonblocking: flags & NONBLOCK != 0,
        closed_by_exec: numbers(nr::FCNTL, &[word(fd), F_GETFD])? & 1 != 0,
        readable_end,
    })
}

/// Lines of what the kernel says of a descriptor (proc(5), `fdinfo`).
fn info(fd: i32, take: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
    let number = u64::from(fd.unsigned_abs());
    let path = Line::<40>::new().text(b"/proc/self/fdinfo/").number(number).text(b"\0");
    text::lines(path.as_bytes(), take)
}

fn event(fd: i32) -> Result<Kind> {
    let mut count = 0;
    info(fd, |line| {
        if let Some(rest) = text::after(line, b"eventfd-count:") {
            let (n, _) = text::number(rest, 16).ok_or(EINVAL)?;
            count = u32::try_from(n).map_err(|_| EINVAL)?;
        }
        Ok(())
    })?;
    Ok(Kind::Event { count })
}

fn poll(fd: i32) -> Result<Kind> {
    let mut watched = [Watched { fd: -1, events: 0, data: 0 }; WATCHED];
    let mut count = 0;
    info(fd, |line| {
        if line.starts_with(b"tfd:") {
            *watched.get_mut(count).ok_or(ENOSPC)? = watched_by(line).ok_or(EINVAL)?;
            count += 1;
        }
        Ok(())
    })?;
    Ok(Kind::Poll { watched, count })
}

fn watched_by(line: &[u8]) -> Option<Watched> {
    let (fd, _) = text::number(text::after(line, b"tfd:")?, 10)?;
    let (events, _) = text::number(text::behind(line, b"events:")?, 16)?;
    let (data, _) = text::number(text::behind(line, b"data:")?, 16)?;
    Some(Watched { fd: i32::try_from(fd).ok()?, events: u32::try_from(events).ok()?, data })
}

/// Copies what waits in a pipe, and leaves it there.
fn peek(fd: i32, waiting: &mut [u8; WAITING_BYTES]) -> Result<usize> {
    const WITHOUT_WAITING: usize = 2;
    let [from, to] = pipe(0)?;
    let copied = match numbers(nr::TEE, &[word(fd), word(to), WAITING_BYTES, WITHOUT_WAITING]) {
        Ok(n) => n,
        // Nothing waits.
        Err(Errno(11)) => 0,
        Err(e) => return Err(e),
    };
    let read = if copied == 0 { 0 } else { sys::read(from, waiting)? };
    sys::close(from);
    sys::close(to);
    Ok(read)
}

fn pipe(flags: usize) -> Result<[i32; 2]> {
    let mut ends = [-1_i32; 2];
    // SAFETY: two numbers, live and writable.
    unsafe { call(nr::PIPE2, [(&raw mut ends).addr(), flags | CLOEXEC, 0, 0, 0, 0]) }?;
    Ok(ends)
}

/// In a child: puts fresh ones in the place of all.
pub fn refresh(own: &Own) -> Result<()> {
    for entry in own.entries.iter().flatten() {
        let flag = if entry.nonblocking { NONBLOCK } else { 0 };
        match &entry.kind {
            Kind::Event { count } => {
                let count = usize::try_from(*count).map_err(|_| EINVAL)?;
                let fresh = numbers(nr::EVENTFD2, &[count, flag | CLOEXEC])?;
                sys::renumber(sys::descriptor(fresh)?, entry.fd, entry.closed_by_exec)?;
            }
            Kind::Pipe { inode, waiting, bytes } if entry.readable_end => {
                let other = other_end(own, *inode).ok_or(EINVAL)?;
                let [from, to] = pipe(flag)?;
                sys::write(to, waiting.get(..*bytes).unwrap_or_default())?;
                sys::renumber(from, entry.fd, entry.closed_by_exec)?;
                sys::renumber(to, other.fd, other.closed_by_exec)?;
            }
            Kind::Null { access } => {
                let fresh = sys::open(b"/dev/null\0", *access)?;
                sys::renumber(fresh, entry.fd, entry.closed_by_exec)?;
            }
            Kind::File(source) => {
                sys::renumber(files::open(source)?, entry.fd, entry.closed_by_exec)?;
            }
            Kind::Pipe { .. } | Kind::Poll { .. } => {}
        }
    }
    // Last, for they watch the others.
    for entry in own.entries.iter().flatten() {
        if let Kind::Poll { watched, count } = &entry.kind {
            let fresh = sys::descriptor(numbers(nr::EPOLL_CREATE1, &[CLOEXEC])?)?;
            sys::renumber(fresh, entry.fd, entry.closed_by_exec)?;
            watched.iter().take(*count).try_for_each(|one| watch(entry.fd, one))?;
        }
    }
    Ok(())
}

fn other_end(own: &Own, inode: u64) -> Option<&Entry> {
    own.entries.iter().flatten().find(|entry| {
        matches!(entry.kind, Kind::Pipe { inode: other, .. } if other == inode)
            && !entry.readable_end
    })
}

fn watch(poll: i32, watched: &Watched) -> Result<()> {
    const ADD: usize = 1;
    /// `struct epoll_event`.
    #[cfg_attr(target_arch = "x86_64", repr(C, packed))]
    #[cfg_attr(not(target_arch = "x86_64"), repr(C))]
    struct Event {
        events: u32,
        data: u64,
    }
    let event = Event { events: watched.events, data: watched.data };
    // SAFETY: the event has the kernel's layout and is live.
    unsafe {
        let event = (&raw const event).addr();
        call(nr::EPOLL_CTL, [word(poll), ADD, word(watched.fd), event, 0, 0])
    }
    .map(drop)
}

/// In a child: closes all but the runtime's own, those up to `last`, and `status`.
pub fn close_others(own: &Own, last: i32, status: i32) -> Result<()> {
    let mut next = last + 1;
    loop {
        let kept = own.entries.iter().flatten().map(|entry| entry.fd).chain([status]);
        let Some(first) = kept.filter(|fd| *fd >= next).min() else { break };
        if first > next {
            numbers(nr::CLOSE_RANGE, &[word(next), word(first - 1), 0])?;
        }
        next = first + 1;
    }
    const LAST: usize = 0xffff_ffff;
    numbers(nr::CLOSE_RANGE, &[word(next), LAST, 0]).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_epoll_watches_is_read_as_the_kernel_words_it() {
        let line = b"tfd:       13 events:       19 data:                d  pos:0 ino:4d1 sdev:10";
        assert_eq!(watched_by(line), Some(Watched { fd: 13, events: 0x19, data: 13 }));
        assert_eq!(watched_by(b"tfd:  x"), None);
    }

    #[test]
    fn what_waits_in_a_pipe_is_copied_and_stays() {
        let [from, to] = pipe(0).unwrap();
        let mut waiting = [0; WAITING_BYTES];
        assert_eq!(peek(from, &mut waiting), Ok(0));
        sys::write(to, b"x*").unwrap();
        assert_eq!(peek(from, &mut waiting), Ok(2));
        assert_eq!(&waiting[..2], b"x*");
        let mut read = [0; 8];
        assert_eq!(sys::read(from, &mut read), Ok(2));
        for fd in [from, to] {
            sys::close(fd);
        }
    }

    #[test]
    fn descriptors_are_told_by_their_kind() {
        let event_fd = sys::descriptor(numbers(nr::EVENTFD2, &[5, NONBLOCK]).unwrap()).unwrap();
        let entry = look_at(event_fd).unwrap();
        assert!(matches!(entry.kind, Kind::Event { count: 5 }));
        assert!(entry.nonblocking && !entry.closed_by_exec);
        let poll_fd = sys::descriptor(numbers(nr::EPOLL_CREATE1, &[CLOEXEC]).unwrap()).unwrap();
        let one = Watched { fd: event_fd, events: 1, data: 77 };
        watch(poll_fd, &one).unwrap();
        let entry = look_at(poll_fd).unwrap();
        let Kind::Poll { watched, count: 1 } = entry.kind else { panic!("{entry:?}") };
        // Errors are always told, asked for or not.
        assert_eq!((watched[0].fd, watched[0].data), (one.fd, one.data));
        assert_eq!(watched[0].events & one.events, one.events);
        // A source of random numbers that was opened has been read from, and what was read would be the same in all children.
        for path in [&b"/dev/urandom\0"[..], b"/dev/random\0", b"/proc/self/stat\0"] {
            let unknown = sys::open(path, 0).unwrap();
            assert_eq!(look_at(unknown).unwrap_err(), Errno(UNKNOWN + unknown));
            sys::close(unknown);
        }
        for fd in [event_fd, poll_fd] {
            sys::close(fd);
        }
    }
}
