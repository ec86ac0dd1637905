//! The OpenAPI document: it has every route, and every operation in it is whole.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::world::World;

/// Every operation, so that a route that comes or goes is a decision, not an accident.
const OPERATIONS: &[&str] = &[
    "DELETE /v1/keys/{key}",
    "DELETE /v1/namespaces/{namespace}",
    "DELETE /v1/namespaces/{namespace}/calls/{call}",
    "DELETE /v1/namespaces/{namespace}/functions/{function}",
    "DELETE /v1/namespaces/{namespace}/functions/{function}/aliases/{alias}",
    "DELETE /v1/namespaces/{namespace}/functions/{function}/aliases/{alias}/shadow",
    "DELETE /v1/namespaces/{namespace}/functions/{function}/aliases/{alias}/shift",
    "DELETE /v1/namespaces/{namespace}/functions/{function}/provisioned/{qualifier}",
    "DELETE /v1/namespaces/{namespace}/functions/{function}/versions/{version}",
    "DELETE /v1/namespaces/{namespace}/layers/{layer}",
    "DELETE /v1/namespaces/{namespace}/layers/{layer}/aliases/{alias}",
    "DELETE /v1/namespaces/{namespace}/layers/{layer}/versions/{version}",
    "DELETE /v1/namespaces/{namespace}/maps/{map}",
    "GET /v1/health",
    "GET /v1/keys",
    "GET /v1/namespaces",
    "GET /v1/namespaces/{namespace}",
    "GET /v1/namespaces/{namespace}/calls",
    "GET /v1/namespaces/{namespace}/calls/{call}",
    "GET /v1/namespaces/{namespace}/functions",
    "GET /v1/namespaces/{namespace}/functions/{function}",
    "GET /v1/namespaces/{namespace}/functions/{function}/aliases",
    "GET /v1/namespaces/{namespace}/functions/{function}/aliases/{alias}",
    "GET /v1/namespaces/{namespace}/functions/{function}/aliases/{alias}/shadow",
    "GET /v1/namespaces/{namespace}/functions/{function}/code",
    "GET /v1/namespaces/{namespace}/functions/{function}/diff",
    "GET /v1/namespaces/{namespace}/functions/{function}/history",
    "GET /v1/namespaces/{namespace}/functions/{function}/history/{revision}",
    "GET /v1/namespaces/{namespace}/functions/{function}/logs",
    "GET /v1/namespaces/{namespace}/functions/{function}/provisioned",
    "GET /v1/namespaces/{namespace}/functions/{function}/provisioned/{qualifier}",
    "GET /v1/namespaces/{namespace}/functions/{function}/usage",
    "GET /v1/namespaces/{namespace}/functions/{function}/versions",
    "GET /v1/namespaces/{namespace}/functions/{function}/versions/{version}",
    "GET /v1/namespaces/{namespace}/history",
    "GET /v1/namespaces/{namespace}/history/{revision}",
    "GET /v1/namespaces/{namespace}/layers",
    "GET /v1/namespaces/{namespace}/layers/{layer}",
    "GET /v1/namespaces/{namespace}/layers/{layer}/history",
    "GET /v1/namespaces/{namespace}/layers/{layer}/history/{revision}",
    "GET /v1/namespaces/{namespace}/layers/{layer}/versions",
    "GET /v1/namespaces/{namespace}/layers/{layer}/versions/{version}",
    "GET /v1/namespaces/{namespace}/layers/{layer}/versions/{version}/code",
    "GET /v1/namespaces/{namespace}/maps",
    "GET /v1/namespaces/{namespace}/maps/{map}",
    "GET /v1/namespaces/{namespace}/maps/{map}/results",
    "GET /v1/openapi.json",
    "GET /v1/runtimes",
    "PATCH /v1/namespaces/{namespace}",
    "PATCH /v1/namespaces/{namespace}/functions/{function}/config",
    "POST /v1/keys",
    "POST /v1/namespaces",
    "POST /v1/namespaces/{namespace}/calls/{call}/cancel",
    "POST /v1/namespaces/{namespace}/calls/{call}/redrive",
    "POST /v1/namespaces/{namespace}/dead-letters/purge",
    "POST /v1/namespaces/{namespace}/dead-letters/redrive",
    "POST /v1/namespaces/{namespace}/functions/{function}/aliases/{alias}/resolve",
    "POST /v1/namespaces/{namespace}/functions/{function}/aliases/{alias}/rollback",
    "POST /v1/namespaces/{namespace}/functions/{function}/invoke",
    "POST /v1/namespaces/{namespace}/functions/{function}/rollback",
    "POST /v1/namespaces/{namespace}/functions/{function}/versions",
    "POST /v1/namespaces/{namespace}/layers/{layer}/versions",
    "POST /v1/namespaces/{namespace}/maps",
    "POST /v1/namespaces/{namespace}/maps/{map}/cancel",
    "POST /v1/namespaces/{namespace}/packages",
    "PUT /v1/namespaces/{namespace}/functions/{function}",
    "PUT /v1/namespaces/{namespace}/functions/{function}/aliases/{alias}",
    "PUT /v1/namespaces/{namespace}/functions/{function}/aliases/{alias}/shadow",
    "PUT /v1/namespaces/{namespace}/functions/{function}/aliases/{alias}/shift",
    "PUT /v1/namespaces/{namespace}/functions/{function}/code",
    "PUT /v1/namespaces/{namespace}/functions/{function}/provisioned/{qualifier}",
    "PUT /v1/namespaces/{namespace}/layers/{layer}/aliases/{alias}",
];

/// Operations of the document: method, path, description.
pub(crate) fn operations(document: &Value) -> Vec<(String, String, Value)> {
    let mut found = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            if operation.get("responses").is_some() {
                found.push((method.to_uppercase(), path.clone(), operation.clone()));
            }
        }
    }
    found
}

/// The document, as it is served.
pub(crate) async fn document(world: &World) -> Value {
    let reply = world.ask_without_key("GET", "/v1/openapi.json").send().await;
    assert_eq!(reply.status, 200);
    assert_eq!(reply.header("content-type"), "application/json");
    reply.json()
}

#[tokio::test]
async fn the_document_has_every_route() {
    let document = document(&World::start().await).await;
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"), "{}", document["openapi"]);
    let found: BTreeSet<_> = operations(&document)
        .into_iter()
        .filter(|(_, path, _)| !path.starts_with("/fn/"))
        .map(|(method, path, _)| format!("{method} {path}"))
        .collect();
    let expected: BTreeSet<_> = OPERATIONS.iter().map(|o| (*o).to_owned()).collect();
    assert_eq!(found, expected);
    let url = &document["paths"]["/fn/{namespace}/{function}/{path}"];
    for method in ["get", "post", "put", "patch", "delete", "head", "options"] {
        assert!(url.get(method).is_some(), "{method}");
    }
}

#[tokio::test]
async fn every_operation_is_described() {
    let document = document(&World::start().await).await;
    let mut ids = BTreeSet::new();
    for (method, path, operation) in operations(&document) {
        let at = format!("{method} {path}");
        assert!(!operation["summary"].as_str().unwrap_or_default().is_empty(), "{at}");
        let id = operation["operationId"].as_str().unwrap().to_owned();
        assert!(ids.insert(id.clone()) || path.starts_with("/fn/"), "{id} twice");
        let responses = operation["responses"].as_object().unwrap();
        for status in ["400", "401", "404", "default"] {
            assert!(responses.contains_key(status), "{at}: no {status}");
        }
        let good = responses.keys().any(|s| s.starts_with('2')) || path.starts_with("/fn/");
        assert!(good, "{at}: no success");
        let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
        for name in path.split('{').skip(1).filter_map(|p| p.split('}').next()) {
            let described = parameters.iter().any(|p| p["name"] == name && p["in"] == "path");
            assert!(described, "{at}: {name}");
        }
    }
}

#[tokio::test]
async fn every_reference_of_the_document_leads_somewhere() {
    fn references<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
        match value {
            Value::Object(map) => {
                found.extend(map.get("$ref").and_then(Value::as_str));
                map.values().for_each(|v| references(v, found));
            }
            Value::Array(items) => items.iter().for_each(|v| references(v, found)),
            _ => {}
        }
    }
    let document = document(&World::start().await).await;
    let mut found = Vec::new();
    references(&document, &mut found);
    assert!(found.len() > 20, "{found:?}");
    for reference in found {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(document.pointer(pointer).is_some(), "{reference}");
    }
}
