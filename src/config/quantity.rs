//! Amounts as operators write them: `1GiB`, `512k`, `30s`, `1m30s`.

use std::time::Duration;

/// Why a text is not an amount.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    /// Not a number of bytes with a unit.
    #[error("expected a size such as `512MiB`, `1GiB` or `1000000`")]
    Size,
    /// Not a number with a unit of time.
    #[error("expected a duration such as `5ms`, `20s` or `1m30s`")]
    Duration,
    /// More than can be counted here.
    #[error("the number is too large")]
    TooLarge,
}

/// Bytes: a whole number and one of no unit, `B`, `KiB` `MiB` `GiB` `TiB` (also `K` `M` `G` `T`), `kB` `MB` `GB` `TB`.
/// Case does not matter; a space before the unit may stand.
pub fn parse_size(text: &str) -> Result<usize, QuantityError> {
    let (number, unit) = split_number(text.trim()).ok_or(QuantityError::Size)?;
    let scale: u64 = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        "t" | "tib" => 1 << 40,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "tb" => 1_000_000_000_000,
        _ => return Err(QuantityError::Size),
    };
    let bytes = number.checked_mul(scale).ok_or(QuantityError::TooLarge)?;
    usize::try_from(bytes).map_err(|_| QuantityError::TooLarge)
}

/// A duration: one or more whole numbers, each with one of the units `ms`, `s`, `m`, `h`, `d`. A bare `0` is none.
pub fn parse_duration(text: &str) -> Result<Duration, QuantityError> {
    let mut rest = text.trim();
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    let mut sum = Duration::ZERO;
    loop {
        let (number, behind) = split_number(rest).ok_or(QuantityError::Duration)?;
        let unit_len = behind.find(|c: char| c.is_ascii_digit()).unwrap_or(behind.len());
        let (unit, next) = behind.split_at(unit_len);
        sum = sum.checked_add(times(number, unit.trim())?).ok_or(QuantityError::TooLarge)?;
        rest = next;
        if rest.is_empty() {
            return Ok(sum);
        }
    }
}

fn times(number: u64, unit: &str) -> Result<Duration, QuantityError> {
    let millis = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(QuantityError::Duration),
    };
    number.checked_mul(millis).map(Duration::from_millis).ok_or(QuantityError::TooLarge)
}

/// The decimal number at the front, and what is behind it.
fn split_number(text: &str) -> Option<(u64, &str)> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, rest) = text.split_at(digits);
    // A number of more than 64 bits is no number; the caller's message covers it well enough.
    Some((number.parse().ok()?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("0", 0),
            ("1000000", 1_000_000),
            ("512B", 512),
            ("1KiB", 1024),
            ("1k", 1024),
            ("128MiB", 128 << 20),
            ("1 GiB", 1 << 30),
            ("2gib", 2 << 30),
            ("3MB", 3_000_000),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for text in ["", "GiB", "-1", "1.5GiB", "1XiB", "1 2"] {
            assert_eq!(parse_size(text), Err(QuantityError::Size), "{text:?}");
        }
        assert_eq!(parse_size("99999999999TiB"), Err(QuantityError::TooLarge));
    }

    #[test]
    fn durations() {
        for (text, millis) in [
            ("0", 0),
            ("5ms", 5),
            ("30s", 30_000),
            ("1m30s", 90_000),
            ("1m 30s", 90_000),
            ("2h", 7_200_000),
            ("1d", 86_400_000),
        ] {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "30", "s", "1.5s", "-1s", "1week", "1s2"] {
            assert_eq!(parse_duration(text), Err(QuantityError::Duration), "{text:?}");
        }
    }
}
