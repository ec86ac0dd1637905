//! Every limit of the platform, with its unit in its name. What is settable carries its default and its bounds.

/// Largest payload of a synchronous call that is buffered, in bytes (6 MB: AWS Lambda quotas, "Invocation payload").
pub const SYNC_PAYLOAD_BYTES: usize = 6 * 1024 * 1024;
/// Largest response of a call, in bytes; the same figure as the request's.
pub const RESPONSE_BYTES: usize = 6 * 1024 * 1024;
/// Pieces of a streamed answer that are held for a caller who has not taken them yet; a piece has at most 64 KiB.
pub const STREAM_PIECES: usize = 4;
/// Largest payload of an asynchronous call, in bytes; as that of a synchronous one (AWS Lambda takes 1 MB).
pub const ASYNC_PAYLOAD_BYTES: usize = SYNC_PAYLOAD_BYTES;

/// Longest key of a call that its caller gives, in characters (the most that Stripe and the AWS SDKs use is less).
pub const KEY_CHARS: usize = 255;
/// Default time for which a call's key holds, in seconds (24 hours, as Stripe's).
pub const KEY_WINDOW_SECONDS: u64 = 24 * 3600;
/// Shortest time for which a call's key holds, in seconds.
pub const KEY_WINDOW_MIN_SECONDS: u64 = 60;
/// Longest time for which a call's key holds, in seconds.
pub const KEY_WINDOW_MAX_SECONDS: u64 = 7 * 24 * 3600;

/// Largest package as uploaded, in bytes; it is held in memory while it is checked.
pub const PACKAGE_BYTES: usize = 100 * 1024 * 1024;
/// Largest request of the AWS Lambda API that holds a package, in bytes: that of the service itself, which takes a zip of 50 MiB in base64 so.
pub const PACKAGE_IN_JSON_BYTES: usize = 70_167_211;
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
/// How long a client may take nothing of a response that waits to be sent.
pub const WRITE_TIMEOUT_SECONDS: u64 = 60;
/// How long nothing may pass on a WebSocket, in either direction (10 minutes, as Amazon API Gateway's).
pub const WEBSOCKET_IDLE_SECONDS: u64 = 600;

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
/// Longest name of a time zone; those of the IANA database have 32 characters at most.
pub const TIMEZONE_CHARS: usize = 64;
/// Highest limit of live instances per function.
pub const INSTANCES_MAX: u32 = 10_000;
/// Calls that may wait for an instance, per version.
pub const WAITERS_PER_VERSION: usize = 1_000;

/// Memory that is worth one processor when weights are made, in MiB (AWS Lambda gives one processor at 1 769 MB).
pub const MEMORY_PER_CPU_MB: u32 = 1_769;
/// Highest CPU weight (cgroups(7), `cpu.weight`).
pub const CPU_WEIGHT_MAX: u32 = 10_000;
/// Lowest ceiling of processor time, in thousandths of a processor (0.05, as Alibaba FC).
pub const CPU_MIN_MILLIS: u32 = 50;
/// Highest ceiling of processor time, in thousandths of a processor.
pub const CPU_MAX_MILLIS: u32 = 256_000;

/// Default size limit of an instance's `/tmp`, in MiB (512 MB, as AWS Lambda).
pub const TMP_DEFAULT_MB: u32 = 512;
/// Smallest size limit of an instance's `/tmp`, in MiB.
pub const TMP_MIN_MB: u32 = 1;
/// Largest size limit of an instance's `/tmp`, in MiB (10 240 MB, as AWS Lambda).
pub const TMP_MAX_MB: u32 = 10_240;
/// Default limit of processes and threads of one instance (1 024, as AWS Lambda).
pub const PROCESSES_DEFAULT: u32 = 1_024;
/// Lowest limit of processes and threads: Node.js has eleven threads when it is idle.
pub const PROCESSES_MIN: u32 = 16;
/// Highest limit of processes and threads: all ids of a host whose kernel.pid_max is the default (proc(5)).
pub const PROCESSES_MAX: u32 = 32_768;
/// Largest core dump of the daemon and of every process of an instance, in bytes. One and not none: a kernel whose core pattern is a
/// program does not ask for this limit, but takes the value 1 as "no dump" (`do_coredump` in fs/coredump.c); for a core file it is too
/// little as well.
pub const CORE_DUMP_BYTES: u64 = 1;
/// Calls at once in one instance of a web server that sets no other number: what one process of a common server takes without more than 128 MiB.
pub const INSTANCE_CONCURRENCY_WEB: u32 = 32;
/// Most calls at once in one instance. Each may need a socket of the daemon's, which are made with the instance.
pub const INSTANCE_CONCURRENCY_MAX: u32 = 250;
/// Most calls that one instance of a WebAssembly component serves, one after the other.
pub const INSTANCE_CALLS_MAX: u32 = 1_000_000;
/// Default limit of open files of one process of an instance (1 024, as AWS Lambda).
pub const OPEN_FILES_DEFAULT: u32 = 1_024;
/// Lowest limit of open files: a runtime that loads needs some dozens.
pub const OPEN_FILES_MIN: u32 = 64;
/// Highest limit of open files: the kernel's default for fs.nr_open (proc(5)).
pub const OPEN_FILES_MAX: u32 = 1_048_576;

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
/// Most secret environment variables of a function: sealed, each takes about 250 bytes of its record besides its text.
pub const SECRETS: usize = 256;
/// Longest description, in characters.
pub const DESCRIPTION_CHARS: usize = 1_000;
/// Longest handler, in characters (AWS Lambda API reference, `Handler`).
pub const HANDLER_CHARS: usize = 128;
/// Longest readiness path, in characters.
pub const READINESS_PATH_CHARS: usize = 256;
/// Most tags of a function (AWS Lambda quotas).
pub const TAGS: usize = 50;

/// Longest log line that is kept, in bytes; the rest of the line is dropped, counted and said.
pub const LOG_LINE_BYTES: usize = 256 * 1024;
/// Default of the log output an instance may write, in bytes per second, sustained; over it lines are dropped, counted and said.
pub const OUTPUT_DEFAULT_BYTES_PER_SECOND: u32 = 4 * 1024 * 1024;
/// Lowest limit of log output, in bytes per second.
pub const OUTPUT_MIN_BYTES_PER_SECOND: u32 = 1024;
/// Highest limit of log output, in bytes per second.
pub const OUTPUT_MAX_BYTES_PER_SECOND: u32 = 64 * 1024 * 1024;
/// How many seconds' worth of log output an instance may write at once.
pub const OUTPUT_BURST_SECONDS: u32 = 4;
/// Most log lines that one query returns.
pub const LOG_QUERY_LINES: usize = 10_000;

/// Entries on one page of a listing.
pub const PAGE_ENTRIES: usize = 1_000;

/// Attempts of an asynchronous call in all, for function errors, where its function says nothing else (as AWS Lambda).
pub const ASYNC_ATTEMPTS: u32 = 3;
/// Most attempts that a function can ask for: as many as are noted one by one.
pub const ASYNC_ATTEMPTS_MAX: u32 = 100;
/// Age at which an asynchronous call is given up where its function says nothing else, in seconds (6 h, as AWS Lambda).
pub const ASYNC_MAX_AGE_SECONDS: u64 = 6 * 3600;
/// Least of the ages that a function can ask for, in seconds (a minute, as AWS Lambda).
pub const ASYNC_MAX_AGE_LEAST_SECONDS: u64 = 60;
/// Most of the ages that a function can ask for, in seconds (a week).
pub const ASYNC_MAX_AGE_MOST_SECONDS: u64 = 7 * 24 * 3600;
/// Longest delay that an asynchronous call can be accepted with, in seconds (a week; Amazon SQS: 15 min).
pub const ASYNC_DELAY_SECONDS: u64 = 7 * 24 * 3600;
/// Pause after the first failed attempt where the function says nothing else, in seconds.
pub const RETRY_FIRST_SECONDS: u32 = 60;
/// How much longer the next pause is where the function says nothing else.
pub const RETRY_FACTOR: u32 = 2;
/// Highest factor of a retry curve.
pub const RETRY_FACTOR_MAX: u32 = 10;
/// Longest pause between attempts where the function says nothing else, in seconds (an hour).
pub const RETRY_CEILING_SECONDS: u32 = 3600;
/// Longest pause that a function can ask for, in seconds (a day).
pub const RETRY_PAUSE_MAX_SECONDS: u32 = 24 * 3600;
/// Pauses that a retry curve lists.
pub const RETRY_PAUSES: usize = 20;
/// Longest address of a webhook, in characters.
pub const WEBHOOK_CHARS: usize = 2_048;
/// Shortest time that a function can ask for what came of its calls to be kept, in seconds.
pub const ASYNC_KEEP_LEAST_SECONDS: u64 = 60;
/// Longest time that a function can ask for what came of its calls to be kept, in seconds (30 days).
pub const ASYNC_KEEP_MOST_SECONDS: u64 = 30 * 24 * 3600;

/// Default of the asynchronous calls of one function that may wait or run, in calls.
pub const QUEUED_CALLS_PER_FUNCTION: u64 = 2_000_000;
/// Default of what those take in the queue, in bytes: 4 GiB.
pub const QUEUED_BYTES_PER_FUNCTION: u64 = 4 << 30;
/// Default of the asynchronous calls of one namespace that may wait or run, in calls.
pub const QUEUED_CALLS_PER_NAMESPACE: u64 = 10_000_000;
/// Default of what those take in the queue, in bytes: 16 GiB.
pub const QUEUED_BYTES_PER_NAMESPACE: u64 = 16 << 30;
/// Highest limit of asynchronous calls that may wait or run, in calls.
pub const QUEUED_CALLS_MAX: u64 = 1_000_000_000;
/// Highest limit of what those take in the queue, in bytes: 1 PiB.
pub const QUEUED_BYTES_MAX: u64 = 1 << 50;
/// Largest input of a map, in bytes.
pub const MAP_INPUT_BYTES: u64 = 2 << 30;
/// Most items of a map's input.
pub const MAP_ITEMS: u64 = 100_000_000;
/// Most chunks of a map: each is a call of its own.
pub const MAP_CHUNKS: u64 = 100_000;
/// Items of a chunk where nothing else is said.
pub const MAP_CHUNK_ITEMS_DEFAULT: u32 = 100;
/// Most items of a chunk.
pub const MAP_CHUNK_ITEMS_MAX: u32 = 1_000_000;
/// Most bytes of the items of a chunk, and of one item: 1 MiB, less a kilobyte that says which chunk it is. Calls carry more, but a thousand at once of that size are enough.
pub const MAP_CHUNK_BYTES: u32 = 1024 * 1024 - 1024;
/// How deep the items of a map's input may nest.
pub const MAP_ITEM_DEPTH: u32 = 128;
/// Calls of a map that wait or run at once where nothing else is said.
pub const MAP_CONCURRENCY_DEFAULT: u32 = 20;
/// Most calls of a map that wait or run at once.
pub const MAP_CONCURRENCY_MAX: u32 = 1_000;
/// Most attempts at a chunk.
pub const MAP_ATTEMPTS_MAX: u32 = 100;
/// Maps of a namespace that have not ended; the next one is throttled.
pub const MAPS_RUNNING: usize = 10;
/// Maps of a namespace that are kept; the next one is throttled.
pub const MAPS_KEPT: usize = 1_000;
/// Inputs that are received at once, each with some MiB of memory; the next one is throttled.
pub const MAP_INPUTS_AT_ONCE: usize = 8;
/// Largest answer for a chunk of a map, in bytes: as many as run at once, and some more, are in memory.
pub const MAP_ANSWER_BYTES: usize = 256 * 1024;
/// All results of a map's chunks together, in bytes; with more it fails.
pub const MAP_RESULT_BYTES: u64 = 1 << 30;
/// Failures that a map keeps in its document.
pub const MAP_FAILURES: usize = 10;

/// Largest document of the catalogue, in bytes: a value of the port `Meta`.
pub const DOCUMENT_BYTES: usize = 1024 * 1024;
/// What people's changes leave free of a document, in bytes: so that a shift can always go on or back, and everything be deleted.
pub const DOCUMENT_RESERVE_BYTES: usize = 128 * 1024;
/// Published versions of one function: its document lists them, and a document has at most [`DOCUMENT_BYTES`].
pub const VERSIONS: usize = 10_000;
/// Aliases of one function.
pub const ALIASES: usize = 1_000;
/// Instances that are kept started for one version or alias.
pub const PROVISIONED_INSTANCES: u32 = 1_000;
/// Versions and aliases of a function that instances are kept started for.
pub const PROVISIONED_ENTRIES: usize = 100;
/// Times of one schedule.
pub const SCHEDULE_TIMES: usize = 24;
/// Characters of a cron expression.
pub const CRON_CHARS: usize = 100;
/// Weighted targets of one alias.
pub const ALIAS_TARGETS: usize = 100;
/// Highest weight of a target.
pub const ALIAS_WEIGHT_MAX: u32 = 1_000_000;
/// Rules of one alias.
pub const ALIAS_RULES: usize = 100;
/// Conditions of one rule.
pub const RULE_CONDITIONS: usize = 10;
/// Texts that a condition lists.
pub const ONE_OF_TEXTS: usize = 100;
/// Longest name of a call's parameter, and longest text it is compared with, in bytes.
pub const PARAMETER_BYTES: usize = 1_024;
/// How deep a field of an event may lie.
pub const PARAMETER_STEPS: usize = 32;
/// Largest event that rules and sticky keys read fields of, in bytes: to read it takes a thread some milliseconds.
pub const ROUTED_EVENT_BYTES: usize = 1024 * 1024;
/// As much of a field's value as rules and sticky keys see, in bytes.
pub const FIELD_BYTES: usize = 16 * 1024;
/// Steps of a shift.
pub const ROLLOUT_STEPS: usize = 100;
/// Conditions that stop a shift.
pub const ROLLOUT_CONDITIONS: usize = 10;
/// Shortest step of a shift, in milliseconds.
pub const ROLLOUT_EVERY_MIN_MS: u64 = 1_000;
/// Longest step of a shift, in milliseconds: a week.
pub const ROLLOUT_EVERY_MAX_MS: u64 = 7 * 24 * 3_600_000;
/// Longest reason of a change, in characters.
pub const REASON_CHARS: usize = 500;
/// Changes that are kept of one thing; older ones are dropped.
pub const HISTORY_CHANGES: u64 = 10_000;
/// Layers of one function (AWS Lambda quotas, "Function layers").
pub const LAYERS: usize = 5;
/// Versions of one layer.
pub const LAYER_VERSIONS: usize = 1_000;
/// Aliases of one layer.
pub const LAYER_ALIASES: usize = 100;
/// Highest quota of calls per second of a namespace.
pub const CALLS_PER_SECOND_MAX: u32 = 1_000_000;
/// Runtimes that a namespace's policy lists.
pub const POLICY_RUNTIMES: usize = 100;
/// Copies of calls to shadows that run at once; over that, calls are not copied.
pub const SHADOWS_AT_ONCE: usize = 64;
/// Keys of the daemon.
pub const KEYS: usize = 1_000;
