//! A gateway as the store sees it, and no more of it: whoever appends bodies to a stream, and appends again what another
//! gateway overtook.

use std::{
    collections::VecDeque,
    sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock},
    time::Duration,
};

use futures::executor::block_on;

use crate::{
    store::{Commit, CommitSink, Listening, NatsStore, Store, StoreError, StreamLog},
    types::{Batch, Head, SeqNum, StreamId, testing},
};

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// A stream that is open in one gateway.
pub(super) struct Gateway(Arc<Shared>);

#[derive(Default)]
struct Shared {
    log: OnceLock<Arc<dyn StreamLog>>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
pub(super) struct State {
    /// After everything accepted.
    tail: SeqNum,
    pub(super) durable: Head,
    /// Accepted, with the bodies of their records, to be appended again if need be.
    pending: VecDeque<(SeqNum, Vec<String>)>,
    /// Bodies that were reported, those of this gateway with their number.
    pub(super) acked: Vec<(SeqNum, String)>,
    /// How often another gateway's commit came, one by one and all at once.
    pub(super) arrivals: usize,
    pub(super) overtaken: usize,
    pub(super) failed: Option<StoreError>,
}

impl Gateway {
    pub(super) fn open(store: &NatsStore, stream: u128) -> Self {
        let shared = Arc::new(Shared::default());
        let opened = block_on(store.open(StreamId::new(stream), shared.clone())).unwrap();
        {
            let mut state = shared.state.lock().unwrap();
            (state.tail, state.durable) = (opened.head.tail.seq_num, opened.head);
        }
        assert!(shared.log.set(opened.log).is_ok());
        Self(shared)
    }

    /// Hands a batch to the log.
    pub(super) fn append(&self, bodies: &[&str]) -> Result<(), StoreError> {
        let bodies = bodies.iter().map(|&body| body.to_owned()).collect();
        self.0.append(&mut self.state(), bodies)
    }

    /// The same, and waits until it is durable.
    pub(super) fn commit(&self, bodies: &[&str]) {
        self.append(bodies).unwrap();
        self.settle();
    }

    /// Waits until everything that was appended is durable.
    pub(super) fn settle(&self) {
        self.wait_for("all to be durable", |state| state.pending.is_empty());
    }

    pub(super) fn wait_for(&self, what: &str, done: impl Fn(&State) -> bool) {
        let waiting = |state: &mut State| !done(state) && state.failed.is_none();
        let (state, timeout) = self.0.changed.wait_timeout_while(self.state(), PATIENCE, waiting).unwrap();
        assert!(!timeout.timed_out(), "waited for {what} in vain");
        assert!(done(&state), "waited for {what}, and it failed: {:?}", state.failed);
    }

    /// Waits until everything that was appended is durable, or refused.
    pub(super) fn wait_until_told(&self) {
        let waiting = |state: &mut State| !state.pending.is_empty() && state.failed.is_none();
        let (state, timeout) = self.0.changed.wait_timeout_while(self.state(), PATIENCE, waiting).unwrap();
        assert!(!timeout.timed_out(), "waited for an answer in vain: {:?}", state.acked);
    }

    /// Waits until the log fails.
    pub(super) fn failure(&self) -> StoreError {
        let waiting = |state: &mut State| state.failed.is_none();
        let (state, _) = self.0.changed.wait_timeout_while(self.state(), PATIENCE, waiting).unwrap();
        state.failed.clone().expect("a failure")
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap()
    }

    pub(super) fn log(&self) -> &dyn StreamLog {
        &**self.0.log.get().unwrap()
    }

    pub(super) fn refresh(&self) -> Result<Head, StoreError> {
        block_on(self.log().refresh())
    }

    pub(super) fn follow(&self) {
        self.log().listen(Listening::Following);
    }

    /// The bodies of all records from `from` on.
    pub(super) fn read(&self, from: u64) -> Result<Vec<String>, StoreError> {
        let batches = block_on(self.log().read(SeqNum::new(from), usize::MAX))?;
        let records =
            |batch: &Batch| batch.whole().records().map(|record| body_of(record.fields.body())).collect::<Vec<_>>();
        Ok(batches.iter().flat_map(records).collect())
    }
}

fn body_of(body: &[u8]) -> String {
    String::from_utf8(body.to_vec()).unwrap()
}

impl Shared {
    fn append(&self, state: &mut State, bodies: Vec<String>) -> Result<(), StoreError> {
        let records: Vec<_> = bodies.iter().map(|body| (body.as_str(), 1)).collect();
        let batch = testing::batch(state.tail.get(), &records);
        let head = Head { tail: batch.end(), ..state.durable };
        assert_eq!(self.log.get().unwrap().append(batch, head)?, Commit::Pending);
        state.pending.push_back((state.tail, bodies));
        state.tail = head.tail.seq_num;
        Ok(())
    }

    fn go_on(&self, state: &mut State, head: Head) {
        state.overtaken += 1;
        assert!(head.tail.seq_num > state.durable.tail.seq_num, "the tail grows");
        (state.tail, state.durable) = (head.tail.seq_num, head);
        self.log.get().unwrap().resume_at(head.tail.seq_num);
        for (_, bodies) in std::mem::take(&mut state.pending) {
            self.append(state, bodies).unwrap();
        }
    }
}

impl CommitSink for Shared {
    fn durable(&self, end: SeqNum) {
        let mut guard = self.state.lock().unwrap();
        let state = &mut *guard;
        assert!(end > state.durable.tail.seq_num, "reports grow");
        while let Some((start, bodies)) = state.pending.pop_front_if(|(start, _)| *start < end) {
            let numbers = (start.get()..).map(SeqNum::new);
            state.durable.tail.seq_num = start.saturating_add(bodies.len() as u64);
            state.acked.extend(numbers.zip(bodies));
        }
        assert_eq!(state.durable.tail.seq_num, end);
        self.changed.notify_all();
    }

    fn arrived(&self, batch: Batch, head: Head) {
        let mut state = self.state.lock().unwrap();
        assert_eq!(batch.first_seq_num(), state.durable.tail.seq_num, "nothing is left out");
        assert_eq!(batch.end(), head.tail);
        state.arrivals += 1;
        if state.pending.is_empty() {
            (state.tail, state.durable) = (head.tail.seq_num, head);
        } else {
            self.go_on(&mut state, head);
        }
        self.changed.notify_all();
    }

    fn overtaken(&self, head: Head, missed: Vec<(Batch, Head)>) {
        let mut state = self.state.lock().unwrap();
        let mut next = state.durable.tail.seq_num;
        for (batch, _) in &missed {
            assert_eq!(batch.first_seq_num(), next, "nothing is left out");
            next = batch.end().seq_num;
        }
        assert!(missed.is_empty() || next == head.tail.seq_num);
        self.go_on(&mut state, head);
        self.changed.notify_all();
    }

    fn failed(&self, error: StoreError) {
        self.state.lock().unwrap().failed = Some(error);
        self.changed.notify_all();
    }
}
