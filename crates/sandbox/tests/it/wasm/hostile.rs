//! Programs that want more than their share. None of them may cost anybody else anything.

use std::time::{Duration, Instant};

use bytes::Bytes;
use model::invocation::{Failure, FailureKind};
use model::ports::{Sandbox as _, StartFailed};
use serde_json::json;

use super::guests::Guest;
use super::run::{AMPLE, command, module, once, open_with, sandboxes, start, told, version};
use crate::support::{self, World, invocation, zip_of};
use crate::{Place, Test};

/// Time for a call that is expected not to end.
const SHORT: Duration = Duration::from_millis(300);
/// How long after that it may take until it is gone.
const GRACE: Duration = Duration::from_secs(5);

pub(super) fn tests() -> Vec<Test> {
    macro_rules! tests {
        ($($name:ident,)*) => {
            vec![$(Test {
                name: concat!("wasm-hostile::", stringify!($name)).into(),
                place: Place::Shared,
                run: Box::new(|world| Box::pin(async move { $name(&world).await })),
            },)*]
        };
    }
    tests![
        those_that_spin_leave_others_their_turn,
        a_loop_at_the_beginning_ends_at_the_deadline,
        memory_ends_at_the_limit,
        a_memory_that_is_too_large_from_the_beginning_is_none,
        tables_end_at_the_limit,
        recursion_ends_in_a_trap,
        an_answer_without_end_is_too_large,
        output_without_end_is_cut,
        header_fields_end_at_a_limit,
        bodies_that_nobody_takes_end_at_a_limit,
        nothing_of_one_call_shows_to_the_next,
        forged_programs_are_refused,
        programs_that_take_for_ever_to_compile_are_cut_off,
    ]
}

/// Nobody else noticed anything.
async fn others_are_served(world: &World) {
    let event = json!({"op": "echo", "value": "here"});
    let outcome = once(world, Guest::Command.package(), &event, AMPLE).await;
    assert_eq!(outcome.result.unwrap(), "\"here\"");
}

async fn ends_at_the_deadline(world: &World, package: Bytes) {
    let begun = Instant::now();
    let (kind, words) = told(once(world, package, &json!(1), SHORT).await);
    assert_eq!(kind, FailureKind::Timeout, "{words}");
    assert!(begun.elapsed() < SHORT + GRACE + AMPLE, "{:?}", begun.elapsed());
}

async fn those_that_spin_leave_others_their_turn(world: &World) {
    let sandbox = sandboxes(world).await;
    let spin = version(&sandbox, command("(loop $for_ever (br $for_ever))"), 64).await;
    let mut spinning = Vec::new();
    for _ in 0..8 {
        let mut instance = start(&sandbox, spin.clone()).await.unwrap();
        assert!(instance.hand(&invocation("1".into(), Duration::from_secs(60))));
        spinning.push(instance);
    }
    // Every one of these takes its turn among the eight.
    for _ in 0..20 {
        others_are_served(world).await;
    }
    for instance in spinning {
        instance.stop().await;
    }
}

async fn a_loop_at_the_beginning_ends_at_the_deadline(world: &World) {
    // Before `_start`, while the instance is being made.
    let start = "(module (func $f (loop $l (br $l))) (start $f) (func (export \"_start\")))";
    ends_at_the_deadline(world, module(start)).await;
    // Where all the time goes by in single instructions.
    let fill = "(module (memory (export \"memory\") 1000) (func (export \"_start\")
        (loop $l (memory.fill (i32.const 0) (i32.const 1) (i32.const 65536000)) (br $l))))";
    ends_at_the_deadline(world, module(fill)).await;
    others_are_served(world).await;
}

async fn memory_ends_at_the_limit(world: &World) {
    // A page at a time, each touched; then it gives up.
    let grow = command(
        "(loop $more
            (if (i32.eq (memory.grow (i32.const 1)) (i32.const -1)) (then unreachable))
            (i32.store (i32.sub (i32.mul (memory.size) (i32.const 65536)) (i32.const 4)) (i32.const 1))
            (br $more))",
    );
    let outcome = once(world, grow, &json!(1), AMPLE).await;
    assert_eq!(outcome.memory_peak_bytes, Some(64 << 20));
    let (kind, words) = told(outcome);
    assert_eq!(kind, FailureKind::MemoryExceeded);
    assert!(words.contains("64 MB"), "{words}");
    others_are_served(world).await;
}

async fn a_memory_that_is_too_large_from_the_beginning_is_none(world: &World) {
    let large = "(module (memory (export \"memory\") 60000) (func (export \"_start\")))";
    let (kind, words) = told(once(world, module(large), &json!(1), AMPLE).await);
    assert_eq!(kind, FailureKind::MemoryExceeded, "{words}");
}

async fn tables_end_at_the_limit(world: &World) {
    let grow = "(module (table $t 1 funcref) (func (export \"_start\")
        (loop $more
            (if (i32.eq (table.grow $t (ref.null func) (i32.const 1000)) (i32.const -1))
                (then unreachable))
            (br $more))))";
    let (kind, words) = told(once(world, module(grow), &json!(1), AMPLE).await);
    assert_eq!(kind, FailureKind::MemoryExceeded, "{words}");
    let many: String = (0..17).map(|_| "(table 20000 funcref)").collect();
    let many = format!("(module {many} (func (export \"_start\")))");
    let sandbox = sandboxes(world).await;
    let version = version(&sandbox, module(&many), 64).await;
    match start(&sandbox, version).await {
        Err(StartFailed::Function(_)) => {}
        Ok(mut instance) => {
            let outcome = support::run(&mut *instance, &invocation("1".into(), AMPLE)).await;
            assert!(outcome.result.is_err());
        }
        Err(other) => panic!("{other:?}"),
    }
    others_are_served(world).await;
}

async fn recursion_ends_in_a_trap(world: &World) {
    let deep = "(module (func $f (param i64) (result i64)
            (i64.add (i64.const 1) (call $f (i64.add (local.get 0) (i64.const 1)))))
        (func (export \"_start\") (drop (call $f (i64.const 0)))))";
    let (kind, words) = told(once(world, module(deep), &json!(1), AMPLE).await);
    assert_eq!(kind, FailureKind::Exited);
    assert!(words.contains("stack"), "{words}");
    others_are_served(world).await;
}

async fn an_answer_without_end_is_too_large(world: &World) {
    let endless = command("(loop $more (call $say (i32.const 1)) (br $more))");
    let (kind, words) = told(once(world, endless, &json!(1), AMPLE).await);
    assert_eq!(kind, FailureKind::ResponseTooLarge, "{words}");
    let event = json!({"op": "big", "bytes": 7 << 20});
    let (kind, words) = told(once(world, Guest::Component.package(), &event, AMPLE).await);
    assert_eq!(kind, FailureKind::ResponseTooLarge, "{words}");
}

async fn output_without_end_is_cut(world: &World) {
    ends_at_the_deadline(world, command("(loop $more (call $say (i32.const 2)) (br $more))")).await;
    others_are_served(world).await;
}

async fn header_fields_end_at_a_limit(world: &World) {
    let event = json!({
        "version": "2.0", "rawPath": "/fields", "requestContext": {"http": {"method": "GET"}},
    });
    let (kind, words) = told(once(world, Guest::Component.package(), &event, AMPLE).await);
    assert_eq!(kind, FailureKind::Exited);
    assert!(words.contains("size of fields exceeds limit"), "{words}");
    others_are_served(world).await;
}

/// Memory that this process has and had at most, in bytes.
fn peak_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() << 10
}

async fn bodies_that_nobody_takes_end_at_a_limit(world: &World) {
    others_are_served(world).await;
    let before = peak_bytes();
    let event = json!({
        "version": "2.0", "rawPath": "/bodies", "requestContext": {"http": {"method": "GET"}},
    });
    let (kind, words) = told(once(world, Guest::Component.package(), &event, AMPLE).await);
    assert_eq!(kind, FailureKind::Exited, "{words}");
    assert!(words.contains("table"), "{words}");
    // Its own 64 MiB beside what the host held for it.
    let grown = peak_bytes() - before;
    assert!(grown < 128 << 20, "the daemon grew by {grown} bytes");
    others_are_served(world).await;
}

async fn nothing_of_one_call_shows_to_the_next(world: &World) {
    // Looks through all the memory that it can have for what the call before has left, then leaves it all full.
    let leaves = command(
        "(local $at i32)
        (drop (memory.grow (i32.const 900)))
        (local.set $at (i32.const 1024))
        (loop $look
            (if (i32.load (local.get $at)) (then unreachable))
            (i32.store (local.get $at) (i32.const 0x5ec2e7))
            (local.set $at (i32.add (local.get $at) (i32.const 4)))
            (br_if $look (i32.lt_u (local.get $at) (i32.const 58000000))))",
    );
    for _ in 0..8 {
        let outcome = once(world, leaves.clone(), &json!(1), AMPLE).await;
        assert_eq!(outcome.result.unwrap(), "null");
    }
}

/// Why a package's code is refused.
async fn refused(world: &World, wasm: &[u8]) -> String {
    let sandbox = sandboxes(world).await;
    let version = version(&sandbox, zip_of(&[("guest.wasm", wasm)]), 64).await;
    match sandbox.check_code(&version).await {
        Err(StartFailed::Function(Failure { payload, .. })) => {
            String::from_utf8(payload.to_vec()).unwrap()
        }
        other => panic!("{other:?}"),
    }
}

async fn forged_programs_are_refused(world: &World) {
    // What looks like compiled code is a program like any other, which it is not.
    let elf = std::fs::read("/proc/self/exe").unwrap();
    assert!(refused(world, &elf[..4096]).await.contains("no WebAssembly"));
    let [command, component] = [Guest::Command.wasm(), Guest::Component.wasm()];
    for wasm in [command, component] {
        // Every now and then a byte of it is another one.
        let mut spoiled = wasm.to_vec();
        spoiled.iter_mut().skip(64).step_by(997).for_each(|byte| *byte ^= 0xa5);
        assert!(refused(world, &spoiled).await.contains("cannot be compiled"));
    }
    others_are_served(world).await;
}

async fn programs_that_take_for_ever_to_compile_are_cut_off(world: &World) {
    // One function of a size that the format allows, of which each part hangs together with all others.
    let mut body = String::from("(local $a i64)");
    for n in 0..200_000 {
        body.push_str(&format!(
            "(if (i64.eqz (local.get $a)) (then (local.set $a (i64.add (local.get $a) (i64.const {n})))))"
        ));
    }
    let bomb = format!("(module (func (export \"_start\") {body}))");
    let wasm = wat::parse_str(&bomb).unwrap();
    let begun = Instant::now();
    let cache = world.folder.path().join("wasm-bomb");
    let sandbox = open_with(world, &cache, Duration::from_secs(2)).await;
    let version = version(&sandbox, zip_of(&[("guest.wasm", &wasm)]), 64).await;
    let compiled = sandbox.check_code(&version);
    let meanwhile = async {
        for _ in 0..20 {
            others_are_served(world).await;
        }
    };
    let (compiled, ()) = tokio::join!(compiled, meanwhile);
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
    match compiled {
        Err(StartFailed::Function(Failure { payload, .. })) => {
            let words = String::from_utf8_lossy(&payload);
            assert!(words.contains("longer than 2 s to compile"), "{words}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(support::processes_with("__wasm-compiler"), 0, "a compiler is left");
}
