//! A file that outlives the child: a line is whole or not there, and stays when its writer is killed, as the kernel has it by then.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;

use model::ids::RequestId;

const FILE: &str = "ledger";

/// What a line tells of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    /// It was accepted.
    Accepted,
    /// It was called off, and that was acknowledged.
    Cancelled,
    /// It was brought back to life, and that was acknowledged.
    Redriven,
    /// This attempt at it began.
    Began(u32),
    /// What it is to do once was done.
    Done,
    /// It was what a caller with this key got.
    Keyed(u64),
    /// What is to be done once for this key was done.
    Did(u64),
}

/// Writes it.
#[derive(Debug)]
pub(crate) struct Ledger(File);

impl Ledger {
    pub(crate) fn open(folder: &Path) -> Self {
        let file = File::options().create(true).append(true).open(folder.join(FILE));
        Self(file.unwrap())
    }

    pub(crate) fn write(&self, id: RequestId, entry: Entry) {
        let line = match entry {
            Entry::Accepted => format!("{id} accepted\n"),
            Entry::Cancelled => format!("{id} cancelled\n"),
            Entry::Redriven => format!("{id} redriven\n"),
            Entry::Began(attempt) => format!("{id} began {attempt}\n"),
            Entry::Done => format!("{id} done\n"),
            Entry::Keyed(key) => format!("{id} keyed {key}\n"),
            Entry::Did(key) => format!("{id} did {key}\n"),
        };
        // One system call.
        (&self.0).write_all(line.as_bytes()).unwrap();
    }
}

/// All that was written, oldest first.
pub(crate) fn read(folder: &Path) -> Vec<(RequestId, Entry)> {
    let text = std::fs::read_to_string(folder.join(FILE)).unwrap_or_default();
    text.lines()
        .map(|line| {
            let words: Vec<&str> = line.split(' ').collect();
            let entry = match words[1..] {
                ["accepted"] => Entry::Accepted,
                ["cancelled"] => Entry::Cancelled,
                ["redriven"] => Entry::Redriven,
                ["began", attempt] => Entry::Began(attempt.parse().unwrap()),
                ["done"] => Entry::Done,
                ["keyed", key] => Entry::Keyed(key.parse().unwrap()),
                ["did", key] => Entry::Did(key.parse().unwrap()),
                _ => panic!("no such line: {line}"),
            };
            (words[0].parse().unwrap(), entry)
        })
        .collect()
}
