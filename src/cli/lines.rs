//! Lines of input, out of chunks that end anywhere, into records and inputs. Knows no file and no time.

use bytes::{Buf, BytesMut};

use super::CliError;
use crate::{
    client::InputBuilder,
    config::LineFormat,
    types::{limits::MAX_BATCH_METERED, metered_size},
    wire::{
        lines::{LineRecord, decode_record_line},
        negotiate::S2Format,
    },
};

/// The longest text line: the body of a record of 1 MiB metered.
const MAX_TEXT_LINE: usize = MAX_BATCH_METERED - metered_size(0, 0, 0);
/// The longest JSON line: the largest record with each of its bytes escaped, `\u0000`, and something for the rest.
const MAX_JSON_LINE: usize = 6 * MAX_BATCH_METERED + 4096;

/// What came of asking for a batch.
#[derive(Debug)]
pub(super) enum Filled {
    /// No further record goes in: it can be sent.
    Full,
    /// It has room, and there are no further lines yet.
    Starved,
}

/// Text as it comes, and how far it was cut into lines.
#[derive(Debug)]
pub(super) struct Lines {
    buffer: BytesMut,
    /// Bytes of the buffer known to hold no newline.
    searched: usize,
    /// How many lines were taken.
    taken: u64,
    ended: bool,
    format: LineFormat,
    /// A record that did not fit into the batch before.
    held: Option<LineRecord>,
}

impl Lines {
    pub(super) fn new(format: LineFormat) -> Self {
        Self { buffer: BytesMut::new(), searched: 0, taken: 0, ended: false, format, held: None }
    }

    /// Where to put what comes next.
    pub(super) fn buffer(&mut self) -> &mut BytesMut {
        self.buffer.reserve(64 * 1024);
        &mut self.buffer
    }

    /// Nothing more comes: what stands behind the last newline is a line too.
    pub(super) fn end(&mut self) {
        self.ended = true;
    }

    /// How many lines were taken.
    pub(super) fn taken(&self) -> u64 {
        self.taken
    }

    /// Whether every line was taken.
    pub(super) fn is_finished(&self) -> bool {
        self.ended && self.buffer.is_empty() && self.held.is_none()
    }

    /// Moves lines into `batch`, as many as there are and go in.
    ///
    /// On an error `batch` holds the good lines before the bad one.
    pub(super) fn fill(&mut self, batch: &mut InputBuilder) -> Result<Filled, CliError> {
        if let Some(record) = self.held.take_if(|record| batch.has_room(metered(record))) {
            push(batch, &record);
        }
        while self.held.is_none() {
            let Some((len, newline)) = self.find_line()? else { return Ok(Filled::Starved) };
            let line = &self.buffer[..len];
            match self.format {
                LineFormat::Text if !batch.has_room(metered_size(0, 0, len)) => return Ok(Filled::Full),
                LineFormat::Text => batch.push(None, [], line),
                LineFormat::Json | LineFormat::JsonBase64 => {
                    let record = self.record(line)?;
                    if !batch.has_room(metered(&record)) {
                        self.held = Some(record);
                    } else {
                        push(batch, &record);
                    }
                }
            }
            self.buffer.advance(len + newline);
            self.searched = 0;
            self.taken += 1;
        }
        Ok(Filled::Full)
    }

    /// Length of the line in front, and of its newline.
    fn find_line(&mut self) -> Result<Option<(usize, usize)>, CliError> {
        let fresh = &self.buffer[self.searched..];
        let found = fresh.iter().position(|byte| *byte == b'\n').map(|at| (self.searched + at, 1));
        let (so_far, line) = match found {
            Some((len, newline)) => (len, Some((len, newline))),
            None => (self.buffer.len(), (self.ended && !self.buffer.is_empty()).then_some((self.buffer.len(), 0))),
        };
        self.searched = so_far;
        match self.longest() {
            limit if so_far > limit => {
                Err(self.error(format!("longer than {limit} bytes, a record must not exceed 1 MiB metered")))
            }
            _ => Ok(line),
        }
    }

    const fn longest(&self) -> usize {
        match self.format {
            LineFormat::Text => MAX_TEXT_LINE,
            LineFormat::Json | LineFormat::JsonBase64 => MAX_JSON_LINE,
        }
    }

    fn record(&self, line: &[u8]) -> Result<LineRecord, CliError> {
        let format = match self.format {
            LineFormat::JsonBase64 => S2Format::Base64,
            LineFormat::Text | LineFormat::Json => S2Format::Raw,
        };
        let record = decode_record_line(line, format).map_err(|error| self.error(error.to_string()))?;
        match metered(&record) {
            metered if metered > MAX_BATCH_METERED => {
                Err(self.error(format!("a record must not exceed 1 MiB metered, this one has {metered} bytes")))
            }
            _ => Ok(record),
        }
    }

    fn error(&self, reason: String) -> CliError {
        CliError::Line { line: self.taken + 1, reason }
    }
}

fn metered(record: &LineRecord) -> usize {
    let bytes = record.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
    metered_size(record.headers.len(), bytes, record.body.len())
}

fn push(batch: &mut InputBuilder, record: &LineRecord) {
    let headers = record.headers.iter().map(|(name, value)| (&name[..], &value[..]));
    batch.push(record.timestamp, headers, &record.body);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(format: LineFormat, chunks: &[&[u8]]) -> (Lines, InputBuilder, Result<Filled, CliError>) {
        let (mut lines, mut batch) = (Lines::new(format), InputBuilder::new());
        let mut last = Ok(Filled::Starved);
        for chunk in chunks {
            lines.buffer().extend_from_slice(chunk);
            last = lines.fill(&mut batch);
        }
        if last.is_ok() {
            lines.end();
            last = lines.fill(&mut batch);
        }
        (lines, batch, last)
    }

    #[test]
    fn lines_are_cut_wherever_chunks_end() {
        // Records and their bodies' bytes: 8 metered bytes belong to each record.
        for (chunks, records, bytes) in [
            (&[&b""[..]][..], 0, 0),
            (&[b"\n"], 1, 0),
            (&[b"a\nbb\nccc"], 3, 6),
            (&[b"a\nbb\nccc\n"], 3, 6),
            (&[b"a", b"\n", b"b", b"b\nc", b"cc"], 3, 6),
            (&[b"\n\n\n"], 3, 0),
            (&[b"carriage\r\n"], 1, 9),
            (&[b"\xff\xfe\n\0"], 2, 3),
        ] {
            let (lines, batch, last) = filled(LineFormat::Text, chunks);
            assert!(matches!(last, Ok(Filled::Starved)), "{chunks:?}");
            assert_eq!((batch.len(), batch.metered() - 8 * records), (records, bytes), "{chunks:?}");
            assert!(lines.is_finished());
        }
    }

    #[test]
    fn a_batch_is_full_at_its_limits_and_nothing_is_lost() {
        let (mut lines, batch, last) = filled(LineFormat::Text, &[&b"x\n".repeat(1001)]);
        assert!(matches!(last, Ok(Filled::Full)));
        assert_eq!(batch.len(), 1000);
        let mut next = InputBuilder::new();
        assert!(matches!(lines.fill(&mut next), Ok(Filled::Starved)));
        assert_eq!(next.len(), 1);

        let line = |len: usize| format!("{{\"body\":\"{}\"}}\n", "y".repeat(len));
        let input = [line(600_000), line(600_000)].concat();
        let (mut lines, batch, last) = filled(LineFormat::Json, &[input.as_bytes()]);
        assert!(matches!(last, Ok(Filled::Full)) && batch.len() == 1 && !lines.is_finished());
        let mut next = InputBuilder::new();
        assert!(matches!(lines.fill(&mut next), Ok(Filled::Starved)));
        assert!(next.len() == 1 && lines.is_finished());
    }

    #[test]
    fn the_longest_line_goes_in_and_a_longer_one_is_named() {
        let longest = vec![b'x'; MAX_TEXT_LINE];
        let (_, batch, last) = filled(LineFormat::Text, &[&longest]);
        assert!(last.is_ok() && batch.metered() == MAX_BATCH_METERED);

        let (_, batch, last) = filled(LineFormat::Text, &[b"one\ntwo\n", &longest, b"x"]);
        assert!(matches!(last, Err(CliError::Line { line: 3, .. })), "without waiting for its end: {last:?}");
        assert_eq!(batch.len(), 2, "the good lines before it are kept");
    }

    #[test]
    fn a_bad_json_line_is_named() {
        for bad in ["", "hello", r#"{"boby":1}"#] {
            let input = format!("{{\"body\":\"x\"}}\n{bad}\n");
            let (_, batch, last) = filled(LineFormat::Json, &[input.as_bytes()]);
            assert!(matches!(last, Err(CliError::Line { line: 2, .. })), "{bad:?}");
            assert_eq!(batch.len(), 1);
        }
        let large = format!("{{\"body\":\"{}\"}}\n", "y".repeat(MAX_TEXT_LINE + 1));
        let (_, _, last) = filled(LineFormat::Json, &[large.as_bytes()]);
        assert!(matches!(last, Err(CliError::Line { line: 1, .. })));
    }
}
