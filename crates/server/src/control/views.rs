//! Nouns → what the API shows of them.

use model::api::{
    FunctionView, LogLineView, NamespaceView, PackageView, UsageView, VariableView, VersionView,
};
use model::function::{CodeRef, Namespace, VersionSummary};
use model::ports::{LogLine, UsageRow};

use crate::catalog::FunctionAt;

/// A namespace.
pub(super) fn namespace(namespace: Namespace) -> NamespaceView {
    NamespaceView {
        name: namespace.name.to_string(),
        description: namespace.description,
        created_at: namespace.created_at.to_string(),
        max_instances: namespace.max_instances,
    }
}

/// A package.
pub(super) fn package(code: &CodeRef) -> PackageView {
    PackageView {
        digest: code.digest.to_string(),
        size_bytes: code.size_bytes,
        unpacked_bytes: code.unpacked_bytes,
    }
}

/// A function at a version, its secrets without their values. `public_url` is where clients reach the server.
pub(super) fn function(at: FunctionAt, public_url: &str) -> FunctionView {
    let FunctionAt { function, version, revision } = at;
    let (namespace, name) = (&version.key.namespace, &version.key.name);
    let url = match version.number {
        None => format!("{}/fn/{namespace}/{name}/", public_url.trim_end_matches('/')),
        Some(n) => format!("{}/fn/{namespace}/{name}:{n}/", public_url.trim_end_matches('/')),
    };
    let environment = &version.config.environment;
    let shown = environment.iter().map(|(key, value)| (key.clone(), VariableView::from(value)));
    FunctionView {
        namespace: namespace.to_string(),
        name: name.to_string(),
        version: version.label().to_string(),
        arn: version.arn(),
        url,
        settings: function.settings,
        code: package(&version.code),
        created_at: function.created_at.to_string(),
        modified_at: version.modified_at.to_string(),
        resolved_runtime: version.runtime,
        config: version.config.with_environment(shown.collect()),
        revision,
    }
}

/// A published version in a listing.
pub(super) fn version(version: &VersionSummary) -> VersionView {
    VersionView { version: version.number, published_at: version.published_at.to_string() }
}

/// A log line.
pub(super) fn log_line(line: LogLine) -> LogLineView {
    LogLineView {
        time: line.time.to_string(),
        version: line.version.to_string(),
        request_id: line.request.map(|id| id.to_string()),
        stream: line.stream,
        text: line.text,
    }
}

/// The use of a version in a minute.
pub(super) fn usage(row: &UsageRow) -> UsageView {
    UsageView { version: row.version.to_string(), minute: row.minute.to_string(), sums: row.sums }
}
