use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::extract::Query;
use axum::response::Response;
use axum::routing::{any, get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{json, Value};

#[derive(Deserialize)]
struct Who {
    #[serde(default = "world")]
    name: String,
}

fn world() -> String {
    "world".to_owned()
}

async fn hello(Query(who): Query<Who>) -> Json<Value> {
    Json(json!({ "message": format!("Hello, {}", who.name) }))
}

/// Whatever is no HTTP request comes here: direct calls, and what other triggers send.
async fn events(Json(who): Json<Who>) -> Json<Value> {
    Json(json!({ "message": format!("Hello, {}", who.name) }))
}

async fn echo(upgrade: WebSocketUpgrade) -> Response {
    upgrade.on_upgrade(answer)
}

/// What comes goes back.
async fn answer(mut socket: WebSocket) {
    while let Some(Ok(message)) = socket.recv().await {
        if let Message::Text(_) | Message::Binary(_) = message {
            if socket.send(message).await.is_err() {
                return;
            }
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::io::Result<()> {
    let app = Router::new()
        .route("/", get(hello))
        .route("/echo", any(echo))
        .route("/events", post(events));
    let port = std::env::var("PORT").unwrap_or_else(|_| "8080".to_owned());
    let listener = tokio::net::TcpListener::bind(format!("127.0.0.1:{port}")).await?;
    axum::serve(listener, app).await
}
