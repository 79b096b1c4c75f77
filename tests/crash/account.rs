//! What a client knows of its stream: what was acknowledged, and what may or may not have happened.

use std::time::Duration;

use rand::{RngExt, rngs::StdRng};
use s2s_gateway::{
    client::{AppendOptions, Client, ClientError, Conditions, EncodedInput, InputBuilder, ReadOptions, StreamPath},
    types::{
        ApiError, BasinName, Command, Compression, FencingToken, ReadBounds, ReadRequest, ReadStart, SeqNum, StreamName,
    },
    wire::RemoteError,
};
use tokio::sync::watch;

/// Inputs that wait for their acks.
const PIPELINED: usize = 16;

/// A record as it was sent: its command, if it is one, and its body.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Sent {
    command: Option<Command>,
    body: Vec<u8>,
}

/// A client's account of one stream.
pub struct Account {
    stream: StreamPath,
    /// Records by their numbers; those before the trim point are kept as well.
    acked: Vec<Sent>,
    /// Inputs that were sent and not acknowledged, in order.
    unacked: Vec<Vec<Sent>>,
    next: u64,
}

impl Account {
    pub fn new(number: usize) -> Self {
        let basin = BasinName::new("crash-basin").unwrap();
        let stream = StreamName::new(&format!("stream-{number}")).unwrap();
        let stream = StreamPath { basin, stream };
        Self { stream, acked: Vec::new(), unacked: Vec::new(), next: 0 }
    }

    pub fn acked(&self) -> usize {
        self.acked.len()
    }

    /// Appends without pause, until the gateway goes away, and tells of each ack.
    pub async fn fill(mut self, client: Client, mut random: StdRng, acks: watch::Sender<()>) -> Self {
        let mut session = client.append_session(&self.stream, AppendOptions::default());
        loop {
            while self.unacked.len() < PIPELINED {
                let input = self.input(&mut random);
                let encoded = encode(&input);
                if session.submit(encoded).is_err() {
                    break;
                }
                self.unacked.push(input);
            }
            match session.next_ack().await {
                Some(Ok(ack)) => {
                    let input = self.unacked.remove(0);
                    assert_eq!(ack.start.seq_num.get() as usize, self.acked.len(), "an ack out of place");
                    assert_eq!(ack.end.seq_num.since(ack.start.seq_num) as usize, input.len());
                    self.acked.extend(input);
                    acks.send_replace(());
                }
                Some(Err(_)) | None => return self,
            }
        }
    }

    fn input(&mut self, random: &mut StdRng) -> Vec<Sent> {
        let records = match random.random_range(0..30) {
            0 => vec![Some(Command::Fence(FencingToken::new(&format!("token-{}", self.next)).unwrap()))],
            1 => vec![Some(Command::Trim(SeqNum::new(random.random_range(0..=self.acked.len() as u64))))],
            2..10 => vec![None],
            _ => vec![None; random.random_range(1..40)],
        };
        let longest = if random.random_range(0..12) == 0 { 20_000 } else { 400 };
        records.into_iter().map(|command| self.record(command, random.random_range(0..longest))).collect()
    }

    fn record(&mut self, command: Option<Command>, len: usize) -> Sent {
        self.next += 1;
        match command {
            Some(command) => Sent { body: command.body().to_vec(), command: Some(command) },
            None => Sent { command: None, body: format!("{}{}", self.next, "-".repeat(len)).into_bytes() },
        }
    }

    /// Whether the gateway has what it acknowledged, in its place, once, and of the rest a beginning, in whole inputs.
    pub async fn check(&mut self, client: &Client) {
        client.ensure_basin(&self.stream.basin).await.unwrap();
        client.ensure_stream(&self.stream).await.unwrap();
        let tail = client.check_tail(&self.stream).await.unwrap().seq_num.get() as usize;
        assert!(tail >= self.acked.len(), "{} acknowledged, the tail is {tail}", self.acked.len());
        self.take_over_unacked(tail);
        self.check_records(client, tail).await;
        self.check_fence(client).await;
    }

    /// What came through without an ack counts from now on, and what did not must never come.
    fn take_over_unacked(&mut self, tail: usize) {
        let mut unacked = std::mem::take(&mut self.unacked).into_iter();
        while self.acked.len() < tail {
            self.acked.extend(unacked.next().expect("only what was sent is there"));
        }
        assert_eq!(self.acked.len(), tail, "an input came through in part");
    }

    async fn check_records(&mut self, client: &Client, tail: usize) {
        let trim_point = self.trim_point();
        if trim_point == tail {
            return;
        }
        let request = ReadRequest {
            start: ReadStart::SeqNum(SeqNum::FIRST),
            bounds: ReadBounds { count: Some((tail - trim_point) as u64), ..ReadBounds::default() },
            wait: Some(Duration::from_secs(5)),
            clamp: false,
        };
        let mut session = client.read_session(&self.stream, request, ReadOptions::default());
        let mut next = trim_point;
        while let Some(batch) = session.next_batch().await {
            for record in batch.unwrap().records {
                assert_eq!(record.seq_num.get() as usize, next, "{:?}, trimmed to {trim_point}", self.stream);
                assert!(record.body[..] == self.acked[next].body[..], "record {next} of {:?} is another", self.stream);
                next += 1;
            }
        }
        assert_eq!(next, tail);
    }

    /// Whether the fence stands where the last fence command put it.
    async fn check_fence(&mut self, client: &Client) {
        let wrong = FencingToken::new("nobody's token").unwrap();
        let mut session = client.append_session(&self.stream, AppendOptions::default());
        let mut input = InputBuilder::new();
        input.push(None, [], b"fenced off");
        let conditions = Conditions { fencing_token: Some(wrong), ..Conditions::default() };
        session.submit(input.build(conditions, Compression::None).unwrap()).ok().unwrap();
        let refused = session.next_ack().await.unwrap().unwrap_err();
        let ClientError::Server { error, .. } = &refused else { panic!("{refused}") };
        assert_eq!(error, &RemoteError::Known(ApiError::FencingTokenMismatch { current: self.fence() }));
    }

    fn trim_point(&self) -> usize {
        let trims = self.acked.iter().filter_map(|sent| match sent.command {
            Some(Command::Trim(to)) => Some(to.get() as usize),
            _ => None,
        });
        trims.max().unwrap_or(0)
    }

    fn fence(&self) -> FencingToken {
        let fences = self.acked.iter().rev().find_map(|sent| match sent.command {
            Some(Command::Fence(token)) => Some(token),
            _ => None,
        });
        fences.unwrap_or(FencingToken::NONE)
    }
}

fn encode(input: &[Sent]) -> EncodedInput {
    let mut builder = InputBuilder::new();
    for Sent { command, body } in input {
        builder.push(None, command.map(|command| (&b""[..], command.name())), body);
    }
    builder.build(Conditions::default(), Compression::None).unwrap()
}
