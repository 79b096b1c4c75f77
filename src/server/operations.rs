//! What each operation does with its request: reads it into values, asks the service, answers.
//!
//! The order of the checks is the order of `errors.md` §4.4: basin header, path, query, other headers, body, what these say
//! together, existence.

use std::time::Duration;

use http::{HeaderMap, Response, StatusCode, request::Parts};
use tokio::time::timeout;

use super::{
    Gateway,
    append_pump::AppendPump,
    bell::Belled,
    body::Body,
    errors,
    identity::{self, SessionGuard, basin_name, stream_name},
    read_feed::ReadFeed,
    read_pump::ReadPump,
    request,
    request_body::{Counted, RequestBody, WholeBody},
    respond::{self, Refusal},
    route::Route,
    sse_pump::{SsePump, SseRequest},
};
use crate::{
    streams::{Access, BasinWish, ReadEvent},
    telemetry::{self, MemoryUse, SessionKind},
    types::{ApiError, AppendInput, BasinName, BatchSlice, ErrorCode, Operation, Position, Provision, StreamName},
    wire::{
        self, json,
        negotiate::{Accept, BodyType},
        params::{self, ReadQuery, SessionQuery},
    },
};

/// How long a single append waits for its turn. Clients give up after five seconds and send it again; until then they shall
/// know that it did not happen (`http.md` §9).
const ADMITTED_WITHIN: Duration = Duration::from_secs(3);

pub(super) type Answer = Result<Response<Body>, Refusal>;

impl Gateway {
    pub(super) async fn perform(&self, route: Route<'_>, parts: &Parts, body: &mut RequestBody) -> Answer {
        match route {
            Route::Health => Ok(self.health()),
            Route::Metrics => Ok(self.metrics()),
            Route::AccountMetrics => self.account_metrics(parts).await,
            Route::BasinMetrics(basin) => self.basin_metrics(basin, parts).await,
            Route::StreamMetrics(basin, stream) => self.stream_metrics(basin, stream, parts).await,
            Route::ListLocations => Ok(self.list_locations()),
            Route::GetDefaultLocation => Ok(self.get_default_location()),
            Route::SetDefaultLocation => self.set_default_location(parts, body).await,
            Route::ListBasins => self.list_basins(parts).await,
            Route::CreateBasin => self.create_basin(parts, body).await,
            Route::GetBasin(basin) => self.get_basin(basin, parts).await,
            Route::EnsureBasin(basin) => self.ensure_basin(basin, parts, body).await,
            Route::ReconfigureBasin(basin) => self.reconfigure_basin(basin, parts, body).await,
            Route::DeleteBasin(basin) => self.delete_basin(basin, parts).await,
            Route::ListAccessTokens => self.list_access_tokens(parts).await,
            Route::IssueAccessToken => self.issue_access_token(parts, body).await,
            Route::RevokeAccessToken(id) => self.revoke_access_token(id, parts).await,
            Route::ListStreams => self.list_streams(parts).await,
            Route::CreateStream => self.create_stream(parts, body).await,
            Route::GetStream(stream) => self.get_stream(stream, parts).await,
            Route::EnsureStream(stream) => self.ensure_stream(stream, parts, body).await,
            Route::ReconfigureStream(stream) => self.reconfigure_stream(stream, parts, body).await,
            Route::DeleteStream(stream) => self.delete_stream(stream, parts).await,
            Route::Append(stream) => self.append(stream, parts, body).await,
            Route::Read(stream) => self.read(stream, parts).await,
            Route::CheckTail(stream) => self.check_tail(stream, parts).await,
            Route::Session(stream) => {
                needs_s2s(&parts.headers)?;
                self.session(self.place(stream, parts)?, parts, body).await
            }
            Route::ShortSession => {
                needs_s2s(&parts.headers)?;
                let basin = self.basin(parts)?;
                let stream = request::stream_in_header(&parts.headers)?;
                let stream = identity::reached_stream(parts, &basin, stream, ErrorCode::BadHeader)?;
                self.session(Place { basin, stream }, parts, body).await
            }
        }
    }

    fn health(&self) -> Response<Body> {
        match self.streams.health() {
            Ok(()) => {
                let caveat = self.streams.store().caveat().map_or_else(String::new, |caveat| format!("\n{caveat}"));
                respond::text(StatusCode::OK, "text/plain", format!("OK{caveat}"))
            }
            Err(error) => respond::text(StatusCode::SERVICE_UNAVAILABLE, "text/plain", error.to_string()),
        }
    }

    fn metrics(&self) -> Response<Body> {
        self.note_basin_bytes();
        if let Some(bytes) = self.streams.disk_used() {
            self.telemetry.disk_used(bytes);
        }
        let pages = MemoryUse { purpose: "pages", used: self.pages.used(), limit: self.streams.memory_shares().pages };
        self.streams.memory_used().into_iter().chain([pages]).for_each(|used| self.telemetry.memory(used));
        for count in self.streams.store().counted() {
            self.telemetry.store_count(count.name, count.help, count.value);
        }
        let text = self.telemetry.render(self.streams.open_count());
        respond::text(StatusCode::OK, telemetry::CONTENT_TYPE, text)
    }

    fn basin(&self, parts: &Parts) -> Result<BasinName, ApiError> {
        request::basin(parts, self.basin_host.as_ref())
    }

    fn place(&self, stream: &str, parts: &Parts) -> Result<Place, ApiError> {
        let basin = self.basin(parts)?;
        let stream = request::stream_in_path(stream)?;
        let stream = identity::reached_stream(parts, &basin, stream, ErrorCode::BadPath)?;
        Ok(Place { basin, stream })
    }
}

/// The stream that a request is about.
struct Place {
    basin: BasinName,
    stream: StreamName,
}

/// Basins and streams.
impl Gateway {
    async fn list_basins(&self, parts: &Parts) -> Answer {
        let reached = identity::reached_basins(parts, params::list_basins(parts.uri.query())?)?;
        let list = &reached.list;
        let mut page = self.streams.list_basins(&list.prefix, &list.start_after, list.limit).await?;
        page.entries = page.entries.into_iter().map(|info| self.with_location(info)).collect();
        Ok(respond::json(StatusCode::OK, json::encode_basins(&reached.told(page, basin_name))))
    }

    async fn create_basin(&self, parts: &Parts, body: &mut RequestBody) -> Answer {
        let token = request::request_token(&parts.headers)?;
        let create = json::decode_create_basin(&json_body(parts, body).await?)?;
        let name = identity::reached_basin(parts, create.name)?;
        let wish = BasinWish { config: create.config, location: self.known_location(create.location)? };
        let (info, result) = self.streams.create_basin(&name, wish, token).await?;
        // The same request again is 200 for basins, and 201 for streams (control-plane.md §4.2, §5.2).
        Ok(respond::provisioned(ensured(result), result, json::encode_basin_info(&self.with_location(info))))
    }

    async fn get_basin(&self, basin: &str, parts: &Parts) -> Answer {
        let basin = identity::reached_basin(parts, request::basin_in_path(basin)?)?;
        let config = self.streams.basin_config(&basin).await?;
        Ok(respond::json(StatusCode::OK, json::encode_basin_config(&config)))
    }

    async fn ensure_basin(&self, basin: &str, parts: &Parts, body: &mut RequestBody) -> Answer {
        let name = identity::reached_basin(parts, request::basin_in_path(basin)?)?;
        let ensure = json::decode_ensure_basin(&optional_json_body(parts, body).await?)?;
        let wish = BasinWish { config: ensure.config, location: self.known_location(ensure.location)? };
        let (info, result) = self.streams.ensure_basin(&name, wish, identity::of(parts)?.operations()).await?;
        Ok(respond::provisioned(ensured(result), result, json::encode_basin_info(&self.with_location(info))))
    }

    async fn reconfigure_basin(&self, basin: &str, parts: &Parts, body: &mut RequestBody) -> Answer {
        let name = identity::reached_basin(parts, request::basin_in_path(basin)?)?;
        let changes = json::decode_basin_reconfiguration(&json_body(parts, body).await?)?;
        let config = self.streams.reconfigure_basin(&name, &changes).await?;
        Ok(respond::json(StatusCode::OK, json::encode_basin_config(&config)))
    }

    async fn delete_basin(&self, basin: &str, parts: &Parts) -> Answer {
        let basin = identity::reached_basin(parts, request::basin_in_path(basin)?)?;
        self.streams.delete_basin(&basin).await?;
        Ok(respond::accepted())
    }

    async fn list_streams(&self, parts: &Parts) -> Answer {
        let basin = identity::reached_basin(parts, self.basin(parts)?)?;
        let reached = identity::reached_streams(parts, params::list_streams(parts.uri.query())?)?;
        let list = &reached.list;
        let page = self.streams.list_streams(&basin, &list.prefix, &list.start_after, list.limit).await?;
        let page = identity::shown_streams(parts, reached.told(page, stream_name))?;
        Ok(respond::json(StatusCode::OK, json::encode_streams(&page)))
    }

    async fn create_stream(&self, parts: &Parts, body: &mut RequestBody) -> Answer {
        let basin = self.basin(parts)?;
        let token = request::request_token(&parts.headers)?;
        let create = json::decode_create_stream(&json_body(parts, body).await?)?;
        let name = identity::reached_stream(parts, &basin, create.name, ErrorCode::BadJson)?;
        let (info, result) = self.streams.create_stream(&basin, &name, create.config, token).await?;
        let info = identity::shown_stream(parts, info)?;
        Ok(respond::provisioned(StatusCode::CREATED, result, json::encode_stream_info(&info)))
    }

    async fn get_stream(&self, stream: &str, parts: &Parts) -> Answer {
        let Place { basin, stream } = self.place(stream, parts)?;
        let config = self.streams.stream_config(&basin, &stream).await?;
        Ok(respond::json(StatusCode::OK, json::encode_stream_config(&config)))
    }

    async fn ensure_stream(&self, stream: &str, parts: &Parts, body: &mut RequestBody) -> Answer {
        let Place { basin, stream } = self.place(stream, parts)?;
        let layer = json::decode_ensure_stream(&optional_json_body(parts, body).await?)?;
        let allowed = identity::of(parts)?.operations();
        let (info, result) = self.streams.ensure_stream(&basin, &stream, layer, allowed).await?;
        let info = identity::shown_stream(parts, info)?;
        Ok(respond::provisioned(ensured(result), result, json::encode_stream_info(&info)))
    }

    async fn reconfigure_stream(&self, stream: &str, parts: &Parts, body: &mut RequestBody) -> Answer {
        let Place { basin, stream } = self.place(stream, parts)?;
        let changes = json::decode_stream_reconfiguration(&json_body(parts, body).await?)?;
        let config = self.streams.reconfigure_stream(&basin, &stream, &changes).await?;
        Ok(respond::json(StatusCode::OK, json::encode_stream_config(&config)))
    }

    async fn delete_stream(&self, stream: &str, parts: &Parts) -> Answer {
        let Place { basin, stream } = self.place(stream, parts)?;
        self.streams.delete_stream(&basin, &stream).await?;
        Ok(respond::accepted())
    }
}

const fn ensured(result: Provision) -> StatusCode {
    match result {
        Provision::Created => StatusCode::CREATED,
        Provision::Updated | Provision::Noop => StatusCode::OK,
    }
}

/// Records.
impl Gateway {
    async fn append(&self, stream: &str, parts: &Parts, body: &mut RequestBody) -> Answer {
        let place = self.place(stream, parts)?;
        match request::body_type(&parts.headers) {
            BodyType::S2s => self.append_session(place, parts, body).await,
            _ => self.append_once(place, parts, body).await,
        }
    }

    async fn read(&self, stream: &str, parts: &Parts) -> Answer {
        let place = self.place(stream, parts)?;
        let query = params::read_query(parts.uri.query())?;
        match request::body_type(&parts.headers) {
            BodyType::S2s => self.read_session(place, parts, query).await,
            _ if request::accept(&parts.headers) == Accept::EventStream => self.read_events(place, parts, query).await,
            _ => self.read_once(place, parts, query).await,
        }
    }

    async fn session(&self, place: Place, parts: &Parts, body: &mut RequestBody) -> Answer {
        match params::session_query(parts.uri.query())? {
            SessionQuery::Append => self.append_session(place, parts, body).await,
            SessionQuery::Read(query) => self.read_session(place, parts, query).await,
        }
    }

    async fn append_session(&self, place: Place, parts: &Parts, body: &mut RequestBody) -> Answer {
        let guard = SessionGuard::new(parts, Operation::Append)?;
        let key = request::encryption_key(&parts.headers)?;
        let layer = request::stream_config(&parts.headers)?;
        let stream =
            self.streams.stream(&place.basin, &place.stream, Access::Append, layer.as_ref(), key.as_ref()).await?;
        let session = self.streams.append_session(stream, key.as_ref())?.over(request::connection(parts));
        let request = body.take();
        let open = self.telemetry.session(SessionKind::Append);
        let (telemetry, memory) = (self.telemetry.clone(), self.streams.session_memory().clone());
        let pump = AppendPump::new(request, session, self.drain.watch(), guard, telemetry, memory, open);
        Ok(respond::session(Body::Append(Box::new(Belled::new(pump)))))
    }

    async fn read_session(&self, place: Place, parts: &Parts, query: ReadQuery) -> Answer {
        let guard = SessionGuard::new(parts, Operation::Read)?;
        let key = request::encryption_key(&parts.headers)?;
        let layer = request::stream_config(&parts.headers)?;
        let read = query.request()?;
        let stream =
            self.streams.stream(&place.basin, &place.stream, Access::Read, layer.as_ref(), key.as_ref()).await?;
        let session = self.streams.read_session(stream, key.as_ref(), &read).await?.over(request::connection(parts));
        let compression = request::accept_encoding(&parts.headers);
        let open = self.telemetry.session(SessionKind::Read);
        let feed = ReadFeed::new(session, self.drain.watch(), guard);
        let pump = ReadPump::new(feed, compression, self.pages.clone(), self.telemetry.clone(), open);
        Ok(respond::session(Body::Read(Box::new(Belled::new(pump)))))
    }

    async fn read_events(&self, place: Place, parts: &Parts, query: ReadQuery) -> Answer {
        let guard = SessionGuard::new(parts, Operation::Read)?;
        let key = request::encryption_key(&parts.headers)?;
        let layer = request::stream_config(&parts.headers)?;
        let format = request::s2_format(&parts.headers)?;
        let resumes = request::last_event_id(&parts.headers)?;
        let read = query.request()?;
        let read = resumes.map_or(read, |id| id.resume(read));
        let stream =
            self.streams.stream(&place.basin, &place.stream, Access::Read, layer.as_ref(), key.as_ref()).await?;
        let session = self.streams.read_session(stream, key.as_ref(), &read).await?.over(request::connection(parts));
        let feed = ReadFeed::new(session, self.drain.watch(), guard);
        let open = self.telemetry.session(SessionKind::Read);
        let request = SseRequest { format, resumes };
        let pump = SsePump::new(feed, request, self.streams.clock().clone(), self.telemetry.clone(), open);
        Ok(respond::event_stream(Body::Sse(Box::new(pump))))
    }

    async fn append_once(&self, place: Place, parts: &Parts, body: &mut RequestBody) -> Answer {
        let key = request::encryption_key(&parts.headers)?;
        let layer = request::stream_config(&parts.headers)?;
        let input = append_input(parts, body).await?;
        identity::of(parts)?.operations().permit_commands(&input.batch)?;
        let stream =
            self.streams.stream(&place.basin, &place.stream, Access::Append, layer.as_ref(), key.as_ref()).await?;
        let mut session = self.streams.append_session(stream, key.as_ref())?.over(request::connection(parts));
        if timeout(ADMITTED_WITHIN, session.admit(&input)).await.is_err() {
            let error = "too much is waiting to become durable; nothing was appended, send this again";
            return Err(ApiError::new(ErrorCode::RateLimited, error).into());
        }
        // Its batch counts from now on.
        drop(input);
        let ack = session.acknowledged().await?;
        Ok(match request::accept(&parts.headers) {
            Accept::Protobuf => respond::protobuf(wire::encode_append_ack(&ack)),
            _ => respond::json(StatusCode::OK, json::encode_append_ack(&ack)),
        })
    }

    async fn read_once(&self, place: Place, parts: &Parts, query: ReadQuery) -> Answer {
        let key = request::encryption_key(&parts.headers)?;
        let layer = request::stream_config(&parts.headers)?;
        let accept = request::accept(&parts.headers);
        let format = match accept {
            Accept::Protobuf => Default::default(),
            _ => request::s2_format(&parts.headers)?,
        };
        let read = query.request()?;
        let stream =
            self.streams.stream(&place.basin, &place.stream, Access::Read, layer.as_ref(), key.as_ref()).await?;
        let waits = read.wait.is_some_and(|wait| !wait.is_zero());
        let found = tokio::select! {
            biased;
            ended = identity::ended(parts), if waits => return Err(ended.into()),
            found = self.streams.read(stream, key.as_ref(), &read) => found?,
            () = self.drain.ending(), if waits => return Err(errors::draining("go on reading elsewhere").into()),
        };
        let (slices, tail) = records_of(found);
        Ok(match accept {
            Accept::Protobuf => respond::protobuf(wire::encode_read_batch(&slices, tail)),
            _ => respond::json(StatusCode::OK, json::encode_read_batch(&slices, tail, format)),
        })
    }

    async fn check_tail(&self, stream: &str, parts: &Parts) -> Answer {
        let Place { basin, stream } = self.place(stream, parts)?;
        let stream = self.streams.stream(&basin, &stream, Access::CheckTail, None, None).await?;
        Ok(respond::json(StatusCode::OK, json::encode_tail(self.streams.check_tail(&stream).await?)))
    }
}

fn records_of(event: Option<ReadEvent>) -> (Vec<BatchSlice>, Option<Position>) {
    match event {
        Some(ReadEvent::Records { slices, tail, .. }) => (slices, Some(tail)),
        Some(ReadEvent::Followed(batches)) => {
            (batches.iter().map(|batch| batch.whole()).collect(), Some(batches.last().end()))
        }
        Some(ReadEvent::Heartbeat(_)) | None => (Vec::new(), None),
    }
}

async fn append_input(parts: &Parts, body: &mut RequestBody) -> Result<Counted<AppendInput>, ApiError> {
    match request::body_type(&parts.headers) {
        BodyType::Protobuf => {
            let body = taken(body, parts, ErrorCode::BadProto).await?;
            let input = body.read_in_place(wire::decode_append_input);
            input.map_err(|error| errors::input_error(error, ErrorCode::BadProto))
        }
        _ => {
            let format = request::s2_format(&parts.headers)?;
            let body = json_body(parts, body).await?;
            let memory = |input: &AppendInput| input.batch.sequenced_memory();
            Ok(body.read(|body| json::decode_append_input(body, format), memory)?)
        }
    }
}

/// The body of a request that must be JSON.
pub(super) async fn json_body(parts: &Parts, body: &mut RequestBody) -> Result<WholeBody, ApiError> {
    match request::body_type(&parts.headers) {
        BodyType::Json => taken(body, parts, ErrorCode::BadJson).await,
        _ => Err(ApiError::new(
            ErrorCode::BadJson,
            "the request needs a JSON body with `Content-Type: application/json`",
        )),
    }
}

/// The body of a request that may do without: one that is not said to be JSON counts as none (`errors.md` §4.1).
async fn optional_json_body(parts: &Parts, body: &mut RequestBody) -> Result<WholeBody, ApiError> {
    match request::body_type(&parts.headers) {
        BodyType::Json => taken(body, parts, ErrorCode::BadJson).await,
        _ => Ok(body.none()),
    }
}

/// The whole of a body. Who sent it may have lost their token while it came, and nothing is done for them then.
async fn taken(body: &mut RequestBody, parts: &Parts, code: ErrorCode) -> Result<WholeBody, ApiError> {
    let body = body.whole(&parts.headers, code).await?;
    identity::is_still_valid(parts)?;
    Ok(body)
}

fn needs_s2s(headers: &HeaderMap) -> Result<(), ApiError> {
    match request::body_type(headers) {
        BodyType::S2s => Ok(()),
        _ => Err(ApiError::new(ErrorCode::UnsupportedMediaType, "a session needs `Content-Type: s2s/proto`")),
    }
}
