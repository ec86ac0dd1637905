//! Nouns → what the API shows of them.

use model::alias::Rollout;
use model::alias::rollout::Sample;
use model::api::{
    AliasView, AttachedLayerView, FunctionView, KeyView, LayerAliasMoved, LayerAliasView,
    LayerVersionView, LayerView, LogLineView, NamespaceUse, NamespaceView, NotMoved, PackageView,
    SampleView, ShiftView, UsageView, VariableView, VersionView,
};
use model::function::{CodeRef, VersionSummary, arn};
use model::ids::{AliasName, FunctionKey, Qualifier};
use model::layer::{Layer, LayerKey, LayerVersion};
use model::namespace::Namespace;
use model::ports::{LogLine, UsageRow};

use crate::auth::KeyRecord;
use crate::catalog::{AliasAt, Followers, FunctionAt, Window};

/// A namespace.
pub(super) fn namespace(namespace: Namespace, used: NamespaceUse) -> NamespaceView {
    let revision = namespace.change.as_ref().map_or(0, |change| change.revision);
    NamespaceView {
        name: namespace.name.to_string(),
        description: namespace.settings.description,
        created_at: namespace.created_at.to_string(),
        quotas: namespace.settings.quotas,
        policy: namespace.settings.policy,
        used,
        revision,
    }
}

/// A key.
pub(super) fn key(name: String, record: &KeyRecord) -> KeyView {
    KeyView {
        name,
        namespace: record.namespace.as_ref().map(ToString::to_string),
        created_at: record.created_at.map(|at| at.to_string()),
        created_by: record.created_by.clone(),
        access_key_id: record.access_key.as_ref().map(|access| access.id.clone()),
    }
}

/// What became of an alias of a layer and of the functions that follow it.
pub(super) fn layer_alias_moved(
    name: &AliasName,
    version: u64,
    followers: Followers,
) -> LayerAliasMoved {
    let Followers { moved, not_moved } = followers;
    let not_moved = not_moved
        .into_iter()
        .map(|(name, error)| NotMoved { name, why: error.message().to_owned() });
    LayerAliasMoved {
        name: name.to_string(),
        version,
        functions: moved,
        not_moved: not_moved.collect(),
    }
}

/// A layer.
pub(super) fn layer(layer: Layer) -> LayerView {
    let alias = |(name, version): (&AliasName, &u64)| LayerAliasView {
        name: name.to_string(),
        version: *version,
    };
    LayerView {
        namespace: layer.key.namespace.to_string(),
        name: layer.key.name.to_string(),
        created_at: layer.created_at.to_string(),
        latest: layer.versions.last().map(|newest| layer_version(&layer.key, newest)),
        aliases: layer.aliases.iter().map(alias).collect(),
        revision: layer.change.as_ref().map_or(0, |change| change.revision),
    }
}

/// A version of a layer.
pub(super) fn layer_version(key: &LayerKey, version: &LayerVersion) -> LayerVersionView {
    LayerVersionView {
        layer: key.name.to_string(),
        version: version.number,
        description: version.description.clone(),
        runtimes: version.runtimes.clone(),
        code: package(&version.code),
        published_at: version.published_at.to_string(),
    }
}

/// An alias, its secrets without their values; `window` is what its shift saw last.
pub(super) fn alias(at: AliasAt, window: &Window, public_url: &str) -> AliasView {
    let AliasAt { function, name, record } = at;
    let environment = record.alias.environment.iter();
    let shown = environment.map(|(key, value)| (key.clone(), VariableView::from(value))).collect();
    AliasView {
        url: url(&function, Some(&name), public_url),
        arn: arn(&function, Some(&Qualifier::Alias(name.clone()))),
        name: name.to_string(),
        function: function.name.to_string(),
        config: record.alias.with_environment(shown),
        shift: record.rollout.map(|rollout| shift(rollout, window)),
        created_at: record.created_at.to_string(),
        modified_at: record.modified_at.to_string(),
        revision: record.revision,
    }
}

fn shift(rollout: Rollout, window: &Window) -> ShiftView {
    ShiftView {
        to: rollout.to,
        before: rollout.before,
        canary: rollout.steps,
        step: rollout.step + 1,
        step_since: rollout.step_since.to_string(),
        every_ms: rollout.every_ms,
        stop_if: rollout.stop_if,
        min_calls: rollout.min_calls,
        started_at: rollout.started_at.to_string(),
        new: sample(&window.new),
        old: sample(&window.old),
    }
}

fn sample(sample: &Sample) -> SampleView {
    SampleView {
        calls: sample.calls,
        errors: sample.errors,
        p50_us: sample.durations.quantile(0.5),
        p99_us: sample.durations.quantile(0.99),
    }
}

/// Where HTTP calls a function at a qualifier.
fn url(key: &FunctionKey, qualifier: Option<&dyn std::fmt::Display>, public_url: &str) -> String {
    let (base, FunctionKey { namespace, name }) = (public_url.trim_end_matches('/'), key);
    match qualifier {
        None => format!("{base}/fn/{namespace}/{name}/"),
        Some(qualifier) => format!("{base}/fn/{namespace}/{name}:{qualifier}/"),
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
    let FunctionAt { function, version } = at;
    let qualifier = version.number.as_ref().map(|n| n as &dyn std::fmt::Display);
    let url = url(&version.key, qualifier, public_url);
    let attached = version.layers.iter().map(|layer| AttachedLayerView {
        name: layer.name.to_string(),
        version: layer.version,
        digest: layer.code.digest.to_string(),
        unpacked_bytes: layer.code.unpacked_bytes,
    });
    let layers = attached.collect();
    let environment = &version.config.environment;
    let shown = environment.iter().map(|(key, value)| (key.clone(), VariableView::from(value)));
    FunctionView {
        namespace: version.key.namespace.to_string(),
        name: version.key.name.to_string(),
        version: version.label().to_string(),
        arn: version.arn(),
        url,
        settings: function.settings,
        code: package(&version.code),
        created_at: function.created_at.to_string(),
        modified_at: version.modified_at.to_string(),
        resolved_runtime: version.runtime,
        config: version.config.with_environment(shown.collect()),
        layers,
        revision: function.revision,
    }
}

/// A published version in a listing.
pub(super) fn version((version, aliases): (VersionSummary, Vec<String>)) -> VersionView {
    VersionView {
        version: version.number,
        published_at: version.published_at.to_string(),
        size_bytes: version.size_bytes,
        aliases,
    }
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
