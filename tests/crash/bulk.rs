//! Appends without an account of every record: much in little time.

use s2s_gateway::{
    client::{AppendOptions, Client, ClientError, Conditions, EncodedInput, InputBuilder, ReadOptions, StreamPath},
    types::{BasinName, Command, Compression, ReadBounds, ReadRequest, ReadStart, SeqNum, StreamName},
};

/// Bytes of inputs that wait for their acks.
const PIPELINED: usize = 4 << 20;

/// A stream that is filled.
pub struct Bulk {
    pub stream: StreamPath,
    /// Records that were acknowledged.
    pub acked: u64,
    inputs: Inputs,
}

/// How large the inputs are, which decides where the gateway keeps them.
#[derive(Clone, Copy)]
pub enum Inputs {
    /// Kept in the database.
    Small,
    /// Kept in segments.
    Large,
}

impl Inputs {
    const fn records(self) -> usize {
        match self {
            Self::Small => 1,
            Self::Large => 64,
        }
    }
}

impl Bulk {
    /// Bytes of a record.
    pub const BODY: usize = 8 * 1024;

    /// The stream `name`, made if it is missing.
    pub async fn open(client: &Client, name: &str, inputs: Inputs) -> Self {
        let basin = BasinName::new("bulk-basin").unwrap();
        client.ensure_basin(&basin).await.unwrap();
        let stream = StreamPath { basin, stream: StreamName::new(name).unwrap() };
        client.ensure_stream(&stream).await.unwrap();
        let acked = client.check_tail(&stream).await.unwrap().seq_num.get();
        Self { stream, acked, inputs }
    }

    /// Appends until so many MiB were acknowledged, or until it fails.
    pub async fn append(&mut self, client: &Client, mib: usize) -> Result<(), ClientError> {
        let records = self.inputs.records();
        let (inputs, pipelined) = ((mib << 20) / (records * Bulk::BODY), PIPELINED / (records * Bulk::BODY));
        let mut session = client.append_session(&self.stream, AppendOptions::default());
        let (mut sent, mut acked) = (0, 0);
        while acked < inputs {
            while sent < inputs.min(acked + pipelined)
                && session.submit(input(self.acked + sent as u64, records)).is_ok()
            {
                sent += 1;
            }
            match session.next_ack().await {
                Some(Ok(ack)) => {
                    acked += 1;
                    self.acked = ack.end.seq_num.get();
                }
                Some(Err(error)) => return Err(error),
                None => panic!("the session ended with nothing said"),
            }
        }
        session.finish();
        Ok(())
    }

    /// Appends a command.
    pub async fn command(&mut self, client: &Client, command: Command) -> Result<(), ClientError> {
        let mut session = client.append_session(&self.stream, AppendOptions::default());
        let mut builder = InputBuilder::new();
        builder.push(None, [(&b""[..], command.name())], &command.body());
        let input = builder.build(Conditions::default(), Compression::None).unwrap();
        assert!(session.submit(input).is_ok());
        let ack = session.next_ack().await.expect("an answer")?;
        self.acked = ack.end.seq_num.get();
        Ok(())
    }

    /// Reads everything that was acknowledged, from `from` on.
    pub async fn check(&self, client: &Client, from: u64) {
        let request = ReadRequest {
            start: ReadStart::SeqNum(SeqNum::new(from)),
            bounds: ReadBounds { count: Some(self.acked - from), ..ReadBounds::default() },
            wait: None,
            clamp: false,
        };
        let mut session = client.read_session(&self.stream, request, ReadOptions::default());
        let mut next = from;
        while let Some(batch) = session.next_batch().await {
            for record in batch.unwrap().records {
                assert_eq!(record.seq_num.get(), next);
                next += 1;
            }
        }
        assert_eq!(next, self.acked, "{:?}", self.stream);
    }
}

/// Bytes that differ from input to input.
fn input(number: u64, records: usize) -> EncodedInput {
    let mut builder = InputBuilder::new();
    for record in 0..records as u64 {
        let mut body = vec![record as u8; Bulk::BODY];
        body[..8].copy_from_slice(&number.to_le_bytes());
        builder.push(None, [], &body);
    }
    builder.build(Conditions::default(), Compression::None).unwrap()
}
