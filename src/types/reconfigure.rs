//! What a client asks to change in a configuration, setting by setting (`control-plane.md` §4.4, §5.4).

use super::{BasinConfig, Cipher, RetentionPolicy, StorageClass, StreamConfig, StreamConfigLayer, TimestampingMode};

/// What is to become of one setting.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Change<T> {
    /// It stays.
    #[default]
    Keep,
    /// It becomes unset: what lies below it shows through.
    Clear,
    /// It gets this value.
    Set(T),
}

impl<T: Clone> Change<T> {
    /// The setting after the change.
    fn of(&self, current: Option<&T>) -> Option<T> {
        match self {
            Self::Keep => current.cloned(),
            Self::Clear => None,
            Self::Set(value) => Some(value.clone()),
        }
    }
}

/// Changes to a stream's configuration, or to the layer that a basin has for its streams.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StreamReconfiguration {
    /// Storage class.
    pub storage_class: Change<StorageClass>,
    /// How long records are kept.
    pub retention_policy: Change<RetentionPolicy>,
    /// Whose timestamps count.
    pub timestamping_mode: Change<TimestampingMode>,
    /// Whether a client's timestamp may lie in the future.
    pub timestamping_uncapped: Change<bool>,
    /// For how many seconds a stream must have been empty before it is deleted; 0: never.
    pub delete_on_empty_min_age_secs: Change<u64>,
}

impl StreamReconfiguration {
    /// Every setting cleared.
    pub const CLEAR_ALL: Self = Self {
        storage_class: Change::Clear,
        retention_policy: Change::Clear,
        timestamping_mode: Change::Clear,
        timestamping_uncapped: Change::Clear,
        delete_on_empty_min_age_secs: Change::Clear,
    };

    /// A stream's configuration after the changes; what was cleared falls back on `basin_default`, then on the
    /// defaults (`control-plane.md` §5.4).
    pub fn apply(&self, current: &StreamConfig, basin_default: &StreamConfigLayer) -> StreamConfig {
        self.apply_to_layer(&current.to_layer()).over(basin_default)
    }

    /// A layer after the changes; what was cleared is unset (`control-plane.md` §4.4).
    pub fn apply_to_layer(&self, current: &StreamConfigLayer) -> StreamConfigLayer {
        StreamConfigLayer {
            storage_class: self.storage_class.of(current.storage_class.as_ref()),
            retention_policy: self.retention_policy.of(current.retention_policy.as_ref()),
            timestamping_mode: self.timestamping_mode.of(current.timestamping_mode.as_ref()),
            timestamping_uncapped: self.timestamping_uncapped.of(current.timestamping_uncapped.as_ref()),
            delete_on_empty_min_age_secs: self
                .delete_on_empty_min_age_secs
                .of(current.delete_on_empty_min_age_secs.as_ref()),
        }
    }
}

impl StreamConfig {
    /// The layer in which every setting has the value it has here.
    pub fn to_layer(&self) -> StreamConfigLayer {
        StreamConfigLayer {
            storage_class: Some(self.storage_class.clone()),
            retention_policy: Some(self.retention_policy),
            timestamping_mode: Some(self.timestamping.mode),
            timestamping_uncapped: Some(self.timestamping.uncapped),
            delete_on_empty_min_age_secs: Some(self.delete_on_empty_min_age_secs),
        }
    }
}

/// Changes to a basin's configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BasinReconfiguration {
    /// What its streams fall back on.
    pub default_stream_config: StreamReconfiguration,
    /// The cipher of streams made from now on.
    pub stream_cipher: Change<Cipher>,
    /// Whether an append makes a stream that is missing; there is nothing below that could show through.
    pub create_stream_on_append: Option<bool>,
    /// Whether a read makes a stream that is missing.
    pub create_stream_on_read: Option<bool>,
}

impl BasinReconfiguration {
    /// The basin's configuration after the changes (`control-plane.md` §4.4).
    pub fn apply(&self, current: &BasinConfig) -> BasinConfig {
        BasinConfig {
            default_stream_config: self.default_stream_config.apply_to_layer(&current.default_stream_config),
            stream_cipher: self.stream_cipher.of(current.stream_cipher.as_ref()),
            create_stream_on_append: self.create_stream_on_append.unwrap_or(current.create_stream_on_append),
            create_stream_on_read: self.create_stream_on_read.unwrap_or(current.create_stream_on_read),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Timestamping;

    /// A configuration in which nothing has its default.
    fn unusual() -> StreamConfig {
        StreamConfig {
            storage_class: StorageClass::new("standard"),
            retention_policy: RetentionPolicy::Infinite,
            timestamping: Timestamping { mode: TimestampingMode::Arrival, uncapped: true },
            delete_on_empty_min_age_secs: 60,
        }
    }

    #[test]
    fn what_is_kept_stays_whatever_the_basin_says() {
        let basin = StreamConfig::default().to_layer();
        assert_eq!(StreamReconfiguration::default().apply(&unusual(), &basin), unusual());
    }

    #[test]
    fn what_is_cleared_falls_back_on_the_basin_then_on_the_default() {
        // control-plane.md §5.4
        let clear = StreamReconfiguration::CLEAR_ALL;
        assert_eq!(clear.apply(&unusual(), &StreamConfigLayer::default()), StreamConfig::default());
        assert_eq!(clear.apply(&StreamConfig::default(), &unusual().to_layer()), unusual());
    }

    #[test]
    fn what_is_set_stands_even_at_its_default() {
        let set = StreamReconfiguration {
            storage_class: Change::Set(StorageClass::default()),
            retention_policy: Change::Set(RetentionPolicy::default()),
            timestamping_mode: Change::Set(TimestampingMode::default()),
            timestamping_uncapped: Change::Set(false),
            delete_on_empty_min_age_secs: Change::Set(0),
        };
        assert_eq!(set.apply(&unusual(), &unusual().to_layer()), StreamConfig::default());
    }

    #[test]
    fn the_two_timestamping_settings_change_alone() {
        let mode_only = StreamReconfiguration { timestamping_mode: Change::Clear, ..Default::default() };
        let timestamping = Timestamping { mode: TimestampingMode::ClientPrefer, uncapped: true };
        let expected = StreamConfig { timestamping, ..unusual() };
        assert_eq!(mode_only.apply(&unusual(), &StreamConfigLayer::default()), expected);
    }

    #[test]
    fn basins_change_setting_by_setting() {
        // control-plane.md §4.4
        let current = BasinConfig {
            default_stream_config: unusual().to_layer(),
            stream_cipher: Some(Cipher::Aegis256),
            create_stream_on_append: true,
            create_stream_on_read: false,
        };
        let cases = [
            (BasinReconfiguration::default(), current.clone()),
            (
                BasinReconfiguration { default_stream_config: StreamReconfiguration::CLEAR_ALL, ..Default::default() },
                BasinConfig { default_stream_config: StreamConfigLayer::default(), ..current.clone() },
            ),
            (
                BasinReconfiguration {
                    default_stream_config: StreamReconfiguration {
                        retention_policy: Change::Clear,
                        delete_on_empty_min_age_secs: Change::Set(0),
                        ..Default::default()
                    },
                    ..Default::default()
                },
                BasinConfig {
                    default_stream_config: StreamConfigLayer {
                        retention_policy: None,
                        delete_on_empty_min_age_secs: Some(0),
                        ..unusual().to_layer()
                    },
                    ..current.clone()
                },
            ),
            (
                BasinReconfiguration { stream_cipher: Change::Clear, ..Default::default() },
                BasinConfig { stream_cipher: None, ..current.clone() },
            ),
            (
                BasinReconfiguration { stream_cipher: Change::Set(Cipher::Aes256Gcm), ..Default::default() },
                BasinConfig { stream_cipher: Some(Cipher::Aes256Gcm), ..current.clone() },
            ),
            (
                BasinReconfiguration {
                    create_stream_on_append: Some(false),
                    create_stream_on_read: Some(true),
                    ..Default::default()
                },
                BasinConfig { create_stream_on_append: false, create_stream_on_read: true, ..current.clone() },
            ),
        ];
        for (change, expected) in cases {
            assert_eq!(change.apply(&current), expected, "{change:?}");
        }
    }
}
