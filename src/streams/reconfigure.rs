//! Changing some of a basin's or a stream's configuration (`control-plane.md` §4.4, §5.4).

use std::sync::Arc;

use super::{Failure, StreamKey, Streams, background::holding, neighbours::settled};
use crate::types::{
    BasinConfig, BasinEntry, BasinName, BasinReconfiguration, StreamConfig, StreamEntry, StreamName,
    StreamReconfiguration,
};

impl Streams {
    /// Changes a basin's configuration; the result is what is in force for streams made from now on.
    pub async fn reconfigure_basin(
        self: &Arc<Self>,
        name: &BasinName,
        changes: &BasinReconfiguration,
    ) -> Result<BasinConfig, Failure> {
        let (streams, name, changes) = (self.clone(), name.clone(), changes.clone());
        let held = self.lock_basin(&name).await;
        let work = async move { settled(|| streams.try_reconfigure_basin(&name, &changes)).await };
        holding(held, work).await
    }

    async fn try_reconfigure_basin(
        &self,
        name: &BasinName,
        changes: &BasinReconfiguration,
    ) -> Result<BasinConfig, Failure> {
        let found = self.live_basin(name).await?;
        let config = changes.apply(&found.entry.config);
        if config != found.entry.config {
            let entry = BasinEntry { config: config.clone(), ..found.entry.clone() };
            self.catalogue().put_basin(name, &entry, Some(&found)).await?;
        }
        Ok(config)
    }

    /// Changes a stream's configuration; the result is in force for appends from now on, in open sessions too.
    ///
    /// What is cleared falls back on the basin's current defaults.
    pub async fn reconfigure_stream(
        self: &Arc<Self>,
        basin: &BasinName,
        name: &StreamName,
        changes: &StreamReconfiguration,
    ) -> Result<StreamConfig, Failure> {
        let (streams, key, changes) = (self.clone(), (basin.clone(), name.clone()), changes.clone());
        let held = self.lock_name(&key).await;
        let work = async move { settled(|| streams.try_reconfigure_stream(&key, &changes)).await };
        holding(held, work).await
    }

    async fn try_reconfigure_stream(
        &self,
        key: &StreamKey,
        changes: &StreamReconfiguration,
    ) -> Result<StreamConfig, Failure> {
        let (basin, name) = key;
        let of = self.live_basin(basin).await?;
        let found = self.known_stream(basin, name).await?;
        if found.entry.deleted_at.is_some() {
            return Err(Failure::StreamDeletionPending);
        }
        let config = changes.apply(&found.entry.config, &of.entry.config.default_stream_config);
        if config != found.entry.config {
            let entry = StreamEntry { config: config.clone(), ..found.entry.clone() };
            self.catalogue().put_stream(basin, name, &entry, Some(&found)).await?;
            self.reconfigure_open(key, &entry);
        }
        Ok(config)
    }

    /// Puts the configuration of an entry just written in force where the stream is open.
    pub(super) fn reconfigure_open(&self, key: &StreamKey, entry: &StreamEntry) {
        let open = self.open_streams().get(key).map(|open| open.stream.clone());
        if let Some(stream) = open.filter(|stream| stream.id() == entry.id) {
            stream.reconfigure(&entry.config);
        }
    }
}
