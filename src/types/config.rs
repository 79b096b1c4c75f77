//! How a stream behaves, and the layers in which that is configured (`control-plane.md` §3).
//!
//! A *layer* has an optional value for every setting. A stream's configuration is its own layer over its basin's
//! defaults over the defaults here, setting by setting, with nothing left open.

use std::{fmt, num::NonZeroU64, sync::Arc};

/// Name of a storage class; it changes no behaviour here.
#[derive(Clone, PartialEq, Eq)]
pub struct StorageClass(Arc<str>);

impl StorageClass {
    /// The class `name`.
    pub fn new(name: &str) -> Self {
        Self(name.into())
    }

    /// Its name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for StorageClass {
    fn default() -> Self {
        Self::new("express")
    }
}

impl fmt::Debug for StorageClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// How long records are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetentionPolicy {
    /// This many seconds from their arrival.
    Age(NonZeroU64),
    /// Until they are trimmed.
    Infinite,
}

impl Default for RetentionPolicy {
    fn default() -> Self {
        const A_WEEK: NonZeroU64 = NonZeroU64::new(604_800).expect("not zero");
        RetentionPolicy::Age(A_WEEK)
    }
}

/// Whose timestamps count (`data-plane.md` §4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TimestampingMode {
    /// The client's, or the time of arrival where it gave none.
    #[default]
    ClientPrefer,
    /// The client's, and it must give one.
    ClientRequire,
    /// The time of arrival.
    Arrival,
}

/// How records get their timestamps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timestamping {
    /// Whose count.
    pub mode: TimestampingMode,
    /// Whether a client's timestamp may lie in the future.
    pub uncapped: bool,
}

/// A stream's configuration, nothing left open.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StreamConfig {
    /// Storage class.
    pub storage_class: StorageClass,
    /// How long records are kept.
    pub retention_policy: RetentionPolicy,
    /// How records get their timestamps.
    pub timestamping: Timestamping,
    /// For how many seconds a stream must have been empty before it is deleted; 0: never.
    pub delete_on_empty_min_age_secs: u64,
}

/// Some of a stream's configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StreamConfigLayer {
    /// Storage class.
    pub storage_class: Option<StorageClass>,
    /// How long records are kept.
    pub retention_policy: Option<RetentionPolicy>,
    /// Whose timestamps count.
    pub timestamping_mode: Option<TimestampingMode>,
    /// Whether a client's timestamp may lie in the future.
    pub timestamping_uncapped: Option<bool>,
    /// For how many seconds a stream must have been empty before it is deleted; 0: never.
    pub delete_on_empty_min_age_secs: Option<u64>,
}

impl StreamConfigLayer {
    /// The configuration of this layer over `below` over the defaults.
    pub fn over(&self, below: &StreamConfigLayer) -> StreamConfig {
        let class = self.storage_class.as_ref().or(below.storage_class.as_ref());
        let min_age = self.delete_on_empty_min_age_secs.or(below.delete_on_empty_min_age_secs);
        StreamConfig {
            storage_class: class.cloned().unwrap_or_default(),
            retention_policy: self.retention_policy.or(below.retention_policy).unwrap_or_default(),
            timestamping: Timestamping {
                mode: self.timestamping_mode.or(below.timestamping_mode).unwrap_or_default(),
                uncapped: self.timestamping_uncapped.or(below.timestamping_uncapped).unwrap_or_default(),
            },
            delete_on_empty_min_age_secs: min_age.unwrap_or_default(),
        }
    }

    /// Whether no setting has a value.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A cipher for the records of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cipher {
    /// AEGIS-256.
    Aegis256,
    /// AES-256-GCM.
    Aes256Gcm,
}

impl Cipher {
    /// Its name in configurations.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Aegis256 => "aegis-256",
            Self::Aes256Gcm => "aes-256-gcm",
        }
    }
}

impl fmt::Display for Cipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A basin's configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BasinConfig {
    /// What its streams fall back on.
    pub default_stream_config: StreamConfigLayer,
    /// The cipher of streams made from now on.
    pub stream_cipher: Option<Cipher>,
    /// Whether an append makes a stream that is missing.
    pub create_stream_on_append: bool,
    /// Whether a read makes a stream that is missing.
    pub create_stream_on_read: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_combine_setting_by_setting() {
        // control-plane.md §3.3
        let basin = StreamConfigLayer {
            timestamping_mode: Some(TimestampingMode::Arrival),
            delete_on_empty_min_age_secs: Some(60),
            retention_policy: Some(RetentionPolicy::Infinite),
            ..Default::default()
        };
        let stream = StreamConfigLayer {
            timestamping_uncapped: Some(true),
            delete_on_empty_min_age_secs: Some(0),
            ..Default::default()
        };
        let config = stream.over(&basin);
        assert_eq!(config.timestamping, Timestamping { mode: TimestampingMode::Arrival, uncapped: true });
        assert_eq!(config.delete_on_empty_min_age_secs, 0, "an explicit 0 overrides the basin");
        assert_eq!(config.retention_policy, RetentionPolicy::Infinite);
        assert_eq!(config.storage_class.as_str(), "express");
    }

    #[test]
    fn defaults_of_the_contract() {
        // control-plane.md §3.1
        let config = StreamConfigLayer::default().over(&StreamConfigLayer::default());
        assert_eq!(config, StreamConfig::default());
        assert_eq!(config.retention_policy, RetentionPolicy::Age(NonZeroU64::new(604_800).unwrap()));
    }
}
