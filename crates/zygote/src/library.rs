//! The root of the shared library that runtimes load; [`lib.rs`](lib.rs) says what it is.

#![no_std]

mod asleep;
mod birth;
mod descriptors;
mod files;
mod java;
mod memory;
mod node;
mod order;
mod python;
mod rights;
mod serve;
mod sys;
mod text;
mod threads;

/// A panic is a fault of this library; the process holds nothing that could be lost.
#[panic_handler]
fn on_panic(_: &core::panic::PanicInfo<'_>) -> ! {
    sys::exit(102)
}

/// `core` is built to unwind and names it; nothing unwinds here.
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}
