//! Packages that cannot be used are refused whole, by name of what is wrong.

use std::io::{Read as _, Write as _};

use serde_json::json;

use crate::harness::{Daemon, packages};

/// The daemon goes on as if nothing had happened.
#[track_caller]
fn still_well(daemon: &Daemon) {
    daemon.node("well", "exports.handler = async () => 'well';", &json!({}));
    assert_eq!(daemon.invoke("well", "{}").result(), json!("well"));
}

#[test]
fn what_is_no_zip() {
    let daemon = Daemon::start();
    for bytes in [&b"not a zip"[..], b"", b"PK\x03\x04 and then nothing"] {
        let message = daemon.http.upload(bytes).refused(400, "invalid-package");
        assert!(!message.is_empty());
    }
    let mut cut = packages::zip(&[("index.js", "exports.handler = 1")]);
    cut.truncate(cut.len() / 2);
    daemon.http.upload(&cut).refused(400, "invalid-package");
    still_well(&daemon);
}

#[test]
fn entries_that_lead_outside() {
    let daemon = Daemon::start();
    for name in ["../evil.js", "a/../../evil.js", "/etc/evil", "a\\..\\..\\evil.js"] {
        let zip = packages::zip(&[("index.js", ""), (name, "")]);
        let message = daemon.http.upload(&zip).refused(400, "invalid-package");
        assert!(message.contains("evil"), "{name}: {message}");
    }
    still_well(&daemon);
}

#[test]
fn symbolic_links() {
    let daemon = Daemon::start();
    for target in ["/etc/passwd", "index.js"] {
        let zip = packages::with_symlink("sly.js", target);
        let message = daemon.http.upload(&zip).refused(400, "invalid-package");
        assert!(message.contains("sly.js"), "{message}");
    }
    still_well(&daemon);
}

#[test]
fn a_zip_bomb_and_the_unpacked_limit() {
    let daemon = Daemon::start();
    let message = daemon.http.upload(&packages::bomb(251)).refused(413, "package-too-large");
    assert!(message.contains("262144000"), "names the limit: {message}");
    // Just below the limit is fine.
    assert_eq!(daemon.http.upload(&packages::bomb(249)).status, 201);
    still_well(&daemon);
}

#[test]
fn an_upload_over_the_packed_limit_is_refused_before_it_is_sent() {
    let daemon = Daemon::start();
    let mut stream = daemon.http.connect();
    let announced = 100 * 1024 * 1024 + 1;
    write!(
        stream,
        "POST /v1/namespaces/default/packages HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\
         expect: 100-continue\r\ncontent-type: application/zip\r\ncontent-length: {announced}\r\n\r\n"
    )
    .unwrap();
    let mut answer = vec![0; 12];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(String::from_utf8_lossy(&answer), "HTTP/1.1 413");
    still_well(&daemon);
}

#[test]
fn the_command_line_refuses_what_is_too_large_before_the_upload() {
    let daemon = Daemon::start();
    let dir = tempfile::tempdir().unwrap();
    packages::write(dir.path(), &[("index.js", "exports.handler = 1")]);
    let big = std::fs::File::create(dir.path().join("big.bin")).unwrap();
    big.set_len(260 << 20).unwrap();
    let refused = daemon.cli(&["deploy", dir.path().to_str().unwrap(), "--name", "big"]);
    assert_eq!(refused.code, 2, "{refused:?}");
    assert!(
        refused.err.contains("big.bin") && refused.err.contains("package-too-large"),
        "{refused:?}"
    );
}
