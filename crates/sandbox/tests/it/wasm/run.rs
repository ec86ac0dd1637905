//! Commands: how they end, what they answer, where their code lies.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use model::clock::SystemClock;
use model::function::{CodeRef, FunctionConfig, Version};
use model::ids::RequestId;
use model::invocation::{Failure, FailureKind, Outcome};
use model::ports::{Instance, Sandbox, StartFailed};
use sandbox::{ProcessSandbox, Sandboxes, WasmConfig};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use super::guests::Guest;
use crate::support::{self, MemoryLogs, World, invocation, vault, zip_of};
use crate::{Place, Test};

/// Time for a call that is expected to answer.
pub(super) const AMPLE: Duration = Duration::from_secs(20);

pub(super) fn tests() -> Vec<Test> {
    macro_rules! tests {
        ($($name:ident,)*) => {
            vec![$(Test {
                name: concat!("wasm::", stringify!($name)).into(),
                place: Place::Shared,
                run: Box::new(|world| Box::pin(async move { $name(&world).await })),
            },)*]
        };
    }
    tests![
        exits,
        a_trap_says_what_it_was_and_what_was_printed_last,
        answers_that_are_no_json_are_text,
        code_is_compiled_once_and_found_again,
        spoiled_code_is_compiled_again,
        bad_code_is_refused_before_it_is_deployed,
        links_in_a_package_lead_nowhere,
        many_calls_at_once_are_all_served,
    ]
}

/// One for all tests, beside the processes of the world.
pub(crate) async fn sandboxes(world: &World) -> Arc<Sandboxes> {
    static ONE: OnceCell<Arc<Sandboxes>> = OnceCell::const_new();
    let cache = world.folder.path().join("wasm");
    let one = ONE.get_or_init(async || open(world, &cache).await);
    Arc::clone(one.await)
}

/// With its compiled code in this folder.
pub(super) async fn open(world: &World, cache: &std::path::Path) -> Arc<Sandboxes> {
    open_with(world, cache, Duration::from_secs(120)).await
}

/// And with so much time for its compiler.
pub(super) async fn open_with(
    world: &World,
    cache: &std::path::Path,
    compile_time_limit: Duration,
) -> Arc<Sandboxes> {
    let (cache_dir, compiler) = (cache.to_owned(), "/proc/self/exe".into());
    let config = WasmConfig { cache_dir, compiler, compile_time_limit };
    over(world.sandbox.clone(), config, world.logs.clone()).await
}

/// Beside these processes.
pub(crate) async fn over(
    processes: Arc<ProcessSandbox>,
    config: WasmConfig,
    logs: Arc<MemoryLogs>,
) -> Arc<Sandboxes> {
    let all = Sandboxes::new(processes, config, logs, vault(), Arc::new(SystemClock)).await;
    assert!(all.isolation().has("wasm"), "{:?}", all.isolation());
    all
}

/// A package of a module in text.
pub(super) fn module(text: &str) -> Bytes {
    zip_of(&[("guest.wasm", &wat::parse_str(text).expect("the test's own module"))])
}

/// A version of a package, with so much memory.
pub(crate) async fn version(sandbox: &Sandboxes, package: Bytes, memory_mb: u32) -> Version {
    let size_bytes = package.len() as u64;
    let info = sandbox.check_package(package).await.unwrap();
    Version {
        key: model::ids::FunctionRef::parse("default", &format!("f{}", RequestId::generate()))
            .unwrap()
            .key,
        number: None,
        config: FunctionConfig { memory_mb, ..FunctionConfig::new("wasm", "guest.wasm") },
        code: CodeRef { digest: info.digest, size_bytes, unpacked_bytes: info.unpacked_bytes },
        layers: Vec::new(),
        runtime: sandbox.resolve_runtime("wasm").unwrap(),
        modified_at: model::clock::UnixMillis(0),
    }
}

/// An instance of a version.
pub(crate) async fn start(
    sandbox: &Sandboxes,
    version: Version,
) -> Result<Box<dyn Instance>, StartFailed> {
    sandbox.prepare(Arc::new(version)).await.unwrap().start().await
}

/// Runs one call of a package with 64 MiB.
pub(super) async fn once(world: &World, package: Bytes, event: &Value, time: Duration) -> Outcome {
    let sandbox = sandboxes(world).await;
    let version = version(&sandbox, package, 64).await;
    let mut instance = start(&sandbox, version).await.unwrap();
    support::run(&mut *instance, &invocation(event.to_string(), time)).await
}

/// The failure's kind and words.
pub(super) fn told(outcome: Outcome) -> (FailureKind, String) {
    let Failure { kind, payload } = outcome.result.expect_err("it fails");
    (kind, String::from_utf8(payload.to_vec()).unwrap())
}

/// A command whose `_start` is this.
pub(super) fn command(body: &str) -> Bytes {
    module(&format!(
        r#"(module
            (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
            (import "wasi_snapshot_preview1" "fd_write"
                (func $write (param i32 i32 i32 i32) (result i32)))
            (memory (export "memory") 1)
            (data (i32.const 16) "said and done\n")
            (func $say (param $fd i32)
                (i32.store (i32.const 0) (i32.const 16))
                (i32.store (i32.const 4) (i32.const 14))
                (drop (call $write (local.get $fd) (i32.const 0) (i32.const 1) (i32.const 8))))
            (func (export "_start") {body}))"#
    ))
}

async fn exits(world: &World) {
    let exit = |code: u32| command(&format!("(call $exit (i32.const {code}))"));
    let well = once(world, exit(0), &json!(1), AMPLE).await;
    assert_eq!(well.result.unwrap(), "null");
    for code in [1, 77] {
        let (kind, words) = told(once(world, exit(code), &json!(1), AMPLE).await);
        assert_eq!(kind, FailureKind::Exited, "{words}");
        assert!(words.contains(&format!("exit status {code}")), "{words}");
    }
    // Its own error, in the form of errors.
    let event = json!({"op": "throw", "text": "no more"});
    let (kind, words) = told(once(world, Guest::Command.package(), &event, AMPLE).await);
    assert!(kind == FailureKind::Handler && words.contains("no more"), "{kind:?} {words}");
}

async fn a_trap_says_what_it_was_and_what_was_printed_last(world: &World) {
    let trap = command("(call $say (i32.const 2)) unreachable");
    let (kind, words) = told(once(world, trap, &json!(1), AMPLE).await);
    assert_eq!(kind, FailureKind::Exited);
    assert!(words.contains("unreachable") && words.contains("said and done"), "{words}");
}

async fn answers_that_are_no_json_are_text(world: &World) {
    let outcome = once(world, command("(call $say (i32.const 1))"), &json!(1), AMPLE).await;
    assert_eq!(outcome.result.unwrap(), "\"said and done\"");
    assert_eq!(outcome.memory_peak_bytes, Some(64 << 10));
}

/// Files of compiled code, with when they were made.
fn compiled(cache: &std::path::Path) -> Vec<(std::path::PathBuf, std::time::SystemTime)> {
    let mut found = Vec::new();
    let mut folders = vec![cache.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
            match entry.path().is_dir() {
                true => folders.push(entry.path()),
                false => {
                    found.push((entry.path(), entry.metadata().unwrap().modified().unwrap()));
                }
            }
        }
    }
    found
}

async fn code_is_compiled_once_and_found_again(world: &World) {
    let cache = world.folder.path().join("wasm-once");
    let sandbox = open(world, &cache).await;
    let version = version(&sandbox, command("nop"), 64).await;
    sandbox.check_code(&version).await.unwrap();
    let made = compiled(&cache);
    assert_eq!(made.len(), 1, "{made:?}");
    drop(sandbox);
    let older = cache.join("of-an-older-release");
    std::fs::create_dir(&older).unwrap();
    let sandbox = open(world, &cache).await;
    drop(start(&sandbox, version.clone()).await.unwrap());
    assert_eq!(compiled(&cache), made, "it was compiled again");
    assert!(!older.exists(), "what no release reads any more is removed");
    sandbox.forget_package(&version.code.digest).await;
    assert_eq!(compiled(&cache), []);
}

async fn spoiled_code_is_compiled_again(world: &World) {
    let cache = world.folder.path().join("wasm-spoiled");
    let sandbox = open(world, &cache).await;
    let version = version(&sandbox, command("nop"), 64).await;
    sandbox.check_code(&version).await.unwrap();
    let (file, _) = compiled(&cache).pop().unwrap();
    for spoiled in [&b""[..], b"\x7fELF and no more", b"\0asm\x01\0\0\0"] {
        std::fs::write(&file, spoiled).unwrap();
        let mut instance = start(&sandbox, version.clone()).await.unwrap();
        let outcome = support::run(&mut *instance, &invocation("1".into(), AMPLE)).await;
        assert_eq!(outcome.result.unwrap(), "null");
    }
}

async fn bad_code_is_refused_before_it_is_deployed(world: &World) {
    let sandbox = sandboxes(world).await;
    let checked = async |package: Bytes| {
        let version = version(&sandbox, package, 64).await;
        match sandbox.check_code(&version).await {
            Err(StartFailed::Function(Failure { kind, payload })) => {
                assert_eq!(kind, FailureKind::Init);
                String::from_utf8(payload.to_vec()).unwrap()
            }
            other => panic!("{other:?}"),
        }
    };
    let words =
        checked(zip_of(&[("guest.wasm", b"\0asm\x01\0\0\0\x01\xff\xff\xff\xff\x0f")])).await;
    assert!(words.contains("cannot be compiled"), "{words}");
    // Valid in form, wrong in type.
    let mistyped =
        "(module (func (export \"_start\") (drop (i32.add (i64.const 1) (i32.const 1)))))";
    let words = checked(module(mistyped)).await;
    assert!(words.contains("type mismatch"), "{words}");
    let words = checked(zip_of(&[("guest.wasm", &[0; 65 << 20])])).await;
    assert!(words.contains("too large"), "{words}");
}

async fn links_in_a_package_lead_nowhere(world: &World) {
    let sandbox = sandboxes(world).await;
    let secret = world.folder.path().join("secret.wasm");
    std::fs::write(&secret, wat::parse_str("(module (func (export \"_start\")))").unwrap())
        .unwrap();
    let outside = secret.to_string_lossy().into_owned();
    for handler in [outside.as_str(), "../../../../secret.wasm", "sub/../../guest.wasm", "sub"] {
        let package = zip_of(&[("sub/guest.wasm", b"")]);
        let mut version = version(&sandbox, package, 64).await;
        handler.clone_into(&mut version.config.handler);
        match sandbox.check_code(&version).await {
            Err(StartFailed::Function(failure)) => {
                let words = String::from_utf8_lossy(&failure.payload);
                assert!(words.contains("is not in the package"), "{words}");
            }
            other => panic!("{handler}: {other:?}"),
        }
    }
}

async fn many_calls_at_once_are_all_served(world: &World) {
    let sandbox = sandboxes(world).await;
    let version = version(&sandbox, Guest::Command.package(), 64).await;
    let image = sandbox.prepare(Arc::new(version)).await.unwrap();
    let mut instances = Vec::new();
    // More than there is room for at once.
    for _ in 0..600 {
        instances.push(image.start().await.unwrap());
    }
    let call = invocation(json!({"op": "echo", "value": 7}).to_string(), Duration::from_secs(120));
    for instance in &mut instances {
        assert!(instance.hand(&call));
    }
    for mut instance in instances {
        let returned = &mut |_: &[RequestId]| {};
        let patience = model::ports::Patience { limit: Duration::MAX, returned };
        match instance.outcome(patience).await {
            model::ports::Turn::Over(outcome) => assert_eq!(outcome.result.unwrap(), "7"),
            streams @ model::ports::Turn::Streams { .. } => panic!("{streams:?}"),
        }
    }
}
