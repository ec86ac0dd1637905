//! The part of web servers: one in Go, which does what the events say that it is sent. What it does is that of the executables that bring their own runtime.

use std::sync::LazyLock;

use super::provided::{Parts, SOURCES, parts};
use crate::support::go;

pub(super) fn kit() -> Parts {
    static KIT: LazyLock<Parts> = LazyLock::new(make);
    KIT.clone()
}

/// The server of the suite.
pub(crate) fn server() -> &'static [u8] {
    static PROGRAM: LazyLock<Vec<u8>> = LazyLock::new(|| {
        let own = [("web.go", include_str!("web/web.go")), ("raw.go", include_str!("web/raw.go"))];
        go(&[&SOURCES[..], &own].concat())
    });
    &PROGRAM
}

fn make() -> Parts {
    parts(("web", "bootstrap"), server(), "node, python", "ends")
}
