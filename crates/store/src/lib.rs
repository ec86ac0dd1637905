//! The store behind the ports of `model`: one data folder, nothing else to install.
//!
//! Start at [`open()`]: it takes a [`StoreConfig`] and answers with a [`Store`], one value per port.
//!
//! | module | what it holds |
//! |---|---|
//! | `open` | from a location to a backend; today the location is a folder |
//! | `format` | the folder: its version, its lock, migrations |
//! | `fault` | errors of SQLite and of the file system as errors of the platform |
//! | `embedded::db` | the catalogue database: one writer thread with group commit, a few readers |
//! | `embedded::{meta, queue, usage, lease}` | ports as tables of that database |
//! | `embedded::blobs` | packages as files under their SHA-256 |
//! | `embedded::logs` | log lines in compressed blocks, found through an index that can be rebuilt |
//! | `embedded::room` | what is left of the disk, and what of it is for new things |
//! | `embedded::bus` | messages within this process |
//! | [`vault`] | the keys that secrets are sealed with; on any `Meta` |
//!
//! The store knows no function semantics: it keeps bytes, and every promise it makes stands at the port. Only the steps between formats
//! (`format::to_3`) know what documents looked like.

mod embedded;
mod fault;
mod format;
mod open;
pub mod vault;

pub use format::FORMAT_VERSION;
pub use open::{RESERVE_BYTES, Store, StoreConfig, open};
