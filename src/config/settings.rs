//! The configuration of streams in words: what `stream create` and `basin create` are told alike.

use std::num::NonZeroU64;

use super::{ConfigError, parse_duration};
use crate::types::{RetentionPolicy, StreamConfigLayer, TimestampingMode};

/// What was said of a stream's configuration; what was not said stays open.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct StreamSettings {
    /// How long records are kept: a time in whole seconds such as 7d or 12h, or infinite
    #[arg(long, value_name = "AGE")]
    pub retention: Option<String>,

    /// Whose timestamps records get: client-prefer, client-require or arrival
    #[arg(long, value_name = "MODE")]
    pub timestamping: Option<String>,

    /// Let clients give timestamps that lie in the future
    #[arg(long)]
    pub uncapped: bool,

    /// Delete a stream that has had no records for this long; 0 for never
    #[arg(long, value_name = "AGE")]
    pub delete_on_empty: Option<String>,
}

impl StreamSettings {
    /// What this means.
    pub fn resolve(&self) -> Result<StreamConfigLayer, ConfigError> {
        Ok(StreamConfigLayer {
            storage_class: None,
            retention_policy: self.retention.as_deref().map(retention).transpose()?,
            timestamping_mode: self.timestamping.as_deref().map(timestamping).transpose()?,
            timestamping_uncapped: self.uncapped.then_some(true),
            delete_on_empty_min_age_secs: self.delete_on_empty.as_deref().map(delete_on_empty).transpose()?,
        })
    }
}

fn timestamping(text: &str) -> Result<TimestampingMode, ConfigError> {
    match text {
        "client-prefer" => Ok(TimestampingMode::ClientPrefer),
        "client-require" => Ok(TimestampingMode::ClientRequire),
        "arrival" => Ok(TimestampingMode::Arrival),
        _ => Err(ConfigError::of("--timestamping", text, "expected client-prefer, client-require or arrival")),
    }
}

fn retention(text: &str) -> Result<RetentionPolicy, ConfigError> {
    if text == "infinite" {
        return Ok(RetentionPolicy::Infinite);
    }
    let rule = "expected a time in whole seconds such as 7d or 12h, more than none, or infinite";
    let seconds = whole_seconds(text).and_then(NonZeroU64::new);
    seconds.map(RetentionPolicy::Age).ok_or_else(|| ConfigError::of("--retention", text, rule))
}

fn delete_on_empty(text: &str) -> Result<u64, ConfigError> {
    let rule = "expected a time in whole seconds such as 1h, or 0 for never";
    whole_seconds(text).ok_or_else(|| ConfigError::of("--delete-on-empty", text, rule))
}

fn whole_seconds(text: &str) -> Option<u64> {
    let duration = parse_duration(text).ok()?;
    (duration.subsec_nanos() == 0).then_some(duration.as_secs())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Said {
        #[command(flatten)]
        args: StreamSettings,
    }

    fn resolve(words: &[&str]) -> Result<StreamConfigLayer, ConfigError> {
        Said::try_parse_from([&["create"], words].concat()).expect("grammatical").args.resolve()
    }

    #[test]
    fn settings_of_streams() {
        // control-plane.md §3.1
        let open = StreamConfigLayer::default();
        let kept = |policy| StreamConfigLayer { retention_policy: Some(policy), ..open.clone() };
        let stamped = |mode| StreamConfigLayer { timestamping_mode: Some(mode), ..open.clone() };
        let emptied = |secs| StreamConfigLayer { delete_on_empty_min_age_secs: Some(secs), ..open.clone() };
        let age = |secs| RetentionPolicy::Age(NonZeroU64::new(secs).unwrap());
        for (words, expected) in [
            (&[][..], open.clone()),
            (&["--retention", "7d"], kept(age(604_800))),
            (&["--retention", "1m30s"], kept(age(90))),
            (&["--retention", "infinite"], kept(RetentionPolicy::Infinite)),
            (&["--timestamping", "client-prefer"], stamped(TimestampingMode::ClientPrefer)),
            (&["--timestamping", "client-require"], stamped(TimestampingMode::ClientRequire)),
            (&["--timestamping", "arrival"], stamped(TimestampingMode::Arrival)),
            (&["--uncapped"], StreamConfigLayer { timestamping_uncapped: Some(true), ..open.clone() }),
            (&["--delete-on-empty", "1h"], emptied(3600)),
            (&["--delete-on-empty", "0"], emptied(0)),
        ] {
            assert_eq!(resolve(words), Ok(expected), "{words:?}");
        }
    }

    #[test]
    fn errors_name_flag_and_value() {
        for (flag, value) in [
            ("--retention", "0"),
            ("--retention", "0s"),
            ("--retention", "1500ms"),
            ("--retention", "7"),
            ("--retention", "forever"),
            ("--timestamping", "client_prefer"),
            ("--delete-on-empty", "never"),
            ("--delete-on-empty", "1ms"),
        ] {
            let error = resolve(&[flag, value]).expect_err(flag);
            assert_eq!((error.flag, error.value.as_deref()), (flag, Some(value)));
        }
    }
}
