//! A thousand functions: deployed, listed page by page, counted by the command line.

use std::collections::BTreeSet;
use std::thread;

use serde_json::{Value, json};

use crate::harness::Daemon;

const FUNCTIONS: usize = 1_000;
const WRITERS: usize = 4;

#[test]
fn a_thousand_functions_are_listed() {
    let daemon = Daemon::start();
    let code = daemon.upload(&[("index.js", "exports.handler = async (e) => e;")]);
    let body =
        json!({ "config": { "runtime": "nodejs20", "handler": "index.handler" }, "code": code });
    thread::scope(|scope| {
        for writer in 0..WRITERS {
            let (daemon, body) = (&daemon, &body);
            scope.spawn(move || {
                for n in (writer..FUNCTIONS).step_by(WRITERS) {
                    let path = format!("/v1/namespaces/default/functions/f{n:04}");
                    let reply = daemon.http.json("PUT", &path, body);
                    assert_eq!(reply.status, 201, "{}", reply.text());
                }
            });
        }
    });
    let mut names = Vec::new();
    let mut after = String::new();
    for pages in 1.. {
        let page =
            daemon.http.get(&format!("/v1/namespaces/default/functions?limit=300{after}")).json();
        let items = page["items"].as_array().unwrap();
        assert!(items.len() <= 300);
        names.extend(items.iter().map(|f| f["name"].as_str().unwrap().to_owned()));
        match &page["next"] {
            Value::Null => {
                assert_eq!(pages, 4);
                break;
            }
            next => after = format!("&after={}", next.as_str().unwrap()),
        }
    }
    assert_eq!(names.len(), FUNCTIONS);
    assert!(names.is_sorted());
    assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), FUNCTIONS);
    let listed = daemon.cli(&["list", "--output", "json"]).json();
    assert_eq!(listed.as_array().unwrap().len(), FUNCTIONS);
    assert_eq!(daemon.invoke("f0777", "[7]").result(), json!([7]));
}
