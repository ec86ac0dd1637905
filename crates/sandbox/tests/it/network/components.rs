//! What components reach by `wasi:http`: the daemon opens their connections, so its own network is what they must not have.

use std::time::Duration;

use model::invocation::{FailureKind, Outcome};
use model::network::NetworkPolicy;
use model::ports::Instance;
use sandbox::Sandboxes;
use serde_json::{Value, json};

use super::topology::{DATABASE, HOST, HOST_PORT, INTERNET, OTHER_DATABASE, PRIVATE, RESOLVER};
use crate::support::{self, invocation};
use crate::wasm::{Guest, start, version};

/// Time for a call that answers.
const AMPLE: Duration = Duration::from_secs(20);
/// Time for a call that is not to answer.
const SHORT: Duration = Duration::from_millis(700);
/// How long after its deadline a call may take until it is gone.
const GRACE: Duration = Duration::from_secs(5);

/// An instance of the component.
pub(super) struct Component(Box<dyn Instance>);

impl Component {
    pub(super) async fn start(sandbox: &Sandboxes, policy: Value) -> Self {
        let mut version = version(sandbox, Guest::Component.package(), 64).await;
        version.config.network = serde_json::from_value::<NetworkPolicy>(policy).unwrap();
        Self(start(sandbox, version).await.unwrap())
    }

    async fn call(&mut self, path: &str, target: &str, time: Duration) -> Outcome {
        let event = json!({
            "version": "2.0", "rawPath": path, "rawQueryString": target,
            "requestContext": {"http": {"method": "GET"}},
        });
        support::run(&mut *self.0, &invocation(event.to_string(), time)).await
    }

    async fn asked(&mut self, path: &str, target: &str) -> String {
        let answer = self.call(path, target, AMPLE).await.result.unwrap();
        let answer: Value = serde_json::from_slice(&answer).unwrap();
        answer["body"].as_str().unwrap().to_owned()
    }

    /// What came of a request.
    async fn said(&mut self, target: &str) -> String {
        self.asked("/outgoing", target).await
    }

    async fn reaches(&mut self, target: &str, address: &str) {
        let said = self.said(&format!("{target}/who")).await;
        let expected = format!("status 200, {} bytes: {address}", address.len());
        assert_eq!(said, expected, "{target}");
    }

    async fn is_refused(&mut self, target: &str) {
        let said = self.said(&format!("{target}/who")).await;
        assert!(said.contains("DestinationIpProhibited"), "{target}: {said}");
    }

    async fn stop(self) {
        self.0.stop().await;
    }
}

/// With `egress`: names and addresses that are public, and nothing else.
pub(super) async fn with_egress(sandbox: &Sandboxes) {
    let policy = json!({"mode": "egress", "allow": [format!("{DATABASE}:5432"), "127.0.0.0/8"]});
    let mut component = Component::start(sandbox, policy).await;
    component.reaches(INTERNET, INTERNET).await;
    component.reaches("internet.test", INTERNET).await;
    component.reaches("INTERNET.test.:80", INTERNET).await;
    component.reaches(&format!("{DATABASE}:5432"), DATABASE).await;
    // Of several addresses the one that is allowed.
    component.reaches("both.test", INTERNET).await;
    for private in PRIVATE {
        component.is_refused(private).await;
    }
    for own in HOST {
        component.is_refused(&format!("{own}:{HOST_PORT}")).await;
    }
    for other in [
        "loopback.test:9000",
        "metadata.test",
        "127.9.9.9:9000",
        "0.0.0.0:9000",
        "[::1]:9000",
        "[::ffff:127.0.0.1]:9000",
    ] {
        component.is_refused(other).await;
    }
    // No other way of writing an address is one: these are names, and there are none such.
    for name in
        ["127.1:9000", "2130706433:9000", "0x7f000001:9000", "nobody.test", "localhost:9000"]
    {
        let said = component.said(&format!("{name}/who")).await;
        assert!(said.contains("DestinationNotFound"), "{name}: {said}");
    }
    // A name that is another address when it is asked for again: what was looked at is what is connected to.
    let mut reached = 0;
    for _ in 0..6 {
        let said = component.said("moves.test:9000/who").await;
        assert!(!said.contains("127.0.0.1"), "{said}");
        let said = component.said("moves.test/who").await;
        reached += usize::from(said.contains(INTERNET));
    }
    assert!(reached == 0 || reached == 6, "every other question has another answer: {reached}");
    // A redirect is an answer, and nobody follows it.
    let said = component.said(&format!("{INTERNET}/redirect")).await;
    assert_eq!(said, "status 302, 0 bytes: ");
    component.stop().await;
}

/// With `private`: what is named, and no name server that is not.
pub(super) async fn with_private(sandbox: &Sandboxes) {
    let allow = [format!("{DATABASE}:5432"), format!("{OTHER_DATABASE}:5432/udp")];
    let mut component = Component::start(sandbox, json!({"mode": "private", "allow": allow})).await;
    component.reaches(&format!("{DATABASE}:5432"), DATABASE).await;
    for target in [INTERNET, DATABASE, RESOLVER, &format!("{OTHER_DATABASE}:5432")] {
        component.is_refused(target).await;
    }
    let said = component.said("internet.test/who").await;
    assert!(said.contains("DnsError"), "{said}");
    component.stop().await;
}

/// Servers that want more than their share.
pub(super) async fn with_hostile_servers(sandbox: &Sandboxes) {
    let mut component = Component::start(sandbox, json!("egress")).await;
    // A body without end, of which it takes what it wants.
    let said = component.said(&format!("{INTERNET}/endless")).await;
    assert!(said.starts_with("status 200, 1"), "{said}");
    let said = component.said(&format!("{INTERNET}/fields")).await;
    assert!(said.contains("HttpProtocolError") || said.contains("HeaderSectionSize"), "{said}");
    // It speaks no TLS.
    let said = component.said(&format!("https:{INTERNET}:80/who")).await;
    assert!(said.contains("Tls"), "{said}");
    let going: usize =
        component.asked("/many", &format!("{INTERNET}/silence")).await.parse().unwrap();
    assert!((32..=64).contains(&going), "{going} requests go on at once");
    component.stop().await;
    for slow in ["drip", "silence"] {
        let mut component = Component::start(sandbox, json!("egress")).await;
        let begun = std::time::Instant::now();
        let outcome = component.call("/outgoing", &format!("{INTERNET}/{slow}"), SHORT).await;
        assert_eq!(outcome.result.unwrap_err().kind, FailureKind::Timeout, "{slow}");
        assert!(begun.elapsed() < SHORT + GRACE, "{slow}: {:?}", begun.elapsed());
        component.stop().await;
    }
    let still = still_connected();
    assert_eq!(still, 0, "connections are left");
}

/// Connections that this process still has to the server on the internet.
fn still_connected() -> usize {
    for _ in 0..50 {
        if connections() == 0 {
            return 0;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    connections()
}

fn connections() -> usize {
    // In hexadecimal, the last byte first; and the state "established".
    let table = std::fs::read_to_string("/proc/self/net/tcp").unwrap();
    table.lines().filter(|line| line.contains(" 22D8B85D:0050 01 ")).count()
}
