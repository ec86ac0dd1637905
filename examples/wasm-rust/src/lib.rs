//! A component of `wasi:http`: answers requests to the function's URL (`?name=Ada`), and events that are none, which come as POST.

use serde_json::{json, Value};
use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{
    Fields, IncomingRequest, Method, OutgoingBody, OutgoingResponse, ResponseOutparam,
};

struct Hello;

wasip2::http::proxy::export!(Hello);

impl Guest for Hello {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let target = request.path_with_query().unwrap_or_default();
        let query = target.split_once('?').map_or("", |(_, query)| query);
        let mut name = query.split('&').find_map(|pair| pair.strip_prefix("name=")).map(str::to_owned);
        if matches!(request.method(), Method::Post) {
            let event: Value = serde_json::from_slice(&read(&request)).unwrap_or_default();
            name = event["name"].as_str().map(str::to_owned);
        }
        let name = name.as_deref().unwrap_or("world");
        answer(out, &json!({ "message": format!("Hello, {name}") }));
    }
}

fn read(request: &IncomingRequest) -> Vec<u8> {
    let body = request.consume().expect("the body is taken once");
    let stream = body.stream().expect("its stream is taken once");
    let mut read = Vec::new();
    // Ends with the body.
    while let Ok(piece) = stream.blocking_read(1 << 16) {
        read.extend(piece);
    }
    read
}

fn answer(out: ResponseOutparam, value: &Value) {
    let headers = Fields::new();
    headers.append("content-type", b"application/json").expect("a valid header");
    let response = OutgoingResponse::new(headers);
    let body = response.body().expect("the body is taken once");
    ResponseOutparam::set(out, Ok(response));
    let stream = body.write().expect("its stream is taken once");
    // At most 4096 bytes at once (wasi:io/streams).
    stream.blocking_write_and_flush(value.to_string().as_bytes()).expect("the client is there");
    drop(stream);
    OutgoingBody::finish(body, None).expect("the body is whole");
}
