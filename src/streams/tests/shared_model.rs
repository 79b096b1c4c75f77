//! Gateways that write to one stream at random, with reports that come late, appends that are overtaken, and gateways that
//! lose their engine; afterwards the log and everything that anyone was told must fit together.
//!
//! ```text
//! commits      0      1      2      3      4      5
//! heads     h0     h1     h2     h3     h4     h5     h6
//! a call       └──── before          after ────┘            what it was told must be true of a head in between
//! ```

use std::collections::HashSet;

use proptest::prelude::*;

use super::{
    shared::{Gateways, told},
    *,
};
use crate::store::shared_memory::Engine;

const GATEWAYS: usize = 3;
/// Sessions that are open at a time at each gateway.
const WRITERS: usize = 3;
const TOKENS: [&str; 3] = ["", "w1", "w2"];

#[derive(Clone, Copy, Debug)]
enum Step {
    Append(usize, usize, Wish),
    Poll(usize, usize),
    /// The session is given up, whatever it has outstanding.
    Drop(usize, usize),
    Publish(usize),
    Report(usize),
    /// What was accepted may be committed, and is never reported.
    LoseEngine(usize),
    ForgetMissed(usize),
    CheckTail(usize),
    ReadAll(usize),
    Pass(u64),
    /// The gateway judges what was taken back although nobody came for it.
    Judge(usize),
    /// Lets tasks run.
    Yield,
}

/// What an input asks for.
#[derive(Clone, Copy, Debug)]
struct Wish {
    records: usize,
    /// Asks for the number so far from the newest tail, mostly wrong or soon to be.
    near_tail: Option<u64>,
    expects: Option<&'static str>,
    sets: Option<&'static str>,
}

fn wishes() -> impl Strategy<Value = Wish> {
    let token = || prop::option::weighted(0.25, prop::sample::select(&TOKENS[..]));
    (1usize..4, prop::option::weighted(0.4, 0u64..5), token(), token())
        .prop_map(|(records, near_tail, expects, sets)| Wish { records, near_tail, expects, sets })
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let gateway = || 0..GATEWAYS;
    let step = prop_oneof![
        10 => (gateway(), 0..WRITERS, wishes()).prop_map(|(g, w, wish)| Step::Append(g, w, wish)),
        6 => (gateway(), 0..WRITERS).prop_map(|(g, w)| Step::Poll(g, w)),
        1 => (gateway(), 0..WRITERS).prop_map(|(g, w)| Step::Drop(g, w)),
        6 => gateway().prop_map(Step::Publish),
        6 => gateway().prop_map(Step::Report),
        1 => gateway().prop_map(Step::LoseEngine),
        1 => gateway().prop_map(Step::ForgetMissed),
        2 => gateway().prop_map(Step::CheckTail),
        2 => gateway().prop_map(Step::ReadAll),
        2 => (1u64..50).prop_map(Step::Pass),
        3 => gateway().prop_map(Step::Judge),
        5 => Just(Step::Yield),
    ];
    prop::collection::vec(step, 1..120)
}

/// An input, and what became of it as its writer knows.
#[derive(Debug)]
struct Input {
    session: usize,
    wish: Wish,
    asks_for: Option<u64>,
    before: usize,
    told: Told,
}

#[derive(Debug)]
enum Told {
    /// Nothing: it may have happened.
    Nothing,
    Acked {
        start: u64,
        after: usize,
    },
    Refused {
        failure: Failure,
        after: usize,
    },
    /// It came behind one that was refused.
    Dropped,
}

struct Writer {
    number: usize,
    session: AppendSession,
    outstanding: std::collections::VecDeque<usize>,
    tail: u64,
}

/// A tail that someone was told, and when.
struct Seen {
    before: usize,
    after: usize,
    tail: u64,
}

struct Model {
    gateways: Gateways,
    life: StreamId,
    writers: Vec<Vec<Option<Writer>>>,
    sessions: usize,
    inputs: Vec<Input>,
    tails: Vec<tokio::task::JoinHandle<Seen>>,
    now: u64,
}

impl Model {
    async fn new() -> Self {
        let gateways = Gateways::new(GATEWAYS).await;
        let life = gateways.all[0].stream().await.id();
        for gateway in &gateways.all {
            gateway.stream().await;
        }
        let writers = (0..GATEWAYS).map(|_| (0..WRITERS).map(|_| None).collect()).collect();
        Self { gateways, life, writers, sessions: 0, inputs: Vec::new(), tails: Vec::new(), now: NOW }
    }

    fn commits(&self) -> usize {
        count(&self.gateways.engine, self.life)
    }

    async fn step(&mut self, step: Step) {
        match step {
            Step::Append(gateway, writer, wish) => self.append(gateway, writer, wish).await,
            Step::Poll(gateway, writer) => self.poll(gateway, writer),
            Step::Drop(gateway, writer) => self.writers[gateway][writer] = None,
            Step::Publish(gateway) => self.gateways.all[gateway].store.publish(),
            Step::Report(gateway) => self.gateways.all[gateway].store.report(),
            Step::LoseEngine(gateway) => self.gateways.all[gateway].store.fail(),
            Step::ForgetMissed(gateway) => self.gateways.all[gateway].store.forget_what_was_missed(),
            Step::CheckTail(gateway) => self.check_tail(gateway).await,
            Step::ReadAll(gateway) => self.read_all(gateway).await,
            Step::Pass(milliseconds) => {
                self.now += milliseconds;
                self.gateways.clock.set(Timestamp::new(self.now));
            }
            Step::Judge(gateway) => self.gateways.all[gateway].stream().await.judge_all_taken_back().await,
            Step::Yield => tokio::task::yield_now().await,
        }
    }

    async fn append(&mut self, gateway: usize, place: usize, wish: Wish) {
        let before = self.commits();
        let tail = self.gateways.engine.commits(self.life).last().map_or(0, |(batch, _)| batch.end().seq_num.get());
        let asks_for = wish.near_tail.map(|near| (tail + near).saturating_sub(1));
        let input = input(self.inputs.len(), wish, asks_for);
        if self.writers[gateway][place].is_none() {
            let session = self.gateways.all[gateway].writer().await;
            let writer = Writer { number: self.sessions, session, outstanding: Default::default(), tail: 0 };
            self.writers[gateway][place] = Some(writer);
            self.sessions += 1;
        }
        let Some(writer) = &mut self.writers[gateway][place] else { return };
        if writer.session.is_open() {
            writer.outstanding.push_back(self.inputs.len());
            self.inputs.push(Input { session: writer.number, wish, asks_for, before, told: Told::Nothing });
            put(&mut writer.session, &input);
        }
    }

    fn poll(&mut self, gateway: usize, place: usize) {
        let after = self.commits();
        if let Some(writer) = &mut self.writers[gateway][place] {
            let polled = ack(&mut writer.session);
            if !note(writer, polled, &mut self.inputs, after) {
                self.writers[gateway][place] = None;
            }
        }
    }

    async fn check_tail(&mut self, gateway: usize) {
        let (streams, stream) = (self.gateways.all[gateway].streams.clone(), self.gateways.all[gateway].stream().await);
        let (engine, life, before) = (self.gateways.engine.clone(), self.life, self.commits());
        self.tails.push(tokio::spawn(async move {
            let tail = streams.check_tail(&stream).await.map_or(u64::MAX, |tail| tail.seq_num.get());
            Seen { before, after: count(&engine, life), tail }
        }));
    }

    /// Reads all there is: everything that was committed before, in order, and nothing else.
    async fn read_all(&mut self, gateway: usize) {
        let before = self.commits();
        let stream = self.gateways.all[gateway].stream().await;
        let bounds = ReadBounds { count: Some(u64::MAX - 1), ..Default::default() };
        let request = ReadRequest { bounds, ..from_the_start() };
        let reading = self.gateways.all[gateway].streams.read_session(stream, None, &request).await;
        let mut seen = 0;
        match reading {
            Ok(mut reader) => {
                while let Some(event) = reader.next().await {
                    let ReadEvent::Records { slices, .. } = event.unwrap() else { panic!("it does not follow") };
                    assert_eq!(slices[0].first_seq_num().get(), seen);
                    seen = slices.last().unwrap().end_seq_num().get();
                }
            }
            Err(failure) => assert!(matches!(failure, Failure::OutOfRange(_)), "{failure:?}"),
        }
        let after = self.commits();
        let heads = heads(&self.gateways.engine.commits(self.life));
        let tails: Vec<_> = heads[before..=after].iter().map(|head| head.tail.seq_num.get()).collect();
        assert!(tails.contains(&seen), "read up to {seen}, and the tails meanwhile were {tails:?}");
    }

    /// Lets everything come to its end, and hears all outcomes.
    async fn finish(&mut self) {
        for _ in 0..20 {
            for gateway in 0..GATEWAYS {
                self.gateways.all[gateway].store.settle();
                for place in 0..WRITERS {
                    self.finish_writer(gateway, place).await;
                }
            }
        }
        assert!(self.writers.iter().flatten().flatten().all(|writer| writer.outstanding.is_empty()), "all were told");
    }

    async fn finish_writer(&mut self, gateway: usize, place: usize) {
        while let Some(writer) = &mut self.writers[gateway][place]
            && !writer.outstanding.is_empty()
        {
            let polled = told(&mut writer.session).await;
            let after = count(&self.gateways.engine, self.life);
            if polled.is_pending() {
                return;
            }
            if !note(writer, polled, &mut self.inputs, after) {
                self.writers[gateway][place] = None;
            }
        }
    }

    async fn check(self) {
        let commits = self.gateways.engine.commits(self.life);
        let heads = heads(&commits);
        let committed: Vec<_> = commits.iter().map(|(batch, _)| id_of(batch)).collect();
        assert_eq!(committed.iter().collect::<HashSet<_>>().len(), committed.len(), "nothing is there twice");
        for (place, &id) in committed.iter().enumerate() {
            self.check_committed(&self.inputs[id], &heads[place..place + 2], &commits[place].0);
        }
        for session in 0..self.sessions {
            self.check_session(session, &committed);
        }
        for (id, input) in self.inputs.iter().enumerate() {
            let place = committed.iter().position(|other| *other == id);
            check_told(input, place, &commits, &heads);
        }
        for seen in self.tails {
            let Seen { before, after, tail } = seen.await.unwrap();
            // One that was asked of a gateway that lost its engine has no answer.
            let possible = heads[before..=after].iter().any(|head| head.tail.seq_num.get() == tail);
            assert!(tail == u64::MAX || possible, "{tail} was the tail at no time in between");
        }
    }

    /// The conditions of what went in held when it did.
    fn check_committed(&self, input: &Input, heads: &[Head], batch: &Batch) {
        let (before, after) = (&heads[0], &heads[1]);
        assert_eq!(batch.first_seq_num(), before.tail.seq_num, "dense");
        assert!(batch.start().timestamp >= before.tail.timestamp);
        assert!(input.asks_for.is_none_or(|number| number == batch.first_seq_num().get()));
        assert!(input.wish.expects.is_none_or(|token| testing::fencing_token(token) == before.fencing_token));
        assert_eq!(after.fencing_token, input.wish.sets.map_or(before.fencing_token, testing::fencing_token));
    }

    /// The inputs of a session went in in order, and none after its first failure.
    fn check_session(&self, session: usize, committed: &[usize]) {
        let of_session = |id: &&usize| self.inputs[**id].session == session;
        assert!(committed.iter().filter(of_session).is_sorted());
        let refused = self.inputs.iter().position(|input| {
            input.session == session && matches!(&input.told, Told::Refused { failure: Failure::Rejected(_), .. })
        });
        if let Some(refused) = refused {
            assert!(committed.iter().filter(of_session).all(|id| *id < refused), "no effect after the failure");
        }
    }
}

/// What was told was true at some time between the call and the answer.
fn check_told(input: &Input, place: Option<usize>, commits: &[(Batch, Head)], heads: &[Head]) {
    match &input.told {
        Told::Acked { start, after } => {
            let place = place.expect("what is acknowledged is there");
            assert_eq!(commits[place].0.first_seq_num().get(), *start);
            assert!((input.before..*after).contains(&place), "it went in after the call and before the ack");
        }
        Told::Refused { failure: Failure::Rejected(rejection), after } => {
            assert_eq!(place, None);
            let meanwhile = &heads[input.before..=*after];
            assert!(meanwhile.iter().any(|head| refuses(head, input, *rejection)), "{rejection:?} of {input:?}");
        }
        Told::Refused { failure, .. } => assert!(matches!(failure, Failure::Store(_)), "{failure:?}"),
        Told::Dropped => assert_eq!(place, None),
        Told::Nothing => {}
    }
}

/// Whether `head` gives just this reason to refuse `input`: the fence comes first (data-plane.md §3).
fn refuses(head: &Head, input: &Input, rejection: Rejection) -> bool {
    let fenced = input.wish.expects.is_some_and(|token| testing::fencing_token(token) != head.fencing_token);
    match rejection {
        Rejection::FencingTokenMismatch { current } => fenced && current == head.fencing_token,
        Rejection::SeqNumMismatch { next } => {
            !fenced && next == head.tail.seq_num && input.asks_for.is_some_and(|number| number != next.get())
        }
        _ => false,
    }
}

/// Notes what the writer was told; whether its session goes on.
fn note(
    writer: &mut Writer,
    polled: Poll<Option<Result<AppendAck, Failure>>>,
    inputs: &mut [Input],
    after: usize,
) -> bool {
    match polled {
        Poll::Pending => true,
        Poll::Ready(Some(Ok(ack))) => {
            let id = writer.outstanding.pop_front().expect("an ack for each input");
            assert!(ack.tail.seq_num >= ack.end.seq_num && ack.tail.seq_num.get() >= writer.tail);
            let records = inputs[id].wish.records as u64 + u64::from(inputs[id].wish.sets.is_some());
            assert_eq!(ack.end.seq_num.since(ack.start.seq_num), records);
            writer.tail = ack.tail.seq_num.get();
            inputs[id].told = Told::Acked { start: ack.start.seq_num.get(), after };
            true
        }
        Poll::Ready(Some(Err(failure))) => {
            let refused = matches!(failure, Failure::Rejected(_));
            let first = writer.outstanding.pop_front().expect("a failure is that of an input");
            inputs[first].told = Told::Refused { failure, after };
            for id in writer.outstanding.drain(..).filter(|_| refused) {
                inputs[id].told = Told::Dropped;
            }
            false
        }
        Poll::Ready(None) => panic!("the session was not closed"),
    }
}

/// The heads before the first commit and after each.
fn heads(commits: &[(Batch, Head)]) -> Vec<Head> {
    let mut heads = vec![Head::default()];
    heads.extend(commits.iter().map(|(batch, head)| {
        assert_eq!(head.tail, batch.end());
        *head
    }));
    heads
}

fn count(engine: &Engine, life: StreamId) -> usize {
    engine.commits(life).len()
}

/// An input that can be told from all others by the body of its last record.
fn input(id: usize, wish: Wish, asks_for: Option<u64>) -> AppendInput {
    let fence = wish.sets.map_or(testing::Records::new(), |token| testing::Records::new().fence(token));
    let input = (0..wish.records).fold(fence, |all, _| all.body(None, id.to_string().as_bytes())).input();
    let input = asks_for.map_or(input.clone(), |number| testing::with_match(input, number));
    wish.expects.map_or(input.clone(), |token| testing::with_fence(input, token))
}

fn id_of(batch: &Batch) -> usize {
    let last = batch.whole().records().last().map(|record| record.fields.body().to_vec());
    String::from_utf8(last.unwrap_or_default()).unwrap().parse().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn whatever_comes_in_between_the_outcomes_fit_the_log(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut model = Model::new().await;
            for step in steps {
                model.step(step).await;
            }
            model.finish().await;
            model.check().await;
        });
    }
}
