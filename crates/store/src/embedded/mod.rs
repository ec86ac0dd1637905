//! The backend that lives in one folder of one machine.

mod at_once;
pub(crate) mod blobs;
pub(crate) mod bus;
pub(crate) mod db;
pub(crate) mod lease;
pub(crate) mod logs;
pub(crate) mod meta;
mod packed;
pub(crate) mod queue;
pub(crate) mod readers;
pub(crate) mod room;
pub(crate) mod usage;
mod writer;
