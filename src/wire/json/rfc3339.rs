//! Points in time as the control plane writes them: RFC 3339 with milliseconds, in UTC (`control-plane.md` §4.1).

use std::fmt;

use serde::{Serialize, Serializer};
use time::OffsetDateTime;

use crate::types::Timestamp;

/// A timestamp in milliseconds since the epoch, shown like `2026-10-30T12:00:00.123Z`.
pub(super) struct Rfc3339(pub(super) Timestamp);

/// The last millisecond that four digits of a year can say.
const END_OF_9999: u64 = 253_402_300_799_999;

impl fmt::Display for Rfc3339 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0.get().min(END_OF_9999);
        let time = OffsetDateTime::from_unix_timestamp((millis / 1000) as i64).map_err(|_| fmt::Error)?;
        let (year, month, day) = (time.year(), u8::from(time.month()), time.day());
        let (hour, minute, second) = time.to_hms();
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", millis % 1000)
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
}
