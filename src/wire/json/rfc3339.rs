//! Points in time as the control plane writes them: RFC 3339 with milliseconds, in UTC (`control-plane.md` §4.1); and as
//! clients write them, with whatever they have.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};
use time::{OffsetDateTime, format_description::well_known};

use crate::types::{Expiry, Timestamp};

/// A timestamp in milliseconds since the epoch, shown like `2026-10-30T12:00:00.123Z`.
///
/// Read from any RFC 3339 text; fractions of milliseconds are dropped, what lies before the epoch is read as the epoch.
#[derive(Clone, Copy, Debug)]
pub struct Rfc3339(pub Timestamp);

/// The last millisecond that four digits of a year can say.
const END_OF_9999: u64 = 253_402_300_799_999;

impl fmt::Display for Rfc3339 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0.get().min(END_OF_9999);
        put_second(f, millis / 1000)?;
        write!(f, ".{:03}Z", millis % 1000)
    }
}

/// The date and the time of the second `secs` after the epoch, which lies before the end of 9999.
fn put_second(f: &mut fmt::Formatter<'_>, secs: u64) -> fmt::Result {
    let time = OffsetDateTime::from_unix_timestamp(secs as i64).map_err(|_| fmt::Error)?;
    let (year, month, day) = (time.year(), u8::from(time.month()), time.day());
    let (hour, minute, second) = time.to_hms();
    write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")
}

/// The end of a token, shown to the nanosecond if it has any beside its milliseconds.
///
/// Read from any RFC 3339 text; what lies before the epoch is read as the epoch, long past either way.
#[derive(Clone, Copy, Debug)]
pub struct ExpiryText(pub Expiry);

/// A text that is not a point in time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a time of RFC 3339: {reason}")]
pub struct NotATime {
    text: String,
    reason: String,
}

fn parse(text: &str) -> Result<OffsetDateTime, NotATime> {
    OffsetDateTime::parse(text, &well_known::Rfc3339)
        .map_err(|error| NotATime { text: text.into(), reason: error.to_string() })
}

impl fmt::Display for ExpiryText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        put_second(f, self.0.secs().min(END_OF_9999 / 1000))?;
        match self.0.nanos() {
            nanos if nanos % 1_000_000 == 0 => write!(f, ".{:03}Z", nanos / 1_000_000),
            nanos => write!(f, ".{nanos:09}Z"),
        }
    }
}

impl Serialize for ExpiryText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl FromStr for ExpiryText {
    type Err = NotATime;

    fn from_str(text: &str) -> Result<Self, NotATime> {
        let time = parse(text)?;
        Ok(Self(match u64::try_from(time.unix_timestamp()) {
            Ok(secs) => Expiry::new(secs, time.nanosecond()),
            Err(_) => Expiry::new(0, 0),
        }))
    }
}

impl<'de> Deserialize<'de> for ExpiryText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

impl FromStr for Rfc3339 {
    type Err = NotATime;

    fn from_str(text: &str) -> Result<Self, NotATime> {
        let millis = parse(text)?.unix_timestamp_nanos() / 1_000_000;
        Ok(Self(Timestamp::new(millis.try_into().unwrap_or(0))))
    }
}

impl<'de> Deserialize<'de> for Rfc3339 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

impl Serialize for Rfc3339 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn always_milliseconds_and_utc() {
        for (millis, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (1_713_812_735_012, "2024-04-22T19:05:35.012Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (END_OF_9999, "9999-12-31T23:59:59.999Z"),
            (u64::MAX, "9999-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(Rfc3339(Timestamp::new(millis)).to_string(), text);
        }
    }

    #[test]
    fn timestamps_are_read_from_whatever_precision_there_is() {
        for (text, millis) in [
            ("2024-04-22T19:05:35Z", 1_713_812_735_000),
            ("2024-04-22T19:05:35.012999Z", 1_713_812_735_012),
            ("2024-04-22T20:05:35.012+01:00", 1_713_812_735_012),
            ("1969-12-31T23:59:59Z", 0),
        ] {
            let Rfc3339(read) = text.parse().unwrap();
            assert_eq!(read.get(), millis, "{text}");
        }
        let error = "tomorrow".parse::<Rfc3339>().unwrap_err();
        assert!(error.to_string().starts_with(r#""tomorrow" is not a time of RFC 3339: "#), "{error}");
    }

    #[test]
    fn expiries_keep_what_clients_set() {
        for (json, expiry, shown) in [
            (r#""2027-01-01T00:00:00Z""#, Expiry::new(1_798_761_600, 0), "2027-01-01T00:00:00.000Z"),
            (r#""2027-01-01T01:00:00.12+01:00""#, Expiry::new(1_798_761_600, 120_000_000), "2027-01-01T00:00:00.120Z"),
            (
                r#""2027-01-01t00:00:00.123456789z""#,
                Expiry::new(1_798_761_600, 123_456_789),
                "2027-01-01T00:00:00.123456789Z",
            ),
            (
                r#""9999-12-31T23:59:59.999999999Z""#,
                Expiry::new(253_402_300_799, 999_999_999),
                "9999-12-31T23:59:59.999999999Z",
            ),
            (r#""1969-12-31T23:59:59Z""#, Expiry::new(0, 0), "1970-01-01T00:00:00.000Z"),
        ] {
            let ExpiryText(read) = serde_json::from_str(json).unwrap();
            assert_eq!((read, ExpiryText(read).to_string().as_str()), (expiry, shown), "{json}");
        }
        for bad in ["1", "null", r#""""#, r#""tomorrow""#, r#""2027-01-01""#, r#""2027-13-01T00:00:00Z""#] {
            assert!(serde_json::from_str::<ExpiryText>(bad).is_err(), "{bad}");
        }
    }
}
