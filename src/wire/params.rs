//! What stands in the address of a request: query parameters, and the encoded segments of a path.
//!
//! Takes the raw text, gives values; which stream or basin they are for it does not know. Unknown parameters are
//! ignored everywhere.

use std::{borrow::Cow, fmt::Display, str::FromStr, time::Duration};

use percent_encoding::percent_decode;

use crate::types::{
    AccessTokenIdPart, ApiError, BasinNamePart, ErrorCode, NameError, ReadBounds, ReadRequest, ReadStart, SeqNum,
    StreamNamePart, Timestamp, limits::MAX_LIST_LIMIT,
};

/// What is wrong with a query, in words that name the parameter and its value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParamError {
    /// A parameter is unreadable, given twice, or not for this request (400 `bad_query`).
    #[error("{0}")]
    BadQuery(String),
    /// The parameters are readable and contradict each other (422 `invalid`).
    #[error("{0}")]
    Invalid(String),
}

impl From<ParamError> for ApiError {
    fn from(error: ParamError) -> Self {
        match error {
            ParamError::BadQuery(message) => ApiError::new(ErrorCode::BadQuery, message),
            ParamError::Invalid(message) => ApiError::new(ErrorCode::Invalid, message),
        }
    }
}

/// The parameters of a read, each of them readable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReadQuery {
    selectors: Selectors,
    clamp: bool,
    bounds: ReadBounds,
    wait: Option<Duration>,
}

impl ReadQuery {
    /// What they ask for together, unless they contradict each other: that comes after what is wrong with the headers
    /// (`errors.md` §4.4).
    pub fn request(self) -> Result<ReadRequest, ParamError> {
        let Self { selectors, clamp, bounds, wait } = self;
        let start = selectors.start()?;
        starts_before_its_end(start, bounds.until)?;
        Ok(ReadRequest { start, clamp, bounds, wait })
    }
}

/// The parameters of a read (`data-plane.md` §7.1).
pub fn read_query(query: Option<&str>) -> Result<ReadQuery, ParamError> {
    read_parameters(select(query, READ_PARAMETERS)?)
}

/// What `POST …/session` is asked to be (`s2s.md` §1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionQuery {
    /// An append session: `mode=append`, or no mode.
    Append,
    /// A read session: `mode=read`.
    Read(ReadQuery),
}

/// The parameters of `POST …/session`: the mode, and with `mode=read` those of a read (`s2s.md` §1.1).
pub fn session_query(query: Option<&str>) -> Result<SessionQuery, ParamError> {
    let [mode] = select(query, ["mode"])?;
    let parameters = select(query, READ_PARAMETERS)?;
    match mode.as_deref() {
        Some("read") => read_parameters(parameters).map(SessionQuery::Read),
        None | Some("append") => match parameters.iter().position(Option::is_some) {
            Some(i) => Err(ParamError::BadQuery(format!("{}: only for a session with mode=read", READ_PARAMETERS[i]))),
            None => Ok(SessionQuery::Append),
        },
        Some(other) => Err(ParamError::BadQuery(format!("mode: must be append or read, not {other:?}"))),
    }
}

/// Which entries of a listing are asked for; `Part` is what may stand for the beginning of a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListRequest<Part> {
    /// Only names that begin so.
    pub prefix: Part,
    /// Only names after this one, bytewise; empty: from the first.
    pub start_after: Part,
    /// At most this many: 1 to 1000.
    pub limit: usize,
}

/// The parameters of a listing of basins (`control-plane.md` §4.7).
pub fn list_basins(query: Option<&str>) -> Result<ListRequest<BasinNamePart>, ParamError> {
    list_request(query, BasinNamePart::new)
}

/// The parameters of a listing of streams (`control-plane.md` §4.7, §5.5).
pub fn list_streams(query: Option<&str>) -> Result<ListRequest<StreamNamePart>, ParamError> {
    list_request(query, StreamNamePart::new)
}

/// The parameters of a listing of access tokens (`control-plane.md` §4.7, §7.6).
pub fn list_access_tokens(query: Option<&str>) -> Result<ListRequest<AccessTokenIdPart>, ParamError> {
    list_request(query, AccessTokenIdPart::new)
}

/// A segment of a path that does not decode to text (400 `bad_path`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a name in the path is not UTF-8 once decoded")]
pub struct SegmentNotUtf8;

/// Decodes one percent-encoded segment of a path, or a header that is encoded as one (`http.md` §3, `errors.md` §4.3).
///
/// Only after routing, since `%2F` becomes a slash. A `%` without two hexadecimal digits behind it stands for itself.
pub fn decode_path_segment(raw: &str) -> Result<Cow<'_, str>, SegmentNotUtf8> {
    percent_decode(raw.as_bytes()).decode_utf8().map_err(|_| SegmentNotUtf8)
}

const READ_PARAMETERS: [&str; 8] = ["seq_num", "timestamp", "tail_offset", "clamp", "count", "bytes", "until", "wait"];

fn read_parameters(values: [Option<Cow<'_, str>>; 8]) -> Result<ReadQuery, ParamError> {
    let [seq_num, timestamp, tail_offset, clamp, count, bytes, until, wait] = values;
    let selectors = Selectors {
        seq_num: number("seq_num", seq_num)?,
        timestamp: number("timestamp", timestamp)?,
        tail_offset: number("tail_offset", tail_offset)?,
    };
    let bounds = ReadBounds {
        count: number("count", count)?,
        bytes: number("bytes", bytes)?,
        until: number("until", until)?.map(Timestamp::new),
    };
    let clamp = truth("clamp", clamp)?.unwrap_or(false);
    let wait = number::<u32>("wait", wait)?.map(|seconds| Duration::from_secs(seconds.into()));
    Ok(ReadQuery { selectors, clamp, bounds, wait })
}

/// The parameters of which at most one may say where a read starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Selectors {
    seq_num: Option<u64>,
    timestamp: Option<u64>,
    tail_offset: Option<u64>,
}

impl Selectors {
    fn start(self) -> Result<ReadStart, ParamError> {
        match (self.seq_num, self.timestamp, self.tail_offset) {
            (None, None, None) => Ok(ReadStart::default()),
            (Some(seq_num), None, None) => Ok(ReadStart::SeqNum(SeqNum::new(seq_num))),
            (None, Some(timestamp), None) => Ok(ReadStart::Timestamp(Timestamp::new(timestamp))),
            (None, None, Some(records)) => Ok(ReadStart::TailOffset(records)),
            _ => Err(ParamError::Invalid("seq_num, timestamp and tail_offset exclude each other".into())),
        }
    }
}

fn starts_before_its_end(start: ReadStart, until: Option<Timestamp>) -> Result<(), ParamError> {
    match (start, until) {
        (ReadStart::Timestamp(timestamp), Some(until)) if timestamp >= until => {
            Err(ParamError::Invalid(format!("timestamp {timestamp} must be less than until {until}")))
        }
        _ => Ok(()),
    }
}

fn list_request<Part>(
    query: Option<&str>,
    part: impl Fn(&str) -> Result<Part, NameError>,
) -> Result<ListRequest<Part>, ParamError> {
    let [prefix, start_after, limit] = select(query, ["prefix", "start_after", "limit"])?;
    let part = |name: &str, value: Option<Cow<'_, str>>| part(value.as_deref().unwrap_or_default()).map_err(bad(name));
    let limit = match number::<u64>("limit", limit)? {
        None | Some(0) => MAX_LIST_LIMIT,
        Some(limit) => limit.min(MAX_LIST_LIMIT as u64) as usize,
    };
    Ok(ListRequest { prefix: part("prefix", prefix)?, start_after: part("start_after", start_after)?, limit })
}

/// The values of the parameters `names`, each given at most once. All other parameters are passed over.
pub(super) fn select<'a, const N: usize>(
    query: Option<&'a str>,
    names: [&str; N],
) -> Result<[Option<Cow<'a, str>>; N], ParamError> {
    let mut values = [const { None }; N];
    for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let name = decode_form(name)?;
        let Some(i) = names.iter().position(|known| *known == name) else { continue };
        if values[i].replace(decode_form(value)?).is_some() {
            return Err(ParamError::BadQuery(format!("{name}: given more than once")));
        }
    }
    Ok(values)
}

/// Decodes a name or a value as forms encode them: `+` is a space, `%xx` a byte of UTF-8.
fn decode_form(raw: &str) -> Result<Cow<'_, str>, ParamError> {
    let not_utf8 = |_| ParamError::BadQuery(format!("{raw:?} is not UTF-8 once decoded"));
    if !raw.contains('+') {
        return percent_decode(raw.as_bytes()).decode_utf8().map_err(not_utf8);
    }
    let spaced = raw.replace('+', " ");
    percent_decode(spaced.as_bytes()).decode_utf8().map(|text| Cow::Owned(text.into_owned())).map_err(not_utf8)
}

/// A decimal number, digits only: the sign that Rust's own parser would take is not for the wire.
pub(super) fn number<T: FromStr<Err: Display>>(
    name: &str,
    value: Option<Cow<'_, str>>,
) -> Result<Option<T>, ParamError> {
    let Some(value) = value else { return Ok(None) };
    if value.starts_with('+') {
        return Err(bad_value(name, &value, "a sign is not allowed"));
    }
    value.parse().map(Some).map_err(|error| bad_value(name, &value, error))
}

fn truth(name: &str, value: Option<Cow<'_, str>>) -> Result<Option<bool>, ParamError> {
    value.map(|value| value.parse().map_err(|_| bad_value(name, &value, "must be true or false"))).transpose()
}

pub(super) fn bad_value(name: &str, value: &str, why: impl Display) -> ParamError {
    ParamError::BadQuery(format!("{name}: cannot read {value:?}: {why}"))
}

fn bad<E: Display>(name: &str) -> impl Fn(E) -> ParamError {
    move |why| ParamError::BadQuery(format!("{name}: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(query: &str) -> Result<ReadRequest, ParamError> {
        read_query(Some(query))?.request()
    }

    fn assert_bad_query<T: std::fmt::Debug>(query: &str, result: Result<T, ParamError>, mentions: &str) {
        match result {
            Err(ParamError::BadQuery(message)) => assert!(message.contains(mentions), "{query:?}: {message}"),
            other => panic!("{query:?}: {other:?}"),
        }
    }

    #[test]
    fn a_read_without_parameters_starts_at_the_tail() {
        assert_eq!(read_query(None), Ok(ReadQuery::default()));
        assert_eq!(read(""), Ok(ReadRequest::default()));
        assert_eq!(ReadRequest::default().start, ReadStart::TailOffset(0));
    }

    #[test]
    fn every_read_parameter() {
        // data-plane.md §7.1
        let all = read("timestamp=5&clamp=true&count=10&bytes=0&until=6&wait=4294967295&else=1").unwrap();
        let expected = ReadRequest {
            start: ReadStart::Timestamp(Timestamp::new(5)),
            clamp: true,
            bounds: ReadBounds { count: Some(10), bytes: Some(0), until: Some(Timestamp::new(6)) },
            wait: Some(Duration::from_secs(u32::MAX.into())),
        };
        assert_eq!(all, expected);
        let largest = read("seq_num=18446744073709551615&clamp=false").unwrap();
        assert_eq!(largest.start, ReadStart::SeqNum(SeqNum::MAX));
        assert_eq!(read("tail_offset=3").unwrap().start, ReadStart::TailOffset(3));
        assert_eq!(read("&&se%71_num=%31&").unwrap().start, ReadStart::SeqNum(SeqNum::new(1)));
    }

    #[test]
    fn unreadable_read_parameters() {
        // data-plane.md §7.1
        for name in ["seq_num", "timestamp", "tail_offset", "count", "bytes", "until", "wait"] {
            for value in ["abc", "-1", "", "%2B1", "+1", "1.0", "18446744073709551616", "0x1", "%201"] {
                let query = format!("{name}={value}");
                assert_bad_query(&query, read(&query), name);
            }
            assert_bad_query(name, read(name), name);
            let twice = format!("{name}=1&x=y&{name}=1");
            assert_bad_query(&twice, read(&twice), name);
        }
        for value in ["1", "", "True", "yes"] {
            let query = format!("clamp={value}");
            assert_bad_query(&query, read(&query), value);
        }
        assert_bad_query("clamp twice", read("clamp=true&clamp=true"), "clamp");
        assert_bad_query("over u32", read("wait=4294967296"), "4294967296");
        assert_bad_query("not UTF-8", read("seq_num=%ff"), "%ff");
        assert_bad_query("not UTF-8 either", read("%ff=1"), "%ff");
        assert_bad_query("syntax before sense", read("seq_num=1&tail_offset=1&count=x"), "count");
    }

    #[test]
    fn contradictions_between_read_parameters() {
        // data-plane.md §7.1
        for query in [
            "seq_num=1&timestamp=1",
            "seq_num=1&tail_offset=1",
            "timestamp=1&tail_offset=1",
            "seq_num=0&timestamp=0&tail_offset=0",
            "timestamp=6&until=6",
            "timestamp=7&until=6",
        ] {
            let readable = read_query(Some(query)).unwrap();
            assert!(matches!(readable.request(), Err(ParamError::Invalid(_))), "{query}");
        }
        assert!(read("timestamp=5&until=6").is_ok());
        assert!(read("seq_num=7&until=6").is_ok());
    }

    #[test]
    fn modes_of_a_session() {
        // s2s.md §1.1
        let session = |query: &str| session_query(Some(query));
        let read = |query: &str| read_query(Some(query)).map(SessionQuery::Read);
        assert_eq!(session_query(None), Ok(SessionQuery::Append));
        assert_eq!(session("mode=append&other=1"), Ok(SessionQuery::Append));
        assert_eq!(session("seq_num=2&mode=read"), read("seq_num=2"));
        assert_eq!(session("mode=read"), read(""));
        for (query, mentions) in [
            ("seq_num=2", "seq_num"),
            ("mode=append&clamp=true", "clamp"),
            ("mode=write", "write"),
            ("mode=Read", "Read"),
            ("mode=", "mode"),
            ("mode=read&mode=read", "mode"),
            ("mode=read&count=x", "count"),
            ("mode=append&wait=1&wait=1", "wait"),
        ] {
            assert_bad_query(query, session(query), mentions);
        }
        assert_eq!(session("mode=read&timestamp=2&until=1"), read("timestamp=2&until=1"), "not judged yet");
    }

    #[test]
    fn limits_of_a_listing() {
        // control-plane.md §4.7
        for (query, limit) in [
            ("", 1000),
            ("limit=0", 1000),
            ("limit=1", 1),
            ("limit=1000", 1000),
            ("limit=1001", 1000),
            ("limit=18446744073709551615", 1000),
        ] {
            assert_eq!(list_streams(Some(query)).unwrap().limit, limit, "{query:?}");
        }
        for bad in ["limit=-1", "limit=x", "limit=", "limit=1&limit=1", "limit=%2B1"] {
            assert_bad_query(bad, list_basins(Some(bad)), "limit");
        }
    }

    #[test]
    fn names_of_a_listing() {
        // control-plane.md §2, §4.7
        let streams = list_streams(Some("prefix=orders%2F+a%2B&start_after=orders/%E6%97%A5")).unwrap();
        assert_eq!((streams.prefix.as_str(), streams.start_after.as_str()), ("orders/ a+", "orders/日"));
        let basins = list_basins(Some("prefix=my-&start_after=")).unwrap();
        assert_eq!((basins.prefix.as_str(), basins.start_after.as_str()), ("my-", ""));
        assert_eq!(list_basins(None).unwrap().prefix.as_str(), "");
        for bad in ["prefix=My", "prefix=-a", "start_after=a_b", "prefix=a&prefix=b", "prefix=%c3"] {
            assert_bad_query(bad, list_basins(Some(bad)), "");
        }
        assert_eq!(list_access_tokens(Some("prefix=tenant%2F")).unwrap().prefix.as_str(), "tenant/");
        assert_bad_query("NUL", list_access_tokens(Some("start_after=%00")), "start_after");
        assert_bad_query("NUL", list_streams(Some("prefix=a%00")), "prefix");
        let long = format!("start_after={}", "a".repeat(513));
        assert_bad_query("too long", list_streams(Some(&long)), "start_after");
    }

    #[test]
    fn path_segments() {
        // errors.md §4.3
        for (raw, decoded) in
            [("orders%2Feu", "orders/eu"), ("a+b", "a+b"), ("%e6%97%a5", "日"), ("100%", "100%"), ("%zz%2", "%zz%2")]
        {
            assert_eq!(decode_path_segment(raw).as_deref(), Ok(decoded), "{raw}");
        }
        assert_eq!(decode_path_segment("a%00b").as_deref(), Ok("a\0b"), "a name's own rules come later");
        assert_eq!(decode_path_segment("%ff"), Err(SegmentNotUtf8));
    }
}
