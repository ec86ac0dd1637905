//! What one instance may use: the rules of the resource fields of [`FunctionConfig`], and the two figures that are no plain numbers.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize, Serializer};

use super::FunctionConfig;
use crate::error::{Code, Error};
use crate::limits;

/// A share of the memory that a host gives to functions, as `25%` or `12.5%`: more than 0 %, at most 100 %.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MemoryShare {
    per_mille: u32,
}

impl MemoryShare {
    /// The size that it stands for on a host that gives `host_mb` MiB to functions; never below `limits::MEMORY_MIN_MB`.
    pub fn of(self, host_mb: u64) -> u32 {
        let mb = host_mb.saturating_mul(u64::from(self.per_mille)) / 1000;
        u32::try_from(mb).unwrap_or(u32::MAX).max(limits::MEMORY_MIN_MB)
    }
}

impl FromStr for MemoryShare {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let percent = text.strip_suffix('%').map(str::trim_end);
        percent
            .and_then(|number| decimal(number, 1))
            .filter(|per_mille| (1..=1000).contains(per_mille))
            .map(|per_mille| Self { per_mille })
            .ok_or_else(|| format!("'{text}' is no share: expected 0.1% to 100%, for instance 25%"))
    }
}

impl fmt::Display for MemoryShare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.per_mille % 10 {
            0 => write!(f, "{}%", self.per_mille / 10),
            tenths => write!(f, "{}.{tenths}%", self.per_mille / 10),
        }
    }
}

impl Serialize for MemoryShare {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for MemoryShare {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// Processors, in thousandths of one. Stands as a number in documents: `0.5` is half of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cores {
    millis: u32,
}

impl Cores {
    /// From thousandths of a processor.
    pub fn from_millis(millis: u32) -> Self {
        Self { millis }
    }

    /// In thousandths of a processor.
    pub fn millis(self) -> u32 {
        self.millis
    }
}

impl FromStr for Cores {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        decimal(text, 3).map(|millis| Self { millis }).ok_or_else(|| {
            format!("'{text}' is no number of processors: expected for instance 0.5 or 2")
        })
    }
}

impl fmt::Display for Cores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", f64::from(self.millis) / 1000.0)
    }
}

impl Serialize for Cores {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(f64::from(self.millis) / 1000.0)
    }
}

impl<'de> Deserialize<'de> for Cores {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Number;

        impl Visitor<'_> for Number {
            type Value = Cores;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of processors, for instance 0.5 or 2")
            }

            fn visit_f64<E: de::Error>(self, number: f64) -> Result<Cores, E> {
                number.to_string().parse().map_err(E::custom)
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Cores, E> {
                number.to_string().parse().map_err(E::custom)
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Cores, E> {
                number.to_string().parse().map_err(E::custom)
            }
        }

        deserializer.deserialize_any(Number)
    }
}

/// A number without sign and with at most `places` decimals, in units of its last place.
pub(crate) fn decimal(text: &str, places: usize) -> Option<u32> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(fraction) || fraction.len() > places {
        return None;
    }
    format!("{whole}{fraction:0<places$}").parse().ok()
}

/// The runtime of functions that are web servers.
pub const WEB: &str = "web";
/// The runtime of functions that are WebAssembly.
pub const WASM: &str = "wasm";

impl<V> FunctionConfig<V> {
    /// Whether the function is a web server.
    pub fn is_web(&self) -> bool {
        self.runtime == WEB
    }

    /// Whether the function is WebAssembly.
    pub fn is_wasm(&self) -> bool {
        self.runtime == WASM
    }

    /// Whether its calls may have a body that comes in pieces beside the event ([`crate::stream::BodyStream`]).
    pub fn takes_body_streams(&self) -> bool {
        self.is_web()
    }

    /// Calls that one instance serves at once.
    pub fn calls_at_once(&self) -> u32 {
        let default = if self.is_web() { limits::INSTANCE_CONCURRENCY_WEB } else { 1 };
        self.instance_concurrency.unwrap_or(default)
    }
}

impl<V> FunctionConfig<V> {
    /// Works the memory limit out where it is given as a share, for a host that gives `host_mb` MiB to functions. To be called with whatever
    /// comes from the store, before it is used or shown.
    pub fn resolve_memory(&mut self, host_mb: u64) {
        if let Some(share) = self.memory_share {
            self.memory_mb = share.of(host_mb);
        }
    }

    /// The form to be stored: a size that a share stands for depends on the host and is left out.
    pub fn stored(mut self) -> Self {
        if self.memory_share.is_some() {
            self.memory_mb = limits::MEMORY_DEFAULT_MB;
        }
        self
    }

    /// The weight of an instance when processors are short: what was asked for, else in proportion to its memory as on AWS Lambda, where
    /// 1 769 MB are worth one processor. In the unit of cgroups(7), `cpu.weight`.
    pub fn effective_cpu_weight(&self) -> u32 {
        let by_memory = u64::from(self.memory_mb) * 100 / u64::from(limits::MEMORY_PER_CPU_MB);
        let by_memory = u32::try_from(by_memory).unwrap_or(limits::CPU_WEIGHT_MAX);
        self.cpu_weight.unwrap_or(by_memory.clamp(1, limits::CPU_WEIGHT_MAX))
    }

    /// Checks the resource fields; the error names the field and what was expected.
    pub(super) fn validate_resources(&self) -> Result<(), Error> {
        if self.memory_share.is_none() {
            let range = limits::MEMORY_MIN_MB..=limits::MEMORY_MAX_MB;
            within("memory_mb", self.memory_mb, &range)?;
        }
        if let Some(weight) = self.cpu_weight {
            within("cpu_weight", weight, &(1..=limits::CPU_WEIGHT_MAX))?;
        }
        if let Some(cores) = self.cpu_cores {
            let [least, most] =
                [limits::CPU_MIN_MILLIS, limits::CPU_MAX_MILLIS].map(Cores::from_millis);
            within("cpu_cores", cores, &(least..=most))?;
        }
        let processes = limits::PROCESSES_MIN..=limits::PROCESSES_MAX;
        within("processes", self.processes, &processes)?;
        let open_files = limits::OPEN_FILES_MIN..=limits::OPEN_FILES_MAX;
        within("open_files", self.open_files, &open_files)?;
        within("tmp_mb", self.tmp_mb, &(limits::TMP_MIN_MB..=limits::TMP_MAX_MB))?;
        let output = limits::OUTPUT_MIN_BYTES_PER_SECOND..=limits::OUTPUT_MAX_BYTES_PER_SECOND;
        within("output_bytes_per_second", self.output_bytes_per_second, &output)?;
        self.validate_calls()?;
        match self.files {
            Some(files) if !self.is_wasm() => {
                Err(self.not_possible("files", files, "no such field", WASM))
            }
            _ => Ok(()),
        }
    }

    /// How many calls an instance has, at once and altogether.
    fn validate_calls(&self) -> Result<(), Error> {
        if let Some(calls) = self.instance_concurrency {
            within("instance_concurrency", calls, &(1..=limits::INSTANCE_CONCURRENCY_MAX))?;
            if calls > 1 && !self.is_web() {
                return Err(self.not_possible("instance_concurrency", calls, "1", WEB));
            }
        }
        if let Some(calls) = self.instance_calls {
            within("instance_calls", calls, &(1..=limits::INSTANCE_CALLS_MAX))?;
            if !self.is_wasm() {
                return Err(self.not_possible("instance_calls", calls, "no such field", WASM));
            }
        }
        Ok(())
    }

    fn not_possible(
        &self,
        field: &str,
        value: impl fmt::Display,
        expected: &str,
        only_for: &str,
    ) -> Error {
        let runtime = &self.runtime;
        let message = format!(
            "{field} {value} is not possible with runtime '{runtime}': expected {expected}, or the runtime {only_for}"
        );
        Error::caller(Code::InvalidParameter, message)
    }
}

/// Whether a field's value lies in its range.
pub(super) fn within<T: PartialOrd + fmt::Display>(
    field: &str,
    value: T,
    range: &RangeInclusive<T>,
) -> Result<(), Error> {
    if range.contains(&value) {
        return Ok(());
    }
    let (least, most) = (range.start(), range.end());
    let message = format!("{field} {value} is out of range: expected {least} to {most}");
    Err(Error::caller(Code::InvalidParameter, message))
}

#[cfg(test)]
mod tests {
    use super::super::tests::config;
    use super::*;

    #[test]
    fn shares_are_read_shown_and_resolved() {
        for (text, shown, of_4096) in
            [("25%", "25%", 1024), ("12.5%", "12.5%", 512), ("100 %", "100%", 4096)]
        {
            let share: MemoryShare = text.parse().unwrap();
            assert_eq!((share.to_string().as_str(), share.of(4096)), (shown, of_4096));
        }
        let least: MemoryShare = "0.1%".parse().unwrap();
        assert_eq!(least.of(4096), limits::MEMORY_MIN_MB);
        for bad in ["", "%", "25", "0%", "101%", "-5%", "12.55%", "1e1%", "x%", ".5%"] {
            let error = bad.parse::<MemoryShare>().unwrap_err();
            assert!(error.contains(bad) && error.contains("expected"), "{error}");
        }
    }

    #[test]
    fn cores_stand_as_numbers() {
        for (json, millis) in [("0.5", 500), ("2", 2000), ("1.0", 1000), ("0.125", 125)] {
            let cores: Cores = serde_json::from_str(json).unwrap();
            assert_eq!(cores.millis(), millis);
            let back: Cores = serde_json::from_value(serde_json::to_value(cores).unwrap()).unwrap();
            assert_eq!(back, cores);
        }
        for bad in ["-1", "0.0001", "\"1\"", "1e300", "null"] {
            serde_json::from_str::<Cores>(bad).unwrap_err();
        }
    }

    #[test]
    fn a_share_is_stored_and_a_size_worked_out() {
        let share = Some("50%".parse().unwrap());
        let mut given = FunctionConfig { memory_share: share, memory_mb: 7, ..config() };
        given.validate().unwrap();
        given.resolve_memory(1000);
        assert_eq!(given.memory_mb, 500);
        let other = FunctionConfig { memory_share: share, ..config() };
        assert_eq!(given.stored(), other.stored());
        let mut absolute = config();
        absolute.resolve_memory(1000);
        assert_eq!(absolute, config());
    }

    #[test]
    fn each_resource_out_of_range_is_named_with_its_range() {
        type Spoil = fn(&mut FunctionConfig);
        let cases: [(&str, Spoil); 18] = [
            ("memory_mb 1 is out of range: expected 64 to 10240", |c| c.memory_mb = 1),
            ("cpu_weight 0 is", |c| c.cpu_weight = Some(0)),
            ("cpu_weight 10001", |c| c.cpu_weight = Some(10_001)),
            ("cpu_cores 0.049 is out of range: expected 0.05 to 256", |c| {
                c.cpu_cores = Some(Cores::from_millis(49));
            }),
            ("cpu_cores 257", |c| c.cpu_cores = Some(Cores::from_millis(257_000))),
            ("processes 15", |c| c.processes = 15),
            ("processes 32769", |c| c.processes = 32_769),
            ("instance_concurrency 0", |c| c.instance_concurrency = Some(0)),
            ("instance_concurrency 251", |c| c.instance_concurrency = Some(251)),
            ("instance_concurrency 2", |c| c.instance_concurrency = Some(2)),
            ("instance_calls 0", |c| c.instance_calls = Some(0)),
            ("instance_calls 5 is not possible", |c| c.instance_calls = Some(5)),
            ("files true is not possible", |c| c.files = Some(true)),
            ("open_files 63", |c| c.open_files = 63),
            ("open_files 1048577", |c| c.open_files = 1_048_577),
            ("tmp_mb 0", |c| c.tmp_mb = 0),
            ("tmp_mb 10241", |c| c.tmp_mb = 10_241),
            ("output_bytes_per_second 1023", |c| c.output_bytes_per_second = 1023),
        ];
        for (words, spoil) in cases {
            let mut c = config();
            spoil(&mut c);
            let e = c.validate().unwrap_err();
            assert_eq!(e.code(), Code::InvalidParameter);
            assert!(e.message().contains(words), "{words}: {}", e.message());
        }
    }

    #[test]
    fn the_cpu_weight_follows_memory_unless_it_is_given() {
        let weight = |memory_mb, cpu_weight| {
            FunctionConfig { memory_mb, cpu_weight, ..config() }.effective_cpu_weight()
        };
        assert_eq!(weight(1769, None), 100);
        assert_eq!(weight(128, None), 7);
        assert_eq!(weight(10_240, None), 578);
        assert_eq!(weight(128, Some(300)), 300);
    }

    #[test]
    fn web_servers_take_many_calls_and_command_lines() {
        let mut config = FunctionConfig { runtime: WEB.into(), ..config() };
        config.handler = "node server.js".into();
        assert_eq!(config.calls_at_once(), limits::INSTANCE_CONCURRENCY_WEB);
        config.instance_concurrency = Some(250);
        config.readiness_path = Some("/ready?deep=1".into());
        config.validate().unwrap();
        assert_eq!(config.calls_at_once(), 250);
        for path in ["", "ready", "/a b", "/a#b", "/\u{e9}", &"/a".repeat(200)] {
            let spoilt = FunctionConfig { readiness_path: Some(path.to_owned()), ..config.clone() };
            assert!(spoilt.validate().unwrap_err().message().contains("a path"), "{path}");
        }
        let other = FunctionConfig {
            runtime: "nodejs20".into(),
            handler: "index.handler".into(),
            instance_concurrency: None,
            ..config.clone()
        };
        assert!(other.validate().unwrap_err().message().contains("the runtime web"));
        config.readiness_path = None;
        for handler in ["", "   ", "node\tserver.js", "node\nserver.js"] {
            config.handler = handler.into();
            config.validate().unwrap_err();
        }
        config.runtime = "nodejs20".into();
        config.handler = "node server.js".into();
        config.instance_concurrency = Some(1);
        config.validate().unwrap_err();
    }
}
