//! An instance of a `wasi:http` component: fresh for each call, unless its function has one serve many, one after the other. Then it is kept between calls as
//! it is, with whatever the component has left in its memory.

use std::fmt;
use std::time::{Duration, Instant};

use bytes::Bytes;
use model::ports::LogStream;
use tokio::sync::OwnedSemaphorePermit;
use wasmtime::{Result, Store};
use wasmtime_wasi_http::p2::bindings::{Proxy, ProxyPre};

use super::call::Call;
use super::guests::Guests;
use super::host::{self, Host};
use super::printed::Printed;

/// How old an instance becomes that serves many calls: what it leaks is gone then.
const AGE: Duration = Duration::from_secs(3600);

/// One instance.
pub(super) struct Alive {
    pub(super) store: Store<Host>,
    proxy: Option<Proxy>,
    /// What it prints to standard error.
    pub(super) errors: Printed,
    /// Calls that it has served or serves.
    calls: u32,
    made: Instant,
    /// The right to have files.
    _files: Option<OwnedSemaphorePermit>,
    /// The right to stand between calls.
    kept: Option<OwnedSemaphorePermit>,
}

impl fmt::Debug for Alive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Alive").field("calls", &self.calls).finish_non_exhaustive()
    }
}

impl Alive {
    /// A fresh one, of which nothing has run yet; an error if its files cannot be made.
    pub(super) async fn fresh(program: &ProxyPre<Host>, call: &mut Call) -> std::io::Result<Self> {
        let errors = Printed::new(&call.output, LogStream::Stderr);
        let output = Printed::new(&call.output, LogStream::Stdout);
        let streams = (Bytes::new(), output, errors.clone());
        // A variable holds for one call only.
        let trace = call.context.trace.as_deref().filter(|_| call.given.calls == 1);
        let mut wasi = host::wasi(&call.given, trace, streams).await?;
        let store = host::store(program.engine(), Host::new(wasi.build(), &call.given));
        let (made, files) = (Instant::now(), call.files.take());
        Ok(Self { store, proxy: None, errors, calls: 1, made, _files: files, kept: None })
    }

    /// Goes on with another call.
    pub(super) fn again(&mut self) {
        self.calls = self.calls.saturating_add(1);
        self.store.data_mut().bounds.begin();
        self.errors.begin();
    }

    /// The instance itself and its store; made now if need be.
    pub(super) async fn parts(
        &mut self,
        program: &ProxyPre<Host>,
    ) -> Result<(&Proxy, &mut Store<Host>)> {
        let proxy = match self.proxy.take() {
            Some(proxy) => proxy,
            None => program.instantiate_async(&mut self.store).await?,
        };
        Ok((self.proxy.insert(proxy), &mut self.store))
    }

    /// Kept for the next call, if its function and its age allow that and there is room.
    pub(super) fn keep(mut self: Box<Self>, call: &Call, guests: &Guests) -> Option<Box<Self>> {
        if self.calls >= call.given.calls || self.made.elapsed() >= AGE {
            return None;
        }
        if self.kept.is_none() {
            self.kept = Some(guests.keep(call.given.files.is_some())?);
        }
        Some(self)
    }
}
