//! Printing: one line at a time, to standard output.

use std::fmt;

/// Prints one line, like `println!`, but survives a reader that went away.
macro_rules! say {
    ($($arguments:tt)*) => {
        $crate::say::line(format_args!($($arguments)*))
    };
}
pub(crate) use say;

/// What [`say!`] calls.
#[cfg(not(test))]
pub(crate) fn line(arguments: fmt::Arguments<'_>) {
    use std::io::Write as _;
    // A closed pipe (`cargo x tidy | head`) must not turn a passed check into a failed one.
    writeln!(std::io::stdout().lock(), "{arguments}").unwrap_or_default();
}

/// In tests through the macro whose output the test runner captures: `cargo x test` counts tests by the lines it reads.
#[cfg(test)]
pub(crate) fn line(arguments: fmt::Arguments<'_>) {
    println!("{arguments}");
}
