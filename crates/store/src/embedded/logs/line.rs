//! A log line as bytes, in memory and on disk alike.
//!
//! ```text
//! length of the rest u32 · time u64 · stream u8 · request present u8 · request 16 bytes if so
//! · namespace · function · version (each: length u8, bytes) · text to the end          numbers little-endian
//! ```

use model::clock::UnixMillis;
use model::ids::{FunctionKey, Qualifier, RequestId};
use model::limits::LOG_LINE_BYTES;
use model::ports::{LogLine, LogStream};

/// Most bytes of an encoded line besides its text: fixed fields, and three names of at most 255 bytes.
pub(super) const OVERHEAD_BYTES: usize = 4 + 8 + 1 + 1 + 16 + 3 * 256;

/// A line, borrowed from encoded bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Raw<'a> {
    pub(super) time: UnixMillis,
    stream: u8,
    pub(super) request: Option<[u8; 16]>,
    pub(super) namespace: &'a [u8],
    pub(super) name: &'a [u8],
    version: &'a [u8],
    text: &'a [u8],
}

impl<'a> Raw<'a> {
    /// What was written.
    pub(super) fn text(&self) -> &'a str {
        std::str::from_utf8(self.text).unwrap_or_default()
    }

    /// As a value of its own; `function` is whose line it is.
    pub(super) fn to_line(self, function: FunctionKey) -> LogLine {
        LogLine {
            time: self.time,
            function,
            version: std::str::from_utf8(self.version)
                .ok()
                .and_then(|v| v.parse().ok())
                .unwrap_or(Qualifier::Latest),
            request: self.request.map(RequestId::from_bytes),
            stream: match self.stream {
                0 => LogStream::Stdout,
                1 => LogStream::Stderr,
                _ => LogStream::Platform,
            },
            text: self.text().to_owned(),
        }
    }
}

/// The text as it is kept: cut at the limit, between characters.
pub(super) fn kept(text: &str) -> &str {
    text.get(..text.floor_char_boundary(LOG_LINE_BYTES)).unwrap_or(text)
}

/// Appends a line to `out`.
pub(super) fn encode(line: &LogLine, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&line.time.0.to_le_bytes());
    out.push(match line.stream {
        LogStream::Stdout => 0,
        LogStream::Stderr => 1,
        LogStream::Platform => 2,
    });
    out.push(u8::from(line.request.is_some()));
    if let Some(request) = &line.request {
        out.extend_from_slice(request.as_bytes());
    }
    name(line.function.namespace.as_str(), out);
    name(line.function.name.as_str(), out);
    match &line.version {
        // The common ones without an allocation.
        Qualifier::Latest => name(model::ids::LATEST, out),
        Qualifier::Alias(alias) => name(alias.as_str(), out),
        Qualifier::Version(_) => name(&line.version.to_string(), out),
    }
    out.extend_from_slice(kept(&line.text).as_bytes());
    let length = u32::try_from(out.len() - start - 4).unwrap_or(u32::MAX);
    if let Some(place) = out.get_mut(start..start + 4) {
        place.copy_from_slice(&length.to_le_bytes());
    }
}

/// Names are at most 128 bytes by their types; a longer one would be cut rather than break the encoding.
fn name(name: &str, out: &mut Vec<u8>) {
    let bytes = name.as_bytes();
    let length = u8::try_from(bytes.len()).unwrap_or(u8::MAX);
    out.push(length);
    out.extend(bytes.iter().take(usize::from(length)));
}

/// The lines of a block, in order. Ends early if the bytes are damaged, which the block's checksum rules out.
pub(super) fn decode(bytes: &[u8]) -> impl Iterator<Item = Raw<'_>> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let (length, after) = rest.split_first_chunk()?;
        let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
        let (line, after) = after.split_at_checked(length)?;
        rest = after;
        one(line)
    })
}

fn one(bytes: &[u8]) -> Option<Raw<'_>> {
    let (time, bytes) = bytes.split_first_chunk()?;
    let ([stream, has_request], bytes) = bytes.split_first_chunk()?;
    let (request, bytes) = match has_request {
        0 => (None, bytes),
        _ => bytes.split_first_chunk().map(|(r, rest)| (Some(*r), rest))?,
    };
    let (namespace, bytes) = short(bytes)?;
    let (name, bytes) = short(bytes)?;
    let (version, text) = short(bytes)?;
    let time = UnixMillis(u64::from_le_bytes(*time));
    Some(Raw { time, stream: *stream, request, namespace, name, version, text })
}

fn short(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first()?;
    rest.split_at_checked(usize::from(*length))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(crate) fn line(function: &str, time: u64, text: &str) -> LogLine {
        LogLine {
            time: UnixMillis(time),
            function: FunctionKey {
                namespace: "default".parse().unwrap(),
                name: function.parse().unwrap(),
            },
            version: Qualifier::Latest,
            request: None,
            stream: LogStream::Stdout,
            text: text.to_owned(),
        }
    }

    #[test]
    fn lines_round_trip() {
        let mut lines = vec![line("a", 1, ""), line("b", u64::MAX, "grüße\n"), line("c", 2, "x")];
        lines[1].request = Some(RequestId::generate());
        lines[1].version = Qualifier::Version(12);
        lines[2].version = Qualifier::Alias("live".parse().unwrap());
        lines[2].stream = LogStream::Platform;
        let mut bytes = Vec::new();
        lines.iter().for_each(|l| encode(l, &mut bytes));
        let back: Vec<_> =
            decode(&bytes).zip(&lines).map(|(r, l)| r.to_line(l.function.clone())).collect();
        assert_eq!(back, lines);
    }

    #[test]
    fn long_text_is_cut_between_characters() {
        let text = "é".repeat(LOG_LINE_BYTES);
        assert_eq!(kept(&text).len(), LOG_LINE_BYTES);
        let text = format!("x{text}");
        assert_eq!(kept(&text).len(), LOG_LINE_BYTES - 1);
    }

    #[test]
    fn damage_ends_the_lines_without_a_panic() {
        let mut bytes = Vec::new();
        encode(&line("a", 1, "hello"), &mut bytes);
        for i in 0..bytes.len() {
            assert_eq!(decode(&bytes[..i]).count(), 0);
            let mut bad = bytes.clone();
            bad[i] ^= 0xff;
            assert!(decode(&bad).count() <= 1);
        }
    }
}
