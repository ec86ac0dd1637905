//! Functions that lie about answers in pieces: frames out of order, of other calls, of wrong lengths, too many of them, and takers that take nothing.
//!
//! Whatever it is: the call ends by its deadline, the next call gets nothing of it, and the daemon (this process) holds no more than the pieces of one channel.

use std::time::{Duration, Instant};

use model::invocation::FailureKind;
use model::limits::STREAM_PIECES;
use model::ports::{Instance, Patience, Turn};
use model::stream::{Part, StreamEnd, Taker};
use serde_json::json;
use tokio::sync::mpsc;

use crate::hostile::{AMPLE, breaks_the_protocol, run, start};
use crate::lies::{another_answers, resident};
use crate::support::{World, invocation};
use crate::{Place, Test};

/// What the daemon may hold more of during a flood, in bytes: buffers of sockets and allocator, far less than was sent.
const GROWTH_BYTES: u64 = 16 << 20;
/// Long enough for a flood of hundreds of megabytes.
const FLOOD_TIME: Duration = Duration::from_millis(1_500);

/// The frames of a stream in the words of the programs below.
const WORDS: &str = "me = context.aws_request_id.encode()
other = b'0199f2c1-0000-7000-8000-000000000001'
def begin(id=me, prelude=b'{}'): frame(22, id + prelude)
def piece(data, id=me): frame(23, id + data)
def end(id=me): frame(24, id + bytes(12))
";

pub(crate) fn tests() -> Vec<Test> {
    macro_rules! tests {
        ($($name:ident,)*) => {
            vec![$(Test {
                name: concat!("streams::", stringify!($name)).into(),
                place: Place::Shared,
                run: Box::new(|world| Box::pin(async move { $name(&world).await })),
            },)*]
        };
    }
    tests![
        frames_out_of_order_end_the_instance,
        what_comes_after_the_end_never_reaches_the_next_call,
        floods_are_not_held_whoever_takes,
        an_end_that_is_promised_and_does_not_come_ends_with_the_deadline,
        a_death_in_the_middle_of_a_piece_is_an_end,
    ]
}

fn program(python: &str) -> String {
    format!("{WORDS}{python}")
}

async fn frames_out_of_order_end_the_instance(world: &World) {
    for python in [
        "begin(); begin()",
        "begin(other)",
        "piece(b'x')",
        "end()",
        "begin(); piece(b'x', other)",
        "begin(); end(other)",
        "begin(); piece(b'')",
        "begin(); answer(19, context.aws_request_id, b'1')",
        "begin(); answer(20, other.decode(), b'{}')",
        "begin(); answer(20, context.aws_request_id, b'no json')",
        "begin(); frame(16, b'')",
        "begin(); frame(17, b'')",
        "begin(); frame(18, b'{}')",
        "begin(); frame(24, me + bytes(13))",
        "begin(); frame(24, me)",
        "frame(22, me[:35])",
        "frame(22, b'x' * 36)",
        // Longer than a packet: start and piece are one each.
        "os.write(3, struct.pack('<IB3x', 65529, 22) + me); time.sleep(3600)",
        "begin(); os.write(3, struct.pack('<IB3x', 36 + 65537, 23) + me); time.sleep(3600)",
        "begin(); os.write(3, struct.pack('<IB3x', 0xffffffff, 23) + me); time.sleep(3600)",
    ] {
        breaks_the_protocol(&mut start(world).await, &program(python)).await;
    }
    another_answers(world).await;
}

async fn what_comes_after_the_end_never_reaches_the_next_call(world: &World) {
    for python in ["end()", "piece(b'x')", "begin(); piece(b'2')", "begin()", "result = 2"] {
        let mut instance = start(world).await;
        let whole = program(&format!("begin(); piece(b'\"mi'); piece(b'ne\"'); end(); {python}"));
        assert_eq!(run(&mut instance, &whole).await.unwrap(), "mine", "{python}");
        // If nothing else: the answer that the runtime gives when the function returns.
        breaks_the_protocol(&mut instance, "result = 2").await;
    }
    another_answers(world).await;
}

/// Begins a call that streams.
async fn begin(instance: &mut Box<dyn Instance>, python: &str, time: Duration) {
    assert!(instance.hand(&invocation(json!(program(python)).to_string(), time)));
    let returned = &mut |_: &[_]| {};
    match instance.outcome(Patience { limit: Duration::MAX, returned }).await {
        Turn::Streams { prelude, .. } => assert_eq!(prelude, "{}"),
        Turn::Over(outcome) => panic!("{python}: {outcome:?}"),
    }
}

/// Stays until the end of a stream that somebody takes, or nobody; what was taken, in bytes.
async fn stay(instance: &mut Box<dyn Instance>, takes: bool) -> (StreamEnd, usize) {
    let (pieces, mut parts) = mpsc::channel(STREAM_PIECES);
    let taker = Taker::Caller { pieces: &pieces, keep_bytes: 0 };
    let mut stream = std::pin::pin!(instance.stream(taker));
    let mut taken = 0;
    loop {
        tokio::select! {
            end = &mut stream => return (end, taken),
            part = parts.recv(), if takes => match part {
                Some(Part::Piece(piece)) => taken += piece.len(),
                other => panic!("{other:?}"),
            }
        }
    }
}

async fn floods_are_not_held_whoever_takes(world: &World) {
    for flood in [
        "data = b'x' * 65000\nwhile True: piece(data)",
        // As little as may be: what is around a piece must not be what fills memory.
        "while True: piece(b'x')",
    ] {
        for takes in [false, true] {
            let mut instance = start(world).await;
            let before = resident();
            begin(&mut instance, &format!("begin()\n{flood}"), FLOOD_TIME).await;
            let begun = Instant::now();
            let (end, taken) = stay(&mut instance, takes).await;
            let failure = end.outcome.result.unwrap_err();
            assert_eq!(failure.kind, FailureKind::Timeout, "{flood}: {failure:?}");
            assert!(!instance.alive() && begun.elapsed() < AMPLE / 2);
            assert_eq!(takes, taken > 0);
            assert!(takes || end.bytes <= (STREAM_PIECES * 65_536) as u64, "{}", end.bytes);
            let now = resident();
            assert!(now < before + GROWTH_BYTES, "{flood}: {before} bytes before, {now} now");
        }
    }
    // Nobody wants pieces: what is collected has the limit of any answer.
    let mut instance = start(world).await;
    let before = resident();
    let python = program("begin()\ndata = b'x' * 65000\nwhile True: piece(data)");
    let failure = run(&mut instance, &python).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::ResponseTooLarge, "{failure:?}");
    assert!(!instance.alive() && resident() < before + GROWTH_BYTES);
    another_answers(world).await;
}

async fn an_end_that_is_promised_and_does_not_come_ends_with_the_deadline(world: &World) {
    for python in [
        "begin(); time.sleep(3600)",
        "begin(); piece(b'x'); time.sleep(3600)",
        "begin(); os.write(3, struct.pack('<IB3x', 1000, 23) + me); time.sleep(3600)",
        "begin(); os.write(3, struct.pack('<IB3x', 48, 24) + me); time.sleep(3600)",
        "begin(); os.close(3); time.sleep(3600)",
    ] {
        let mut instance = start(world).await;
        begin(&mut instance, python, Duration::from_millis(700)).await;
        let (end, _) = stay(&mut instance, true).await;
        let failure = end.outcome.result.unwrap_err();
        assert_eq!(failure.kind, FailureKind::Timeout, "{python}: {failure:?}");
        assert!(!instance.alive());
    }
    another_answers(world).await;
}

async fn a_death_in_the_middle_of_a_piece_is_an_end(world: &World) {
    for python in [
        "begin(); piece(b'whole'); os._exit(3)",
        "begin(); piece(b'whole'); os.write(3, struct.pack('<IB3x', 1000, 23) + me); os._exit(3)",
    ] {
        let mut instance = start(world).await;
        begin(&mut instance, python, AMPLE).await;
        let (end, taken) = stay(&mut instance, true).await;
        let failure = end.outcome.result.unwrap_err();
        assert_eq!(failure.kind, FailureKind::Exited, "{python}: {failure:?}");
        assert!(end.bytes == 5 && taken <= 5 && !instance.alive(), "{python}: {taken}");
    }
    another_answers(world).await;
}
