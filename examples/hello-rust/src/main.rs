//! The smallest function in Rust, by the official client.

use lambda_runtime::{Error, LambdaEvent, run, service_fn};
use serde_json::{Value, json};

async fn hello(event: LambdaEvent<Value>) -> Result<Value, Error> {
    let query = &event.payload["queryStringParameters"];
    let name = event.payload["name"].as_str().or(query["name"].as_str()).unwrap_or("world");
    Ok(json!({
        "statusCode": 200,
        "headers": { "content-type": "text/plain" },
        "body": format!("Hello {name}, from {}\n", event.context.env_config.function_name),
    }))
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    run(service_fn(hello)).await
}
