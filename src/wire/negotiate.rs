//! What the headers of a request say about the bytes behind them: compression, media types, the text form of records.
//!
//! Takes header values as bytes and knows no HTTP library; which answer a refusal becomes is the server's to say.

use crate::types::Compression;

/// The compression for response frames, from all `accept-encoding` fields in order (`s2s.md` §2).
///
/// zstd wins wherever it stands and whatever its weight, unless that is zero; then gzip; everything else, `*` included,
/// asks for nothing.
pub fn accept_encoding<'a>(values: impl IntoIterator<Item = &'a [u8]>) -> Compression {
    let mut chosen = Compression::None;
    for element in values.into_iter().filter_map(visible_ascii).flat_map(|value| value.split(',')) {
        match acceptable_coding(element) {
            Some(Compression::Zstd) => return Compression::Zstd,
            Some(coding) => chosen = coding,
            None => {}
        }
    }
    chosen
}

/// The coding that an element of `accept-encoding` names, unless it is unknown or refused with a weight of zero.
fn acceptable_coding(element: &str) -> Option<Compression> {
    let mut parts = element.split(';');
    let coding = known_coding(parts.next()?.trim())?;
    let refused = parts.any(|parameter| match parameter.split_once('=') {
        Some((name, weight)) => name.trim().eq_ignore_ascii_case("q") && weight.trim().parse() == Ok(0.0f64),
        None => false,
    });
    (!refused).then_some(coding)
}

fn known_coding(name: &str) -> Option<Compression> {
    [Compression::Zstd, Compression::Gzip].into_iter().find(|known| name.eq_ignore_ascii_case(known.coding()))
}

/// A header value as text, if it has nothing but visible ASCII, spaces and tabs.
fn visible_ascii(value: &[u8]) -> Option<&str> {
    let visible = value.iter().all(|byte| matches!(byte, b' '..=b'~' | b'\t'));
    std::str::from_utf8(value).ok().filter(|_| visible)
}

/// A content coding that is not read here (415; `http.md` §6).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("content encoding {0:?} is not supported, use identity, zstd or gzip")]
pub struct UnsupportedCoding(pub String);

/// How the body of a unary request is compressed, from its `content-encoding` (`http.md` §6).
///
/// One coding at most: a body compressed twice is refused.
pub fn content_encoding(value: Option<&[u8]>) -> Result<Compression, UnsupportedCoding> {
    let name = value.unwrap_or_default().trim_ascii();
    if name.is_empty() {
        return Ok(Compression::None);
    }
    Compression::ALL
        .into_iter()
        .find(|known| name.eq_ignore_ascii_case(known.coding().as_bytes()))
        .ok_or_else(|| UnsupportedCoding(String::from_utf8_lossy(name).into_owned()))
}

/// What the body of a request is, by the first media type of its `content-type` (`s2s.md` §1.1, `data-plane.md` §2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyType {
    /// `s2s/proto`: a session.
    S2s,
    /// `application/json`, or another application type that says it is JSON.
    Json,
    /// One protobuf message.
    Protobuf,
    /// Something else, or nothing was said.
    Other,
}

impl BodyType {
    /// Reads a `content-type`; parameters and case do not matter.
    pub fn of(content_type: Option<&[u8]>) -> Self {
        match MediaType::first(content_type.unwrap_or_default()) {
            Some(media) if media.is("s2s", "proto") => Self::S2s,
            Some(media) if media.is_json() => Self::Json,
            Some(media) if media.is_protobuf() => Self::Protobuf,
            _ => Self::Other,
        }
    }
}

/// What the client would like to get, by the first media type of its `accept` (`data-plane.md` §2.1, §8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accept {
    /// JSON: what everything else comes to.
    Json,
    /// One protobuf message.
    Protobuf,
    /// Server-sent events.
    EventStream,
}

impl Accept {
    /// Reads an `accept`; the rest of the list, weights and parameters do not matter.
    pub fn of(accept: Option<&[u8]>) -> Self {
        match MediaType::first(accept.unwrap_or_default()) {
            Some(media) if media.is_protobuf() => Self::Protobuf,
            Some(media) if media.is("text", "event-stream") => Self::EventStream,
            _ => Self::Json,
        }
    }
}

/// A media type without its parameters.
struct MediaType<'a> {
    kind: &'a [u8],
    subtype: &'a [u8],
}

impl<'a> MediaType<'a> {
    fn first(value: &'a [u8]) -> Option<Self> {
        let essence = value.split(|byte| matches!(byte, b',' | b';')).next()?.trim_ascii();
        let slash = essence.iter().position(|byte| *byte == b'/')?;
        Some(Self { kind: &essence[..slash], subtype: &essence[slash + 1..] })
    }

    fn is(&self, kind: &str, subtype: &str) -> bool {
        self.kind.eq_ignore_ascii_case(kind.as_bytes()) && self.subtype.eq_ignore_ascii_case(subtype.as_bytes())
    }

    fn is_json(&self) -> bool {
        const SUFFIX: &[u8] = b"+json";
        let suffix = self.subtype.len().checked_sub(SUFFIX.len()).map(|at| &self.subtype[at..]);
        let says_json = suffix.is_some_and(|suffix| suffix.eq_ignore_ascii_case(SUFFIX));
        self.is("application", "json") || says_json && self.kind.eq_ignore_ascii_case(b"application")
    }

    fn is_protobuf(&self) -> bool {
        ["protobuf", "x-protobuf", "proto"].iter().any(|subtype| self.is("application", subtype))
    }
}

/// How names, values and bodies of records stand in JSON strings (`data-plane.md` §6.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum S2Format {
    /// As text; what is not UTF-8 is lost on the way out.
    #[default]
    Raw,
    /// As standard base64 with padding.
    Base64,
}

/// A value of `s2-format` that names no format (400 `bad_header`).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown format {0:?}, use raw (or json) or base64 (or json-binsafe)")]
pub struct UnknownFormat(pub String);

impl S2Format {
    /// Reads an `s2-format`; absent means raw.
    pub fn of(s2_format: Option<&[u8]>) -> Result<Self, UnknownFormat> {
        match s2_format.map(<[u8]>::trim_ascii) {
            None | Some(b"raw" | b"json") => Ok(Self::Raw),
            Some(b"base64" | b"json-binsafe") => Ok(Self::Base64),
            Some(other) => Err(UnknownFormat(String::from_utf8_lossy(other).into_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn response_compression() {
        // s2s.md §2
        use Compression::{Gzip, None, Zstd};
        let cases: &[(&[&str], Compression)] = &[
            (&[], None),
            (&["gzip"], Gzip),
            (&["gzip, zstd"], Zstd),
            (&["gzip;q=1.0, zstd;q=0.1"], Zstd),
            (&["zstd;q=0, gzip"], Gzip),
            (&["zstd;q=0", "gzip;q=0"], None),
            (&["*"], None),
            (&["br, deflate"], None),
            (&["gzip", "zstd"], Zstd),
            // the rules above the table
            (&["zstd; Q=0.000 ,gzip ; q = 0.0"], None),
            (&["zstd;q=zero"], Zstd),
            (&["zstd;q"], Zstd),
            (&["zstd;x=0"], Zstd),
            (&["zstd;x=1;q=0"], None),
            (&["ZStd"], Zstd),
            (&["identity, GZIP , *"], Gzip),
            (&["gzip", "caf\u{e9}, zstd"], Gzip),
            (&["zstdx", "x-zstd", ""], None),
        ];
        for (values, expected) in cases {
            assert_eq!(accept_encoding(values.iter().map(|v| v.as_bytes())), *expected, "{values:?}");
        }
    }

    #[test]
    fn body_types() {
        // data-plane.md §2.1, s2s.md §1.1
        use BodyType::{Json, Other, Protobuf, S2s};
        let cases = [
            ("s2s/proto", S2s),
            ("S2S/Proto; charset=utf-8", S2s),
            ("s2s/proto, application/json", S2s),
            ("application/json, s2s/proto", Json),
            ("application/json; charset=utf-8", Json),
            ("Application/JSON", Json),
            ("application/problem+json", Json),
            ("application/vnd.x+JSON;v=1", Json),
            ("application/protobuf", Protobuf),
            ("application/x-protobuf", Protobuf),
            ("application/X-Protobuf; x=y", Protobuf),
            ("application/proto", Protobuf),
            ("text/json", Other),
            ("text/x+json", Other),
            ("application/jsonx", Other),
            ("text/plain", Other),
            ("application", Other),
            ("s2s/protobuf", Other),
            ("", Other),
        ];
        for (value, expected) in cases {
            assert_eq!(BodyType::of(Some(value.as_bytes())), expected, "{value:?}");
        }
        assert_eq!(BodyType::of(None), Other);
    }

    #[test]
    fn accepted_types() {
        // data-plane.md §2.1, §8; errors.md §4.2
        let cases = [
            ("application/protobuf", Accept::Protobuf),
            ("application/x-protobuf;q=0.1, application/json", Accept::Protobuf),
            ("application/Proto", Accept::Protobuf),
            ("application/json, application/protobuf", Accept::Json),
            ("text/event-stream", Accept::EventStream),
            ("Text/Event-Stream; charset=utf-8", Accept::EventStream),
            ("application/json, text/event-stream", Accept::Json),
            ("*/*", Accept::Json),
            ("image/png", Accept::Json),
            ("", Accept::Json),
        ];
        for (value, expected) in cases {
            assert_eq!(Accept::of(Some(value.as_bytes())), expected, "{value:?}");
        }
        assert_eq!(Accept::of(None), Accept::Json);
    }

    #[test]
    fn formats_of_records() {
        // data-plane.md §6.1
        let raw = Ok(S2Format::Raw);
        let base64 = Ok(S2Format::Base64);
        let cases = [("raw", &raw), ("json", &raw), (" raw\t", &raw), ("base64", &base64), ("json-binsafe", &base64)];
        for (value, expected) in cases {
            assert_eq!(S2Format::of(Some(value.as_bytes())), *expected, "{value:?}");
        }
        assert_eq!(S2Format::of(None), raw);
        for bad in ["utf8", "Raw", "BASE64", "", "raw, base64"] {
            assert_eq!(S2Format::of(Some(bad.as_bytes())), Err(UnknownFormat(bad.into())));
        }
        assert!(UnknownFormat("utf8".into()).to_string().contains("\"utf8\""));
    }

    #[test]
    fn request_body_compression() {
        // http.md §6
        for (value, expected) in [
            ("", Compression::None),
            ("identity", Compression::None),
            ("gzip", Compression::Gzip),
            (" GZip ", Compression::Gzip),
            ("zstd", Compression::Zstd),
        ] {
            assert_eq!(content_encoding(Some(value.as_bytes())), Ok(expected), "{value:?}");
        }
        assert_eq!(content_encoding(None), Ok(Compression::None));
        for bad in ["br", "deflate", "gzip, zstd", "\u{e9}"] {
            assert_eq!(content_encoding(Some(bad.as_bytes())), Err(UnsupportedCoding(bad.into())));
        }
    }
}
