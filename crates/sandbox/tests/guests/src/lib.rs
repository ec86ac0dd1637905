//! What both guests do: what the event says.

#[cfg(all(target_env = "p2", feature = "proxy"))]
mod proxy;

use std::io::Write as _;
use std::net::TcpStream;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::{Map, Value, json};

static CALLS: AtomicU32 = AtomicU32::new(0);

/// What a handler comes to.
pub enum Answer {
    /// JSON.
    Json(Value),
    /// Bytes that are none.
    Raw(Vec<u8>),
}

/// Does what the event says; an error is the handler's own.
pub fn handle(event: &Value) -> Result<Answer, String> {
    let text = |name: &str| event[name].as_str().unwrap_or_default().to_owned();
    let number = |name: &str| event[name].as_u64().unwrap_or_default();
    let words = |e: std::io::Error| e.to_string();
    let answer = match text("op").as_str() {
        "echo" => event["value"].clone(),
        // Those that this instance has served.
        "count" => json!(CALLS.fetch_add(1, Ordering::Relaxed) + 1),
        "throw" => return Err(text("text")),
        "print" => {
            println!("{}", text("text"));
            Value::Null
        }
        "flood" => flood(number("bytes")),
        "big" => json!("x".repeat(number("bytes") as usize)),
        "unserialisable" => return Ok(Answer::Raw(vec![0xff, 0xfe])),
        "busy" => loop {
            std::hint::black_box(0);
        },
        "never" => loop {
            std::thread::sleep(Duration::from_secs(3600));
        },
        "exit" => std::process::exit(number("code") as i32),
        "memory" => memory(),
        "connect" => {
            TcpStream::connect(("127.0.0.1", number("port") as u16)).map_err(words)?;
            json!("connected")
        }
        "write" => {
            std::fs::write(text("path"), text("text")).map_err(words)?;
            Value::Null
        }
        "read" => json!(std::fs::read_to_string(text("path")).map_err(words)?),
        "list" => list(&text("path")).map_err(words)?,
        // Files are opened until that is refused, and stay open.
        "descriptors" => json!((0..).take_while(|n| open(&format!("/tmp/{n}"))).count()),
        // Bytes are written until that is refused.
        "fill" => json!(fill(&text("path"))),
        // Files are made until that is refused.
        "litter" => json!((0..).take_while(|n| std::fs::write(format!("/tmp/f{n}"), "").is_ok()).count()),
        "link" => {
            link(&text("to"), &text("path")).map_err(words)?;
            json!(std::fs::read_to_string(text("path")).map_err(words)?)
        }
        "environment" => environment(),
        other => return Err(format!("unknown op {other}")),
    };
    Ok(Answer::Json(answer))
}

fn flood(bytes: u64) -> Value {
    let line = [vec![b'x'; 1023], vec![b'\n']].concat();
    // What a command answers goes to standard output.
    let mut out: Box<dyn std::io::Write> = if cfg!(feature = "proxy") {
        Box::new(std::io::stdout())
    } else {
        Box::new(std::io::stderr())
    };
    for _ in 0..bytes / line.len() as u64 {
        out.write_all(&line).unwrap();
    }
    out.flush().unwrap();
    json!(bytes)
}

fn open(path: &str) -> bool {
    std::fs::File::create(path).map(std::mem::forget).is_ok()
}

fn fill(path: &str) -> u64 {
    let (piece, mut written) = (vec![b'x'; 1 << 16], 0);
    let Ok(mut file) = std::fs::File::create(path) else { return 0 };
    while file.write_all(&piece).is_ok() {
        written += piece.len() as u64;
    }
    written
}

#[cfg(target_os = "wasi")]
fn link(to: &str, path: &str) -> std::io::Result<()> {
    // What the standard library has for it is not stable.
    unsafe extern "C" {
        fn symlink(to: *const std::ffi::c_char, path: *const std::ffi::c_char) -> i32;
    }
    let [to, path] = [to, path].map(|text| std::ffi::CString::new(text).unwrap());
    // SAFETY: both are strings that end.
    match unsafe { symlink(to.as_ptr(), path.as_ptr()) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}

fn memory() -> ! {
    let mut kept = Vec::new();
    loop {
        kept.push(vec![1_u8; 1 << 20]);
        std::hint::black_box(&kept);
    }
}

fn list(path: &str) -> std::io::Result<Value> {
    let names = std::fs::read_dir(path)?;
    let name =
        |entry: std::io::Result<std::fs::DirEntry>| Ok(json!(entry?.file_name().to_string_lossy()));
    names.map(name).collect::<std::io::Result<Vec<_>>>().map(Value::from)
}

fn environment() -> Value {
    Value::Object(std::env::vars().map(|(key, value)| (key, json!(value))).collect::<Map<_, _>>())
}

/// An error in the form that the platform knows.
pub fn error(message: &str) -> Value {
    json!({"errorType": "Error", "errorMessage": message})
}
