//! The entry for CPython: an extension module `zygote` with one function, `wait(descriptor)`.
//!
//! Symbols of the interpreter are looked up by name when the module is loaded, so that the library loads anywhere; the layouts are those of CPython's
//! stable ABI.

use core::ffi::{c_char, c_int, c_long, c_void};
use core::ptr;

use crate::serve::{self, Place};
use crate::threads::symbol;

/// `METH_O`: a function of one argument.
const ONE_ARGUMENT: c_int = 8;
/// `PYTHON_API_VERSION` of the stable ABI.
const ABI: c_int = 3;

/// `PyMethodDef`.
#[repr(C)]
struct Method {
    name: *const c_char,
    function: Option<extern "C" fn(*mut c_void, *mut c_void) -> *mut c_void>,
    flags: c_int,
    doc: *const c_char,
}

/// `PyModuleDef`, its base included.
#[repr(C)]
struct Module {
    references: isize,
    kind: *mut c_void,
    init: *mut c_void,
    index: isize,
    copy: *mut c_void,
    name: *const c_char,
    doc: *const c_char,
    state_bytes: isize,
    methods: *mut Method,
    slots: *mut c_void,
    traverse: *mut c_void,
    clear: *mut c_void,
    free: *mut c_void,
}

static METHODS: Place<[Method; 2]> = Place::new([
    Method { name: c"wait".as_ptr(), function: Some(wait), flags: ONE_ARGUMENT, doc: ptr::null() },
    Method { name: ptr::null(), function: None, flags: 0, doc: ptr::null() },
]);

static MODULE: Place<Module> = Place::new(Module {
    references: 1,
    kind: ptr::null_mut(),
    init: ptr::null_mut(),
    index: 0,
    copy: ptr::null_mut(),
    name: c"zygote".as_ptr(),
    doc: ptr::null(),
    state_bytes: -1,
    methods: METHODS.at().cast(),
    slots: ptr::null_mut(),
    traverse: ptr::null_mut(),
    clear: ptr::null_mut(),
    free: ptr::null_mut(),
});

/// What the interpreter calls when it loads the module.
#[unsafe(no_mangle)]
pub extern "C" fn PyInit_zygote() -> *mut c_void {
    let create = symbol(c"PyModule_Create2");
    if create.is_null() {
        return ptr::null_mut();
    }
    // SAFETY: the interpreter's function of this name has this type; the definition is a static of the layout that it takes.
    unsafe {
        let create: extern "C" fn(*mut Module, c_int) -> *mut c_void = core::mem::transmute(create);
        create(MODULE.at(), ABI)
    }
}

/// Returns in children, as `os.fork` does there; in the parent an `OSError` that says why it cannot wait.
extern "C" fn wait(_: *mut c_void, descriptor: *mut c_void) -> *mut c_void {
    type Plain = extern "C" fn();
    let names = [
        c"PyLong_AsLong",
        c"PyLong_FromLong",
        c"PyOS_BeforeFork",
        c"PyOS_AfterFork_Child",
        c"PyOS_AfterFork_Parent",
    ];
    let found = names.map(symbol);
    if found.iter().any(|symbol| symbol.is_null()) {
        return ptr::null_mut();
    }
    let [as_long, from_long, before, after_in_child, after_in_parent] = found;
    // SAFETY: the interpreter's functions of these names have these types, and this thread holds its lock, for it calls an extension.
    unsafe {
        let as_long: extern "C" fn(*mut c_void) -> c_long = core::mem::transmute(as_long);
        let from_long: extern "C" fn(c_long) -> *mut c_void = core::mem::transmute(from_long);
        let [before, in_child, in_parent] = [before, after_in_child, after_in_parent]
            .map(|plain| core::mem::transmute::<*mut c_void, Plain>(plain));
        let control = c_int::try_from(as_long(descriptor)).unwrap_or(-1);
        before();
        let waited = serve::wait(control);
        match &waited {
            Ok(_) => in_child(),
            Err(unfit) => {
                in_parent();
                serve::complain(unfit);
            }
        }
        from_long(serve::told(waited).into())
    }
}
