//! `PUT /2022-07-01/telemetry` and its forerunner `PUT /2020-08-15/logs`: not served. The answer is the one that AWS Lambda's own emulator gives where there is
//! no such service, so that extensions which ask for it go on without.

use http::StatusCode;

use super::answers::{Reply, error};

pub(super) fn telemetry() -> Reply {
    error(StatusCode::ACCEPTED, "Telemetry.NotSupported", "Telemetry API is not supported")
}

pub(super) fn logs() -> Reply {
    error(StatusCode::ACCEPTED, "Logs.NotSupported", "Logs API is not supported")
}
