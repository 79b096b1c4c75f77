//! Making, changing, listing and deleting basins and streams (`control-plane.md` §4, §5).

use std::sync::Arc;

use super::{Failure, Job, StreamKey, Streams, background::holding, catalogue::Found, neighbours::settled};
use crate::types::{
    BasinConfig, BasinEntry, BasinInfo, BasinName, BasinNamePart, Creation, Operation, Operations, Page, Provision,
    RequestToken, SeqNum, StreamConfig, StreamConfigLayer, StreamEntry, StreamId, StreamInfo, StreamName,
    StreamNamePart, limits::MAX_LIST_LIMIT,
};

/// A basin that a request wants to exist.
#[derive(Clone, Debug, Default)]
pub struct BasinWish {
    /// With this configuration; what it leaves out has its default.
    pub config: BasinConfig,
    /// There.
    pub location: Option<String>,
}

impl Streams {
    /// Makes a basin; a request that comes again with the same token and configuration changes nothing.
    pub async fn create_basin(
        self: &Arc<Self>,
        name: &BasinName,
        wish: BasinWish,
        token: Option<RequestToken>,
    ) -> Result<(BasinInfo, Provision), Failure> {
        let (streams, name) = (self.clone(), name.clone());
        let held = self.lock_basin(&name).await;
        let work = async move { settled(|| streams.try_create_basin(&name, wish.clone(), token.clone())).await };
        holding(held, work).await
    }

    async fn try_create_basin(
        &self,
        name: &BasinName,
        wish: BasinWish,
        token: Option<RequestToken>,
    ) -> Result<(BasinInfo, Provision), Failure> {
        let creation = token.map(|token| Creation { token, config: wish.config.clone() });
        match self.catalogue().basin(name).await? {
            Some(Found { entry, .. }) if entry.deleted_at.is_some() => Err(Failure::BasinDeletionPending(name.clone())),
            Some(Found { entry, .. }) if creation.is_some() && entry.creation == creation => {
                Ok((basin_info(name, entry), Provision::Noop))
            }
            Some(_) => Err(Failure::BasinExists(name.clone())),
            None => Ok((self.make_basin(name, wish, creation).await?, Provision::Created)),
        }
    }

    /// Makes sure that a basin exists with just the configuration wished for.
    ///
    /// Whether that is [`Operation::CreateBasin`] or [`Operation::ReconfigureBasin`] turns out here; it must be among
    /// `allowed`.
    pub async fn ensure_basin(
        self: &Arc<Self>,
        name: &BasinName,
        wish: BasinWish,
        allowed: Operations,
    ) -> Result<(BasinInfo, Provision), Failure> {
        let (streams, name) = (self.clone(), name.clone());
        let held = self.lock_basin(&name).await;
        let work = async move { settled(|| streams.try_ensure_basin(&name, wish.clone(), allowed)).await };
        holding(held, work).await
    }

    async fn try_ensure_basin(
        &self,
        name: &BasinName,
        wish: BasinWish,
        allowed: Operations,
    ) -> Result<(BasinInfo, Provision), Failure> {
        let Some(found) = self.catalogue().basin(name).await? else {
            allowed.permit(Operation::CreateBasin)?;
            return Ok((self.make_basin(name, wish, None).await?, Provision::Created));
        };
        allowed.permit(Operation::ReconfigureBasin)?;
        if found.entry.deleted_at.is_some() {
            return Err(Failure::BasinDeletionPending(name.clone()));
        }
        check_location(name, &found.entry, &wish)?;
        if found.entry.config == wish.config {
            return Ok((basin_info(name, found.entry), Provision::Noop));
        }
        let entry = BasinEntry { config: wish.config, ..found.entry.clone() };
        self.catalogue().put_basin(name, &entry, Some(&found)).await?;
        Ok((basin_info(name, entry), Provision::Updated))
    }

    async fn make_basin(
        &self,
        name: &BasinName,
        wish: BasinWish,
        creation: Option<Creation<BasinConfig>>,
    ) -> Result<BasinInfo, Failure> {
        let BasinWish { config, location } = wish;
        let entry = BasinEntry { config, location, created_at: self.clock.now(), deleted_at: None, creation };
        self.catalogue().put_basin::<BasinEntry>(name, &entry, None).await?;
        Ok(basin_info(name, entry))
    }

    /// A basin's configuration.
    pub async fn basin_config(&self, name: &BasinName) -> Result<BasinConfig, Failure> {
        Ok(self.live_basin(name).await?.entry.config)
    }

    /// Marks a basin as deleted; its streams, and it, go in the background. Asking again while they do is no error.
    pub async fn delete_basin(self: &Arc<Self>, name: &BasinName) -> Result<(), Failure> {
        let (streams, name) = (self.clone(), name.clone());
        let held = self.lock_basin(&name).await;
        let work = async move {
            settled(|| streams.mark_basin_deleted(&name)).await?;
            streams.background.leave(Job::RemoveBasin(name));
            Ok(())
        };
        holding(held, work).await
    }

    async fn mark_basin_deleted(&self, name: &BasinName) -> Result<(), Failure> {
        let found = self.known_basin(name).await?;
        if found.entry.deleted_at.is_some() {
            return Ok(());
        }
        let entry = BasinEntry { deleted_at: Some(self.clock.now()), ..found.entry.clone() };
        self.catalogue().put_basin(name, &entry, Some(&found)).await
    }

    /// Basins in the order of their names, those being deleted included.
    pub async fn list_basins(
        &self,
        prefix: &BasinNamePart,
        start_after: &BasinNamePart,
        limit: usize,
    ) -> Result<Page<BasinInfo>, Failure> {
        self.catalogue().basins(prefix, start_after, limit).await
    }

    /// Makes a stream; a request that comes again with the same token and configuration changes nothing.
    pub async fn create_stream(
        self: &Arc<Self>,
        basin: &BasinName,
        name: &StreamName,
        layer: StreamConfigLayer,
        token: Option<RequestToken>,
    ) -> Result<(StreamInfo, Provision), Failure> {
        let (streams, key) = (self.clone(), (basin.clone(), name.clone()));
        let held = self.lock_name(&key).await;
        let work = async move { settled(|| streams.try_create_stream(&key, layer.clone(), token.clone())).await };
        holding(held, work).await
    }

    async fn try_create_stream(
        &self,
        (basin, name): &StreamKey,
        layer: StreamConfigLayer,
        token: Option<RequestToken>,
    ) -> Result<(StreamInfo, Provision), Failure> {
        let of = self.live_basin(basin).await?;
        let creation = token.map(|token| Creation { token, config: layer.clone() });
        match self.catalogue().stream(basin, name).await? {
            Some(Found { entry, .. }) if entry.deleted_at.is_some() => Err(Failure::StreamDeletionPending),
            Some(Found { entry, .. }) if creation.is_some() && entry.creation == creation => {
                Ok((stream_info(name, entry), Provision::Noop))
            }
            Some(_) => Err(Failure::StreamExists(basin.clone(), name.clone())),
            None => {
                let entry = self.make_stream(basin, name, &of.entry, &layer, creation).await?;
                Ok((stream_info(name, entry), Provision::Created))
            }
        }
    }

    /// Makes sure that a stream exists with just the configuration wished for, over the basin's defaults.
    ///
    /// Whether that is [`Operation::CreateStream`] or [`Operation::ReconfigureStream`] turns out here; it must be among
    /// `allowed`.
    pub async fn ensure_stream(
        self: &Arc<Self>,
        basin: &BasinName,
        name: &StreamName,
        layer: StreamConfigLayer,
        allowed: Operations,
    ) -> Result<(StreamInfo, Provision), Failure> {
        let (streams, key) = (self.clone(), (basin.clone(), name.clone()));
        let held = self.lock_name(&key).await;
        let work = async move { settled(|| streams.try_ensure_stream(&key, layer.clone(), allowed)).await };
        holding(held, work).await
    }

    async fn try_ensure_stream(
        &self,
        key: &StreamKey,
        layer: StreamConfigLayer,
        allowed: Operations,
    ) -> Result<(StreamInfo, Provision), Failure> {
        let (basin, name) = key;
        let of = self.live_basin(basin).await?;
        let Some(found) = self.catalogue().stream(basin, name).await? else {
            allowed.permit(Operation::CreateStream)?;
            let entry = self.make_stream(basin, name, &of.entry, &layer, None).await?;
            return Ok((stream_info(name, entry), Provision::Created));
        };
        allowed.permit(Operation::ReconfigureStream)?;
        if found.entry.deleted_at.is_some() {
            return Err(Failure::StreamDeletionPending);
        }
        let config = layer.over(&of.entry.config.default_stream_config);
        if found.entry.config == config {
            return Ok((stream_info(name, found.entry), Provision::Noop));
        }
        let entry = StreamEntry { config, ..found.entry.clone() };
        self.catalogue().put_stream(basin, name, &entry, Some(&found)).await?;
        self.reconfigure_open(key, &entry);
        Ok((stream_info(name, entry), Provision::Updated))
    }

    /// Writes the entry of a stream that is not there. The caller holds the name.
    pub(super) async fn make_stream(
        &self,
        basin: &BasinName,
        name: &StreamName,
        of: &BasinEntry,
        layer: &StreamConfigLayer,
        creation: Option<Creation<StreamConfigLayer>>,
    ) -> Result<StreamEntry, Failure> {
        let entry = StreamEntry {
            id: StreamId::new(rand::random()),
            config: layer.over(&of.config.default_stream_config),
            cipher: of.config.stream_cipher,
            created_at: self.clock.now(),
            deleted_at: None,
            empty_at: None,
            creation,
        };
        self.catalogue().put_stream::<StreamEntry>(basin, name, &entry, None).await?;
        self.unless_basin_went(basin, name, entry).await
    }

    /// A basin whose deletion began after it was last looked at may have passed by the new stream already.
    pub(super) async fn unless_basin_went(
        &self,
        basin: &BasinName,
        name: &StreamName,
        entry: StreamEntry,
    ) -> Result<StreamEntry, Failure> {
        let Err(failure) = self.live_basin(basin).await else { return Ok(entry) };
        // If it was removed with the basin, another one may be there by now.
        if let Some(found) = self.catalogue().stream(basin, name).await?.filter(|found| found.entry.id == entry.id) {
            self.catalogue().remove_stream(basin, name, &found).await?;
        }
        Err(failure)
    }

    /// A stream's configuration, nothing left open.
    pub async fn stream_config(&self, basin: &BasinName, name: &StreamName) -> Result<StreamConfig, Failure> {
        let found = self.known_stream(basin, name).await?;
        match found.entry.deleted_at {
            Some(_) => Err(Failure::StreamDeletionPending),
            None => Ok(found.entry.config),
        }
    }

    /// Marks a stream as deleted and ends it for everyone who uses it; its records go in the background.
    ///
    /// Asking again while they do is no error.
    pub async fn delete_stream(self: &Arc<Self>, basin: &BasinName, name: &StreamName) -> Result<(), Failure> {
        let (streams, key) = (self.clone(), (basin.clone(), name.clone()));
        let held = self.lock_name(&key).await;
        let work = async move { settled(|| streams.try_delete_stream(&key)).await };
        holding(held, work).await
    }

    async fn try_delete_stream(&self, key: &StreamKey) -> Result<(), Failure> {
        let found = self.known_stream(&key.0, &key.1).await?;
        self.begin_deletion(key, &found, None).await
    }

    /// Marks a stream whose name the caller holds as deleted, ends it, and leaves the rest for later.
    ///
    /// With `empty_at` it goes only if that is its tail still when all gateways know.
    pub(super) async fn begin_deletion(
        &self,
        key: &StreamKey,
        found: &Found<StreamEntry>,
        empty_at: Option<SeqNum>,
    ) -> Result<(), Failure> {
        let (basin, name) = key;
        let deleted_at = Some(found.entry.deleted_at.unwrap_or(self.clock.now()));
        let entry = StreamEntry { deleted_at, empty_at, ..found.entry.clone() };
        if entry != found.entry {
            self.catalogue().put_stream(basin, name, &entry, Some(found)).await?;
        }
        if let Some(open) = self.open_streams().remove(key) {
            open.stream.delete();
        }
        self.usage.stream_deleted(basin, name);
        self.background.leave(Job::RemoveStream(basin.clone(), name.clone(), found.entry.id));
        Ok(())
    }

    /// Streams of a basin in the order of their names, those being deleted included.
    pub async fn list_streams(
        &self,
        basin: &BasinName,
        prefix: &StreamNamePart,
        start_after: &StreamNamePart,
        limit: usize,
    ) -> Result<Page<StreamInfo>, Failure> {
        self.known_basin(basin).await?;
        self.catalogue().streams(basin, prefix, start_after, limit).await
    }

    /// Removes what is left of a stream marked as deleted, its entry last: until then the name is taken.
    pub(super) async fn remove_stream(
        &self,
        basin: &BasinName,
        name: &StreamName,
        id: StreamId,
    ) -> Result<(), Failure> {
        self.until_noticed().await;
        self.remove_noticed_stream(&(basin.clone(), name.clone()), id).await
    }

    async fn remove_noticed_stream(&self, key: &StreamKey, id: StreamId) -> Result<(), Failure> {
        if self.is_shared() && !self.goes_for_good(key, id).await? {
            return Ok(());
        }
        self.store.delete(id).await?;
        let _name = self.lock_name(key).await;
        settled(|| self.forget_stream(key, id)).await
    }

    async fn goes_for_good(&self, key: &StreamKey, id: StreamId) -> Result<bool, Failure> {
        let _name = self.lock_name(key).await;
        settled(|| async {
            match self.catalogue().stream(&key.0, &key.1).await? {
                Some(found) if found.entry.id != id => Ok(true),
                Some(found) if found.entry.deleted_at.is_some() => self.goes_if_empty(key, &found).await,
                Some(_) => Ok(false),
                None => Ok(true),
            }
        })
        .await
    }

    async fn forget_stream(&self, (basin, name): &StreamKey, id: StreamId) -> Result<(), Failure> {
        self.catalogue().remove_arrivals(id).await?;
        match self.catalogue().stream(basin, name).await? {
            Some(found) if found.entry.id == id => self.catalogue().remove_stream(basin, name, &found).await,
            _ => Ok(()),
        }
    }

    /// Deletes and removes the streams of a basin marked as deleted, then its entry.
    ///
    /// Does nothing to a basin that is not marked: it was made after the one whose removal was asked for had gone.
    pub(super) async fn remove_basin(&self, basin: &BasinName) -> Result<(), Failure> {
        let any = StreamNamePart::default();
        let Some(going_basin) = self.going_basin(basin).await? else { return Ok(()) };
        while self.is_basin_going(basin).await? {
            let page = self.catalogue().streams(basin, &any, &any, MAX_LIST_LIMIT).await?;
            let mut going = Vec::new();
            for stream in page.entries {
                going.extend(self.delete_stream_of_basin(basin, &stream.name).await?);
            }
            if !going.is_empty() {
                self.until_noticed().await;
            }
            for (key, id) in going {
                self.remove_noticed_stream(&key, id).await?;
            }
            if !page.has_more {
                break;
            }
        }
        let _name = self.lock_basin(basin).await;
        self.forget_basin(basin, &going_basin).await
    }

    /// Removes the entry of a basin whose streams are gone. If it is another one by now, that basin may have streams.
    pub(super) async fn forget_basin(&self, basin: &BasinName, going: &Found<BasinEntry>) -> Result<(), Failure> {
        match self.catalogue().remove_basin(basin, going).await {
            Err(Failure::Conflict) => Ok(()),
            removed => removed,
        }
    }

    async fn delete_stream_of_basin(
        &self,
        basin: &BasinName,
        name: &StreamName,
    ) -> Result<Option<(StreamKey, StreamId)>, Failure> {
        let key = (basin.clone(), name.clone());
        let _name = self.lock_name(&key).await;
        let id = settled(|| self.try_delete_stream_of_basin(&key)).await?;
        Ok(id.map(|id| (key.clone(), id)))
    }

    async fn try_delete_stream_of_basin(&self, key: &StreamKey) -> Result<Option<StreamId>, Failure> {
        let Some(found) = self.catalogue().stream(&key.0, &key.1).await? else { return Ok(None) };
        // A going basin that has this stream cannot be removed and made anew while the stream's name is held.
        if !self.is_basin_going(&key.0).await? {
            return Ok(None);
        }
        self.begin_deletion(key, &found, None).await?;
        Ok(Some(found.entry.id))
    }

    async fn is_basin_going(&self, name: &BasinName) -> Result<bool, Failure> {
        Ok(self.going_basin(name).await?.is_some())
    }

    pub(super) async fn going_basin(&self, name: &BasinName) -> Result<Option<Found<BasinEntry>>, Failure> {
        Ok(self.catalogue().basin(name).await?.filter(|found| found.entry.deleted_at.is_some()))
    }

    async fn known_basin(&self, name: &BasinName) -> Result<Found<BasinEntry>, Failure> {
        self.catalogue().basin(name).await?.ok_or_else(|| Failure::BasinNotFound(name.clone()))
    }

    pub(super) async fn live_basin(&self, name: &BasinName) -> Result<Found<BasinEntry>, Failure> {
        let found = self.known_basin(name).await?;
        match found.entry.deleted_at {
            Some(_) => Err(Failure::BasinDeletionPending(name.clone())),
            None => Ok(found),
        }
    }

    pub(super) async fn known_stream(
        &self,
        basin: &BasinName,
        name: &StreamName,
    ) -> Result<Found<StreamEntry>, Failure> {
        match self.catalogue().stream(basin, name).await? {
            Some(found) => Ok(found),
            None => {
                self.known_basin(basin).await?;
                Err(Failure::StreamNotFound(basin.clone(), name.clone()))
            }
        }
    }
}

/// A basin stays where it was made; one that was made nowhere in particular is wherever it is asked for.
fn check_location(name: &BasinName, entry: &BasinEntry, wish: &BasinWish) -> Result<(), Failure> {
    match (&entry.location, &wish.location) {
        (Some(is), Some(wished)) if is != wished => Err(Failure::BasinElsewhere(name.clone(), is.clone())),
        _ => Ok(()),
    }
}

fn basin_info(name: &BasinName, entry: BasinEntry) -> BasinInfo {
    let BasinEntry { location, created_at, deleted_at, .. } = entry;
    BasinInfo { name: name.clone(), location, created_at, deleted_at }
}

fn stream_info(name: &StreamName, entry: StreamEntry) -> StreamInfo {
    let StreamEntry { created_at, deleted_at, cipher, .. } = entry;
    StreamInfo { name: name.clone(), created_at, deleted_at, cipher }
}
