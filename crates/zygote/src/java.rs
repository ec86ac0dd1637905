//! The entry for Java: the native method of `hanshu.Zygote`, `static native int await(int descriptor)`.
//!
//! A virtual machine finds it by its name. It asks nothing of the virtual machine, so neither its headers nor its table of functions are needed.

use core::ffi::c_void;

use crate::serve;
use crate::sys;

/// Returns 0 or 2, in children alone ([`serve::told`]). In the parent it says on standard error why it cannot wait and ends the process at once: a virtual machine whose threads are parked
/// cannot end by itself.
#[unsafe(no_mangle)]
pub extern "C" fn Java_hanshu_Zygote_await(_: *mut c_void, _: *mut c_void, control: i32) -> i32 {
    let waited = serve::wait(control);
    if let Err(unfit) = &waited {
        serve::complain(unfit);
        sys::exit(1);
    }
    serve::told(waited)
}
