//! Which basins have streams, for usage metrics (`control-plane.md` §8.2).

use super::{Failure, Streams};
use crate::types::{BasinName, BasinNamePart, StreamNamePart, epoch_seconds, limits::MAX_LIST_LIMIT};

impl Streams {
    /// The basins with a stream that was made before `end`, in epoch seconds, and is still there.
    pub async fn basins_with_streams(&self, end: u32) -> Result<Vec<BasinName>, Failure> {
        let (mut found, mut after) = (Vec::new(), BasinNamePart::default());
        loop {
            let page = self.catalogue().basins(&BasinNamePart::default(), &after, MAX_LIST_LIMIT).await?;
            let last = page.entries.last().map(|basin| basin.name.clone());
            for basin in page.entries {
                if self.has_stream(&basin.name, end).await? {
                    found.push(basin.name);
                }
            }
            match last {
                Some(name) if page.has_more => after = name.into(),
                _ => return Ok(found),
            }
        }
    }

    /// Mostly the first stream tells; only where that is too young are the others looked at.
    async fn has_stream(&self, basin: &BasinName, end: u32) -> Result<bool, Failure> {
        let (any, mut after, mut limit) = (StreamNamePart::default(), StreamNamePart::default(), 1);
        loop {
            let page = self.catalogue().streams(basin, &any, &after, limit).await?;
            if page.entries.iter().any(|stream| epoch_seconds(stream.created_at) < end) {
                return Ok(true);
            }
            match page.entries.into_iter().next_back() {
                Some(last) if page.has_more => after = last.name.into(),
                _ => return Ok(false),
            }
            limit = MAX_LIST_LIMIT;
        }
    }
}
