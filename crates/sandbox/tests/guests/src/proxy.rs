//! As a wasi:http component: a POST with the event. What else there is to be seen of requests is at the paths.
//!
//! | path | answer |
//! |---|---|
//! | `/` | what the event says; with `pieces`, what `Kit::streams` says |
//! | `/hello` | the words, for who measures |
//! | `/request` | method, path, header fields and body of the request |
//! | `/outgoing` | what comes of a request to the address of the query, or to loopback |
//! | `/many` | how many requests to the address of the query go on at once |
//! | `/nothing` | none: it returns |
//! | `/unfinished` | a body that is given up |
//! | `/bodies` | bodies of responses without end, each full, until they are refused |
//! | `/fields` | header fields without end, until they are refused |

use serde_json::{Map, Value, json};
use wasip2::http::outgoing_handler;
use wasip2::http::types::{
    ErrorCode, Fields, FutureIncomingResponse, IncomingRequest, Method, OutgoingBody, OutgoingRequest, OutgoingResponse,
    ResponseOutparam, Scheme,
};
use wasip2::io::streams::{OutputStream, StreamError};

use crate::{Answer, error, handle};

struct Guest;

wasip2::http::proxy::export!(Guest);

impl wasip2::exports::http::incoming_handler::Guest for Guest {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let target = request.path_with_query().unwrap_or_default();
        let body = read(&request);
        match target.split('?').next().unwrap_or_default() {
            "/request" => answer(out, 200, &[("x-seen", "yes")], seen(&request, &body).as_bytes()),
            "/outgoing" => answer(out, 200, &[], outgoing(query(&target)).as_bytes()),
            "/many" => answer(out, 200, &[], many(query(&target)).to_string().as_bytes()),
            "/hello" => answer(out, 200, &[], b"Hello world"),
            "/nothing" => drop(out),
            "/unfinished" => {
                let (body, stream) = begin(out, 200, &[]);
                write(&stream, b"half");
                drop(stream);
                drop(body);
            }
            "/fields" => answer(out, 200, &[], fields().as_bytes()),
            "/bodies" => bodies(),
            _ => event(out, &serde_json::from_slice(&body).unwrap()),
        }
    }
}

fn event(out: ResponseOutparam, event: &Value) {
    if event["pieces"].is_u64() {
        return pieces(out, event);
    }
    match handle(event) {
        Ok(Answer::Json(value)) => {
            answer(out, 200, &[("content-type", "application/json")], value.to_string().as_bytes());
        }
        Ok(Answer::Raw(bytes)) => answer(out, 200, &[], &bytes),
        Err(message) => answer(out, 500, &[], error(&message).to_string().as_bytes()),
    }
}

fn pieces(out: ResponseOutparam, event: &Value) {
    let number = |name: &str| event[name].as_u64().unwrap_or_default() as usize;
    let (body, stream) = begin(out, 201, &[("x-said", "before"), ("x-hanshu-stream", "true")]);
    let letters = (b'a'..=b'z').cycle();
    for (n, letter) in letters.clone().take(number("pieces")).enumerate() {
        write(&stream, &vec![letter; number("bytes")]);
        println!("wrote {}", n + 1);
    }
    match event["then"].as_str().unwrap_or_default() {
        "exit" => std::process::exit(7),
        "never" => loop {
            std::thread::sleep(std::time::Duration::from_secs(3600));
        },
        "endless" => letters.for_each(|letter| write(&stream, &[letter; 1000])),
        _ => {}
    }
    drop(stream);
    OutgoingBody::finish(body, None).unwrap();
}

fn begin(
    out: ResponseOutparam,
    status: u16,
    headers: &[(&str, &str)],
) -> (OutgoingBody, OutputStream) {
    let fields = Fields::new();
    for (name, value) in headers {
        fields.append(name, value.as_bytes()).unwrap();
    }
    let response = OutgoingResponse::new(fields);
    response.set_status_code(status).unwrap();
    let body = response.body().unwrap();
    ResponseOutparam::set(out, Ok(response));
    let stream = body.write().unwrap();
    (body, stream)
}

fn answer(out: ResponseOutparam, status: u16, headers: &[(&str, &str)], bytes: &[u8]) {
    let (body, stream) = begin(out, status, headers);
    write(&stream, bytes);
    drop(stream);
    OutgoingBody::finish(body, None).unwrap();
}

/// Whoever no longer reads is none of the function's business.
fn write(stream: &OutputStream, bytes: &[u8]) {
    for piece in bytes.chunks(4096) {
        if let Err(StreamError::LastOperationFailed(e)) = stream.blocking_write_and_flush(piece) {
            panic!("{}", e.to_debug_string());
        }
    }
}

fn read(request: &IncomingRequest) -> Vec<u8> {
    let (body, mut all) = (request.consume().unwrap(), Vec::new());
    let stream = body.stream().unwrap();
    while let Ok(piece) = stream.blocking_read(1 << 16) {
        all.extend(piece);
    }
    all
}

fn seen(request: &IncomingRequest, body: &[u8]) -> String {
    let method = match request.method() {
        Method::Put => "PUT".to_owned(),
        other => format!("{other:?}"),
    };
    let mut headers = Map::new();
    for (name, value) in request.headers().entries() {
        headers.insert(name, json!(String::from_utf8_lossy(&value)));
    }
    json!({
        "method": method,
        "target": request.path_with_query(),
        "authority": request.authority(),
        "headers": headers,
        "body": String::from_utf8_lossy(body),
    })
    .to_string()
}

fn query(target: &str) -> &str {
    target.split_once('?').map_or("127.0.0.1:9/", |(_, query)| query)
}

/// As much of a body as is read, in bytes.
const ENOUGH: usize = 1 << 20;

/// To `AUTHORITY/PATH`, or `https:AUTHORITY/PATH`.
fn ask(target: &str) -> Result<FutureIncomingResponse, ErrorCode> {
    let (scheme, target) = match target.strip_prefix("https:") {
        Some(rest) => (Scheme::Https, rest),
        None => (Scheme::Http, target),
    };
    let (authority, path) = target.split_once('/').unwrap_or((target, ""));
    let request = OutgoingRequest::new(Fields::new());
    request.set_scheme(Some(&scheme)).unwrap();
    request.set_authority(Some(authority)).unwrap();
    request.set_path_with_query(Some(&format!("/{path}"))).unwrap();
    outgoing_handler::handle(request, None)
}

fn outgoing(target: &str) -> String {
    let response = match ask(target) {
        Ok(response) => response,
        Err(code) => return format!("{code:?}"),
    };
    response.subscribe().block();
    let response = match response.get() {
        Some(Ok(Ok(response))) => response,
        Some(Ok(Err(code))) => return format!("{code:?}"),
        other => return format!("{}", other.is_some()),
    };
    let (body, mut all) = (response.consume().unwrap(), Vec::new());
    let stream = body.stream().unwrap();
    while all.len() < ENOUGH
        && let Ok(piece) = stream.blocking_read(1 << 16)
    {
        all.extend(piece);
    }
    let beginning = String::from_utf8_lossy(&all[..all.len().min(40)]).into_owned();
    format!("status {}, {} bytes: {beginning}", response.status(), all.len())
}

fn many(target: &str) -> usize {
    let mut going = Vec::new();
    for _ in 0..200 {
        let Ok(response) = ask(target) else { break };
        going.push(response);
    }
    // Those that are refused are refused soon, the others are never answered.
    let count = || going.iter().filter(|response| !response.subscribe().ready()).count();
    loop {
        let before = count();
        std::thread::sleep(std::time::Duration::from_millis(400));
        if count() == before {
            return before;
        }
    }
}

fn bodies() -> ! {
    loop {
        let fields = Fields::new();
        fields.append("x-large", &[b'y'; 20_000]).unwrap();
        let response = OutgoingResponse::new(fields);
        let body = response.body().unwrap();
        let stream = body.write().unwrap();
        while let Ok(room @ 1..) = stream.check_write() {
            stream.write(&vec![b'z'; room as usize]).unwrap();
        }
        std::mem::forget((response, body, stream));
    }
}

fn fields() -> String {
    let fields = Fields::new();
    let mut n = 0;
    while fields.append(&format!("x-{n}"), &[b'y'; 100]).is_ok() {
        n += 1;
    }
    n.to_string()
}
