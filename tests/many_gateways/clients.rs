//! Clients that do random things to one stream through random gateways, and write down what they were told.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use rand::{RngExt, rngs::StdRng};
use s2s_gateway::{
    client::{
        AppendOptions, AppendSession, Client, ClientError, Conditions, EncodedInput, InputBuilder, ReadOptions,
        StreamPath,
    },
    types::{
        ApiError, Command, Compression, Effect, FencingToken, ReadBounds, ReadRequest, ReadStart, SeqNum,
        limits::MAX_BATCH_RECORDS,
    },
    wire::{ReadRecord, RemoteError},
};
use tokio::time::timeout;

use crate::history::{Moment, Operation, Outcome, Sent, What, chained};

/// A call that takes longer than this is given up: nobody knows what became of it.
const PATIENCE: Duration = Duration::from_secs(10);

/// The gateways there are at the moment. They move when they are started again.
#[derive(Clone)]
pub struct Gateways(Arc<Mutex<Vec<Client>>>);

impl Gateways {
    pub fn new(clients: Vec<Client>) -> Self {
        Self(Arc::new(Mutex::new(clients)))
    }

    pub fn moved(&self, number: usize, client: Client) {
        self.0.lock().unwrap()[number] = client;
    }

    pub fn all(&self) -> Vec<Client> {
        self.0.lock().unwrap().clone()
    }

    pub fn at(&self, number: usize) -> Client {
        self.0.lock().unwrap()[number].clone()
    }

    fn any(&self, random: &mut StdRng) -> Client {
        let clients = self.0.lock().unwrap();
        clients[random.random_range(0..clients.len())].clone()
    }
}

/// What all clients of a run have in common.
#[derive(Clone)]
pub struct Run {
    pub gateways: Gateways,
    pub stream: StreamPath,
    pub began: Instant,
}

impl Run {
    pub fn new(gateways: Gateways, stream: StreamPath) -> Self {
        Self { gateways, stream, began: Instant::now() }
    }

    fn now(&self) -> Moment {
        self.began.elapsed().as_nanos() as Moment
    }
}

/// One client: what it knows, which may be out of date, and what it did.
pub struct Person {
    run: Run,
    number: usize,
    random: StdRng,
    session: Option<AppendSession>,
    records: u64,
    /// How far it read, and the hash there.
    read: (u64, u64),
    /// The tail and the token as it last heard of them.
    tail: u64,
    token: String,
    history: Vec<Operation>,
}

impl Person {
    pub fn new(run: Run, number: usize, random: StdRng) -> Self {
        let (session, history) = (None, Vec::new());
        Self { run, number, random, session, records: 0, read: (0, 0), tail: 0, token: String::new(), history }
    }

    /// Goes on while `goes_on` says so; what it did.
    pub async fn act(mut self, goes_on: impl Fn(&[Operation]) -> bool) -> Vec<Operation> {
        while goes_on(&self.history) {
            match self.random.random_range(0..100) {
                0..70 => self.append().await,
                70..80 => self.append_several().await,
                80..92 => self.check_tail().await,
                _ => self.read().await,
            }
        }
        self.history
    }

    async fn append(&mut self) {
        let input = self.input();
        self.send(vec![input]).await;
    }

    async fn append_several(&mut self) {
        let inputs = (0..self.random.random_range(2..6)).map(|_| self.input()).collect();
        self.send(inputs).await;
    }

    fn input(&mut self) -> Input {
        let match_seq_num = (self.random.random_range(0..5) == 0).then_some(self.tail);
        let fencing_token = match self.random.random_range(0..10) {
            0 => Some(self.token.clone()),
            1 => Some("nobody's".into()),
            _ => None,
        };
        let records = match self.random.random_range(0..12) {
            0 => vec![self.fence()],
            _ => (0..self.random.random_range(1..5)).map(|_| self.record()).collect(),
        };
        Input { records, match_seq_num, fencing_token }
    }

    fn record(&mut self) -> Sent {
        self.records += 1;
        Sent { body: format!("{}/{}", self.number, self.records).into_bytes(), fence: None }
    }

    fn fence(&mut self) -> Sent {
        let sent = self.record();
        Sent { fence: Some(String::from_utf8(sent.body.clone()).unwrap()), ..sent }
    }

    /// Sends `inputs` one behind the other and waits for their acks; after the first failure the rest has no effect.
    async fn send(&mut self, inputs: Vec<Input>) {
        let session = match &mut self.session {
            Some(session) => session,
            none => {
                let client = self.run.gateways.any(&mut self.random);
                none.insert(client.append_session(&self.run.stream, AppendOptions::default()))
            }
        };
        let mut waiting = VecDeque::new();
        for input in inputs {
            let called = self.run.now();
            assert!(session.submit(input.encode()).is_ok(), "the session is open");
            waiting.push_back((called, input));
        }
        while let Some((called, input)) = waiting.pop_front() {
            let told = timeout(PATIENCE, session.next_ack()).await.unwrap_or(None);
            let returned = self.run.now();
            let outcome = match told {
                Some(Ok(ack)) => Outcome::Acked { start: ack.start.seq_num.get(), end: ack.end.seq_num.get() },
                Some(Err(error)) => outcome_of(&error),
                None => Outcome::Unknown,
            };
            match &outcome {
                Outcome::Acked { end, .. } => {
                    self.tail = *end;
                    self.token = input.fence().unwrap_or(&self.token).into();
                }
                Outcome::Fenced { current } => self.token = current.clone(),
                Outcome::Misplaced { next } => self.tail = *next,
                Outcome::Refused | Outcome::Unknown => {}
            }
            let failed = !matches!(outcome, Outcome::Acked { .. });
            // What came behind an input of unknown outcome may have come through as well.
            let behind = if matches!(outcome, Outcome::Unknown) { Outcome::Unknown } else { Outcome::Refused };
            self.history.push(input.became(called, returned, outcome));
            if failed {
                self.history
                    .extend(waiting.drain(..).map(|(called, input)| input.became(called, returned, behind.clone())));
                self.session = None;
                return;
            }
        }
    }

    async fn check_tail(&mut self) {
        let client = self.run.gateways.any(&mut self.random);
        let called = self.run.now();
        if let Ok(Ok(tail)) = timeout(PATIENCE, client.check_tail(&self.run.stream)).await {
            self.tail = tail.seq_num.get();
            self.saw(called, What::CheckTail { tail: self.tail });
        }
    }

    /// Reads on from where it was, to the tail.
    async fn read(&mut self) {
        let client = self.run.gateways.any(&mut self.random);
        let called = self.run.now();
        let (from, hash) = self.read;
        let reading = timeout(PATIENCE, read_from(&client, &self.run.stream, from));
        match reading.await {
            Ok(Ok(records)) => {
                let hash = records.iter().fold(hash, |hash, sent| chained(hash, &sent.body));
                self.read = (from + records.len() as u64, hash);
                self.saw(called, What::Read { tail: self.read.0, hash });
            }
            Ok(Err(ClientError::Server { error: RemoteError::Known(ApiError::OutOfRange { tail }), .. })) => {
                self.saw(called, What::CheckTail { tail: tail.seq_num.get() });
            }
            Ok(Err(_)) | Err(_) => {}
        }
    }

    fn saw(&mut self, called: Moment, what: What) {
        self.history.push(Operation { called, returned: Some(self.run.now()), what });
    }
}

struct Input {
    records: Vec<Sent>,
    match_seq_num: Option<u64>,
    fencing_token: Option<String>,
}

impl Input {
    fn encode(&self) -> EncodedInput {
        assert!(self.records.len() <= MAX_BATCH_RECORDS);
        let mut builder = InputBuilder::new();
        for Sent { body, fence } in &self.records {
            let command = fence.as_ref().map(|token| Command::Fence(FencingToken::new(token).unwrap()));
            builder.push(None, command.map(|command| (&b""[..], command.name())), body);
        }
        let fencing_token = self.fencing_token.as_ref().map(|token| FencingToken::new(token).unwrap());
        let match_seq_num = self.match_seq_num.map(SeqNum::new);
        builder.build(Conditions { match_seq_num, fencing_token }, Compression::None).unwrap()
    }

    fn fence(&self) -> Option<&str> {
        self.records.iter().rev().find_map(|sent| sent.fence.as_deref())
    }

    fn became(self, called: Moment, returned: Moment, outcome: Outcome) -> Operation {
        let Self { records, match_seq_num, fencing_token } = self;
        let returned = (!matches!(outcome, Outcome::Unknown)).then_some(returned);
        Operation { called, returned, what: What::Append { records, match_seq_num, fencing_token, outcome } }
    }
}

fn outcome_of(error: &ClientError) -> Outcome {
    match error {
        ClientError::Server { error: RemoteError::Known(ApiError::FencingTokenMismatch { current }), .. } => {
            Outcome::Fenced { current: current.as_str().into() }
        }
        ClientError::Server { error: RemoteError::Known(ApiError::SeqNumMismatch { next }), .. } => {
            Outcome::Misplaced { next: next.get() }
        }
        error if error.effect() == Effect::None => Outcome::Refused,
        _ => Outcome::Unknown,
    }
}

/// All records of `stream` from `from` to the tail.
pub async fn read_from(client: &Client, stream: &StreamPath, from: u64) -> Result<Vec<Sent>, ClientError> {
    let start = ReadStart::SeqNum(SeqNum::new(from));
    let request = ReadRequest { start, bounds: ReadBounds::default(), wait: Some(Duration::ZERO), clamp: false };
    let mut session = client.read_session(stream, request, ReadOptions::default());
    let mut found = Vec::new();
    while let Some(batch) = session.next_batch().await {
        for record in batch?.records {
            assert_eq!(record.seq_num.get(), from + found.len() as u64, "records come in order and without a gap");
            found.push(sent(&record));
        }
    }
    Ok(found)
}

/// A record that was read, as it must have been sent.
pub fn sent(record: &ReadRecord) -> Sent {
    let is_command = record.headers.first().is_some_and(|(name, _)| name.is_empty());
    let fence = is_command.then(|| String::from_utf8(record.body.to_vec()).unwrap());
    Sent { body: record.body.to_vec(), fence }
}
