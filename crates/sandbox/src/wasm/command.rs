//! One call of a command, a core module or a component: event on standard input, answer on standard output, a run from start to exit.

use std::io;

use bytes::Bytes;
use model::invocation::{Failure, FailureKind};
use model::ports::LogStream;
use wasmtime::{InstancePre, Result, Store};
use wasmtime_wasi::p2::bindings::CommandPre;
use wasmtime_wasi::{I32Exit, WasiCtxBuilder};

use super::call::{Call, Ended};
use super::failure::{self, End};
use super::host::{self, Bounded, CommandHost, Host};
use super::printed::{Answer, Printed};
use super::program::START;
use crate::process::failure::is_json;

/// Runs a core module.
pub(super) async fn run(program: &InstancePre<CommandHost>, call: &Call) -> Ended {
    let streams = Streams::of(call);
    let mut wasi = match streams.wasi(call).await {
        Ok(wasi) => wasi,
        Err(e) => return Ended::of(Err(failure::no_files(&e)), 0),
    };
    let guest = CommandHost::new(wasi.build_p1(), &call.given);
    let mut store = host::store(program.module().engine(), guest);
    let left = start(program, &mut store).await;
    streams.judge(call, left, store)
}

/// Runs a component.
pub(super) async fn run_component(program: &CommandPre<Host>, call: &Call) -> Ended {
    let streams = Streams::of(call);
    let mut wasi = match streams.wasi(call).await {
        Ok(wasi) => wasi,
        Err(e) => return Ended::of(Err(failure::no_files(&e)), 0),
    };
    let guest = Host::new(wasi.build(), &call.given);
    let mut store = host::store(program.engine(), guest);
    let left = start_component(program, &mut store).await;
    streams.judge(call, left, store)
}

/// Where a command's output goes.
struct Streams {
    answer: Answer,
    errors: Printed,
}

impl Streams {
    fn of(call: &Call) -> Self {
        Self { answer: Answer::default(), errors: Printed::new(&call.output, LogStream::Stderr) }
    }

    async fn wasi(&self, call: &Call) -> io::Result<WasiCtxBuilder> {
        let streams = (call.payload.clone(), self.answer.clone(), self.errors.clone());
        host::wasi(&call.given, call.context.trace.as_deref(), streams).await
    }

    /// What came of a run.
    fn judge<T: Bounded>(self, call: &Call, left: Result<()>, mut store: Store<T>) -> Ended {
        let bounds = store.data_mut().bounds();
        let (denied, memory_bytes) = (bounds.denied(), bounds.used_bytes());
        // The slot is free for others before the answer is looked at.
        drop(store);
        let result = match (self.answer.take(), left) {
            (Err(bytes), _) => Err(failure::too_large(bytes)),
            (Ok(answer), Ok(())) => json(answer),
            (Ok(answer), Err(error)) => match (End::of(&error), failure::is_own(&answer)) {
                (End::Exit(0), _) => json(answer),
                (End::Exit(_), true) => {
                    Err(Failure { kind: FailureKind::Handler, payload: answer })
                }
                (end, _) => {
                    Err(end.failure(&self.errors.last_line(), denied, call.given.memory_mb))
                }
            },
        };
        Ended::of(result, memory_bytes)
    }
}

async fn start_component(program: &CommandPre<Host>, store: &mut Store<Host>) -> Result<()> {
    let instance = program.instantiate_async(&mut *store).await?;
    let left = instance.wasi_cli_run().call_run(&mut *store).await?;
    left.map_err(|()| I32Exit(1).into())
}

async fn start(program: &InstancePre<CommandHost>, store: &mut Store<CommandHost>) -> Result<()> {
    let instance = program.instantiate_async(&mut *store).await?;
    let main = instance.get_typed_func::<(), ()>(&mut *store, START)?;
    main.call_async(&mut *store, ()).await
}

/// An answer as JSON: itself if it is that, nothing as `null`, other text as a string.
fn json(answer: Bytes) -> std::result::Result<Bytes, Failure> {
    let text = answer.trim_ascii();
    if text.is_empty() {
        return Ok(Bytes::from_static(b"null"));
    }
    if is_json(text) {
        return Ok(answer.slice_ref(text));
    }
    let text = std::str::from_utf8(text)
        .map_err(|_| failure::not_json("the answer is neither JSON nor text in UTF-8"))?;
    let quoted = serde_json::to_vec(text).map_err(|e| failure::not_json(&e.to_string()))?;
    match quoted.len() > model::limits::RESPONSE_BYTES {
        true => Err(failure::too_large(quoted.len())),
        false => Ok(quoted.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_become_json() {
        for (answer, becomes) in [
            ("", "null"),
            ("\n", "null"),
            (" {\"a\": 1}\n", "{\"a\": 1}"),
            ("Hello\n", "\"Hello\""),
            ("{half", "\"{half\""),
        ] {
            assert_eq!(json(Bytes::from_static(answer.as_bytes())).unwrap(), becomes);
        }
        let failure = json(Bytes::from_static(b"\xff")).unwrap_err();
        assert_eq!(failure.kind, FailureKind::Handler);
    }
}
