//! Shadows with real functions: callers get one version's answers, and learn where the other's differ.

use std::time::Duration;

use serde_json::json;

use crate::harness::{Daemon, eventually};

/// Both versions say the same in other words, but for what the second does with some calls.
const CODE: &str = "exports.handler = async (event) => {
  const { name = 'you', how } = event.queryStringParameters ?? {};
  const second = process.env.AWS_LAMBDA_FUNCTION_VERSION === '2';
  if (second && how === 'fails') throw new Error('of the copy');
  if (second && how === 'hangs') await new Promise(() => setTimeout(() => {}, 60_000));
  const body = second ? { greeting: 'hello', name } : { name, greeting: 'hello' };
  if (second && how === 'differs') body.greeting = 'good day';
  return { statusCode: 200, headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) };
};";

#[test]
fn differences_are_told_and_callers_never_notice() {
    let daemon = Daemon::start();
    for release in ["1", "2"] {
        daemon.node("f", CODE, &json!({ "timeout_ms": 3_000, "environment": { "R": release } }));
        daemon.publish("f");
    }
    daemon.cli(&["alias", "set", "f:live", "--to", "1"]).ok();
    let nothing = daemon.cli(&["alias", "diff", "f:live"]);
    assert!(nothing.err.contains("nothing compared yet"), "{nothing:?}");
    let set = daemon.cli(&["alias", "shadow", "f:live", "--to", "2", "--share", "100%"]).ok();
    assert_eq!(set.trim(), "f:live: 1; shadow 2 gets 100%");
    let in_use = daemon.cli(&["versions", "delete", "f:2", "--yes"]).refused();
    assert!(in_use.contains("'live'"), "{in_use}");
    let call = |query: &str| {
        let reply = daemon.http.get(&format!("/fn/default/f:live/?{query}"));
        assert_eq!(reply.status, 200, "{reply:?}");
        assert_eq!(reply.json()["greeting"], "hello");
    };
    for n in 0..10 {
        call(&format!("name=n{n}"));
    }
    for query in ["how=differs", "how=fails", "how=hangs"] {
        call(query);
    }
    let report = eventually("all copies are compared", Duration::from_secs(30), || {
        let report = daemon.cli(&["alias", "diff", "f:live", "--output", "json"]).json();
        (report["compared"].as_u64().unwrap() + report["skipped"].as_u64().unwrap() == 13)
            .then_some(report)
    });
    assert_eq!(report["skipped"], 0, "{report}");
    assert_eq!(
        (&report["same"], &report["status"], &report["body"]),
        (&json!(10), &json!(2), &json!(1)),
        "{report}"
    );
    let text = daemon.cli(&["alias", "diff", "f:live"]).ok();
    for part in ["compared     13", "~ body.greeting: \"hello\" → \"good day\""] {
        assert!(text.contains(part), "{part}: {text}");
    }
    daemon.cli(&["alias", "shadow", "f:live", "--off"]).ok();
    call("how=differs");
    let after = daemon.cli(&["alias", "diff", "f:live", "--output", "json"]).json();
    assert_eq!(after["compared"], 13, "{after}");
    daemon.cli(&["versions", "delete", "f:2", "--yes"]).noted();
}
