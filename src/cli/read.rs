//! `read`: a stream to standard output.

use std::{
    future::ready,
    io::{self, BufWriter, Write},
};

use super::{CliError, block_on, client, say};
use crate::{
    client::{Client, ClientError, ReadOptions, ReadSession, RetryPolicy},
    config::{OutputFormat, ReadConfig, ReadEnd},
    types::{ApiError, Position, ReadRequest, ReadStart, SeqNum},
    wire::{ReadBatch, ReadRecord, RemoteError, lines::put_record_line, negotiate::S2Format},
};

pub(super) const EXAMPLES: &str = "\
Examples:
  s2s-gateway read my-basin-01/numbers                       everything there is now
  s2s-gateway read my-basin-01/numbers --tail-offset 10 -f   the last ten, and what comes
  s2s-gateway read my-basin-01/numbers --seq-num 500 -n 100 --json
  s2s-gateway read my-basin-01/numbers --wait 30             up to the tail, and on while it grows

Without --follow and --wait a read ends at the tail that it finds. Without
--json the bodies are written as they are, a newline after each, and command
records (fence, trim) are mentioned on standard error instead.";

/// Reads to the end that was asked for.
pub(super) fn run(config: ReadConfig) -> Result<(), CliError> {
    block_on(read(config))
}

async fn read(config: ReadConfig) -> Result<(), CliError> {
    let client = client(&config.connect.server, RetryPolicy::default())?;
    let Some(plan) = plan(&client, &config).await? else { return Ok(()) };
    let mut output = Output::new(io::stdout().lock(), config.format);
    let options =
        ReadOptions { compression: config.connect.compression, encryption_key: config.connect.encryption_key.clone() };
    let session = client.read_session(&config.connect.stream, plan.request, options);
    match copy(session, &mut output, plan.stop).await {
        Err(CliError::Client(error)) if is_nothing_to_read(&error, &plan.request) => Ok(()),
        done => done,
    }
}

/// A read, and where it stops if the server does not know that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Plan {
    request: ReadRequest,
    /// Before this record.
    stop: Option<SeqNum>,
}

async fn plan(client: &Client, config: &ReadConfig) -> Result<Option<Plan>, CliError> {
    let request = config.request;
    match config.end {
        ReadEnd::Request => Ok(Some(Plan { request, stop: None })),
        ReadEnd::Tail => Ok(up_to(request, client.check_tail(&config.connect.stream).await?)),
    }
}

/// The read of what `request` asks for before `tail`; `None` if there is nothing.
///
/// The count makes the session end at the tail instead of following. It may be more than there is, where records were
/// trimmed, so records from the tail on, which came meanwhile, are cut off by their numbers.
fn up_to(request: ReadRequest, tail: Position) -> Option<Plan> {
    let there = match request.start {
        // The server refuses, in its own words.
        _ if starts_beyond(&request, tail) => return Some(Plan { request, stop: None }),
        ReadStart::SeqNum(start) => tail.seq_num.since(start),
        ReadStart::Timestamp(start) if start > tail.timestamp => 0,
        ReadStart::Timestamp(_) => tail.seq_num.get(),
        ReadStart::TailOffset(offset) => offset.min(tail.seq_num.get()),
    };
    let mut request = request;
    request.bounds.count = Some(request.bounds.count.map_or(there, |count| count.min(there)));
    (request.bounds.count != Some(0)).then_some(Plan { request, stop: Some(tail.seq_num) })
}

/// Whether the start is further on than the tail, and is not to be taken back to it.
fn starts_beyond(request: &ReadRequest, tail: Position) -> bool {
    let beyond = match request.start {
        ReadStart::SeqNum(start) => start > tail.seq_num,
        ReadStart::Timestamp(start) => start > tail.timestamp,
        ReadStart::TailOffset(_) => false,
    };
    beyond && !request.clamp
}

/// A refusal because the read starts at the tail and does not wait is no failure: there is nothing to write.
fn is_nothing_to_read(error: &ClientError, request: &ReadRequest) -> bool {
    match error {
        ClientError::Server { error: RemoteError::Known(ApiError::OutOfRange { tail }), .. } => {
            !starts_beyond(request, *tail)
        }
        _ => false,
    }
}

/// Writes what the session brings, before `stop`. What is written leaves when nothing more is ready.
async fn copy(mut session: ReadSession, output: &mut Output<impl Write>, stop: Option<SeqNum>) -> Result<(), CliError> {
    loop {
        let next = tokio::select! {
            biased;
            next = session.next_batch() => next,
            () = ready(()) => {
                output.flush()?;
                session.next_batch().await
            }
        };
        let is_last = match next {
            Some(Ok(batch)) => output.put_batch(&batch, stop)?,
            Some(Err(error)) => {
                output.flush()?;
                return Err(error.into());
            }
            None => true,
        };
        if is_last {
            return output.flush();
        }
    }
}

/// Records on their way out.
struct Output<W: Write> {
    out: BufWriter<W>,
    format: OutputFormat,
    /// Used again for every line of JSON.
    line: Vec<u8>,
}

impl<W: Write> Output<W> {
    fn new(out: W, format: OutputFormat) -> Self {
        Self { out: BufWriter::with_capacity(256 * 1024, out), format, line: Vec::new() }
    }

    /// Writes the records of `batch` before `stop`; whether that is reached.
    fn put_batch(&mut self, batch: &ReadBatch, stop: Option<SeqNum>) -> Result<bool, CliError> {
        for record in &batch.records {
            if stop.is_some_and(|stop| record.seq_num >= stop) {
                return Ok(true);
            }
            self.put(record).map_err(CliError::Output)?;
        }
        let next = batch.records.last().and_then(|last| last.seq_num.checked_add(1));
        Ok(stop.zip(next).is_some_and(|(stop, next)| next >= stop))
    }

    fn put(&mut self, record: &ReadRecord) -> io::Result<()> {
        match self.format {
            OutputFormat::Raw => self.put_raw(record),
            OutputFormat::Json => self.put_json(record, S2Format::Raw),
            OutputFormat::JsonBase64 => self.put_json(record, S2Format::Base64),
        }
    }

    fn put_raw(&mut self, record: &ReadRecord) -> io::Result<()> {
        if let Some(command) = command_name(record) {
            say(format_args!("s2s-gateway: record {} is a `{command}` command", record.seq_num));
            return Ok(());
        }
        self.out.write_all(&record.body)?;
        self.out.write_all(b"\n")
    }

    fn put_json(&mut self, record: &ReadRecord, format: S2Format) -> io::Result<()> {
        self.line.clear();
        put_record_line(&mut self.line, record, format);
        self.line.push(b'\n');
        self.out.write_all(&self.line)
    }

    fn flush(&mut self) -> Result<(), CliError> {
        self.out.flush().map_err(CliError::Output)
    }
}

/// What a command record is called: its only header has no name (`data-plane.md` §1.3).
fn command_name(record: &ReadRecord) -> Option<&str> {
    match &record.headers[..] {
        [(name, command)] if name.is_empty() => std::str::from_utf8(command).ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{ReadBounds, Timestamp};

    fn asked(start: ReadStart, clamp: bool, count: Option<u64>) -> ReadRequest {
        ReadRequest { start, clamp, bounds: ReadBounds { count, ..ReadBounds::default() }, wait: None }
    }

    #[test]
    fn a_read_up_to_the_tail() {
        let tail = Position::new(10, 100);
        let seq = |n| ReadStart::SeqNum(SeqNum::new(n));
        let time = |n| ReadStart::Timestamp(Timestamp::new(n));
        for (start, clamp, count, expected) in [
            (seq(0), false, None, Some(10)),
            (seq(7), false, None, Some(3)),
            (seq(7), false, Some(2), Some(2)),
            (seq(7), false, Some(5), Some(3)),
            (seq(10), false, None, None),
            (seq(11), true, None, None),
            (seq(0), false, Some(0), None),
            (time(100), false, None, Some(10)),
            (time(101), true, None, None),
            (ReadStart::TailOffset(3), false, None, Some(3)),
            (ReadStart::TailOffset(30), false, None, Some(10)),
            (ReadStart::TailOffset(0), false, None, None),
        ] {
            let request = asked(start, clamp, count);
            let plan = up_to(request, tail);
            let stop = Some(tail.seq_num);
            let expected = expected.map(|count| Plan { request: asked(start, clamp, Some(count)), stop });
            assert_eq!(plan, expected, "{request:?}");
        }
        assert_eq!(up_to(asked(seq(0), false, None), Position::EMPTY), None, "an empty stream");
    }

    #[test]
    fn a_start_beyond_the_tail_is_the_servers_to_refuse() {
        let tail = Position::new(10, 100);
        for start in [ReadStart::SeqNum(SeqNum::new(11)), ReadStart::Timestamp(Timestamp::new(101))] {
            let request = asked(start, false, None);
            assert_eq!(up_to(request, tail), Some(Plan { request, stop: None }));
            let refused = ClientError::answered(ApiError::OutOfRange { tail });
            assert!(!is_nothing_to_read(&refused, &request));
            assert!(is_nothing_to_read(&refused, &asked(start, true, None)));
        }
    }

    fn record(seq_num: u64, headers: &[(&'static str, &'static str)], body: &'static [u8]) -> ReadRecord {
        ReadRecord {
            seq_num: SeqNum::new(seq_num),
            timestamp: Timestamp::new(7),
            headers: headers.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect(),
            body: body.into(),
        }
    }

    fn written(format: OutputFormat, stop: Option<u64>) -> (Vec<u8>, bool) {
        let records = vec![
            record(0, &[], b"one"),
            record(1, &[("", "fence")], b"token"),
            record(2, &[("k", "v")], b"\xff\n"),
            record(3, &[], b""),
        ];
        let mut out = Vec::new();
        let mut output = Output::new(&mut out, format);
        let batch = ReadBatch { records, tail: None };
        let is_last = output.put_batch(&batch, stop.map(SeqNum::new)).unwrap();
        output.flush().unwrap();
        drop(output);
        (out, is_last)
    }

    #[test]
    fn raw_output_is_the_bodies() {
        assert_eq!(written(OutputFormat::Raw, None), (b"one\n\xff\n\n\n".to_vec(), false));
        assert_eq!(written(OutputFormat::Raw, Some(3)), (b"one\n\xff\n\n".to_vec(), true));
        assert_eq!(written(OutputFormat::Raw, Some(4)), (b"one\n\xff\n\n\n".to_vec(), true));
    }

    #[test]
    fn json_output_is_a_line_a_record() {
        let (out, _) = written(OutputFormat::JsonBase64, None);
        let text = String::from_utf8(out).unwrap();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 4);
        assert_eq!(lines[2], r#"{"seq_num":2,"timestamp":7,"headers":[["aw==","dg=="]],"body":"/wo="}"#);
    }
}
