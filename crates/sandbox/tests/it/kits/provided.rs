//! The part of executables that bring their own runtime: one in Go, compiled once.

use std::sync::LazyLock;

use bytes::Bytes;

use super::layers_with_modes;
use crate::support::{go, zip_with_modes};

/// Runtime, handler, package and the one that answers in pieces, layers, packages that cannot be loaded.
pub(super) type Parts =
    (&'static str, &'static str, [Bytes; 2], [Bytes; 2], Vec<(&'static str, Bytes, &'static str)>);

pub(super) fn kit() -> Parts {
    static KIT: LazyLock<Parts> = LazyLock::new(make);
    KIT.clone()
}

/// What the executable of the suite is made of; the server of the suite is, too.
pub(super) const SOURCES: [(&str, &str); 5] = [
    ("go.mod", include_str!("provided/go.mod")),
    ("api.go", include_str!("provided/api.go")),
    ("main.go", include_str!("provided/main.go")),
    ("extension.go", include_str!("provided/extension.go")),
    ("steps.go", include_str!("provided/steps.go")),
];

/// The executable of the suite.
pub(crate) fn bootstrap() -> &'static [u8] {
    static PROGRAM: LazyLock<Vec<u8>> = LazyLock::new(|| go(&SOURCES));
    &PROGRAM
}

/// A package with a program, and an empty file that says what it does.
fn package(program: &[u8], file: &str) -> Bytes {
    zip_with_modes(&[("bootstrap", program, 0o755), (file, b"", 0o644)])
}

fn make() -> Parts {
    parts(("provided.al2023", "main.handler"), bootstrap(), "/opt/bootstrap", "throws")
}

/// Of a runtime, with a handler, whose program is the file `bootstrap`: what an error says where that is missing, and what it is called that the program ends at once.
pub(super) fn parts(
    (runtime, handler): (&'static str, &'static str),
    program: &[u8],
    missing: &'static str,
    ends: &'static str,
) -> Parts {
    let text = |bytes: &[u8], mode| zip_with_modes(&[("bootstrap", bytes, mode)]);
    let broken = vec![
        ("no such file", zip_with_modes(&[("other", b"", 0o755)]), missing),
        ("no executable", text(program, 0o644), "ermission denied"),
        ("no program", text(b"hello", 0o755), "xec format error"),
        ("no interpreter", text(b"#!/no/such/thing\n", 0o755), "o such file"),
        (ends, package(program, "throws"), "not today"),
    ];
    let script = |text| format!("#!/bin/sh\nprintf {text}\n");
    let (one, two) = (script("first"), script("second"));
    (
        runtime,
        handler,
        [package(program, "answers"), package(program, "streams")],
        layers_with_modes([
            ("bin/layer_one", one.as_bytes(), 0o755),
            ("bin/layer_two", two.as_bytes(), 0o755),
        ]),
        broken,
    )
}
