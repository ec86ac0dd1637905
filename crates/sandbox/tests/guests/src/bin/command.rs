//! As a WASI command: event on standard input, answer on standard output.

use std::io::{Read as _, Write as _};

use guests::{Answer, error, handle};

fn main() {
    let mut event = Vec::new();
    std::io::stdin().read_to_end(&mut event).unwrap();
    let (answer, code) = match handle(&serde_json::from_slice(&event).unwrap()) {
        Ok(Answer::Json(value)) => (value.to_string().into_bytes(), 0),
        Ok(Answer::Raw(bytes)) => (bytes, 0),
        Err(message) => (error(&message).to_string().into_bytes(), 1),
    };
    std::io::stdout().write_all(&answer).unwrap();
    std::process::exit(code);
}
