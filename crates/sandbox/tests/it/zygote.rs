//! Instances that are forked from a warm runtime: a function finds in one what it finds in one of its own, each is a stranger to the others and to the
//! zygote, and a zygote that dies or hangs holds nobody up.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use model::function::Version;
use model::invocation::StartPath;
use model::ports::{Instance, Sandbox as _};
use serde_json::{Value, json};

use crate::Test;
use crate::support::{World, in_runtime, invocation, ready, run, version, zip};

/// Runs what the event says.
const PYTHON: &str = "def handler(event, context):
    said = {}
    exec(event['run'], said)
    return said['said']
";
const NODE: &str =
    "exports.handler = async (event) => new Function('require', event.run)(require);";
/// Time for one call.
const AMPLE: Duration = Duration::from_secs(30);

pub(crate) fn tests() -> Vec<Test> {
    macro_rules! tests {
        ($($name:ident,)*) => {
            vec![$(Test {
                name: concat!("zygote::", stringify!($name)).into(),
                run: Box::new(|_| Box::pin(async {
                    let world = World::forked().await;
                    $name(&world).await;
                    world.end().await;
                })),
            },)*]
        };
    }
    tests![starts_of_python_are_forked, starts_of_node_are_forked,]
}

async fn function(world: &World, runtime: &str) -> Version {
    let file = if runtime.starts_with("node") { ("main.js", NODE) } else { ("main.py", PYTHON) };
    let info = world.sandbox.check_package(zip(&[file])).await.unwrap();
    let version = version(&world.sandbox, "forked", info.digest, BTreeMap::new());
    let mut version = Arc::unwrap_or_clone(in_runtime(&world.sandbox, &version, runtime));
    version.config.memory_mb = 256;
    version
}

async fn start(world: &World, version: &Version) -> (Box<dyn Instance>, StartPath) {
    let image = world.sandbox.prepare(Arc::new(version.clone())).await.unwrap();
    let instance = image.start().await.unwrap();
    let path = instance.start_timings().path;
    (instance, path)
}

/// A fresh instance that was forked.
async fn start_forked(world: &World, version: &Version) -> Box<dyn Instance> {
    ready(&world.sandbox, version).await;
    let (instance, path) = start(world, version).await;
    assert_eq!(path, StartPath::Zygote);
    instance
}

async fn ask(instance: &mut dyn Instance, event: Value) -> Value {
    let outcome = run(instance, &invocation(event.to_string(), AMPLE)).await;
    let body = outcome.result.unwrap_or_else(|f| panic!("{f:?}"));
    serde_json::from_slice(&body).unwrap()
}

async fn starts_of_python_are_forked(world: &World) {
    let look = "import os
said = [os.getpid(), os.getppid(), os.getcwd(), os.environ['AWS_LAMBDA_FUNCTION_NAME']]";
    starts_are_forked(world, "python3", look).await;
}

async fn starts_of_node_are_forked(world: &World) {
    let look =
        "return [process.pid, process.ppid, process.cwd(), process.env.AWS_LAMBDA_FUNCTION_NAME]";
    starts_are_forked(world, "nodejs", look).await;
}

async fn starts_are_forked(world: &World, runtime: &str, look: &str) {
    let version = function(world, runtime).await;
    for _ in 0..3 {
        let mut instance = start_forked(world, &version).await;
        let said = ask(&mut *instance, json!({"run": look})).await;
        assert_eq!(said, json!([2, 1, "/var/task", "forked"]));
        instance.stop().await;
    }
    let starts = world.sandbox.starts();
    assert_eq!((starts.forked, starts.executed), (3, 0));
}
