//! What is counted of every request: its operation, for usage, and how long its answer took, for Prometheus.

use std::time::Instant;

use http::{StatusCode, request::Parts};

use super::{Gateway, body::Body, operations::Answer, request, respond::Refusal, route::Route};
use crate::{
    clock,
    telemetry::SessionKind,
    types::{AccountOperation, BasinOperation},
};

/// What usage counts a request as (`control-plane.md` §8.2).
enum Counted {
    Account(AccountOperation),
    Basin(BasinOperation),
    /// By its records, or not at all.
    Otherwise,
}

impl Gateway {
    /// Counts a request that came in at `since` and was answered now.
    pub(super) fn meter(&self, route: Route<'_>, parts: &Parts, answer: &Answer, since: Instant) {
        let took = clock::instant().saturating_duration_since(since);
        match answer.as_ref().map(|response| response.body()) {
            Ok(Body::Append(_)) => self.telemetry.established(SessionKind::Append, took),
            Ok(Body::Read(_)) => self.telemetry.established(SessionKind::Read, took),
            _ => self.telemetry.answered(route.name(), took),
        }
        // Whoever is nobody makes no use of the account.
        if is_unknown(answer) {
            return;
        }
        let usage = self.streams.usage();
        match counted(route, answer) {
            Counted::Account(operation) => usage.account_operation(operation),
            Counted::Basin(operation) => {
                // Only what was done is counted: then there is such a basin, and nobody fills the table with others.
                if let (Ok(_), Ok(basin)) = (answer, request::basin(parts, self.basin_host.as_ref())) {
                    usage.basin_operation(&basin, operation);
                }
            }
            Counted::Otherwise => {}
        }
    }

    /// Tells Prometheus what was appended and read in each basin; beyond a hundred they are one.
    pub(super) fn note_basin_bytes(&self) {
        for (basin, bytes) in self.streams.usage().basin_bytes() {
            let label = basin.as_ref().map_or("other", |basin| basin.as_str());
            self.telemetry.basin_bytes(label, bytes.appended, bytes.read);
        }
    }
}

fn is_unknown(answer: &Answer) -> bool {
    matches!(answer, Err(Refusal::Api(error)) if error.status() == StatusCode::UNAUTHORIZED)
}

fn counted(route: Route<'_>, answer: &Answer) -> Counted {
    let created = answer.as_ref().is_ok_and(|response| response.status() == StatusCode::CREATED);
    match route {
        Route::ListBasins => Counted::Account(AccountOperation::ListBasins),
        Route::CreateBasin => Counted::Account(AccountOperation::CreateBasin),
        Route::GetBasin(_) => Counted::Account(AccountOperation::GetBasinConfig),
        Route::EnsureBasin(_) if created => Counted::Account(AccountOperation::CreateBasin),
        Route::EnsureBasin(_) => Counted::Account(AccountOperation::ReconfigureBasin),
        Route::ReconfigureBasin(_) => Counted::Account(AccountOperation::ReconfigureBasin),
        Route::DeleteBasin(_) => Counted::Account(AccountOperation::DeleteBasin),
        Route::AccountMetrics => Counted::Account(AccountOperation::AccountMetrics),
        Route::BasinMetrics(_) => Counted::Account(AccountOperation::BasinMetrics),
        Route::StreamMetrics(..) => Counted::Account(AccountOperation::StreamMetrics),
        Route::ListLocations => Counted::Account(AccountOperation::ListLocations),
        Route::GetDefaultLocation => Counted::Account(AccountOperation::GetDefaultLocation),
        Route::SetDefaultLocation => Counted::Account(AccountOperation::SetDefaultLocation),
        Route::ListAccessTokens => Counted::Account(AccountOperation::ListAccessTokens),
        Route::IssueAccessToken => Counted::Account(AccountOperation::IssueAccessToken),
        Route::RevokeAccessToken(_) => Counted::Account(AccountOperation::RevokeAccessToken),
        Route::ListStreams => Counted::Basin(BasinOperation::ListStreams),
        Route::CreateStream => Counted::Basin(BasinOperation::CreateStream),
        Route::GetStream(_) => Counted::Basin(BasinOperation::GetStreamConfig),
        Route::EnsureStream(_) if created => Counted::Basin(BasinOperation::CreateStream),
        Route::EnsureStream(_) => Counted::Basin(BasinOperation::ReconfigureStream),
        Route::ReconfigureStream(_) => Counted::Basin(BasinOperation::ReconfigureStream),
        Route::DeleteStream(_) => Counted::Basin(BasinOperation::DeleteStream),
        Route::Append(_) | Route::Read(_) | Route::CheckTail(_) | Route::Session(_) | Route::ShortSession => {
            Counted::Otherwise
        }
        Route::Health | Route::Metrics => Counted::Otherwise,
    }
}
