//! The backend that lives in one folder of one machine.

pub(crate) mod blobs;
pub(crate) mod bus;
pub(crate) mod db;
pub(crate) mod lease;
pub(crate) mod logs;
pub(crate) mod meta;
pub(crate) mod queue;
pub(crate) mod readers;
pub(crate) mod room;
pub(crate) mod usage;
mod writer;
