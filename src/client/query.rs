//! The query of a read (`data-plane.md` §7.1).

use std::fmt::{self, Write};

use crate::types::{ReadRequest, ReadStart};

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

fn put(query: &mut String, name: &str, value: Option<impl fmt::Display>) {
    if let Some(value) = value {
        write!(query, "&{name}={value}").expect("a String takes all that is written");
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::types::{ReadBounds, SeqNum, Timestamp};

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
