//! A map: one function run over the chunks of an input, then, if that is wanted, another one over the results.
//!
//! [`MapSpec`] is what is asked for, [`Map`] the document that says how far it is. The input and the results lie in the blob store, cut into
//! [`Segment`]s; each chunk is a call of the queue, in a lane of the map's own.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::alias::Percent;
use crate::clock::UnixMillis;
use crate::error::{Code, Error};
use crate::ids::{Digest, FunctionRef, NamespaceName, RequestId};
use crate::invocation::CallContext;
use crate::limits;
use crate::ports::Lane;

/// What an input is made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum InputFormat {
    /// A JSON array: its elements are the items.
    #[default]
    Json,
    /// Text in UTF-8: each line is an item, a string without its line end.
    Lines,
    /// A JSON value on each line, which is an item. Empty lines are left out.
    JsonLines,
}

impl InputFormat {
    /// Its name in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Lines => "lines",
            Self::JsonLines => "json-lines",
        }
    }
}

/// How many chunks may fail before the map does. Text: a number of chunks, `3`, or a share of them, `5%`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Tolerated {
    /// So many.
    Chunks(u64),
    /// This share of all, rounded down.
    Share(Percent),
}

impl Default for Tolerated {
    fn default() -> Self {
        Self::Chunks(0)
    }
}

impl Tolerated {
    /// How many that are of so many.
    pub fn of(self, chunks: u64) -> u64 {
        match self {
            Self::Chunks(most) => most,
            Self::Share(share) => {
                let part = u128::from(chunks) * u128::from(share.hundredths())
                    / u128::from(Percent::ALL.hundredths());
                u64::try_from(part).unwrap_or(u64::MAX)
            }
        }
    }
}

impl FromStr for Tolerated {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.ends_with('%') {
            return text.parse().map(Self::Share);
        }
        text.parse().map(Self::Chunks).map_err(|_| {
            let text: String = text.chars().take(80).flat_map(char::escape_debug).collect();
            format!(
                "'{text}' is not valid: expected a number of chunks or a share of them, for instance 3 or 5%"
            )
        })
    }
}

impl TryFrom<String> for Tolerated {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl fmt::Display for Tolerated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Chunks(most) => write!(f, "{most}"),
            Self::Share(share) => write!(f, "{share}"),
        }
    }
}

impl From<Tolerated> for String {
    fn from(tolerated: Tolerated) -> Self {
        tolerated.to_string()
    }
}

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MapSpec {
    /// The function that gets the chunks.
    pub function: FunctionRef,
    /// The function of the same namespace that gets the results.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reduce: Option<FunctionRef>,
    /// What the input is made of.
    pub format: InputFormat,
    /// Most items of a chunk.
    pub chunk_items: u32,
    /// Most bytes of the items of a chunk, unless a single one is longer.
    pub chunk_bytes: u32,
    /// Most calls that wait or run at once.
    pub concurrency: u32,
    /// Attempts at a chunk in all.
    pub attempts: u32,
    /// How many chunks may fail.
    pub tolerate: Tolerated,
    /// What the calls see beside their events.
    #[serde(default)]
    pub context: CallContext,
}

impl MapSpec {
    /// With everything that can be left out left out.
    pub fn new(function: FunctionRef) -> Self {
        Self {
            function,
            reduce: None,
            format: InputFormat::default(),
            chunk_items: limits::MAP_CHUNK_ITEMS_DEFAULT,
            chunk_bytes: limits::MAP_CHUNK_BYTES,
            concurrency: limits::MAP_CONCURRENCY_DEFAULT,
            attempts: limits::ASYNC_ATTEMPTS,
            tolerate: Tolerated::default(),
            context: CallContext::default(),
        }
    }

    /// Checks every field against its rule; the error names the field and what was expected.
    pub fn validate(&self) -> Result<(), Error> {
        let within = |field: &str, value: u32, most: u32| {
            if (1..=most).contains(&value) {
                return Ok(());
            }
            let message = format!("{field} is {value}: expected 1 to {most}");
            Err(Error::caller(Code::InvalidParameter, message))
        };
        within("chunk", self.chunk_items, limits::MAP_CHUNK_ITEMS_MAX)?;
        within("chunk_bytes", self.chunk_bytes, limits::MAP_CHUNK_BYTES)?;
        within("concurrency", self.concurrency, limits::MAP_CONCURRENCY_MAX)?;
        within("attempts", self.attempts, limits::MAP_ATTEMPTS_MAX)?;
        let (namespace, reduce) = (&self.function.key.namespace, self.reduce.as_ref());
        if reduce.is_some_and(|reduce| reduce.key.namespace != *namespace) {
            let message = format!("reduce is not valid: expected a function of '{namespace}'");
            return Err(Error::caller(Code::InvalidParameter, message));
        }
        Ok(())
    }
}

/// Where a map stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum MapState {
    /// Its input comes in; nothing runs.
    Receiving,
    /// Its chunks run.
    Running,
    /// All chunks have ended, and the results are reduced.
    Reducing,
    /// Done, with no more failures than are tolerated.
    Succeeded,
    /// Given up.
    Failed,
    /// Called off.
    Cancelled,
}

impl MapState {
    /// Whether nothing will become of it any more.
    pub fn has_ended(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled)
    }

    /// Its name in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Receiving => "receiving",
            Self::Running => "running",
            Self::Reducing => "reducing",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

/// Consecutive chunks of an input, or what came of them, in one blob.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Segment {
    /// The blob.
    pub digest: Digest,
    /// Its first chunk, from 0.
    pub first: u64,
    /// How many it has.
    pub chunks: u64,
}

/// One pass of a function over chunks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stage {
    /// 0: over the chunks of the input. From 1: over results of the level below.
    pub level: u32,
    /// How many chunks it has.
    pub chunks: u64,
    /// Its chunks.
    pub source: Vec<Segment>,
    /// Chunks, from the first one on, that have ended and of which everything is kept.
    pub gathered: u64,
    /// What came of them.
    pub results: Vec<Segment>,
}

/// A chunk that failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ChunkFailure {
    /// Which one, from 0.
    pub chunk: u64,
    /// Its first item, from 0.
    pub first_item: u64,
    /// The request id of its call.
    pub call: String,
    /// Why its last attempt failed.
    pub message: String,
}

/// The document of a map.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Map {
    /// Its id. Those of its calls follow from it.
    pub id: RequestId,
    /// What was asked for.
    pub spec: MapSpec,
    /// When it was asked for.
    pub created_at: UnixMillis,
    /// Where it stands.
    pub state: MapState,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<UnixMillis>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Items of the input, so far while it comes in.
    pub items: u64,
    /// Chunks of the input, so far while it comes in.
    pub chunks: u64,
    /// Bytes of the input, so far while it comes in.
    pub bytes: u64,
    /// Chunks that succeeded, of those that are gathered.
    pub done: u64,
    /// Chunks that failed, of those that are gathered.
    pub failed: u64,
    /// Items of chunks that have ended, of those that are gathered.
    pub items_ended: u64,
    /// Bytes of all results that are gathered.
    pub result_bytes: u64,
    /// The first of the chunks that failed, at most [`limits::MAP_FAILURES`].
    #[serde(default)]
    pub failures: Vec<ChunkFailure>,
    /// What runs now.
    pub stage: Stage,
    /// What came of the chunks of the input, once all have ended.
    #[serde(default)]
    pub results: Vec<Segment>,
    /// The one result of the last reduce.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reduced: Option<Segment>,
    /// Every blob that it may have in the store: written here before it is there.
    #[serde(default)]
    pub blobs: Vec<Digest>,
    /// It has ended, and no call of it goes on, and no blob is left but those of its results.
    #[serde(default)]
    pub cleared: bool,
}

/// Whether chunks of a map wait there.
pub fn is_of_map(lane: &Lane) -> bool {
    lane.as_str().contains("/map/")
}

impl Map {
    /// One whose input has yet to come.
    pub fn new(id: RequestId, spec: MapSpec, created_at: UnixMillis) -> Self {
        Self {
            id,
            spec,
            created_at,
            state: MapState::Receiving,
            ended_at: None,
            error: None,
            items: 0,
            chunks: 0,
            bytes: 0,
            done: 0,
            failed: 0,
            items_ended: 0,
            result_bytes: 0,
            failures: Vec::new(),
            stage: Stage::default(),
            results: Vec::new(),
            reduced: None,
            blobs: Vec::new(),
            cleared: false,
        }
    }

    /// Whose it is.
    pub fn namespace(&self) -> &NamespaceName {
        &self.spec.function.key.namespace
    }

    /// The function of the stage under way.
    pub fn target(&self) -> &FunctionRef {
        match (&self.spec.reduce, self.stage.level) {
            (Some(reduce), 1..) => reduce,
            _ => &self.spec.function,
        }
    }

    /// Where its calls wait: behind nobody else's, and nobody behind them.
    pub fn lane(&self) -> Result<Lane, Error> {
        Lane::new(&format!("{}/map/{}", self.spec.function.key, self.id))
    }

    /// The request id of the call of a chunk: the same whenever it is asked for.
    pub fn call(&self, level: u32, chunk: u64) -> RequestId {
        self.id.derived(&format!("map/{level}/{chunk}"))
    }

    /// The segments of results that can be read now: of the chunks of the input, from the first one on.
    pub fn gathered(&self) -> &[Segment] {
        if self.stage.level == 0 && self.results.is_empty() {
            &self.stage.results
        } else {
            &self.results
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_tolerated_is_a_number_or_a_share() {
        for (text, of_200) in [("0", 0), ("3", 3), ("5%", 10), ("0.25%", 0), ("100%", 200)] {
            let tolerated: Tolerated = text.parse().unwrap();
            assert_eq!((tolerated.to_string().as_str(), tolerated.of(200)), (text, of_200));
        }
        for bad in ["", "-1", "five", "101%", "1.5", "%"] {
            bad.parse::<Tolerated>().unwrap_err();
        }
    }

    #[test]
    fn fields_of_a_map_have_bounds() {
        let spec = || MapSpec::new(FunctionRef::parse("default", "f").unwrap());
        spec().validate().unwrap();
        let reduce = FunctionRef::parse("other", "g").unwrap();
        for (bad, field) in [
            (MapSpec { chunk_items: 0, ..spec() }, "chunk"),
            (MapSpec { chunk_bytes: limits::MAP_CHUNK_BYTES + 1, ..spec() }, "chunk_bytes"),
            (MapSpec { concurrency: 1_001, ..spec() }, "concurrency"),
            (MapSpec { attempts: 0, ..spec() }, "attempts"),
            (MapSpec { reduce: Some(reduce), ..spec() }, "reduce"),
        ] {
            let e = bad.validate().unwrap_err();
            assert!(e.message().starts_with(field), "{}", e.message());
        }
    }

    #[test]
    fn calls_of_a_map_have_ids_of_their_own() {
        let spec = MapSpec::new(FunctionRef::parse("default", "f").unwrap());
        let map = Map::new(RequestId::generate(), spec, UnixMillis(1));
        assert_eq!(map.call(0, 7), map.call(0, 7));
        assert_ne!(map.call(0, 7), map.call(0, 8));
        assert_ne!(map.call(0, 7), map.call(1, 7));
        assert_eq!(map.lane().unwrap().as_str(), format!("default/f/map/{}", map.id));
        let function = Lane::from(&FunctionRef::parse("map", "map").unwrap().key);
        assert!(is_of_map(&map.lane().unwrap()) && !is_of_map(&function));
        let json = serde_json::to_vec(&map).unwrap();
        assert_eq!(serde_json::from_slice::<Map>(&json).unwrap(), map);
    }
}
