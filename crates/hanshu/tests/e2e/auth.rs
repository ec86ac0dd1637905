//! Keys: asked for without `--dev`, made once, and the dev daemon stays at home.

use serde_json::json;

use crate::harness::{Cli, Start};

#[test]
fn a_root_key_is_made_once_and_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let mut daemon = Start::with_keys().on(&data).start();
    let line = daemon.next_line().expect("the root key follows the first line");
    let key = line.strip_prefix("root key: ").unwrap_or_else(|| panic!("{line}")).to_owned();
    assert!(key.len() >= 40, "{key}");

    assert_eq!(daemon.http.get("/v1/health").status, 200);
    for (method, path) in [
        ("GET", "/v1/namespaces"),
        ("POST", "/v1/namespaces"),
        ("GET", "/v1/runtimes"),
        ("GET", "/v1/namespaces/default/functions"),
        ("PUT", "/v1/namespaces/default/functions/f"),
        ("DELETE", "/v1/namespaces/default/functions/f"),
        ("POST", "/v1/namespaces/default/functions/f/invoke"),
        ("GET", "/v1/namespaces/default/functions/f/logs"),
        ("GET", "/fn/default/f/"),
    ] {
        for http in [daemon.http.clone(), daemon.http.with_key("hsk_wrong")] {
            let reply = http.send(method, path, &[], ());
            reply.refused(401, "unauthenticated");
            assert_eq!(reply.header("www-authenticate"), Some("Bearer"), "{method} {path}");
        }
    }
    daemon.http = daemon.http.with_key(&key);
    assert_eq!(daemon.http.get("/v1/namespaces").status, 200);

    let without = daemon.cli(&["list"]);
    assert_eq!(without.code, 2);
    assert!(without.err.contains("HANSHU_KEY") || without.err.contains("--key"), "{without:?}");
    daemon.cli(&["list", "--key", &key]).ok();
    Cli::run(daemon.command(&["list"]).env("HANSHU_KEY", &key)).ok();

    // The second start makes no key, and the first one's still opens.
    daemon.stop();
    let again = Start::with_keys().on(&data).start();
    assert_eq!(again.next_line(), None);
    assert_eq!(again.http.with_key(&key).get("/v1/namespaces").status, 200);
    assert_eq!(again.http.get("/v1/namespaces").status, 401);
}

#[test]
fn a_function_url_is_open_only_when_its_owner_says_so() {
    let mut daemon = Start::with_keys().start();
    let line = daemon.next_line().unwrap();
    let key = line.strip_prefix("root key: ").unwrap().to_owned();
    let open = daemon.http.clone();
    daemon.http = daemon.http.with_key(&key);
    let code = "exports.handler = async (event) => ({ statusCode: 200, body: JSON.stringify(event.headers.authorization ?? null) });";
    daemon.node("f", code, &json!({}));
    assert_eq!(open.get("/fn/default/f/").status, 401);
    let reply = daemon.http.get("/fn/default/f/");
    assert_eq!(
        (reply.status, reply.json()),
        (200, json!(null)),
        "the key is not the function's business"
    );
    daemon.cli(&["config", "set", "f", "url_auth=none", "--key", &key]).ok();
    assert_eq!(open.get("/fn/default/f/").status, 200);
    let own = open.with_key("a token of the function's own").get("/fn/default/f/");
    assert_eq!(own.json(), "Bearer a token of the function's own");
}

#[test]
fn a_dev_daemon_listens_on_loopback_only() {
    let dir = tempfile::tempdir().unwrap();
    for address in ["0.0.0.0:0", "[::]:0", "192.168.1.1:9000"] {
        let data = dir.path().join("data");
        let args = ["serve", "--dev", "--data", data.to_str().unwrap(), "--listen", address];
        let refused = Cli::run(&mut crate::harness::hanshu(&args));
        assert_eq!(refused.code, 2, "{refused:?}");
        assert!(refused.err.contains("loopback") && refused.out.is_empty(), "{refused:?}");
        assert!(!data.exists(), "nothing was made");
    }
}

#[test]
fn a_web_page_of_somebody_elses_cannot_use_a_dev_daemon() {
    let daemon = Start::dev().start();
    for headers in [
        [("host", "evil.example"), ("x-any", "1")],
        [("origin", "https://evil.example"), ("x-any", "1")],
    ] {
        let reply = daemon.http.send("GET", "/v1/namespaces", &headers, ());
        assert!((400..500).contains(&reply.status), "{headers:?}: {}", reply.text());
    }
}

#[test]
fn two_daemons_do_not_share_a_data_folder() {
    let daemon = Start::dev().start();
    let refused = Cli::run(&mut Start::dev().command(&daemon.data));
    assert_ne!(refused.code, 0, "{refused:?}");
    assert!(
        refused.err.contains("lock")
            || refused.err.contains("in use")
            || refused.err.contains("another"),
        "{refused:?}"
    );
    assert_eq!(daemon.http.get("/v1/health").status, 200);
}
