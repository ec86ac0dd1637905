//! Through real pipes.

use std::io::{PipeWriter, Write as _};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use model::Result;
use model::clock::SystemClock;
use model::ports::{LogQuery, LogTail};

use super::*;

/// Keeps lines; drops those that come when `deaf` is not zero.
#[derive(Debug, Default)]
struct Kept {
    lines: Mutex<Vec<LogLine>>,
    deaf: AtomicUsize,
}

#[async_trait]
impl Logs for Kept {
    fn append(&self, lines: Vec<LogLine>) -> usize {
        let deaf = |n: usize| n.checked_sub(1);
        if self.deaf.fetch_update(Ordering::SeqCst, Ordering::SeqCst, deaf).is_ok() {
            return lines.len();
        }
        self.lines.lock().unwrap().extend(lines);
        0
    }
    async fn flush(&self) -> Result<()> {
        Ok(())
    }
    async fn query(&self, _: LogQuery) -> Result<Vec<LogLine>> {
        Ok(self.lines.lock().unwrap().clone())
    }
    fn tail(&self, _: LogQuery) -> Box<dyn LogTail> {
        unreachable!("nobody tails in these tests")
    }
    async fn delete(&self, _: &FunctionKey) -> Result<()> {
        Ok(())
    }
}

struct Bench {
    output: Output,
    stdout: PipeWriter,
    stderr: PipeWriter,
    logs: Arc<Kept>,
}

fn bench() -> Bench {
    let (out_read, stdout) = std::io::pipe().unwrap();
    let (err_read, stderr) = std::io::pipe().unwrap();
    let logs = Arc::new(Kept::default());
    let function =
        FunctionKey { namespace: "default".parse().unwrap(), name: "f".parse().unwrap() };
    let output = Output::new(
        out_read.into(),
        err_read.into(),
        function,
        Qualifier::Latest,
        limits::OUTPUT_DEFAULT_BYTES_PER_SECOND,
        logs.clone(),
        Arc::new(SystemClock),
    )
    .unwrap();
    Bench { output, stdout, stderr, logs }
}

impl Bench {
    fn texts(&self, stream: LogStream) -> Vec<String> {
        let lines = self.logs.lines.lock().unwrap();
        lines.iter().filter(|l| l.stream == stream).map(|l| l.text.clone()).collect()
    }

    /// Runs until `done`, ten seconds at most.
    async fn run_until(&mut self, done: impl Fn(&Kept) -> bool) {
        let logs = self.logs.clone();
        let wait = async {
            while !done(&logs) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), async {
            tokio::select! {
                never = self.output.run() => match never {},
                () = wait => {}
            }
        })
        .await
        .expect("the lines did not come");
    }
}

#[tokio::test]
async fn lines_belong_to_the_call_that_wrote_them() {
    let mut b = bench();
    let (first, second) = (RequestId::generate(), RequestId::generate());
    b.stdout.write_all(b"loading\n").unwrap();
    b.output.drain();
    b.output.begin(Some(first));
    b.stdout.write_all(b"one\ntwo, not ended").unwrap();
    b.stderr.write_all(b"oops\n").unwrap();
    b.output.drain();
    b.output.begin(Some(second));
    b.stdout.write_all(b"three\n").unwrap();
    b.output.drain();
    let lines = b.logs.lines.lock().unwrap();
    let got: Vec<_> = lines.iter().map(|l| (l.request, l.stream, l.text.as_str())).collect();
    let expected = [
        (None, LogStream::Stdout, "loading"),
        (Some(first), LogStream::Stdout, "one"),
        (Some(first), LogStream::Stderr, "oops"),
        (Some(first), LogStream::Stdout, "two, not ended"),
        (Some(second), LogStream::Stdout, "three"),
    ];
    assert_eq!(got, expected);
}

#[tokio::test]
async fn what_is_left_of_a_line_goes_to_the_call_that_began_it() {
    let mut b = bench();
    let first = RequestId::generate();
    b.output.begin(Some(first));
    b.stdout.write_all(b"half\nof a line").unwrap();
    b.run_until(|logs| !logs.lines.lock().unwrap().is_empty()).await;
    b.output.begin(Some(RequestId::generate()));
    assert_eq!(b.texts(LogStream::Stdout), ["half", "of a line"]);
    assert!(b.logs.lines.lock().unwrap().iter().all(|l| l.request == Some(first)));
}

#[tokio::test]
async fn a_call_without_output_leaves_no_trace() {
    let mut b = bench();
    b.output.begin(Some(RequestId::generate()));
    b.output.drain();
    assert!(b.logs.lines.lock().unwrap().is_empty());
}

#[tokio::test]
async fn both_pipes_are_read_while_a_call_runs() {
    let mut b = bench();
    b.stdout.write_all(b"out\n").unwrap();
    b.stderr.write_all(b"err\n").unwrap();
    b.run_until(|logs| logs.lines.lock().unwrap().len() == 2).await;
    b.stdout.write_all(b"more\n").unwrap();
    b.run_until(|logs| logs.lines.lock().unwrap().len() == 3).await;
    assert_eq!(b.texts(LogStream::Stdout), ["out", "more"]);
}

#[tokio::test]
async fn a_writer_that_is_gone_ends_its_pipe_only() {
    let mut b = bench();
    b.stdout.write_all(b"last words").unwrap();
    b.stdout = std::io::pipe().unwrap().1;
    b.stderr.write_all(b"still here\n").unwrap();
    b.run_until(|logs| !logs.lines.lock().unwrap().is_empty()).await;
    // With an ended pipe, run must wait and not spin; drain must still work.
    let idle = tokio::time::timeout(Duration::from_millis(20), b.output.run()).await;
    idle.unwrap_err();
    b.output.drain();
    assert_eq!(b.texts(LogStream::Stdout), ["last words"]);
    assert_eq!(b.texts(LogStream::Stderr), ["still here"]);
    assert!(b.output.stdout.end.is_none());
}

#[tokio::test]
async fn long_lines_are_cut_and_said() {
    let mut b = bench();
    let mut stdout = b.stdout.try_clone().unwrap();
    let long = vec![b'x'; limits::LOG_LINE_BYTES + 1000];
    let writer = std::thread::spawn(move || {
        stdout.write_all(&long).unwrap();
        stdout.write_all(b"\nnext\n").unwrap();
    });
    b.run_until(|logs| logs.lines.lock().unwrap().len() == 3).await;
    writer.join().unwrap();
    let texts = b.texts(LogStream::Stdout);
    assert_eq!((texts[0].len(), texts[1].as_str()), (limits::LOG_LINE_BYTES, "next"));
    let said = &b.texts(LogStream::Platform)[0];
    assert!(said.starts_with("1000 bytes of the line above dropped"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_is_read_through_dropped_and_counted() {
    const FLOOD_BYTES: usize = 100 << 20;
    for line_bytes in [1, 120, 1 << 20] {
        let mut b = bench();
        let mut stdout = b.stdout.try_clone().unwrap();
        let mut chunk = vec![b'x'; line_bytes];
        chunk[line_bytes - 1] = b'\n';
        let chunk = chunk.repeat((1 << 20) / line_bytes);
        let lines = FLOOD_BYTES / (1 << 20) * chunk.len() / line_bytes;
        let start = Instant::now();
        let writer = std::thread::spawn(move || {
            for _ in 0..FLOOD_BYTES / (1 << 20) {
                stdout.write_all(&chunk).unwrap();
            }
            stdout.write_all(b"the end\n").unwrap();
        });
        let mut most = 0;
        while !writer.is_finished() {
            let slice = tokio::time::timeout(Duration::from_millis(5), b.output.run());
            slice.await.unwrap_err();
            most = most.max(b.output.stdout.lines.held_bytes());
        }
        b.output.drain();
        writer.join().unwrap();
        assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
        assert!(most <= 2 * limits::LOG_LINE_BYTES, "{most}");

        let kept: Vec<_> = b.texts(LogStream::Stdout);
        let kept_bytes: usize = kept.iter().map(|text| text.len() + 128).sum();
        let allowed = u64::from(limits::OUTPUT_DEFAULT_BYTES_PER_SECOND)
            * (u64::from(limits::OUTPUT_BURST_SECONDS) + 20);
        assert!(u64::try_from(kept_bytes).unwrap() <= allowed, "{kept_bytes}");
        let said = b.texts(LogStream::Platform);
        let dropped: usize = said
            .iter()
            .filter(|text| text.contains("over the limit of"))
            .map(|text| {
                let count = text.split_once('(').unwrap().1;
                count.split_once(' ').unwrap().0.parse::<usize>().unwrap()
            })
            .sum();
        assert_eq!(kept.len() + dropped, lines + 1, "lines of {line_bytes} bytes: {said:?}");
    }
}

#[tokio::test]
async fn what_the_store_does_not_take_is_counted_and_said_later() {
    let mut b = bench();
    b.logs.deaf.store(2, Ordering::SeqCst);
    b.stdout.write_all(b"1\n2\n3\n").unwrap();
    b.output.drain();
    assert!(b.logs.lines.lock().unwrap().is_empty());
    b.stdout.write_all(b"4\n").unwrap();
    b.output.drain();
    assert_eq!(b.texts(LogStream::Stdout), ["4"]);
    assert_eq!(b.texts(LogStream::Platform), ["3 lines of output dropped: the log store was busy"]);
}

#[tokio::test]
async fn the_platform_can_add_a_line() {
    let mut b = bench();
    let id = RequestId::generate();
    b.output.begin(Some(id));
    b.output.say("timed out after 3000 ms".into());
    let lines = b.logs.lines.lock().unwrap();
    assert_eq!(lines[0].request, Some(id));
    assert_eq!(
        (lines[0].stream, lines[0].text.as_str()),
        (LogStream::Platform, "timed out after 3000 ms")
    );
}
