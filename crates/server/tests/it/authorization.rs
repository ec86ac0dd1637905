//! Who may do what: every operation of the document is tried without a key and with a wrong one.

use server::auth::ensure_root_key;

use crate::contract::{document, operations};
use crate::world::World;

/// Operations that ask for no key.
const OPEN: &[&str] = &["GET /v1/health", "GET /v1/openapi.json"];

/// The path with something in the place of every parameter.
pub(crate) fn concrete(path: &str, namespace: &str) -> String {
    let concrete = [
        ("{namespace}", namespace),
        ("{function}", "hello"),
        ("{path}", "a/b"),
        ("{alias}", "live"),
        ("{qualifier}", "live"),
        ("{version}", "1"),
        ("{layer}", "numpy"),
        ("{revision}", "1"),
        ("{key}", "nobody"),
        ("{call}", "01a2213c-4cce-7398-8692-487b867acce7"),
        ("{map}", "01a2213c-4cce-7398-8692-487b867acce7"),
    ]
    .into_iter()
    .fold(path.to_owned(), |path, (parameter, value)| path.replace(parameter, value));
    assert!(!concrete.contains('{'), "{concrete}");
    concrete
}

#[tokio::test]
async fn every_operation_asks_for_a_key() {
    let world = World::start().await;
    let document = document(&world).await;
    let mut open = Vec::new();
    for (method, path, operation) in operations(&document) {
        let at = format!("{method} {path}");
        let concrete = concrete(&path, "default");
        let bare = world.ask_without_key(&method, &concrete).send().await;
        if bare.status != 401 {
            open.push(at.clone());
            assert_eq!(
                operation["security"],
                serde_json::json!([{}]),
                "{at} is documented as keyed"
            );
            continue;
        }
        assert!(operation.get("security").is_none(), "{at} is documented as open");
        assert_eq!(bare.header("www-authenticate"), "Bearer", "{at}");
        if method != "HEAD" {
            bare.refused(401, "unauthenticated");
        }
        for wrong in ["Bearer hsk_wrong", "Bearer ", "Basic abc", &world.key] {
            let ask = world.ask_without_key(&method, &concrete).header("authorization", wrong);
            assert_eq!(ask.send().await.status, 401, "{at} with {wrong}");
        }
        assert_ne!(world.ask(&method, &concrete).send().await.status, 401, "{at} with the key");
    }
    assert_eq!(open, OPEN);
}

#[tokio::test]
async fn the_root_key_is_made_once_and_kept_as_a_hash_only() {
    use model::ports::Meta as _;

    let world = World::start().await;
    assert!(world.key.starts_with("hsk_") && world.key.len() == 47, "{}", world.key);
    assert!(ensure_root_key(&*world.meta).await.unwrap().is_none());
    let stored = world.meta.get("key/root").await.unwrap().unwrap();
    let stored = String::from_utf8(stored.value.to_vec()).unwrap();
    assert!(!stored.contains(&world.key), "{stored}");
    assert!(stored.contains(&model::ids::Digest::of(world.key.as_bytes()).to_string()), "{stored}");
}

#[tokio::test]
async fn dev_mode_asks_for_no_key_but_refuses_foreign_pages() {
    let world = World::dev().await;
    assert_eq!(world.ask_without_key("GET", "/v1/namespaces").send().await.status, 200);
    let foreign =
        world.ask_without_key("GET", "/v1/namespaces").header("origin", "https://a.example");
    foreign.send().await.refused(401, "unauthenticated");
    assert_eq!(world.ask_without_key("GET", "/v1/health").send().await.json()["dev"], true);
}

#[tokio::test]
async fn a_functions_url_asks_for_a_key_unless_it_is_open() {
    let world = World::start().await;
    world.function("hello", "echo.event", "").await;
    assert_eq!(world.ask_without_key("GET", "/fn/default/hello/").send().await.status, 200);

    let patch = serde_json::json!({ "url_auth": "key" });
    let path = "/v1/namespaces/default/functions/hello/config";
    assert_eq!(world.ask("PATCH", path).json(&patch).send().await.status, 200);
    let bare = world.ask_without_key("GET", "/fn/default/hello/").send().await;
    bare.refused(401, "unauthenticated");
    let keyed = world.ask("GET", "/fn/default/hello/").send().await;
    assert_eq!(keyed.status, 200);
    assert!(
        !String::from_utf8(keyed.body).unwrap().contains(&world.key),
        "the key reached the function"
    );
}
