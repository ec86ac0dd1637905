//! The clients: each changes one document for as long as the daemon lives, and knows how it has to look by its history.

use std::time::Duration;

use serde_json::{Value, json};

use super::{Dice, Gone, Log, items};
use crate::harness::http::Http;
use crate::harness::{eventually, packages};

const CODE: &str = "exports.handler = async () => process.env.AWS_LAMBDA_FUNCTION_VERSION;";
/// Beyond so many versions, some are deleted.
const VERSIONS: usize = 8;

const FUNCTIONS: &str = "/v1/namespaces/default/functions";
const ROUTED: &str = "/v1/namespaces/default/functions/routed";
const REBORN: &str = "/v1/namespaces/default/functions/reborn";
const FOLLOWER: &str = "/v1/namespaces/default/functions/follower";
const LAYER: &str = "/v1/namespaces/default/layers/shared";
const TEAM: &str = "/v1/namespaces/team";

/// One who changes a document.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) log: Log,
    dice: Dice,
    /// Digest of the package that it deploys.
    code: Value,
    change: fn(&mut Client, &Http, &str) -> Result<(), Gone>,
    looks_wrong: fn(&Http, &[Value]) -> Option<String>,
}

impl Client {
    /// Makes one change.
    pub(super) fn step(&mut self, http: &Http) -> Result<(), Gone> {
        let reason = self.log.next();
        (self.change)(self, http, &reason)
    }

    /// In what the document is not as its history, oldest first, says.
    pub(super) fn looks_wrong(&self, http: &Http, changes: &[Value]) -> Option<String> {
        (self.looks_wrong)(http, changes)
    }

    fn send(
        &mut self,
        http: &Http,
        reason: &str,
        request: (&str, &str),
        body: &Value,
    ) -> Result<(), Gone> {
        self.log.change(http, reason, request, body.to_string()).map(drop)
    }

    fn request(&mut self, http: &Http, reason: &str, request: (&str, &str)) -> Result<(), Gone> {
        self.log.change(http, reason, request, "").map(drop)
    }

    fn version(&mut self, http: &Http) -> Result<(Option<u64>, usize), Gone> {
        let path = format!("{}/versions?limit=500", self.log.path);
        let page = http.try_send("GET", &path, &[], ()).map_err(|_| Gone)?.json();
        let versions: Vec<u64> = page["items"].as_array().map(|v| numbers(v)).unwrap_or_default();
        Ok((self.dice.pick(&versions).copied(), versions.len()))
    }
}

/// The clients, with what they work with: a package, a namespace, a function that follows a layer.
pub(super) fn all(http: &Http, seed: u64) -> Vec<Client> {
    let code = http.upload(&packages::zip(&[("index.js", CODE)])).json()["digest"].clone();
    let mut published = Log::of(LAYER);
    let reason = published.next();
    let zip = packages::zip(&[("number", "0")]);
    assert!(published.change(http, &reason, ("POST", "/versions?description=0"), zip).is_ok());
    let reason = published.next();
    assert!(
        published.change(http, &reason, ("PUT", "/aliases/stable"), r#"{"version":1}"#).is_ok()
    );
    let follower = json!({ "config": config("follows", &["shared:stable"]), "code": code });
    assert_eq!(http.json("PUT", FOLLOWER, &follower).status, 201);
    let mut team = Log::of(TEAM);
    let reason = team.next();
    let headers = [("x-hanshu-reason", reason.as_str()), ("content-type", "application/json")];
    let made = http.send("POST", "/v1/namespaces", &headers, r#"{"name":"team"}"#);
    assert_eq!(made.status, 201, "{made:?}");
    team.acknowledged.push(reason);
    let client = |log, at: u64, change, looks_wrong| Client {
        log,
        dice: Dice(seed.wrapping_mul(2 * at + 3) | 1),
        code: code.clone(),
        change,
        looks_wrong,
    };
    vec![
        client(Log::of(ROUTED), 1, route, routed_wrong),
        client(Log::of(REBORN), 2, rebear, reborn_wrong),
        client(published, 3, layer, layer_wrong),
        client(team, 4, limit, limits_wrong),
    ]
}

fn config(description: &str, layers: &[&str]) -> Value {
    json!({
        "runtime": "nodejs20", "handler": "index.handler", "timeout_ms": 20_000, "description": description,
        "layers": layers
    })
}

/// Deploys, publishes, deletes versions; sets, shifts and rolls back an alias.
fn route(client: &mut Client, http: &Http, reason: &str) -> Result<(), Gone> {
    let deploy = json!({ "config": config(reason, &[]), "code": client.code });
    let (Some(version), count) = client.version(http)? else {
        let publish =
            json!({ "config": config(reason, &[]), "code": client.code, "publish": true });
        return client.send(http, reason, ("PUT", ""), &publish);
    };
    if count > VERSIONS {
        return client.request(http, reason, ("DELETE", &format!("/versions/{version}")));
    }
    let to = version.to_string();
    let shift = json!({ "to": to, "every_ms": 1_000, "canary": ["40%", "100%"], "min_calls": 1 });
    match client.dice.roll(9) {
        0 => client.send(http, reason, ("PUT", ""), &deploy),
        1 => client.send(http, reason, ("PATCH", "/config"), &json!({ "description": reason })),
        2 | 3 => {
            client.request(http, reason, ("POST", "/versions"))?;
            // $LATEST may be a version already.
            client.log.ask(http)
        }
        4 => {
            let put = json!({ "version": to, "description": reason });
            client.send(http, reason, ("PUT", "/aliases/live"), &put)
        }
        5 => client.send(http, reason, ("PUT", "/aliases/live/shift"), &shift),
        6 => client.request(http, reason, ("DELETE", "/aliases/live/shift")),
        7 => {
            let path = "/aliases/live/rollback";
            let reply = client.log.change(http, reason, ("POST", path), "{}");
            // Where it goes back to may be where it is; nothing is before its making.
            if reply?.status == 200 { client.log.ask(http) } else { Ok(()) }
        }
        _ => client.request(http, reason, ("DELETE", &format!("/versions/{version}"))),
    }
}

fn routed_wrong(http: &Http, changes: &[Value]) -> Option<String> {
    let Some(function) = newest(changes, |c| c["of"] != "live" && c["what"] != "delete") else {
        return (http.get(ROUTED).status != 404).then(|| "it is there".to_owned());
    };
    let view = http.get(ROUTED).json();
    let after = &after(http, ROUTED, function)["config"]["description"];
    if view["config"]["description"] != *after {
        return Some(format!("{view} instead of {after}"));
    }
    let alias = http.get(&format!("{ROUTED}/aliases/live"));
    let alias = if alias.status == 404 { json!(null) } else { alias.json() };
    let state = newest(changes, |c| c["of"] == "live");
    let state = state.map_or(json!(null), |change| {
        let state = self::after(http, ROUTED, change);
        json!([change["revision"], state["targets"], state["description"], state["shift"]["to"]])
    });
    let shown = match &alias {
        Value::Null => json!(null),
        alias => {
            json!([alias["revision"], alias["targets"], alias["description"], alias["shift"]["to"]])
        }
    };
    if shown != state {
        return Some(format!("{shown} instead of {state}"));
    }
    versions_wrong(http, ROUTED, changes)
}

/// Creates a function, publishes it, and deletes it again.
fn rebear(client: &mut Client, http: &Http, reason: &str) -> Result<(), Gone> {
    let there = http.try_send("GET", REBORN, &[], ()).map_err(|_| Gone)?.status == 200;
    let put = json!({ "config": config(reason, &[]), "code": client.code, "publish": true });
    match (there, client.dice.roll(2)) {
        (true, 0) => client.request(http, reason, ("DELETE", "")),
        _ => client.send(http, reason, ("PUT", ""), &put),
    }
}

fn reborn_wrong(http: &Http, changes: &[Value]) -> Option<String> {
    let last = changes.last();
    let there = last.is_some_and(|change| change["what"] != "delete");
    let view = http.get(REBORN);
    if !there {
        return (view.status != 404).then(|| format!("it is there: {view:?}"));
    }
    let born = changes.iter().rposition(|change| change["what"] == "create").unwrap();
    let (view, last) = (view.json(), last.unwrap());
    if view["revision"] != last["revision"] || view["config"]["description"] != last["reason"] {
        return Some(format!("{view} instead of {last}"));
    }
    // Numbers go on where the one before it stopped.
    let published: Vec<u64> = changes.iter().filter_map(number).collect();
    if !published.iter().copied().eq(1..=published.len() as u64) {
        return Some(format!("{published:?} have gaps"));
    }
    let listed = numbers(&items(http, &format!("{REBORN}/versions")));
    let own: Vec<u64> = changes[born..].iter().filter_map(number).collect();
    (listed != own).then(|| format!("{listed:?} instead of {own:?}"))
}

/// Publishes and deletes versions of a layer, and moves its alias, which a function follows.
fn layer(client: &mut Client, http: &Http, reason: &str) -> Result<(), Gone> {
    let (version, count) = client.version(http)?;
    let version = version.unwrap_or(1);
    match client.dice.roll(4) {
        0 | 1 if count <= VERSIONS => {
            let zip = packages::zip(&[("number", reason)]);
            client.log.change(http, reason, ("POST", "/versions?description=x"), zip).map(drop)
        }
        2 => client.request(http, reason, ("DELETE", &format!("/versions/{version}"))),
        _ => {
            client.send(
                http,
                reason,
                ("PUT", "/aliases/stable"),
                &json!({ "version": version }),
            )?;
            // It may point there already.
            client.log.ask(http)
        }
    }
}

fn layer_wrong(http: &Http, changes: &[Value]) -> Option<String> {
    let view = http.get(LAYER).json();
    let last = &changes.last().unwrap()["revision"];
    if view["revision"] != *last {
        return Some(format!("{view} is not at {last}"));
    }
    let moved = newest(changes, |c| c["of"] == "stable").unwrap();
    let points = &view["aliases"][0]["version"];
    if after(http, LAYER, moved)["alias"] != *points {
        return Some(format!("{view} is not as after {moved}"));
    }
    versions_wrong(http, LAYER, changes)
}

/// Changes the quotas of a namespace.
fn limit(client: &mut Client, http: &Http, reason: &str) -> Result<(), Gone> {
    let functions = client.dice.roll(1_000);
    let patch = json!({ "description": reason, "quotas": { "functions": functions } });
    client.send(http, reason, ("PATCH", ""), &patch)
}

fn limits_wrong(http: &Http, changes: &[Value]) -> Option<String> {
    let view = http.get(TEAM).json();
    let last = changes.last().unwrap();
    let state = after(http, TEAM, last);
    let as_told = view["revision"] == last["revision"]
        && view["description"] == state["description"]
        && view["quotas"] == state["quotas"];
    (!as_told).then(|| format!("{view} instead of {state}"))
}

/// How something was after a change.
fn after(http: &Http, path: &str, change: &Value) -> Value {
    http.get(&format!("{path}/history/{}", change["revision"])).json()["after"].clone()
}

fn newest(changes: &[Value], of: impl Fn(&Value) -> bool) -> Option<&Value> {
    changes.iter().rev().find(|change| of(change))
}

/// The version that a change was of.
fn number(change: &Value) -> Option<u64> {
    change["of"].as_str()?.parse().ok()
}

fn numbers(versions: &[Value]) -> Vec<u64> {
    versions.iter().map(|version| version["version"].as_u64().unwrap()).collect()
}

/// Those published have no gaps, and those listed are those published and not deleted.
fn versions_wrong(http: &Http, path: &str, changes: &[Value]) -> Option<String> {
    let deletes = |change: &&Value| change["what"] == "delete";
    let published: Vec<u64> = changes.iter().filter(|c| !deletes(c)).filter_map(number).collect();
    let deleted: Vec<u64> = changes.iter().filter(deletes).filter_map(number).collect();
    if !published.iter().copied().eq(1..=published.len() as u64) {
        return Some(format!("{published:?} have gaps"));
    }
    let left: Vec<u64> = published.into_iter().filter(|n| !deleted.contains(n)).collect();
    let listed = numbers(&items(http, &format!("{path}/versions")));
    (listed != left).then(|| format!("{listed:?} instead of {left:?}"))
}

/// The newest version of a function can be called, and every one of its own and of the layer can be downloaded.
pub(super) fn code_is_there(http: &Http) {
    let listed = numbers(&items(http, &format!("{ROUTED}/versions")));
    let ours = listed.iter().map(|number| format!("{ROUTED}/code?qualifier={number}"));
    let layers = numbers(&items(http, &format!("{LAYER}/versions")));
    let layers = layers.iter().map(|number| format!("{LAYER}/versions/{number}/code"));
    for path in ours.chain(layers) {
        assert_eq!(http.get(&path).status, 200, "{path}");
    }
    if let Some(newest) = listed.last() {
        let called = http.invoke(&format!("routed?qualifier={newest}"), b"{}", &[]);
        assert_eq!(called.result(), newest.to_string());
    }
}

/// Every listed version can be called, and the follower has what its layer's alias leads to.
pub(super) fn every_version_is_there(http: &Http) {
    for name in ["routed", "reborn"] {
        for number in numbers(&items(http, &format!("{FUNCTIONS}/{name}/versions"))) {
            let called = http.invoke(&format!("{name}?qualifier={number}"), b"{}", &[]);
            assert_eq!(called.result(), number.to_string());
        }
    }
    code_is_there(http);
    let points = http.get(LAYER).json()["aliases"][0]["version"].clone();
    eventually("the function follows its layer", Duration::from_secs(10), || {
        (http.get(FOLLOWER).json()["layers"][0]["version"] == points).then_some(())
    });
}
