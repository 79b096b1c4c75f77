//! A record as a line of JSON, in and out: what the command line reads and writes.
//!
//! The same fields as in the API's JSON (`data-plane.md` §6.2), and the same two ways to put bytes into strings; without
//! a newline, which belongs to whoever cuts and joins lines.

use std::borrow::Cow;

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use serde::{Deserialize, Serialize};

use super::{ReadRecord, negotiate::S2Format};
use crate::types::Timestamp;

/// A record to append, as a line said it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LineRecord {
    /// Its timestamp, if there was one.
    pub timestamp: Option<Timestamp>,
    /// Names and values, in order.
    pub headers: Vec<(Vec<u8>, Vec<u8>)>,
    /// Its body.
    pub body: Vec<u8>,
}

/// Why a line is not a record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LineError {
    /// Not JSON, or of another shape.
    #[error("not a record in JSON: {0}")]
    Malformed(String),
    /// A string that should be base64 and is not.
    #[error("a string is not standard base64 with padding")]
    Base64,
}

/// Reads a record: an object with `body`, `headers` (pairs of name and value) and `timestamp`, each of which may be left
/// out. Another field is an error, because a mistyped one would be lost without a word.
pub fn decode_record_line(line: &[u8], format: S2Format) -> Result<LineRecord, LineError> {
    // An array of the fields' values would do for serde.
    if !line.trim_ascii_start().starts_with(b"{") {
        return Err(LineError::Malformed("expected an object".into()));
    }
    let json: LineJson<'_> = serde_json::from_slice(line).map_err(|error| LineError::Malformed(error.to_string()))?;
    let header = |(name, value): (Cow<'_, str>, Cow<'_, str>)| Ok((bytes(name, format)?, bytes(value, format)?));
    Ok(LineRecord {
        timestamp: json.timestamp.map(Timestamp::new),
        headers: json.headers.into_iter().map(header).collect::<Result<_, _>>()?,
        body: bytes(json.body, format)?,
    })
}

/// Writes `record` to the end of `out`. As raw text each invalid sequence of UTF-8 becomes U+FFFD.
pub fn put_record_line(out: &mut Vec<u8>, record: &ReadRecord, format: S2Format) {
    let header = |(name, value): &'_ (bytes::Bytes, bytes::Bytes)| {
        (text(name, format).into_owned(), text(value, format).into_owned())
    };
    let json = RecordJson {
        seq_num: record.seq_num.get(),
        timestamp: record.timestamp.get(),
        headers: record.headers.iter().map(header).collect(),
        body: text(&record.body, format),
    };
    serde_json::to_writer(out, &json).expect("numbers and strings go into memory");
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LineJson<'a> {
    #[serde(default)]
    timestamp: Option<u64>,
    #[serde(borrow, default)]
    headers: Vec<(Cow<'a, str>, Cow<'a, str>)>,
    #[serde(borrow, default)]
    body: Cow<'a, str>,
    /// So that a line that `put_record_line` wrote can be appended again; the number it gets is another.
    #[serde(default, rename = "seq_num")]
    _seq_num: Option<u64>,
}

#[derive(Serialize)]
struct RecordJson<'a> {
    seq_num: u64,
    timestamp: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    headers: Vec<(String, String)>,
    #[serde(skip_serializing_if = "str::is_empty")]
    body: Cow<'a, str>,
}

fn bytes(text: Cow<'_, str>, format: S2Format) -> Result<Vec<u8>, LineError> {
    match format {
        S2Format::Raw => Ok(text.into_owned().into_bytes()),
        S2Format::Base64 => BASE64.decode(text.as_bytes()).map_err(|_| LineError::Base64),
    }
}

fn text(bytes: &[u8], format: S2Format) -> Cow<'_, str> {
    match format {
        S2Format::Raw => String::from_utf8_lossy(bytes),
        S2Format::Base64 => BASE64.encode(bytes).into(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::types::SeqNum;

    fn record(headers: Vec<(Vec<u8>, Vec<u8>)>, body: Vec<u8>) -> ReadRecord {
        ReadRecord {
            seq_num: SeqNum::new(42),
            timestamp: Timestamp::new(7),
            headers: headers.into_iter().map(|(name, value)| (name.into(), value.into())).collect(),
            body: body.into(),
        }
    }

    fn line(record: &ReadRecord, format: S2Format) -> String {
        let mut out = Vec::new();
        put_record_line(&mut out, record, format);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn lines_out() {
        // data-plane.md §6.2: headers and body are left out when empty
        let full = record(vec![(b"k".to_vec(), b"v".to_vec())], b"he\"llo\n".to_vec());
        assert_eq!(
            line(&full, S2Format::Raw),
            r#"{"seq_num":42,"timestamp":7,"headers":[["k","v"]],"body":"he\"llo\n"}"#
        );
        assert_eq!(line(&record(vec![], vec![]), S2Format::Raw), r#"{"seq_num":42,"timestamp":7}"#);
        assert_eq!(
            line(&record(vec![], vec![0xff]), S2Format::Raw),
            "{\"seq_num\":42,\"timestamp\":7,\"body\":\"\u{fffd}\"}"
        );
        assert_eq!(
            line(&record(vec![], vec![0xff]), S2Format::Base64),
            r#"{"seq_num":42,"timestamp":7,"body":"/w=="}"#
        );
    }

    #[test]
    fn lines_in() {
        let decode = |line: &str| decode_record_line(line.as_bytes(), S2Format::Raw);
        assert_eq!(decode("{}"), Ok(LineRecord::default()));
        assert_eq!(decode(r#"{"body":"a\u0000b","timestamp":0}"#).unwrap().body, b"a\0b");
        assert_eq!(decode(r#"{"timestamp":0}"#).unwrap().timestamp, Some(Timestamp::new(0)));
        let command = decode(r#"{"headers":[["","fence"]],"body":"w1"}"#).unwrap();
        assert_eq!(command.headers, [(vec![], b"fence".to_vec())]);
        for bad in ["", "hello", r#""text""#, "[]", r#"{"boby":"x"}"#, r#"{"headers":[["k"]]}"#, "{} {}"] {
            assert!(matches!(decode(bad), Err(LineError::Malformed(_))), "{bad}");
        }
        let base64 = |line: &str| decode_record_line(line.as_bytes(), S2Format::Base64);
        assert_eq!(base64(r#"{"body":"/w=="}"#).unwrap().body, [0xff]);
        assert_eq!(base64(r#"{"body":"/w"}"#), Err(LineError::Base64));
    }

    proptest! {
        #[test]
        fn base64_lines_lose_nothing(
            headers in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..9), prop::collection::vec(any::<u8>(), 0..9)), 0..4),
            body in prop::collection::vec(any::<u8>(), 0..99),
        ) {
            let line = line(&record(headers.clone(), body.clone()), S2Format::Base64);
            prop_assert!(!line.contains('\n'));
            let back = decode_record_line(line.as_bytes(), S2Format::Base64).unwrap();
            prop_assert_eq!(back, LineRecord { timestamp: Some(Timestamp::new(7)), headers, body });
        }
    }
}
