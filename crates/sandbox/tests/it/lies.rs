//! Functions that lie over their socket: wrong lengths, replies to nobody and too late, floods, half-closed sockets, frames while loading.
//!
//! What the bytes alone can do is the fuzzers' business; here it is what a live process does with them. Whatever it is: the call ends by its
//! deadline, the instance is destroyed, the next call of the function gets its own answer, and the daemon (this process) holds nothing more.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use model::invocation::{Failure, FailureKind};
use model::ports::{Instance, Sandbox as _, StartFailed};
use serde_json::json;

use crate::hostile::{AMPLE, breaks_the_protocol, run, start};
use crate::support::{self, World, invocation, version, zip};
use crate::{Place, Test};

/// What the daemon may hold more of after a flood, in bytes: buffers of sockets and allocator, far less than was sent.
const GROWTH_BYTES: u64 = 32 << 20;

pub(crate) fn tests() -> Vec<Test> {
    macro_rules! tests {
        ($($name:ident,)*) => {
            vec![$(Test {
                name: concat!("lies::", stringify!($name)).into(),
                place: Place::Shared,
                run: Box::new(|world| Box::pin(async move { $name(&world).await })),
            },)*]
        };
    }
    tests![
        lengths_over_the_limit_are_refused_at_once,
        an_announcement_that_is_not_kept_ends_with_the_deadline,
        calls_that_are_said_to_be_quick_end_with_the_deadline,
        more_bytes_than_announced_never_reach_the_next_call,
        a_reply_after_the_deadline_reaches_nobody,
        floods_end_the_instance_and_are_not_held,
        a_flood_between_calls_is_not_held,
        half_closed_sockets_end_the_instance,
        descriptors_sent_along_are_not_taken,
        frames_while_loading_are_no_head_start,
    ]
}

/// Python with the socket as `s`.
fn with_socket(python: &str) -> String {
    format!("import socket\ns = socket.socket(fileno=os.dup(3))\n{python}")
}

async fn within(
    instance: &mut Box<dyn Instance>,
    python: &str,
    deadline: Duration,
) -> Result<(), Failure> {
    let call = invocation(json!(python).to_string(), deadline);
    let outcome = support::run(&mut **instance, &call).await;
    outcome.result.map(drop)
}

/// The function is none the worse for what one of its instances did.
pub(crate) async fn another_answers(world: &World) {
    let mut instance = start(world).await;
    assert_eq!(run(&mut instance, "result = 'mine'").await.unwrap(), "mine");
    instance.stop().await;
}

/// Resident memory of the daemon, in bytes.
pub(crate) fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let kib = status.lines().find_map(|l| l.strip_prefix("VmRSS:")?.strip_suffix("kB"));
    kib.unwrap().trim().parse::<u64>().unwrap() << 10
}

fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

async fn lengths_over_the_limit_are_refused_at_once(world: &World) {
    for (kind, length) in
        [(19, 0xffff_ffff_u32), (19, (6 << 20) + 49), (20, 7 << 20), (21, u32::MAX)]
    {
        let mut instance = start(world).await;
        let begun = Instant::now();
        let python =
            format!("os.write(3, struct.pack('<IB3x', {length}, {kind})); time.sleep(3600)");
        let failure = run(&mut instance, &python).await.unwrap_err();
        assert_eq!(failure.kind, FailureKind::ResponseTooLarge, "{kind} {length}: {failure:?}");
        assert!(!instance.alive() && begun.elapsed() < AMPLE / 2, "{:?}", begun.elapsed());
    }
    another_answers(world).await;
}

async fn an_announcement_that_is_not_kept_ends_with_the_deadline(world: &World) {
    let before = resident();
    for announced in [48, 100, 6 << 20] {
        let mut instance = start(world).await;
        let python = format!(
            "os.write(3, struct.pack('<IB3x', {announced}, 19) + context.aws_request_id.encode()[:35]); time.sleep(3600)"
        );
        let failure = within(&mut instance, &python, Duration::from_millis(500)).await.unwrap_err();
        assert_eq!(failure.kind, FailureKind::Timeout, "{announced}: {failure:?}");
        assert!(!instance.alive(), "{announced}");
    }
    assert!(resident() < before + GROWTH_BYTES, "an announcement was believed");
    another_answers(world).await;
}

/// What is polled for, because the call before was quick by the function's word, is waited for no longer than anything else.
async fn calls_that_are_said_to_be_quick_end_with_the_deadline(world: &World) {
    for behind in ["", "os.write(3, struct.pack('<IB3x', 100, 19))\n"] {
        let mut instance = start(world).await;
        let python = format!("answer(19, context.aws_request_id, b'1')\n{behind}time.sleep(3600)");
        within(&mut instance, &python, AMPLE).await.unwrap();
        let begun = Instant::now();
        let deadline = Duration::from_millis(500);
        let failure = within(&mut instance, "never read", deadline).await.unwrap_err();
        assert_eq!(failure.kind, FailureKind::Timeout, "{behind}: {failure:?}");
        assert!(begun.elapsed() >= deadline && !instance.alive(), "{behind}");
    }
    another_answers(world).await;
}

async fn more_bytes_than_announced_never_reach_the_next_call(world: &World) {
    let mut instance = start(world).await;
    let python = "body = context.aws_request_id.encode() + bytes(12) + b'1' + b'2' * 100
os.write(3, struct.pack('<IB3x', 49, 19) + body)
time.sleep(3600)";
    // The answer is whole, so it counts, or the bytes after it are seen with it; in either case they end the instance.
    match run(&mut instance, python).await {
        Ok(answer) => {
            assert_eq!(answer, 1);
            breaks_the_protocol(&mut instance, "result = 2").await;
        }
        Err(failure) => assert_eq!(failure.kind, FailureKind::Protocol, "{failure:?}"),
    }
    another_answers(world).await;
}

async fn a_reply_after_the_deadline_reaches_nobody(world: &World) {
    let mut instance = start(world).await;
    let late = "id = context.aws_request_id
threading.Thread(target=lambda: [time.sleep(0.01) or answer(19, id, b'\"late\"') for _ in iter(int, 1)] if time.sleep(0.6) is None else 0).start()
time.sleep(3600)";
    let begun = Instant::now();
    let failure = within(&mut instance, late, Duration::from_millis(400)).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Timeout, "{failure:?}");
    assert!(!instance.alive() && begun.elapsed() < AMPLE / 2);
    // Whoever calls next, on this instance against the rules or on another, gets no answer of that call.
    assert!(!instance.hand(&invocation("\"result = 1\"".into(), AMPLE)), "it takes a call");
    another_answers(world).await;
}

async fn floods_end_the_instance_and_are_not_held(world: &World) {
    let before = resident();
    for python in [
        "b = struct.pack('<IB3x', 0, 16) * 8000\nwhile True: os.write(3, b)",
        "b = struct.pack('<IB3x', 0, 17) * 8000\nwhile True: os.write(3, b)",
        "b = struct.pack('<IB3x', 50, 19) + b'0199f2c1-0000-7000-8000-000000000001' + bytes(12) + b'11'\nwhile True: os.write(3, b * 1000)",
        "b = struct.pack('<IB3x', 6 << 20, 20) + bytes(6 << 20)
while True:
    for at in range(0, len(b), 65536): os.write(3, b[at:at + 65536])",
    ] {
        breaks_the_protocol(&mut start(world).await, python).await;
    }
    assert!(resident() < before + GROWTH_BYTES, "{} bytes before, {} now", before, resident());
    another_answers(world).await;
}

async fn a_flood_between_calls_is_not_held(world: &World) {
    let mut instance = start(world).await;
    // The first call is answered; then a thread writes on until nobody takes any more.
    let python = "def flood():
    b = struct.pack('<IB3x', 50, 19) + context.aws_request_id.encode() + bytes(12) + b'11'
    while True: os.write(3, b * 1000)
threading.Timer(0.2, flood).start()";
    run(&mut instance, python).await.unwrap();
    let before = resident();
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert!(resident() < before + GROWTH_BYTES, "{} bytes before, {} now", before, resident());
    // The engine looks before it sends; if it did not look, the call would fail all the same.
    breaks_the_protocol(&mut instance, "result = 2").await;
    another_answers(world).await;
}

async fn half_closed_sockets_end_the_instance(world: &World) {
    let begun = Instant::now();
    // Nothing more can come from it.
    let mute = with_socket("s.shutdown(socket.SHUT_WR); time.sleep(3600)");
    breaks_the_protocol(&mut start(world).await, &mute).await;
    let half = with_socket(
        "os.write(3, struct.pack('<IB3x', 100, 19) + b'x' * 50); s.shutdown(socket.SHUT_RDWR); time.sleep(3600)",
    );
    breaks_the_protocol(&mut start(world).await, &half).await;
    assert!(begun.elapsed() < AMPLE, "{:?}", begun.elapsed());

    // It can answer this call and be sent no other.
    let mut deaf = start(world).await;
    let python =
        with_socket("threading.Timer(3600, print).start(); s.shutdown(socket.SHUT_RD); result = 1");
    assert_eq!(run(&mut deaf, &python).await.unwrap(), 1);
    assert!(!deaf.hand(&invocation("\"result = 2\"".into(), AMPLE)), "it takes a call");
    assert!(!deaf.alive());
    deaf.stop().await;
    another_answers(world).await;
}

async fn descriptors_sent_along_are_not_taken(world: &World) {
    let mut instance = start(world).await;
    let before = descriptors();
    let python = with_socket(
        "answer = struct.pack('<IB3x', 49, 19) + context.aws_request_id.encode() + bytes(12) + b'1'
for i in range(len(answer)):
    socket.send_fds(s, [answer[i:i + 1]], [1] * 200)
time.sleep(3600)",
    );
    // The answer may come, or not before the deadline; and the kernel may refuse so many descriptors on their way, which breaks the answer off.
    let outcome = within(&mut instance, &python, Duration::from_secs(2)).await;
    if let Err(failure) = outcome {
        let kinds = [FailureKind::Timeout, FailureKind::Protocol];
        assert!(kinds.contains(&failure.kind), "{failure:?}");
    }
    assert!(descriptors() <= before + 20, "{before} descriptors before, {} now", descriptors());
    instance.stop().await;
    another_answers(world).await;
}

async fn frames_while_loading_are_no_head_start(world: &World) {
    let start_of = async |top: &str| {
        let code = format!(
            "import os, struct, time
def frame(kind, payload=b''):
    os.write(3, struct.pack('<IB3x', len(payload), kind) + payload)
{top}
def handler(event, context): return 'own'
"
        );
        let info = world.sandbox.check_package(zip(&[("main.py", &code)])).await.unwrap();
        let version = version(&world.sandbox, "hostile", info.digest, BTreeMap::new());
        world.sandbox.prepare(version).await.unwrap().start().await
    };
    for top in [
        "frame(16)",
        "frame(19, b'0199f2c1-0000-7000-8000-000000000001' + bytes(12) + b'1')",
        "frame(18, b'no json')",
        "os.write(3, b'GET / HTTP/1.1\\r\\n\\r\\n')",
        "import socket; socket.socket(fileno=3).shutdown(socket.SHUT_RDWR); time.sleep(3600)",
    ] {
        match start_of(top).await {
            Err(StartFailed::Function(failure)) => {
                assert_eq!(failure.kind, FailureKind::Protocol, "{top}: {failure:?}");
            }
            other => panic!("{top}: {other:?}"),
        }
    }
    // Ready too early is believed, and the bootstrap's own word for it is then one too many.
    let mut early = start_of("frame(17)").await.unwrap();
    match run(&mut early, "").await {
        Ok(answer) => assert_eq!(answer, "own"),
        Err(failure) => assert_eq!(failure.kind, FailureKind::Protocol, "{failure:?}"),
    }
    another_answers(world).await;
}
