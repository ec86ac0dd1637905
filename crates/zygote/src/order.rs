//! The message that makes a zygote fork: numbers in 64-bit words, little-endian, the working directory, and the filter of system calls as the kernel takes
//! it. Both ends are of one build. With it come, in this order: a pidfd of the instance's first process, standard output, standard error, the frames, the
//! status socket, the Landlock ruleset if there is one, the folder of a version 2 control group if there is one, `tasks` of version 1 groups.

use crate::rights::Limits;

/// Bytes of a working directory, with the zero byte behind it.
pub const DIRECTORY_BYTES: usize = 64;
/// Longest message in bytes: the longest filter that the kernel takes (4 096 instructions) and the rest.
pub const ORDER_BYTES: usize = 40 * 1024;
/// Most descriptors of a message.
pub const ORDER_FDS: usize = 16;
/// Those that every order brings.
pub const FIXED_FDS: usize = 5;

/// Words before the working directory.
const WORDS: usize = 9;
const HEAD_BYTES: usize = WORDS * 8 + DIRECTORY_BYTES;
/// The first word.
const MAGIC: u64 = 0x3145_5447_595a_4248;
const RULESET: u64 = 1;
const GROUP: u64 = 2;
const RESTS: u64 = 4;

/// What the child becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Order {
    /// Whether there is a Landlock ruleset.
    pub ruleset: bool,
    /// Whether there is a version 2 group.
    pub group: bool,
    /// Whether the child will lie ready until it is wanted, so that it has time to become warm; else somebody waits for it.
    pub rests: bool,
    /// Version 1 groups.
    pub joins: usize,
    /// User id, in the instance's user namespace.
    pub uid: u32,
    /// Group id, there.
    pub gid: u32,
    /// Limits of its process.
    pub limits: Limits,
    /// Working directory in the instance's root, zeros behind it.
    pub directory: [u8; DIRECTORY_BYTES],
}

impl Order {
    /// Writes an order and a filter; the length, or `None` if it has no room.
    pub fn encode(&self, filter: &[u8], to: &mut [u8]) -> Option<usize> {
        let flags = [(self.ruleset, RULESET), (self.group, GROUP), (self.rests, RESTS)];
        let flags = flags.iter().filter(|(set, _)| *set).fold(0, |flags, (_, flag)| flags | flag);
        let words: [u64; WORDS] = [
            MAGIC,
            flags,
            u64::from(self.uid) << 32 | u64::from(self.gid),
            self.limits.open_files,
            self.limits.processes,
            self.limits.data_bytes.unwrap_or(u64::MAX),
            self.limits.core_bytes,
            u64::try_from(self.joins).ok()?,
            u64::try_from(filter.len()).ok()?,
        ];
        let all = HEAD_BYTES + filter.len();
        let (head, rest) = to.get_mut(..all)?.split_at_mut(WORDS * 8);
        for (place, word) in head.chunks_exact_mut(8).zip(words) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        let (directory, last) = rest.split_at_mut(DIRECTORY_BYTES);
        directory.copy_from_slice(&self.directory);
        last.copy_from_slice(filter);
        Some(all)
    }

    /// Reads an order and its filter; `None` if it is none.
    pub fn decode(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let (head, rest) = bytes.split_at_checked(WORDS * 8)?;
        let mut words = [0_u64; WORDS];
        for (word, place) in words.iter_mut().zip(head.chunks_exact(8)) {
            *word = u64::from_le_bytes(place.try_into().ok()?);
        }
        let [magic, flags, ids, open_files, processes, data, core_bytes, joins, filter] = words;
        let (directory, last) = rest.split_at_checked(DIRECTORY_BYTES)?;
        let directory: [u8; DIRECTORY_BYTES] = directory.try_into().ok()?;
        let order = Self {
            ruleset: flags & RULESET != 0,
            group: flags & GROUP != 0,
            rests: flags & RESTS != 0,
            joins: usize::try_from(joins).ok()?,
            uid: u32::try_from(ids >> 32).ok()?,
            gid: u32::try_from(ids & u64::from(u32::MAX)).ok()?,
            limits: Limits {
                open_files,
                processes,
                data_bytes: (data != u64::MAX).then_some(data),
                core_bytes,
            },
            directory,
        };
        let whole = magic == MAGIC && directory.last() == Some(&0);
        let fits = usize::try_from(filter).is_ok_and(|length| length == last.len());
        (whole && fits).then_some((order, last))
    }

    /// How many descriptors come with it.
    pub fn descriptors(&self) -> usize {
        FIXED_FDS + usize::from(self.ruleset) + usize::from(self.group) + self.joins
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_comes_back_as_it_was() {
        let mut directory = [0; DIRECTORY_BYTES];
        directory[..9].copy_from_slice(b"/var/task");
        let limits = Limits { open_files: 7, processes: 8, data_bytes: Some(9), core_bytes: 0 };
        let mut order = Order {
            ruleset: true,
            group: false,
            rests: true,
            joins: 3,
            uid: 993,
            gid: 990,
            limits,
            directory,
        };
        let mut bytes = [0; ORDER_BYTES];
        let length = order.encode(b"filter--", &mut bytes).unwrap();
        assert_eq!(Order::decode(&bytes[..length]), Some((order, &b"filter--"[..])));
        assert_eq!(order.descriptors(), FIXED_FDS + 4);
        assert_eq!(Order::decode(&bytes[..length - 1]), None);
        assert_eq!(Order::decode(&bytes[..10]), None);
        (order.limits.data_bytes, order.rests) = (None, false);
        assert_eq!(order.encode(b"", &mut [0; 10]), None);
        let length = order.encode(b"", &mut bytes).unwrap();
        assert_eq!(Order::decode(&bytes[..length]), Some((order, &b""[..])));
    }
}
