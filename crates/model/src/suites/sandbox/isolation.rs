//! What a function cannot see, reach or change.

use std::net::TcpListener;

use serde_json::{Value, json};

use super::{Kit, answer, fails, start};
use crate::invocation::FailureKind;

pub(super) async fn the_host_cannot_be_reached(kit: &Kit) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("listen");
    let port = listener.local_addr().expect("an address").port();
    listener.set_nonblocking(true).expect("non-blocking");
    let mut instance = kit.start().await;
    fails(&mut instance, json!({"op": "connect", "port": port}), FailureKind::Handler, "").await;
    assert!(listener.accept().is_err(), "a connection arrived");
    instance.stop().await;
}

pub(super) async fn code_and_root_are_read_only(kit: &Kit) {
    let mut instance = kit.start().await;
    for path in
        ["/var/task/x", "/x", "/etc/passwd", "/var/runtime/x", "/usr/x", "/dev/x", "/proc/x"]
    {
        let event = json!({"op": "write", "path": path, "text": "x"});
        fails(&mut instance, event, FailureKind::Handler, "").await;
    }
    instance.stop().await;
}

pub(super) async fn scratch_is_private(kit: &Kit) {
    let image = kit.image().await;
    let (mut a, mut b) = (start(&*image).await, start(&*image).await);
    for instance in [&mut a, &mut b] {
        assert_eq!(answer(instance, json!({"op": "list", "path": "/tmp"})).await, json!([]));
    }
    let write = json!({"op": "write", "path": "/tmp/note", "text": "hello"});
    answer(&mut a, write).await;
    let read = json!({"op": "read", "path": "/tmp/note"});
    assert_eq!(answer(&mut a, read.clone()).await, "hello");
    fails(&mut b, read.clone(), FailureKind::Handler, "").await;
    a.stop().await;
    let mut next = start(&*image).await;
    fails(&mut next, read, FailureKind::Handler, "").await;
    b.stop().await;
    next.stop().await;
}

pub(super) async fn the_environment_is_the_functions_alone(kit: &Kit) {
    let version = kit.version_of(&kit.package).await;
    let name = version.key.name.to_string();
    let mut instance = start(&*kit.image_of(version).await).await;
    let environment = answer(&mut instance, json!({"op": "environment"})).await;
    let environment = environment.as_object().expect("an object");
    for (key, value) in [
        ("COLOUR", "blue"),
        ("AWS_LAMBDA_FUNCTION_NAME", name.as_str()),
        ("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST"),
        ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "128"),
        ("LAMBDA_TASK_ROOT", "/var/task"),
        ("_HANDLER", kit.handler),
    ] {
        assert_eq!(environment.get(key).and_then(Value::as_str), Some(value), "{key}");
    }
    // Cargo sets these for tests, so the daemon (this process) has them.
    for key in environment.keys() {
        assert!(!key.starts_with("CARGO"), "{key} is the daemon's");
    }
    instance.stop().await;
}

pub(super) async fn the_daemons_files_are_out_of_reach(kit: &Kit) {
    std::fs::read(&kit.daemon_file).expect("the daemon can read its file");
    let mut instance = kit.start().await;
    for path in [kit.daemon_file.as_str(), "/etc/shadow", "/proc/1/environ", "/proc/1/mem"] {
        fails(&mut instance, json!({"op": "read", "path": path}), FailureKind::Handler, "").await;
    }
    for (path, allowed) in [
        (
            "/",
            &[
                "bin", "dev", "etc", "lib", "lib32", "lib64", "opt", "proc", "root", "sbin", "tmp",
                "usr", "var",
            ][..],
        ),
        ("/etc", &["group", "hosts", "nsswitch.conf", "passwd", "pki", "resolv.conf", "ssl"][..]),
    ] {
        let names = answer(&mut instance, json!({"op": "list", "path": path})).await;
        for name in names.as_array().expect("a list") {
            let name = name.as_str().expect("a name");
            // Distributions keep the settings of Java there.
            let settings = path == "/etc" && name.starts_with("java");
            assert!(settings || allowed.contains(&name), "{path} holds {name}");
        }
    }
    instance.stop().await;
}
