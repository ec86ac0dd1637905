//! Reads what the kernel says of a process as text, line by line, without memory of its own.

use crate::sys::{self, Result};

/// Longest line that is looked at, in bytes; of longer ones the beginning.
const LINE_BYTES: usize = 1024;

/// Gives each line of a file to `take`. The path ends with a zero byte.
pub fn lines(path: &[u8], mut take: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
    let fd = sys::open(path, 0)?;
    let done = each(fd, &mut take);
    sys::close(fd);
    done
}

fn each(fd: i32, take: &mut impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
    let mut chunk = [0_u8; 4096];
    let mut line = [0_u8; LINE_BYTES];
    let mut have = 0;
    loop {
        let n = sys::read(fd, &mut chunk)?;
        if n == 0 {
            return Ok(());
        }
        for &byte in chunk.iter().take(n) {
            if byte == b'\n' {
                take(line.get(..have).unwrap_or_default())?;
                have = 0;
            } else if let Some(place) = line.get_mut(have) {
                *place = byte;
                have += 1;
            }
        }
    }
}

/// The number at the start of a text, in a base up to 16, and what follows it; `None` if there is none.
pub fn number(text: &[u8], base: u32) -> Option<(u64, &[u8])> {
    let mut value = 0_u64;
    let mut length = 0;
    for &byte in text {
        let Some(digit) = char::from(byte).to_digit(base) else { break };
        value = value.checked_mul(u64::from(base))?.checked_add(u64::from(digit))?;
        length += 1;
    }
    (length > 0).then(|| (value, text.get(length..).unwrap_or_default()))
}

/// What follows a word at the start of a text and the spaces behind it.
pub fn after<'a>(text: &'a [u8], word: &[u8]) -> Option<&'a [u8]> {
    let rest = text.strip_prefix(word)?;
    let spaces = rest.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
    rest.get(spaces..)
}

/// What follows a word anywhere in a text and the spaces behind it.
pub fn behind<'a>(text: &'a [u8], word: &[u8]) -> Option<&'a [u8]> {
    let at = text.windows(word.len()).position(|window| window == word)?;
    after(text.get(at..)?, word)
}

/// A text that is put together in place.
#[derive(Debug)]
pub struct Line<const N: usize> {
    bytes: [u8; N],
    length: usize,
}

impl<const N: usize> Line<N> {
    /// An empty one.
    pub fn new() -> Self {
        Self { bytes: [0; N], length: 0 }
    }

    /// Adds text; what finds no room is cut off.
    pub fn text(mut self, text: &[u8]) -> Self {
        for &byte in text {
            if let Some(place) = self.bytes.get_mut(self.length) {
                *place = byte;
                self.length += 1;
            }
        }
        self
    }

    /// Adds a number in decimal.
    pub fn number(self, n: u64) -> Self {
        let mut digits = [0_u8; 20];
        let mut rest = n;
        let mut first = digits.len();
        loop {
            first -= 1;
            if let Some(place) = digits.get_mut(first) {
                *place = b'0' + u8::try_from(rest % 10).unwrap_or_default();
            }
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        self.text(digits.get(first..).unwrap_or_default())
    }

    /// All of it.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

impl<const N: usize> Default for Line<N> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_words_are_found() {
        assert_eq!(number(b"1f-2", 16), Some((0x1f, &b"-2"[..])));
        assert_eq!(number(b"x", 10), None);
        assert_eq!(number(b"99999999999999999999999", 10), None);
        assert_eq!(after(b"tfd:   5 x", b"tfd:"), Some(&b"5 x"[..]));
        assert_eq!(behind(b"a events:  19", b"events:"), Some(&b"19"[..]));
        assert_eq!(behind(b"a", b"events:"), None);
    }

    #[test]
    fn a_line_holds_what_fits() {
        let line = Line::<8>::new().text(b"fd ").number(1203).text(b"xyz");
        assert_eq!(line.as_bytes(), b"fd 1203x");
        assert_eq!(Line::<4>::new().number(0).as_bytes(), b"0");
    }

    #[test]
    fn lines_come_one_by_one() {
        let mut seen = 0;
        lines(b"/proc/self/status\0", |line| {
            seen += usize::from(line.starts_with(b"Pid:") || line.starts_with(b"Name:"));
            Ok(())
        })
        .unwrap();
        assert_eq!(seen, 2);
    }
}
