//! The engine on ports in memory and a scripted sandbox, in paused time: what is asserted about time is exact.

mod queued;
mod scripted;
mod sync;
