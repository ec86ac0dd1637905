//! How many tests ran, read from the closing lines of the test runners.

use std::fmt;
use std::ops::AddAssign;

/// Tests by result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Passed.
    pub(crate) passed: u64,
    /// Failed, in error, or cut off.
    pub(crate) failed: u64,
    /// Not run on purpose.
    pub(crate) skipped: u64,
}

impl Counts {
    /// How many tests were run.
    pub(crate) fn ran(self) -> u64 {
        self.passed + self.failed
    }

    fn add(&mut self, word: &str, n: u64) {
        match word {
            "passed" | "pass" => self.passed += n,
            "failed" | "fail" | "cancelled" | "timed" => self.failed += n,
            "skipped" | "ignored" | "todo" => self.skipped += n,
            _ => {}
        }
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)?;
        if self.skipped > 0 {
            write!(f, ", {} skipped", self.skipped)?;
        }
        Ok(())
    }
}

/// Reads a runner's output line by line: `cargo test`, `cargo nextest`, `node --test`, `python3 -m unittest`.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    counts: Counts,
    /// `unittest` says how many it ran on one line and how they went on the next but one.
    unittest_ran: Option<u64>,
}

impl Reader {
    /// Takes the next line.
    pub(crate) fn line(&mut self, line: &str) {
        let line = line.trim();
        if line.starts_with("test result: ") || line.starts_with("Summary [") {
            self.number_then_word(line);
        } else if let Some(rest) = line.strip_prefix("# ").or_else(|| line.strip_prefix("ℹ ")) {
            self.word_then_number(rest);
        } else if let Some(rest) = line.strip_prefix("Ran ") {
            self.unittest_ran = rest.split(' ').next().and_then(|n| n.parse().ok());
        } else if line.starts_with("OK") || line.starts_with("FAILED (") {
            self.unittest_result(line);
        }
    }

    /// What the lines so far add up to.
    pub(crate) fn counts(&self) -> Counts {
        self.counts
    }

    /// `test result: ok. 12 passed; 0 failed; …` and `Summary [ 0.4s] 12 tests run: 11 passed, 1 failed, …`.
    fn number_then_word(&mut self, line: &str) {
        let words: Vec<_> = line
            .split(|c: char| c.is_whitespace() || ";,:".contains(c))
            .filter(|w| !w.is_empty())
            .collect();
        for pair in words.windows(2) {
            if let [n, word] = pair
                && let Ok(n) = n.parse()
            {
                self.counts.add(word, n);
            }
        }
    }

    /// `# pass 12`.
    fn word_then_number(&mut self, rest: &str) {
        if let Some((word, n)) = rest.split_once(' ')
            && let Ok(n) = n.parse()
        {
            self.counts.add(word, n);
        }
    }

    /// `OK`, `OK (skipped=1)`, `FAILED (failures=1, errors=2)`.
    fn unittest_result(&mut self, line: &str) {
        let Some(ran) = self.unittest_ran.take() else {
            return;
        };
        let number = |key: &str| -> u64 {
            let mut parts = line.split(['(', ')', ',', ' ']);
            parts
                .find_map(|p| p.strip_prefix(key)?.strip_prefix('=')?.parse().ok())
                .unwrap_or_default()
        };
        let failed = number("failures") + number("errors") + number("successes");
        let skipped = number("skipped");
        self.counts += Counts { passed: ran.saturating_sub(failed + skipped), failed, skipped };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Counts {
        let mut reader = Reader::default();
        text.lines().for_each(|l| reader.line(l));
        reader.counts()
    }

    fn counts(passed: u64, failed: u64, skipped: u64) -> Counts {
        Counts { passed, failed, skipped }
    }

    #[test]
    fn each_runners_closing_lines_are_understood() {
        let cargo = "running 3 tests\n\
            test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s\n\
            test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out";
        assert_eq!(read(cargo), counts(13, 2, 1));
        let nextest =
            "     Summary [   0.421s] 12 tests run: 11 passed (1 slow), 1 failed, 3 skipped";
        assert_eq!(read(nextest), counts(11, 1, 3));
        let tap = "# tests 5\n# suites 0\n# pass 3\n# fail 1\n# cancelled 1\n# skipped 0\n# duration_ms 12.5";
        assert_eq!(read(tap), counts(3, 2, 0));
        assert_eq!(read("ℹ pass 4\nℹ fail 0"), counts(4, 0, 0));
        let python =
            "....\n------\nRan 9 tests in 0.123s\n\nFAILED (failures=1, errors=2, skipped=1)";
        assert_eq!(read(python), counts(5, 3, 1));
        assert_eq!(read("Ran 4 tests in 0.1s\n\nOK"), counts(4, 0, 0));
    }

    #[test]
    fn other_lines_count_nothing() {
        assert_eq!(
            read("test a ... ok\n12 passed\nOK computer\n# a comment 3 passed"),
            counts(0, 0, 0)
        );
    }

    #[test]
    fn the_sum_is_worded_as_a_closing_line() {
        assert_eq!(counts(3, 0, 0).to_string(), "3 passed, 0 failed");
        assert_eq!(counts(3, 1, 2).to_string(), "3 passed, 1 failed, 2 skipped");
    }
}
