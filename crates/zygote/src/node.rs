//! The entry for Node.js: an addon with one function, `wait(descriptor)`.
//!
//! Symbols of the runtime are looked up by name when the addon is loaded, so that the library loads anywhere; the types are those of Node-API, which keeps
//! them.

use core::ffi::{c_char, c_void};
use core::ptr;

use crate::serve;
use crate::threads::symbol;

type Env = *mut c_void;
type Value = *mut c_void;
type Callback = extern "C" fn(Env, *mut c_void) -> Value;
type CreateFunction =
    extern "C" fn(Env, *const c_char, usize, Callback, *mut c_void, *mut Value) -> i32;
type SetProperty = extern "C" fn(Env, Value, *const c_char, Value) -> i32;
type CallbackInfo =
    extern "C" fn(Env, *mut c_void, *mut usize, *mut Value, *mut Value, *mut *mut c_void) -> i32;
type GetInt = extern "C" fn(Env, Value, *mut i32) -> i32;
type CreateInt = extern "C" fn(Env, i32, *mut Value) -> i32;

/// `NAPI_AUTO_LENGTH`.
const TO_THE_END: usize = usize::MAX;

/// Which version of Node-API this is made for.
#[unsafe(no_mangle)]
pub extern "C" fn node_api_module_get_api_version_v1() -> i32 {
    8
}

/// What the runtime calls when it loads the addon.
#[unsafe(no_mangle)]
pub extern "C" fn napi_register_module_v1(env: Env, exports: Value) -> Value {
    let (create, set) = (symbol(c"napi_create_function"), symbol(c"napi_set_named_property"));
    if create.is_null() || set.is_null() {
        return exports;
    }
    let mut function = ptr::null_mut();
    // SAFETY: the runtime's functions of these names have these types; what is passed is live, and the name ends with a zero byte.
    unsafe {
        let create: CreateFunction = core::mem::transmute(create);
        let set: SetProperty = core::mem::transmute(set);
        let name = c"wait".as_ptr();
        if create(env, name, TO_THE_END, wait, ptr::null_mut(), &raw mut function) == 0 {
            set(env, exports, name, function);
        }
    }
    exports
}

/// Returns 0 or 2 in children; in the parent 1, and says on standard error why it cannot wait.
extern "C" fn wait(env: Env, info: *mut c_void) -> Value {
    let names = [c"napi_get_cb_info", c"napi_get_value_int32", c"napi_create_int32"];
    let found = names.map(symbol);
    if found.iter().any(|symbol| symbol.is_null()) {
        return ptr::null_mut();
    }
    let [info_of, get, create] = found;
    let (mut count, mut argument, mut control) = (1, ptr::null_mut(), -1);
    let mut answer = ptr::null_mut();
    // SAFETY: the runtime's functions of these names have these types; what is passed is live, and there is room for one argument.
    unsafe {
        let info_of: CallbackInfo = core::mem::transmute(info_of);
        let get: GetInt = core::mem::transmute(get);
        let create: CreateInt = core::mem::transmute(create);
        info_of(env, info, &raw mut count, &raw mut argument, ptr::null_mut(), ptr::null_mut());
        get(env, argument, &raw mut control);
        let waited = serve::wait(control);
        if let Err(unfit) = &waited {
            serve::complain(unfit);
        }
        create(env, serve::told(waited), &raw mut answer);
    }
    answer
}
