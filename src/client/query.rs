//! The queries of reads (`data-plane.md` §7.1) and listings (`control-plane.md` §4.7).

use std::fmt::{self, Write};

use super::stream::segment;
use crate::{
    types::{ReadRequest, ReadStart},
    wire::params::ListRequest,
};

/// The query that asks for `request`. Seconds are whole on the wire: what is left of a wait is rounded up.
pub(super) fn read_query(request: &ReadRequest) -> String {
    let mut query = match request.start {
        ReadStart::SeqNum(seq_num) => format!("seq_num={seq_num}"),
        ReadStart::Timestamp(timestamp) => format!("timestamp={timestamp}"),
        ReadStart::TailOffset(offset) => format!("tail_offset={offset}"),
    };
    if request.clamp {
        query.push_str("&clamp=true");
    }
    put(&mut query, "count", request.bounds.count);
    put(&mut query, "bytes", request.bounds.bytes);
    put(&mut query, "until", request.bounds.until);
    put(&mut query, "wait", request.wait.map(|wait| wait.as_millis().div_ceil(1000).min(u32::MAX.into())));
    query
}

/// The query that asks for `request`.
pub(super) fn list_query<Part: AsRef<str>>(request: &ListRequest<Part>) -> String {
    let mut query = format!("limit={}", request.limit);
    let part = |part: &Part| (!part.as_ref().is_empty()).then(|| segment(part.as_ref()).to_string());
    put(&mut query, "prefix", part(&request.prefix));
    put(&mut query, "start_after", part(&request.start_after));
    query
}

fn put(query: &mut String, name: &str, value: Option<impl fmt::Display>) {
    if let Some(value) = value {
        write!(query, "&{name}={value}").expect("a String takes all that is written");
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        types::{ReadBounds, SeqNum, StreamNamePart, Timestamp},
        wire::params::list_streams,
    };

    #[test]
    fn listings_are_asked_for_as_they_are_heard() {
        let first = ListRequest { prefix: "", start_after: "", limit: 1000 };
        assert_eq!(list_query(&first), "limit=1000");
        for name in ["a/b c+d&e=f%20", "日本", "?#"] {
            let part = StreamNamePart::new(name).unwrap();
            let request = ListRequest { prefix: part.clone(), start_after: part, limit: 7 };
            assert_eq!(list_streams(Some(&list_query(&request))), Ok(request), "{name}");
        }
    }

    #[test]
    fn parameters() {
        assert_eq!(read_query(&ReadRequest::default()), "tail_offset=0");
        let start = ReadStart::Timestamp(Timestamp::new(7));
        assert_eq!(read_query(&ReadRequest { start, ..ReadRequest::default() }), "timestamp=7");
        let all = ReadRequest {
            start: ReadStart::SeqNum(SeqNum::new(5)),
            clamp: true,
            bounds: ReadBounds { count: Some(1), bytes: Some(2), until: Some(Timestamp::new(3)) },
            wait: Some(Duration::from_millis(1001)),
        };
        assert_eq!(read_query(&all), "seq_num=5&clamp=true&count=1&bytes=2&until=3&wait=2");
    }
}
