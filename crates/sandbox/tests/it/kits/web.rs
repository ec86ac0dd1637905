//! The part of web servers: one in Go, which does what the events say that it is sent. What it does is that of the executables that bring their own runtime.

use std::sync::LazyLock;

use bytes::Bytes;

use super::layers_with_modes;
use super::provided::Parts;
use crate::support::{go, zip_with_modes};

pub(super) fn kit() -> Parts {
    static KIT: LazyLock<Parts> = LazyLock::new(make);
    KIT.clone()
}

/// The server of the suite.
pub(crate) fn server() -> &'static [u8] {
    static PROGRAM: LazyLock<Vec<u8>> = LazyLock::new(|| {
        go(&[
            ("go.mod", include_str!("provided/go.mod")),
            ("api.go", include_str!("provided/api.go")),
            ("extension.go", include_str!("provided/extension.go")),
            ("main.go", include_str!("provided/main.go")),
            ("steps.go", include_str!("provided/steps.go")),
            ("web.go", include_str!("web/web.go")),
            ("raw.go", include_str!("web/raw.go")),
        ])
    });
    &PROGRAM
}

/// A package with the server, and an empty file that says what it does.
fn package(file: &str) -> Bytes {
    zip_with_modes(&[("bootstrap", server(), 0o755), (file, b"", 0o644)])
}

fn make() -> Parts {
    let text = |bytes: &[u8], mode| zip_with_modes(&[("bootstrap", bytes, mode)]);
    let broken = vec![
        ("no such file", zip_with_modes(&[("other", b"", 0o755)]), "node, python"),
        ("no executable", text(server(), 0o644), "ermission denied"),
        ("no program", text(b"hello", 0o755), "xec format error"),
        ("no interpreter", text(b"#!/no/such/thing\n", 0o755), "o such file"),
        ("ends", package("throws"), "not today"),
    ];
    let script = |text| format!("#!/bin/sh\nprintf {text}\n");
    let (one, two) = (script("first"), script("second"));
    (
        "web",
        "bootstrap",
        [package("answers"), package("streams")],
        layers_with_modes([
            ("bin/layer_one", one.as_bytes(), 0o755),
            ("bin/layer_two", two.as_bytes(), 0o755),
        ]),
        broken,
    )
}
