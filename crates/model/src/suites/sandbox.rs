//! Contract of [`crate::ports::Sandbox`], [`crate::ports::Image`] and [`crate::ports::Instance`]: what every isolation technique keeps, whatever the language.
//!
//! A [`Kit`] is one language in one sandbox. Its package holds a handler that does what the event says; [`SCENARIOS`] are independent of each
//! other and may run in any order.
//!
//! | `op` | the handler |
//! |---|---|
//! | `echo` | returns `value` |
//! | `count` | returns how many calls this instance has served with `count`, this one included |
//! | `throw` | fails with an error whose message is `text` |
//! | `print` | writes the line `text` to its standard output, returns null |
//! | `flood` | writes `bytes` bytes to its standard output, returns `bytes` |
//! | `big` | returns a string of `bytes` characters |
//! | `unserialisable` | returns something that has no JSON form |
//! | `busy` | computes for ever |
//! | `never` | waits for ever without computing |
//! | `children` | starts a process that starts a process, both with `marker` on their command line and both asleep, then waits for ever |
//! | `forks` | starts processes that start processes, without end |
//! | `exit` | ends its own process with exit code `code` |
//! | `signal` | kills its own process with `signal`, by number |
//! | `memory` | takes and touches memory until there is none |
//! | `connect` | opens a TCP connection to 127.0.0.1 `port`, returns `"connected"`, or fails |
//! | `write` | writes `text` to the file `path`, or fails |
//! | `read` | returns the text of the file `path`, or fails |
//! | `list` | returns the names in the folder `path`, or fails |
//! | `import` | loads the module `name` in the language's own way, returns what it calls `text`, or fails |
//! | `environment` | returns its environment variables as an object |
//! | `tick` | looks at a clock every millisecond from now on, whether calls come or not, returns null |
//! | `pause` | returns the longest pause between two of those looks so far, in milliseconds |
//!
//! The handler in [`Kit::streams`] says `{"statusCode": 201, "headers": {"x-said": "before"}}` and answers with `pieces` pieces of `bytes` bytes, the first of the
//! letter a, the next of b, again from a behind z. It prints `wrote N` when it has written the Nth, counted from 1. `then` says what comes behind them:
//! `return`; `throw`, an error that says `half-way`; `exit`, the end of its process with exit code 7; `never`, a wait for ever; `endless`, more pieces without
//! end.
//!
//! The two packages in [`Kit::layers`] hold these files, and each a module where the language looks for those of layers:
//!
//! | in the first | in the second |
//! |---|---|
//! | `both`, which reads `first` | `both`, which reads `second` |
//! | `folder/one`, which reads `first` | `folder/two`, which reads `second` |
//! | `file_or_folder/inner` | `file_or_folder`, which reads `second` |
//! | `folder_or_file`, a file | `folder_or_file/inner`, which reads `second` |
//! | the module `layer_one` with `text` = `first` | the module `layer_two` with `text` = `second` |

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a suite panics at a broken promise")]

mod ahead;
mod calls;
mod freezing;
mod isolation;
mod layers;
mod limits;
mod streams;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::Value;

use crate::clock::{Clock as _, SystemClock};
use crate::function::{CodeRef, FunctionConfig, Version};
use crate::ids::{FunctionKey, NamespaceName, RequestId};
use crate::invocation::{CallContext, Failure, FailureKind, Invocation, Outcome};
use crate::ports::{
    Image, Instance, LogLine, LogQuery, Logs, Patience, Sandbox, StartFailed, Turn,
};
use crate::stream::Taker;

/// Time for a call that is expected to answer.
const AMPLE: Duration = Duration::from_secs(30);
/// Time for a call that is expected not to.
const SHORT: Duration = Duration::from_millis(700);
/// How long after its deadline a call may take to end: every process has to be gone by then.
const KILL_GRACE: Duration = Duration::from_secs(5);

/// One language in one sandbox.
#[derive(Clone, Debug)]
pub struct Kit {
    /// The sandbox.
    pub sandbox: Arc<dyn Sandbox>,
    /// Where it writes what functions print.
    pub logs: Arc<dyn Logs>,
    /// A name or alias of the runtime.
    pub runtime: &'static str,
    /// The handler in `package`.
    pub handler: &'static str,
    /// The package whose handler does what the table says.
    pub package: Bytes,
    /// The package whose handler, of the same name, answers in pieces.
    pub streams: Bytes,
    /// Two layers that hold what the table says.
    pub layers: [Bytes; 2],
    /// Packages with a handler of the same name that cannot be loaded: what is wrong, package, a word that the error must hold.
    pub broken: Vec<(&'static str, Bytes, &'static str)>,
    /// How many processes of the host have this text on their command line.
    pub survivors: fn(&str) -> usize,
    /// A file that the daemon can read and no function may, by its path on the host.
    pub daemon_file: String,
    /// Whether the memory limit holds for an instance as a whole and an excess always ends it. Where it only makes single allocations fail, a function that
    /// asks for too much may also fail by itself.
    pub exact_memory: bool,
    /// What is said of an instance that was sent signal 11: a runtime may have ways of its own with it.
    pub crash: &'static str,
    /// Whether instances take calls behind the one that they are at.
    pub calls_ahead: bool,
    /// What its functions say of files: see [`FunctionConfig::files`].
    pub files: Option<bool>,
    /// What its functions say of calls: see [`FunctionConfig::instance_calls`].
    pub instance_calls: Option<u32>,
}

/// One promise of the contract.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// Its name.
    pub name: &'static str,
    /// Tries it; panics if it is not kept.
    pub run: fn(Arc<Kit>) -> Trial,
}

/// One run of a scenario.
pub type Trial = Pin<Box<dyn Future<Output = ()> + Send>>;

macro_rules! scenarios {
    ($($module:ident::$name:ident,)*) => {
        /// The contract.
        pub const SCENARIOS: &[Scenario] = &[
            $(Scenario {
                name: stringify!($name),
                run: |kit| Box::pin(async move { $module::$name(&kit).await }),
            },)*
        ];
    };
}

scenarios! {
    calls::echoes,
    calls::keeps_state_between_warm_calls,
    calls::fresh_instances_share_no_state,
    calls::errors_are_the_functions_own,
    calls::what_cannot_be_loaded_is_an_init_failure,
    calls::what_cannot_be_serialised_is_a_handler_failure,
    calls::lines_belong_to_their_call,
    calls::packages_are_checked_and_forgotten,
    calls::unknown_runtimes_are_refused,
    ahead::calls_run_in_the_order_in_which_they_are_handed_over,
    ahead::lines_belong_to_their_call_also_when_calls_follow_at_once,
    ahead::calls_come_back_from_behind_one_that_takes_long,
    ahead::calls_come_back_from_behind_one_that_ends_the_process,
    ahead::large_calls_wait_for_their_turn,
    streams::pieces_arrive_in_order_and_whole,
    streams::pieces_are_collected_for_whoever_wants_them_together,
    streams::nothing_is_read_while_nobody_takes,
    streams::a_taker_that_leaves_does_not_end_the_function,
    streams::an_error_behind_the_first_piece_is_the_outcome,
    streams::an_end_of_the_process_is_one_of_the_answer,
    streams::a_stream_ends_at_the_deadline,
    streams::calls_come_back_from_behind_a_stream,
    streams::who_does_not_stream_is_not_told_so,
    calls::stop_ends_everything,
    calls::drop_ends_everything,
    limits::a_busy_loop_ends_at_the_deadline,
    limits::a_silent_call_ends_at_the_deadline,
    limits::the_process_tree_ends_at_the_deadline,
    limits::a_fork_bomb_is_bounded_and_ends_at_the_deadline,
    limits::an_exit_code_is_reported,
    limits::a_signal_is_reported,
    limits::too_large_an_answer_is_refused,
    limits::large_payloads_pass,
    limits::memory_is_limited,
    limits::a_flood_of_output_blocks_nobody,
    isolation::the_host_cannot_be_reached,
    isolation::code_and_root_are_read_only,
    isolation::scratch_is_private,
    isolation::the_environment_is_the_functions_alone,
    isolation::the_daemons_files_are_out_of_reach,
    freezing::nothing_goes_on_in_a_frozen_instance,
    freezing::a_call_that_comes_while_it_is_being_frozen_is_served,
    freezing::a_frozen_instance_ends_like_any_other,
    freezing::what_a_call_does_after_a_thaw_is_bounded_as_ever,
    layers::without_layers_there_is_nothing,
    layers::one_layer_is_there_as_it_is,
    layers::later_layers_lie_over_earlier_ones,
    layers::modules_of_layers_are_found,
    layers::layers_cannot_be_changed,
    layers::layers_are_forgotten_when_nobody_uses_them,
}

impl Kit {
    fn version(&self, package: &crate::ports::PackageInfo, size: usize) -> Version {
        let config = FunctionConfig {
            timeout_ms: 30_000,
            environment: [("COLOUR".to_owned(), "blue".into())].into(),
            files: self.files,
            instance_calls: self.instance_calls,
            ..FunctionConfig::new(self.runtime, self.handler)
        };
        Version {
            key: FunctionKey {
                namespace: NamespaceName::default_namespace(),
                // Lines of different scenarios are told apart by their function.
                name: format!("f{}", RequestId::generate()).parse().expect("a valid name"),
            },
            number: None,
            config,
            code: CodeRef {
                digest: package.digest,
                size_bytes: size as u64,
                unpacked_bytes: package.unpacked_bytes,
            },
            layers: Vec::new(),
            runtime: self.sandbox.resolve_runtime(self.runtime).expect("the kit's runtime"),
            modified_at: SystemClock.now(),
        }
    }

    async fn version_of(&self, package: &Bytes) -> Arc<Version> {
        let info = self.sandbox.check_package(package.clone()).await.expect("the kit's package");
        Arc::new(self.version(&info, package.len()))
    }

    async fn image_of(&self, version: Arc<Version>) -> Arc<dyn Image> {
        self.sandbox.prepare(version).await.expect("prepare")
    }

    async fn image(&self) -> Arc<dyn Image> {
        self.image_of(self.version_of(&self.package).await).await
    }

    async fn start(&self) -> Box<dyn Instance> {
        start(&*self.image().await).await
    }

    /// Lines of a function, once `enough` says that they are complete.
    async fn lines(
        &self,
        function: &FunctionKey,
        enough: impl Fn(&[LogLine]) -> bool,
    ) -> Vec<LogLine> {
        let until = Instant::now() + AMPLE;
        loop {
            let query = LogQuery::newest(function.clone(), 1000);
            let lines = self.logs.query(query).await.expect("query logs");
            if enough(&lines) {
                return lines;
            }
            assert!(Instant::now() < until, "the lines never came, only {lines:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

async fn start(image: &dyn Image) -> Box<dyn Instance> {
    match image.start().await {
        Ok(instance) => {
            assert!(instance.alive(), "a started instance is alive");
            instance
        }
        Err(StartFailed::Function(f)) => panic!("the function failed to load: {f:?}"),
        Err(StartFailed::Platform(e)) => panic!("the platform failed to start it: {e:?}"),
    }
}

fn invocation(event: &Value, within: Duration) -> Invocation {
    Invocation {
        id: RequestId::generate(),
        attempt: 1,
        payload: event.to_string().into(),
        timeout: within,
        context: CallContext::default(),
    }
}

async fn call_within(instance: &mut Box<dyn Instance>, event: Value, within: Duration) -> Outcome {
    run(instance, &invocation(&event, within)).await
}

async fn run(instance: &mut Box<dyn Instance>, invocation: &Invocation) -> Outcome {
    assert!(instance.hand(invocation), "an instance that has no call takes one");
    outcome(instance, AMPLE).await.0
}

/// The next outcome, and which calls behind it came back. Pieces are collected.
async fn outcome(instance: &mut Box<dyn Instance>, limit: Duration) -> (Outcome, Vec<RequestId>) {
    let mut back = Vec::new();
    let returned = &mut |calls: &[RequestId]| back.extend_from_slice(calls);
    let outcome = match instance.outcome(Patience { limit, returned }).await {
        Turn::Over(outcome) => outcome,
        Turn::Streams { .. } => instance.stream(Taker::Whole).await.outcome,
    };
    (outcome, back)
}

async fn call(instance: &mut Box<dyn Instance>, event: Value) -> Result<Value, Failure> {
    let outcome = call_within(instance, event, AMPLE).await;
    outcome.result.map(|body| serde_json::from_slice(&body).expect("the answer is JSON"))
}

async fn answer(instance: &mut Box<dyn Instance>, event: Value) -> Value {
    let shown = event.to_string();
    match call(instance, event).await {
        Ok(value) => value,
        Err(f) => panic!("{shown} failed: {} {:?}", f.kind.as_str(), f.payload),
    }
}

/// The call fails in this way, with JSON that holds `word`.
async fn fails(instance: &mut Box<dyn Instance>, event: Value, kind: FailureKind, word: &str) {
    let shown = event.to_string();
    match call(instance, event).await {
        Ok(value) => panic!("{shown} was answered with {value}"),
        Err(failure) => assert_failure(&failure, kind, word),
    }
}

fn assert_failure(failure: &Failure, kind: FailureKind, word: &str) {
    let payload: Value = serde_json::from_slice(&failure.payload).expect("the failure is JSON");
    assert_eq!(failure.kind, kind, "{payload}");
    assert!(payload["errorMessage"].is_string(), "no errorMessage in {payload}");
    assert!(payload["errorType"].is_string(), "no errorType in {payload}");
    assert!(payload.to_string().contains(word), "no '{word}' in {payload}");
}

/// The call runs into its deadline, ends soon after, and the instance is gone.
async fn times_out(instance: &mut Box<dyn Instance>, event: Value) {
    let shown = event.to_string();
    let begun = Instant::now();
    let outcome = call_within(instance, event, SHORT).await;
    let took = begun.elapsed();
    match outcome.result {
        Ok(body) => panic!("{shown} was answered with {body:?}"),
        Err(failure) => assert_failure(&failure, FailureKind::Timeout, "timed out after 0.70"),
    }
    assert!(took >= SHORT, "{shown} ended {took:?} after its start, before the deadline");
    assert!(took < SHORT + KILL_GRACE, "{shown} took {took:?} to end");
    assert!(!instance.alive(), "an instance is not used again after a timeout");
}
