//! `append`: lines of standard input into a stream.

use std::{io, pin::Pin, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncReadExt},
    time::{Sleep, sleep},
};

use super::{
    CliError, block_on, client,
    lines::{Filled, Lines},
    progress::{Count, Progress},
};
use crate::{
    client::{AppendOptions, AppendSession, Conditions, EncodedInput, InputBuilder, RetryPolicy},
    config::{AppendConfig, LineFormat},
    types::{AppendAck, Compression, Position},
};

pub(super) const EXAMPLES: &str = "\
Examples:
  seq 1000 | s2s-gateway append --create my-basin-01/numbers
  s2s-gateway append my-basin-01/numbers --compression zstd <numbers.txt
  echo '{\"body\":\"hello\",\"headers\":[[\"k\",\"v\"]]}' | s2s-gateway append --json my-basin-01/numbers
  s2s-gateway append my-basin-01/numbers --match-seq-num 0 --no-duplicates <numbers.txt

Records are acknowledged when they are durable. At the end, and also when
something fails, the number of acknowledged records and the stream's tail
(next sequence number @ timestamp) are printed.";

/// Appends until the input ends.
pub(super) fn run(config: AppendConfig) -> Result<(), CliError> {
    block_on(append(config))
}

async fn append(config: AppendConfig) -> Result<(), CliError> {
    let retry = RetryPolicy { appends: config.retry, ..RetryPolicy::default() };
    let client = client(&config.connect.server, retry)?;
    let stream = &config.connect.stream;
    if config.create {
        client.ensure_basin(&stream.basin).await?;
        client.ensure_stream(stream).await?;
    }
    let options = AppendOptions { encryption_key: config.connect.encryption_key.clone(), ..AppendOptions::default() };
    let mut appending = Appending {
        session: client.append_session(stream, options),
        source: Source::new(tokio::io::stdin(), config.format, config.linger),
        conditions: config.conditions,
        compression: config.connect.compression,
        progress: Progress::new(config.quiet),
        count: Count::default(),
        tail: None,
    };
    let done = appending.run().await;
    appending.progress.clear();
    match (config.quiet, &done) {
        (true, _) => {}
        (false, Err(_)) if appending.tail.is_none() => {}
        (false, _) => print_summary(&appending.summary())?,
    }
    done
}

fn print_summary(summary: &str) -> Result<(), CliError> {
    use io::Write;
    writeln!(io::stdout().lock(), "{summary}").map_err(CliError::Output)
}

/// An append session fed from a source of lines.
struct Appending<R> {
    session: AppendSession,
    source: Source<R>,
    /// Of the next input.
    conditions: Conditions,
    compression: Compression,
    progress: Progress,
    count: Count,
    tail: Option<Position>,
}

impl<R: AsyncRead + Unpin> Appending<R> {
    /// Until every record is acknowledged. What was good before a bad line is acknowledged before that is reported.
    async fn run(&mut self) -> Result<(), CliError> {
        let mut waiting: Option<EncodedInput> = None;
        loop {
            if let Some(input) = waiting.take_if(|input| self.session.has_room(input.metered())) {
                self.submit(input);
            }
            let wants_input = waiting.is_none() && !self.source.is_finished();
            if waiting.is_none() && self.source.is_finished() {
                self.session.finish();
            }
            tokio::select! {
                biased;
                ack = self.session.next_ack() => match ack {
                    Some(ack) => self.acknowledged(&ack?),
                    None => return self.source.failure.take().map_or(Ok(()), Err),
                },
                batch = self.source.next_batch(), if wants_input => {
                    waiting = batch.map(|batch| self.encode(batch)).transpose()?;
                }
            }
        }
    }

    fn encode(&mut self, batch: InputBuilder) -> Result<EncodedInput, CliError> {
        let (conditions, records) = (self.conditions, batch.len() as u64);
        self.conditions.match_seq_num = conditions.match_seq_num.map(|first| first.saturating_add(records));
        batch.build(conditions, self.compression).map_err(|error| self.source.error_before_next(&error))
    }

    fn submit(&mut self, input: EncodedInput) {
        // The session is finished only after the source is, and then nothing is submitted.
        let submitted = self.session.submit(input);
        debug_assert!(submitted.is_ok());
        self.show();
    }

    fn acknowledged(&mut self, ack: &AppendAck) {
        self.count.records += ack.end.seq_num.since(ack.start.seq_num);
        self.tail = Some(ack.tail);
        self.show();
    }

    fn show(&mut self) {
        self.count.in_flight = self.session.unacked_bytes() as u64;
        self.count.bytes = self.source.taken_bytes.saturating_sub(self.count.in_flight);
        self.progress.show(self.count);
    }

    fn summary(&self) -> String {
        let records = self.count.records;
        match self.tail {
            Some(tail) => format!("appended {records} records, tail {tail}"),
            None => format!("appended {records} records"),
        }
    }
}

/// Batches out of a stream of bytes, filled by what is ready.
struct Source<R> {
    input: R,
    lines: Lines,
    batch: InputBuilder,
    linger: Duration,
    /// Runs while there is something in the batch that waits for more.
    lingering: Option<Pin<Box<Sleep>>>,
    /// Why no more lines are taken, if not because the input ended.
    failure: Option<CliError>,
    stopped: bool,
    /// Metered bytes of all batches given.
    taken_bytes: u64,
}

impl<R: AsyncRead + Unpin> Source<R> {
    fn new(input: R, format: LineFormat, linger: Duration) -> Self {
        Self {
            input,
            lines: Lines::new(format),
            batch: InputBuilder::new(),
            linger,
            lingering: None,
            failure: None,
            stopped: false,
            taken_bytes: 0,
        }
    }

    /// Whether every batch was given.
    fn is_finished(&self) -> bool {
        self.batch.is_empty() && (self.stopped || self.lines.is_finished())
    }

    /// The next batch: when it is full, when its first record has waited long enough, or when no more comes. `None` if
    /// there was nothing more. May be given up at any time.
    async fn next_batch(&mut self) -> Option<InputBuilder> {
        while !self.stopped {
            match self.lines.fill(&mut self.batch) {
                Ok(Filled::Full) => return self.take_batch(),
                Ok(Filled::Starved) if self.lines.is_finished() => break,
                Ok(Filled::Starved) => {}
                Err(error) => self.stop(error),
            }
            if !self.stopped && self.read_or_linger().await == Waited::LongEnough {
                return self.take_batch();
            }
        }
        self.take_batch()
    }

    async fn read_or_linger(&mut self) -> Waited {
        if !self.batch.is_empty() && self.lingering.is_none() {
            self.lingering = Some(Box::pin(sleep(self.linger)));
        }
        let lingering = async {
            match &mut self.lingering {
                Some(sleep) => sleep.await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            read = self.input.read_buf(self.lines.buffer()) => {
                match read {
                    Ok(0) => self.lines.end(),
                    Ok(_) => {}
                    Err(error) => self.stop(CliError::Input(error)),
                }
                Waited::Read
            }
            () = lingering => Waited::LongEnough,
        }
    }

    fn take_batch(&mut self) -> Option<InputBuilder> {
        self.lingering = None;
        let batch = std::mem::take(&mut self.batch);
        self.taken_bytes += batch.metered() as u64;
        (!batch.is_empty()).then_some(batch)
    }

    fn stop(&mut self, failure: CliError) {
        self.stopped = true;
        self.failure = Some(failure);
    }
}

impl<R> Source<R> {
    /// What is wrong with the batch just given, whose lines end before the next one.
    fn error_before_next(&self, reason: &impl ToString) -> CliError {
        CliError::Line { line: self.lines.taken(), reason: reason.to_string() }
    }
}

/// What a wait for more input came to.
#[derive(PartialEq, Eq)]
enum Waited {
    /// Something was read, or the input ended.
    Read,
    /// The batch has waited long enough.
    LongEnough,
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    const LINGER: Duration = Duration::from_millis(5);

    fn source<R: AsyncRead + Unpin>(input: R) -> Source<R> {
        Source::new(input, LineFormat::Text, LINGER)
    }

    #[tokio::test]
    async fn batches_are_filled_by_what_is_ready() {
        let input = b"x\n".repeat(2500);
        let mut source = source(&input[..]);
        let mut sizes = Vec::new();
        while let Some(batch) = source.next_batch().await {
            sizes.push(batch.len());
        }
        assert_eq!(sizes, [1000, 1000, 500]);
        assert!(source.is_finished() && source.failure.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_batch_lingers_and_goes() {
        let (mut writer, reader) = tokio::io::duplex(1024);
        let mut source = source(reader);
        writer.write_all(b"one\ntwo\nthr").await.unwrap();
        assert_eq!(source.next_batch().await.map(|batch| batch.len()), Some(2));
        writer.write_all(b"ee").await.unwrap();
        drop(writer);
        assert_eq!(source.next_batch().await.map(|batch| batch.metered()), Some(8 + 5));
        assert!(source.next_batch().await.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn lingering_counts_from_the_first_record() {
        let (mut writer, reader) = tokio::io::duplex(1024);
        let mut source = source(reader);
        let start = tokio::time::Instant::now();
        writer.write_all(b"one\n").await.unwrap();
        // Given up half way, as a `select!` does.
        assert!(tokio::time::timeout(Duration::from_millis(3), source.next_batch()).await.is_err());
        writer.write_all(b"two\n").await.unwrap();
        assert_eq!(source.next_batch().await.map(|batch| batch.len()), Some(2));
        assert_eq!(start.elapsed(), LINGER);
    }

    #[tokio::test]
    async fn good_lines_before_a_bad_one_are_given() {
        let mut input = b"one\ntwo\n".to_vec();
        input.resize(2 << 20, b'x');
        let mut source = source(&input[..]);
        assert_eq!(source.next_batch().await.map(|batch| batch.len()), Some(2));
        assert!(source.is_finished());
        assert!(matches!(source.failure, Some(CliError::Line { line: 3, .. })));
    }
}
