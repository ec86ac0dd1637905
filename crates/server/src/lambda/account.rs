//! What the account, which is the namespace, may use and does.

use http::StatusCode;
use model::limits;
use serde_json::json;

use super::Answer;
use super::asked::Asked;
use super::reply;

pub(super) async fn settings(asked: &Asked) -> Answer {
    let namespace = asked.app.catalog.namespace(&asked.home.namespace).await?;
    let quotas = &namespace.settings.quotas;
    let used = asked.app.engine.namespace_use(&asked.home.namespace);
    // Without a quota the host's memory is the limit: so many instances of the least size fit in.
    let host = asked.app.engine.host_memory_mb() / u64::from(limits::MEMORY_DEFAULT_MB);
    let instances = quotas.instances.map_or(host, u64::from);
    Ok(reply::json(
        StatusCode::OK,
        &json!({
            "AccountLimit": {
                "TotalCodeSize": quotas.code_bytes.unwrap_or(i64::MAX as u64),
                "CodeSizeUnzipped": limits::UNPACKED_BYTES,
                "CodeSizeZipped": limits::PACKAGE_BYTES,
                "ConcurrentExecutions": instances,
                "UnreservedConcurrentExecutions": instances.saturating_sub(used.reserved_instances),
            },
            "AccountUsage": { "TotalCodeSize": used.code_bytes, "FunctionCount": used.functions },
        }),
    ))
}
