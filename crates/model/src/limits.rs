//! Every limit of the platform, with its unit in its name. What is settable carries its default and its bounds.

/// Largest payload of a synchronous call that is buffered, in bytes (6 MB: AWS Lambda quotas, "Invocation payload").
pub const SYNC_PAYLOAD_BYTES: usize = 6 * 1024 * 1024;
/// Largest response of a call, in bytes; the same figure as the request's.
pub const RESPONSE_BYTES: usize = 6 * 1024 * 1024;
/// Largest payload of an asynchronous call, in bytes (1 MB: AWS Lambda quotas).
pub const ASYNC_PAYLOAD_BYTES: usize = 1024 * 1024;

/// Largest package as uploaded, in bytes; it is held in memory while it is checked.
pub const PACKAGE_BYTES: usize = 100 * 1024 * 1024;
/// Uploads that are checked at once; further ones wait.
pub const UPLOADS_AT_ONCE: usize = 2;
/// Largest package unpacked, in bytes (250 MB: AWS Lambda quotas, "Deployment package").
pub const UNPACKED_BYTES: u64 = 250 * 1024 * 1024;
/// Most entries of a package.
pub const PACKAGE_ENTRIES: usize = 100_000;
/// Longest path of an entry, in bytes.
pub const PACKAGE_PATH_BYTES: usize = 1024;

/// Largest JSON body of a control call, in bytes.
pub const CONTROL_BODY_BYTES: usize = 256 * 1024;
/// How long a request body may take to arrive.
pub const BODY_TIMEOUT_SECONDS: u64 = 60;

/// Default timeout of a function, in milliseconds (AWS Lambda's default).
pub const TIMEOUT_DEFAULT_MS: u32 = 3_000;
/// Longest timeout of a function, in milliseconds (15 minutes, as AWS Lambda).
pub const TIMEOUT_MAX_MS: u32 = 900_000;
/// Shortest timeout of a function, in milliseconds.
pub const TIMEOUT_MIN_MS: u32 = 1;
/// Longest initialisation of an instance, in milliseconds (10 s: AWS Lambda, init phase).
pub const INIT_TIMEOUT_MS: u32 = 10_000;

/// Default memory of a function, in MiB.
pub const MEMORY_DEFAULT_MB: u32 = 128;
/// Least memory of a function, in MiB.
pub const MEMORY_MIN_MB: u32 = 64;
/// Most memory of a function, in MiB (10 GB, as AWS Lambda).
pub const MEMORY_MAX_MB: u32 = 10_240;

/// Default limit of live instances per function.
pub const INSTANCES_DEFAULT: u32 = 20;
/// Highest limit of live instances per function.
pub const INSTANCES_MAX: u32 = 10_000;
/// Calls that may wait for an instance, per version.
pub const WAITERS_PER_VERSION: usize = 1_000;

/// Size limit of an instance's `/tmp`, in MiB (512 MB, as AWS Lambda).
pub const TMP_MB: u32 = 512;
/// Processes and threads of one instance.
pub const PROCESSES_PER_INSTANCE: u32 = 1_024;
/// Open files of one process of an instance (as AWS Lambda).
pub const OPEN_FILES: u64 = 1_024;

/// Entries of the allow-list of a function's network policy.
pub const NETWORK_ALLOW: usize = 64;
/// Least network bandwidth that can be set, in bytes per second: below it a single packet takes longer than a connection waits.
pub const BANDWIDTH_MIN: u64 = 1_000;
/// Most network bandwidth that can be set, in bytes per second.
pub const BANDWIDTH_MAX: u64 = 1_000_000_000;
/// Connections, and what counts as one for UDP, that an instance has open at once or had within the kernel's memory of them (up to two
/// minutes): each takes a place in a table that the host's own connections need as well.
pub const CONNECTIONS_PER_INSTANCE: u32 = 4_096;

/// All environment variables of a function together, in bytes of keys and values.
pub const ENVIRONMENT_BYTES: usize = 32 * 1024;
/// Longest description, in characters.
pub const DESCRIPTION_CHARS: usize = 1_000;
/// Longest handler, in characters (AWS Lambda API reference, `Handler`).
pub const HANDLER_CHARS: usize = 128;
/// Most tags of a function (AWS Lambda quotas).
pub const TAGS: usize = 50;

/// Longest log line that is kept, in bytes; the rest of the line is dropped, counted and said.
pub const LOG_LINE_BYTES: usize = 256 * 1024;
/// Log output an instance may write, in bytes per second, sustained; over it lines are dropped, counted and said.
pub const LOG_BYTES_PER_SECOND: u64 = 4 * 1024 * 1024;
/// Log output an instance may write at once above the sustained rate, in bytes.
pub const LOG_BURST_BYTES: u64 = 16 * 1024 * 1024;
/// Most log lines that one query returns.
pub const LOG_QUERY_LINES: usize = 10_000;

/// Entries on one page of a listing.
pub const PAGE_ENTRIES: usize = 1_000;

/// Attempts of an asynchronous call in all, for function errors (`events.md`, delivery defaults: 3).
pub const ASYNC_ATTEMPTS: u32 = 3;
/// Longest age of an asynchronous call, in seconds (6 h).
pub const ASYNC_MAX_AGE_SECONDS: u64 = 6 * 3600;
/// Hash partitions of the asynchronous queue: a cluster engine pays per consumer, so the number is fixed and small.
pub const QUEUE_PARTITIONS: u16 = 32;
