//! Cutting bytes into lines.

use std::borrow::Cow;

use model::limits::LOG_LINE_BYTES;

/// Cuts a stream of bytes into lines; holds at most one line, and of that at most `limits::LOG_LINE_BYTES`.
#[derive(Debug, Default)]
pub(super) struct Lines {
    /// The start of the line under way.
    kept: Vec<u8>,
    /// Bytes of it that were not kept.
    cut_bytes: usize,
}

/// What [`Lines::skip`] passed over.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Skipped {
    /// Bytes of the lines, without their ends.
    pub(super) bytes: usize,
    /// Lines that ended.
    pub(super) lines: usize,
}

/// One line, without its end.
#[derive(Debug)]
pub(super) struct Line<'a> {
    kept: Cow<'a, [u8]>,
    /// Bytes that were dropped because the line is too long.
    pub(super) cut_bytes: usize,
}

impl Lines {
    /// Whether a line has begun and not ended.
    pub(super) fn is_partial(&self) -> bool {
        !self.kept.is_empty()
    }

    /// Takes bytes and hands on every line that ends in them.
    pub(super) fn feed<'a>(&mut self, mut bytes: &'a [u8], mut each: impl FnMut(Line<'a>)) {
        while let Some(at) = memchr::memchr(b'\n', bytes) {
            let (line, rest) = bytes.split_at(at);
            bytes = rest.get(1..).unwrap_or_default();
            if self.is_partial() {
                self.extend(line);
                each(self.take());
            } else {
                // The usual case: no copy before it is known whether the line is kept at all.
                let (kept, cut) = line.split_at(line.len().min(LOG_LINE_BYTES));
                each(Line { kept: Cow::Borrowed(kept), cut_bytes: cut.len() });
            }
        }
        self.extend(bytes);
    }

    /// Takes bytes as [`Lines::feed`] does, but only counts the lines that end in them.
    pub(super) fn skip(&mut self, bytes: &[u8]) -> Skipped {
        let Some(last) = memchr::memrchr(b'\n', bytes) else {
            self.extend(bytes);
            return Skipped { bytes: 0, lines: 0 };
        };
        let (ended, rest) = bytes.split_at(last);
        let more = memchr::memchr_iter(b'\n', ended).count();
        let begun = self.take().bytes();
        self.extend(rest.get(1..).unwrap_or_default());
        Skipped { bytes: begun.saturating_add(ended.len() - more), lines: more + 1 }
    }

    /// Ends the line under way, if there is one.
    pub(super) fn end(&mut self, each: impl FnOnce(Line<'static>)) {
        if self.is_partial() {
            each(self.take());
        }
    }

    /// Bytes of memory the line under way takes.
    #[cfg(test)]
    pub(super) fn held_bytes(&self) -> usize {
        self.kept.capacity()
    }

    fn extend(&mut self, bytes: &[u8]) {
        let room = LOG_LINE_BYTES.saturating_sub(self.kept.len());
        let (kept, cut) = bytes.split_at(bytes.len().min(room));
        self.kept.extend_from_slice(kept);
        self.cut_bytes = self.cut_bytes.saturating_add(cut.len());
    }

    fn take(&mut self) -> Line<'static> {
        Line {
            kept: Cow::Owned(std::mem::take(&mut self.kept)),
            cut_bytes: std::mem::take(&mut self.cut_bytes),
        }
    }
}

impl Line<'_> {
    /// Bytes that were kept.
    pub(super) fn kept_bytes(&self) -> usize {
        self.kept.len()
    }

    /// Bytes that were written, kept or not.
    pub(super) fn bytes(&self) -> usize {
        self.kept.len().saturating_add(self.cut_bytes)
    }

    /// The text: at most `limits::LOG_LINE_BYTES`, without a carriage return at its end; what is not UTF-8 is replaced.
    pub(super) fn text(self) -> String {
        let mut text = match self.kept {
            Cow::Borrowed(kept) => String::from_utf8_lossy(kept).into_owned(),
            Cow::Owned(kept) => String::from_utf8(kept)
                .unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned()),
        };
        if self.cut_bytes == 0 && text.ends_with('\r') {
            text.pop();
        }
        // A replacement is longer than what it stands for.
        text.truncate(text.floor_char_boundary(LOG_LINE_BYTES));
        text
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Feeds the pieces, ends, and returns texts with their cut bytes.
    fn lines(pieces: &[&[u8]]) -> Vec<(String, usize)> {
        let mut out = Vec::new();
        let mut lines = Lines::default();
        for piece in pieces {
            lines.feed(piece, |line| out.push((line.cut_bytes, line)));
        }
        lines.end(|line| out.push((line.cut_bytes, line)));
        out.into_iter().map(|(cut, line)| (line.text(), cut)).collect()
    }

    fn texts(pieces: &[&[u8]]) -> Vec<String> {
        lines(pieces).into_iter().map(|(text, _)| text).collect()
    }

    #[test]
    fn lines_end_at_newlines_and_at_the_end() {
        assert_eq!(texts(&[b"a\nb\r\n\nc"]), ["a", "b", "", "c"]);
        assert_eq!(texts(&[b"a", b"b\n", b"", b"c\r", b"\n"]), ["ab", "c"]);
        assert_eq!(texts(&[b"50%\r100%\n"]), ["50%\r100%"]);
        assert!(texts(&[b"", b""]).is_empty());
    }

    #[test]
    fn what_is_not_utf_8_is_replaced() {
        assert_eq!(texts(&[b"caf\xc3", b"\xa9 \xff!\n"]), ["café \u{fffd}!"]);
        assert_eq!(texts(&[b"\xf0\x9f\n"]), ["\u{fffd}"]);
    }

    #[test]
    fn long_lines_are_cut_and_counted() {
        let long = vec![b'x'; LOG_LINE_BYTES + 7];
        for pieces in [&[&long[..], b"\ny"][..], &[&long[..100], &long[100..], b"\ny"]] {
            let got = lines(pieces);
            assert_eq!(got.len(), 2);
            assert_eq!((got[0].0.len(), got[0].1), (LOG_LINE_BYTES, 7));
            assert_eq!(got[1], ("y".to_owned(), 0));
        }
        // Every byte becomes three.
        let got = lines(&[&vec![0xff; LOG_LINE_BYTES]]);
        assert!(got[0].0.len() <= LOG_LINE_BYTES);
    }

    #[test]
    fn skipped_lines_are_counted_and_the_last_one_goes_on() {
        let mut lines = Lines::default();
        lines.feed(b"ab", |_| panic!("no line has ended"));
        assert_eq!(lines.skip(b"c"), Skipped { bytes: 0, lines: 0 });
        assert_eq!(lines.skip(b"d\n\nef\ngh"), Skipped { bytes: 6, lines: 3 });
        lines.end(|line| assert_eq!(line.text(), "gh"));
        assert_eq!(lines.skip(b"\n"), Skipped { bytes: 0, lines: 1 });
    }

    proptest! {
        #[test]
        fn splits_do_not_matter(
            bytes in prop::collection::vec(prop::sample::select(b"ab\r\n\xc3\xa9".to_vec()), 0..40),
            at in 0_usize..40,
        ) {
            let (a, b) = bytes.split_at(at.min(bytes.len()));
            prop_assert_eq!(texts(&[&bytes]), texts(&[a, b]));
        }
    }
}
