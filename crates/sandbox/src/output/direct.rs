//! Output that is handed over as it is written, rather than read from pipes: of functions that run in the daemon's own process.

use std::sync::Arc;

use model::clock::Clock;
use model::ids::{FunctionKey, Qualifier, RequestId};
use model::ports::{LogStream, Logs};

use super::Book;
use super::lines::Lines;

/// The output of one instance, within the same rate and line length as that of a process.
#[derive(Debug)]
pub(crate) struct Direct {
    stdout: Lines,
    stderr: Lines,
    book: Book,
}

impl Direct {
    /// Output of this function's version, at most so much of it.
    pub(crate) fn new(
        function: FunctionKey,
        version: Qualifier,
        bytes_per_second: u32,
        logs: Arc<dyn Logs>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let book = Book::new(function, version, bytes_per_second, logs, clock);
        Self { stdout: Lines::default(), stderr: Lines::default(), book }
    }

    /// From now on lines belong to this call; `None` while the code is loaded.
    pub(crate) fn begin(&mut self, request: Option<RequestId>) {
        self.end();
        self.book.request = request;
    }

    /// Takes what was written.
    pub(crate) fn write(&mut self, stream: LogStream, bytes: &[u8]) {
        let lines = if stream == LogStream::Stdout { &mut self.stdout } else { &mut self.stderr };
        self.book.read(lines, stream, bytes);
    }

    /// Ends the lines that are under way: the call is over.
    pub(crate) fn end(&mut self) {
        let mut batch = Vec::new();
        for (lines, stream) in
            [(&mut self.stdout, LogStream::Stdout), (&mut self.stderr, LogStream::Stderr)]
        {
            lines.end(|line| self.book.take(&mut batch, stream, line));
        }
        self.book.store(batch);
        self.book.say_dropped();
    }

    /// Adds a line of the platform's own, about the call that is under way.
    pub(crate) fn say(&mut self, text: String) {
        self.book.say(text);
    }
}
