//! Seeing to it that certain basins and streams are there, before anyone asks for them.

use std::sync::Arc;

use super::{BasinWish, Failure, Streams};
use crate::types::{BasinName, InitBasin, InitStream, Operations, Provision};

/// Why not everything is there that should be. What came before it in the list is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnsureError {
    /// A basin could not be made or changed.
    #[error("basin {basin}: {failure}")]
    Basin {
        /// The basin.
        basin: BasinName,
        /// Why not.
        failure: Failure,
    },
    /// A stream could not be made or changed.
    #[error("stream {stream:?} of basin {basin}: {failure}")]
    Stream {
        /// The basin.
        basin: BasinName,
        /// The stream.
        stream: crate::types::StreamName,
        /// Why not.
        failure: Failure,
    },
}

impl Streams {
    /// Makes sure that `basins` and their streams exist with just the configuration wished for, in order.
    ///
    /// A deletion that an earlier process had begun is brought to its end first.
    pub async fn ensure_all(self: &Arc<Self>, basins: &[InitBasin]) -> Result<(), EnsureError> {
        for basin in basins {
            let failed = |failure| EnsureError::Basin { basin: basin.name.clone(), failure };
            let result = self.ensure_listed_basin(basin).await.map_err(failed)?;
            tracing::info!(basin = %basin.name, result = result.as_str(), "basin of the init file");
            for stream in &basin.streams {
                let (name, of) = (stream.name.clone(), basin.name.clone());
                let failed = |failure| EnsureError::Stream { basin: of, stream: name, failure };
                let result = self.ensure_listed_stream(&basin.name, stream).await.map_err(failed)?;
                tracing::info!(basin = %basin.name, stream = %stream.name, result = result.as_str(), "stream of the init file");
            }
        }
        Ok(())
    }

    async fn ensure_listed_basin(self: &Arc<Self>, basin: &InitBasin) -> Result<Provision, Failure> {
        let wish = BasinWish { config: basin.config.clone(), location: basin.location.clone() };
        let ensured = match self.ensure_basin(&basin.name, wish.clone(), Operations::ALL).await {
            Err(Failure::BasinDeletionPending(_)) => {
                self.remove_basin(&basin.name).await?;
                self.ensure_basin(&basin.name, wish, Operations::ALL).await
            }
            ensured => ensured,
        };
        ensured.map(|(_, result)| result)
    }

    async fn ensure_listed_stream(
        self: &Arc<Self>,
        basin: &BasinName,
        stream: &InitStream,
    ) -> Result<Provision, Failure> {
        let ensured = match self.ensure_stream(basin, &stream.name, stream.config.clone(), Operations::ALL).await {
            Err(Failure::StreamDeletionPending) => {
                if let Some(found) = self.catalogue().stream(basin, &stream.name).await? {
                    self.remove_stream(basin, &stream.name, found.entry.id).await?;
                }
                self.ensure_stream(basin, &stream.name, stream.config.clone(), Operations::ALL).await
            }
            ensured => ensured,
        };
        ensured.map(|(_, result)| result)
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::tests::{World, basin, one, orders},
        *,
    };
    use crate::{
        store::{Store, StoreError},
        types::{BasinConfig, StreamConfigLayer, TimestampingMode},
    };

    fn listed(basin: BasinName, mode: TimestampingMode) -> InitBasin {
        let config = StreamConfigLayer { timestamping_mode: Some(mode), ..Default::default() };
        let streams = vec![InitStream { name: orders(), config }];
        let config = BasinConfig { create_stream_on_read: true, ..Default::default() };
        InitBasin { name: basin, config, location: None, streams }
    }

    #[tokio::test]
    async fn what_is_listed_is_there_just_so_however_often_it_is_asked_for() {
        let world = World::new().await;
        let other = BasinName::new("other-basin").unwrap();
        for mode in [TimestampingMode::Arrival, TimestampingMode::Arrival, TimestampingMode::ClientRequire] {
            let list = [listed(basin(), mode), listed(other.clone(), mode)];
            world.streams.ensure_all(&list).await.unwrap();
            for wished in &list {
                assert_eq!(world.streams.basin_config(&wished.name).await.as_ref(), Ok(&wished.config));
                let config = world.streams.stream_config(&wished.name, &orders()).await.unwrap();
                assert_eq!(config.timestamping.mode, mode);
            }
        }
    }

    #[tokio::test]
    async fn what_was_being_deleted_is_made_anew() {
        let world = World::new().await;
        world.append(one("a")).await;
        let list = [listed(basin(), TimestampingMode::Arrival)];
        world.streams.delete_stream(&basin(), &orders()).await.unwrap();
        world.streams.ensure_all(&list).await.unwrap();
        assert_eq!(world.stream().await.check_tail().map(|tail| tail.seq_num.get()), Ok(0));
        world.streams.delete_basin(&basin()).await.unwrap();
        world.streams.ensure_all(&list).await.unwrap();
        // The jobs that the deletions left find nothing to do.
        tokio::task::yield_now().await;
        assert_eq!(world.streams.basin_config(&basin()).await.as_ref(), Ok(&list[0].config));
        assert!(world.streams.stream_config(&basin(), &orders()).await.is_ok());
    }

    #[tokio::test]
    async fn the_one_that_failed_is_named() {
        let world = World::new().await;
        world.store.close().await.unwrap();
        let failed = world.streams.ensure_all(&[listed(basin(), TimestampingMode::Arrival)]).await.unwrap_err();
        let closed = matches!(&failed, EnsureError::Basin { failure: Failure::Store(StoreError::Closed(_)), .. });
        assert!(closed && failed.to_string().starts_with("basin my-basin-01: "), "{failed}");
    }
}
