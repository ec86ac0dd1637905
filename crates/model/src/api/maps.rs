//! Maps as they are listed and shown.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::map::{ChunkFailure, InputFormat, MapState};

/// A map: a function over the chunks of an input, and how far it is.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct MapView {
    /// Its id.
    pub id: String,
    /// The function that gets the chunks, `NAME` or `NAME:QUALIFIER`.
    pub function: String,
    /// The function that gets the results.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reduce: Option<String>,
    /// Where it stands.
    pub state: MapState,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// RFC 3339.
    pub created_at: String,
    /// When it ended, if it has. RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<String>,
    /// What its input is made of.
    pub format: InputFormat,
    /// Bytes of the input.
    pub input_bytes: u64,
    /// Its items.
    pub items: ItemCounts,
    /// Its chunks.
    pub chunks: ChunkCounts,
    /// The reduce under way, or the last one that was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reducing: Option<ReduceCounts>,
    /// Most items of a chunk.
    pub chunk: u32,
    /// Most bytes of the items of a chunk.
    pub chunk_bytes: u32,
    /// Most calls that wait or run at once.
    pub concurrency: u32,
    /// Attempts at a chunk in all.
    pub attempts: u32,
    /// How many chunks may fail: a number of them, or a share.
    pub tolerate: String,
    /// The first chunks that failed, at most ten.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failures: Vec<ChunkFailure>,
    /// The answer of the last call of the reduce function, of one map that is shown. Results of the chunks are read apart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<Value>,
}

/// Items of a map.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ItemCounts {
    /// All of them.
    pub total: u64,
    /// Those of chunks that have ended, well or not.
    pub ended: u64,
}

/// Chunks of a map.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ChunkCounts {
    /// All of them.
    pub total: u64,
    /// Those that succeeded.
    pub done: u64,
    /// Those whose calls wait for their turn or run.
    pub running: u64,
    /// Those that failed.
    pub failed: u64,
}

/// Calls of a reduce function.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReduceCounts {
    /// From 1: over the results of the chunks; each further one is over the results of the one below.
    pub level: u32,
    /// Calls of this level.
    pub total: u64,
    /// Those that have ended.
    pub ended: u64,
    /// Those that wait for their turn or run.
    pub running: u64,
}
