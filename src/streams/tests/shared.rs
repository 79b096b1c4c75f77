//! Several gateways over one engine: what each hears, when, and what a client may be told meanwhile.

use super::*;
use crate::store::shared_memory::{Engine, SharedMemory};

/// Gateways over one engine, all with the same basin, and with one clock.
pub(super) struct Gateways {
    pub(super) engine: Arc<Engine>,
    pub(super) clock: Arc<ManualClock>,
    pub(super) all: Vec<Gateway>,
}

pub(super) struct Gateway {
    pub(super) store: Arc<SharedMemory>,
    pub(super) streams: Arc<Streams>,
}

impl Gateways {
    pub(super) async fn new(count: usize) -> Self {
        let engine = Engine::new();
        let clock = Arc::new(ManualClock::at(Timestamp::new(NOW)));
        let all: Vec<_> = (0..count).map(|_| Gateway::new(engine.gateway(), &clock)).collect();
        let config = BasinConfig { create_stream_on_append: true, create_stream_on_read: true, ..Default::default() };
        all[0].streams.create_basin(&basin(), BasinWish { config, location: None }, None).await.unwrap();
        Self { engine, clock, all }
    }

    pub(super) fn pair(&self) -> (&Gateway, &Gateway) {
        (&self.all[0], &self.all[1])
    }

    /// Bodies of all records that are durable, whoever wrote them.
    pub(super) async fn committed(&self) -> Vec<String> {
        let id = self.all[0].stream().await.id();
        let commits = self.engine.commits(id);
        let slices: Vec<_> = commits.iter().map(|(batch, _)| batch.whole()).collect();
        let records = slices.iter().flat_map(|slice| slice.records());
        records.map(|record| String::from_utf8(record.fields.body().to_vec()).unwrap()).collect()
    }
}

impl Gateway {
    fn new(store: Arc<SharedMemory>, clock: &Arc<ManualClock>) -> Self {
        let streams = Streams::new(store.clone(), clock.clone(), StreamsConfig::default());
        Self { store, streams }
    }

    pub(super) async fn stream(&self) -> Arc<Stream> {
        self.streams.stream(&basin(), &orders(), Access::Append, None, None).await.unwrap()
    }

    pub(super) async fn writer(&self) -> AppendSession {
        self.streams.append_session(self.stream().await, None).unwrap()
    }

    async fn reader(&self, request: ReadRequest) -> Result<ReadSession, Failure> {
        self.streams.read_session(self.stream().await, None, &request).await
    }

    pub(super) async fn tail(&self) -> u64 {
        self.streams.check_tail(&*self.stream().await).await.unwrap().seq_num.get()
    }

    /// Appends, and makes durable and reported.
    pub(super) async fn append(&self, input: AppendInput) {
        let mut writer = self.writer().await;
        put(&mut writer, &input);
        self.store.settle();
        assert!(matches!(ack(&mut writer), Poll::Ready(Some(Ok(_)))));
    }
}

/// Polls until nothing moves any more: refreshes have tasks of their own.
pub(super) async fn told(writer: &mut AppendSession) -> Poll<Option<Result<AppendAck, Failure>>> {
    for _ in 0..20 {
        let polled = ack(writer);
        if polled.is_ready() {
            return polled;
        }
        tokio::task::yield_now().await;
    }
    Poll::Pending
}

async fn told_range(writer: &mut AppendSession) -> (u64, u64) {
    match told(writer).await {
        Poll::Ready(Some(Ok(ack))) => (ack.start.seq_num.get(), ack.end.seq_num.get()),
        other => panic!("{other:?}"),
    }
}

async fn told_failure(writer: &mut AppendSession) -> Failure {
    match told(writer).await {
        Poll::Ready(Some(Err(failure))) => failure,
        other => panic!("{other:?}"),
    }
}

fn mismatch(next: u64) -> Failure {
    Failure::Rejected(Rejection::SeqNumMismatch { next: SeqNum::new(next) })
}

fn other_token(current: &str) -> Failure {
    Failure::Rejected(Rejection::FencingTokenMismatch { current: testing::fencing_token(current) })
}

/// Opens the stream on both gateways, so that neither learns by opening it what the other did.
async fn both_open(gateways: &Gateways) {
    for gateway in &gateways.all {
        gateway.stream().await;
    }
}

#[tokio::test(start_paused = true)]
async fn who_is_overtaken_gets_the_numbers_behind() {
    let gateways = Gateways::new(2).await;
    let (a, b) = gateways.pair();
    both_open(&gateways).await;
    let (mut first, mut second) = (b.writer().await, b.writer().await);
    put(&mut first, &testing::input(&[("b1", None), ("b2", None)]));
    put(&mut second, &one("b3"));
    put(&mut first, &one("b4"));
    a.append(testing::input(&[("a1", None), ("a2", None), ("a3", None)])).await;
    assert!(ack(&mut first).is_pending());
    b.store.settle();
    assert_eq!((told_range(&mut first).await, told_range(&mut first).await), ((3, 5), (6, 7)));
    assert_eq!(told_range(&mut second).await, (5, 6));
    assert_eq!(gateways.committed().await, ["a1", "a2", "a3", "b1", "b2", "b3", "b4"]);
}

#[tokio::test(start_paused = true)]
async fn a_number_that_another_took_ends_the_session_and_what_it_had_queued() {
    // s2s.md §6.4
    for tells_missed in [true, false] {
        let gateways = Gateways::new(2).await;
        let (a, b) = gateways.pair();
        both_open(&gateways).await;
        if !tells_missed {
            b.store.forget_what_was_missed();
        }
        let (mut fails, mut other) = (b.writer().await, b.writer().await);
        put(&mut fails, &testing::with_match(one("b1"), 0));
        put(&mut other, &one("b2"));
        put(&mut fails, &one("b3"));
        put(&mut fails, &one("b4"));
        a.append(one("a1")).await;
        b.store.settle();
        assert!(fails.is_open(), "nothing was told yet");
        put(&mut fails, &one("b5"));
        b.store.settle();
        assert_eq!(told_failure(&mut fails).await, mismatch(2));
        assert!(matches!(ack(&mut fails), Poll::Ready(None)));
        assert_eq!(told_range(&mut other).await, (1, 2));
        assert_eq!(gateways.committed().await, ["a1", "b2"]);
    }
}

#[tokio::test(start_paused = true)]
async fn what_came_before_the_refused_input_is_acked_first() {
    let gateways = Gateways::new(2).await;
    let (a, b) = gateways.pair();
    both_open(&gateways).await;
    let mut writer = b.writer().await;
    put(&mut writer, &one("b1"));
    put(&mut writer, &testing::with_match(one("b2"), 1));
    a.append(one("a1")).await;
    b.store.settle();
    assert_eq!(told_range(&mut writer).await, (1, 2));
    assert_eq!(told_failure(&mut writer).await, mismatch(2));
    assert_eq!(gateways.committed().await, ["a1", "b1"]);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_by_what_never_became_durable_is_taken_back() {
    // s2s.md §6.4: B's fence loses the number it asked for, so the writer it would have kept out goes in.
    let gateways = Gateways::new(2).await;
    let (a, b) = gateways.pair();
    both_open(&gateways).await;
    let (mut fencer, mut fenced) = (b.writer().await, b.writer().await);
    put(&mut fencer, &testing::with_match(testing::Records::new().fence("w1").input(), 0));
    put(&mut fenced, &testing::with_fence(one("b"), ""));
    put(&mut fenced, &one("behind"));
    assert!(told(&mut fenced).await.is_pending());
    a.append(one("a")).await;
    b.store.settle();
    assert_eq!(told_failure(&mut fencer).await, mismatch(1));
    assert!(told(&mut fenced).await.is_pending(), "it was put in");
    b.store.settle();
    assert_eq!((told_range(&mut fenced).await, told_range(&mut fenced).await), ((1, 2), (2, 3)));
    assert_eq!(gateways.committed().await, ["a", "b", "behind"]);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_by_what_became_durable_is_told_then() {
    let gateways = Gateways::new(2).await;
    let (_, b) = gateways.pair();
    let (mut fencer, mut fenced) = (b.writer().await, b.writer().await);
    put(&mut fencer, &testing::Records::new().fence("w1").input());
    put(&mut fenced, &testing::with_fence(one("b"), ""));
    assert!(told(&mut fenced).await.is_pending());
    b.store.settle();
    assert_eq!(told_failure(&mut fenced).await, other_token("w1"));
    assert_eq!(told_range(&mut fencer).await, (0, 1));
}

#[tokio::test(start_paused = true)]
async fn nobody_is_refused_by_what_was_known_long_ago() {
    let gateways = Gateways::new(2).await;
    let (a, b) = gateways.pair();
    both_open(&gateways).await;
    a.append(testing::Records::new().fence("w1").body(None, b"a").input()).await;
    let (mut by_number, mut by_token) = (b.writer().await, b.writer().await);
    put(&mut by_number, &testing::with_match(one("b1"), 2));
    put(&mut by_token, &testing::with_fence(one("b2"), "w1"));
    assert!(told(&mut by_number).await.is_pending());
    b.store.settle();
    assert_eq!(told_range(&mut by_number).await, (2, 3));
    assert!(told(&mut by_token).await.is_pending());
    b.store.settle();
    assert_eq!(told_range(&mut by_token).await, (3, 4));
}

#[tokio::test(start_paused = true)]
async fn a_refusal_quotes_the_newest_state() {
    let gateways = Gateways::new(2).await;
    let (a, b) = gateways.pair();
    both_open(&gateways).await;
    a.append(testing::Records::new().fence("w1").body(None, b"a").input()).await;
    let mut writer = b.writer().await;
    put(&mut writer, &testing::with_match(one("b"), 7));
    assert_eq!(told_failure(&mut writer).await, mismatch(2));
    let mut writer = b.writer().await;
    put(&mut writer, &testing::with_fence(one("b"), "w0"));
    assert_eq!(told_failure(&mut writer).await, other_token("w1"));
}

#[tokio::test(start_paused = true)]
async fn a_fence_set_on_one_gateway_keeps_out_a_writer_on_another() {
    let gateways = Gateways::new(2).await;
    let (a, b) = gateways.pair();
    both_open(&gateways).await;
    let mut writer = b.writer().await;
    // Right by what B knows, and on its way when the fence comes.
    put(&mut writer, &testing::with_fence(one("b"), ""));
    a.append(testing::Records::new().fence("w1").input()).await;
    b.store.settle();
    assert_eq!(told_failure(&mut writer).await, other_token("w1"));
}

#[tokio::test(start_paused = true)]
async fn a_commit_that_arrives_while_an_append_is_accepted_overtakes_it() {
    let gateways = Gateways::new(2).await;
    let (a, b) = gateways.pair();
    both_open(&gateways).await;
    a.append(one("a")).await;
    let mut writer = b.writer().await;
    put(&mut writer, &one("b"));
    let stream = b.stream().await;
    let (batch, head) = gateways.engine.commits(stream.id())[0].clone();
    b.store.tell_arrived(batch, head);
    assert!(told(&mut writer).await.is_pending(), "that record 0 is durable is not the ack of this one");
    b.store.settle();
    assert_eq!(told_range(&mut writer).await, (1, 2));
    assert_eq!(gateways.committed().await, ["a", "b"]);
}

#[tokio::test(start_paused = true)]
async fn timestamps_never_decrease_and_stay_those_of_the_arrival() {
    let gateways = Gateways::new(2).await;
    let (a, b) = gateways.pair();
    both_open(&gateways).await;
    let mut writer = b.writer().await;
    put(&mut writer, &one("b1"));
    gateways.clock.set(Timestamp::new(NOW + 5000));
    put(&mut writer, &one("b2"));
    a.append(testing::input(&[("a", Some(NOW + 2000))])).await;
    gateways.clock.set(Timestamp::new(NOW + 9000));
    b.store.settle();
    let ends: Vec<_> = [told(&mut writer).await, told(&mut writer).await]
        .into_iter()
        .map(|polled| match polled {
            Poll::Ready(Some(Ok(ack))) => ack.end.timestamp.get() - NOW,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(ends, [2000, 5000]);
}

#[tokio::test(start_paused = true)]
async fn what_nobody_knows_the_outcome_of_ends_with_an_error_that_promises_nothing() {
    let gateways = Gateways::new(2).await;
    let (a, b) = gateways.pair();
    both_open(&gateways).await;
    let (mut unknown, mut undecided) = (b.writer().await, b.writer().await);
    put(&mut unknown, &one("b"));
    put(&mut undecided, &testing::with_match(one("c"), 0));
    b.store.publish();
    b.store.fail();
    let failed = |failure| matches!(failure, Failure::Store(StoreError::Unknown(_)));
    assert!(failed(told_failure(&mut unknown).await));
    assert!(failed(told_failure(&mut undecided).await), "not a 412 on the strength of that");
    // Others go on, and so does the stream here when it is next used.
    a.append(one("a")).await;
    assert_eq!(gateways.committed().await, ["b", "a"]);
    assert_eq!(b.tail().await, 2);
}

#[tokio::test(start_paused = true)]
async fn what_a_failed_log_hears_later_acknowledges_nothing() {
    let gateways = Gateways::new(2).await;
    let (a, b) = gateways.pair();
    both_open(&gateways).await;
    let mut writer = b.writer().await;
    put(&mut writer, &one("lost"));
    b.store.fail();
    a.append(one("a")).await;
    let (batch, head) = gateways.engine.commits(a.stream().await.id())[0].clone();
    b.store.tell_arrived(batch, head);
    assert!(matches!(told_failure(&mut writer).await, Failure::Store(_)));
}

#[tokio::test(start_paused = true)]
async fn a_writer_that_left_keeps_nobody_else_from_going_on() {
    let gateways = Gateways::new(2).await;
    let (a, b) = gateways.pair();
    both_open(&gateways).await;
    let (mut left, mut stays) = (b.writer().await, b.writer().await);
    put(&mut left, &testing::with_match(one("refused"), 0));
    put(&mut left, &one("behind"));
    put(&mut stays, &one("b"));
    drop(left);
    // It takes the place that the other one had.
    let mut next = b.writer().await;
    put(&mut next, &one("c"));
    a.append(one("a")).await;
    b.store.settle();
    assert_eq!((told_range(&mut stays).await, told_range(&mut next).await), ((1, 2), (2, 3)));
    assert_eq!(gateways.committed().await, ["a", "b", "c"]);
}

#[tokio::test(start_paused = true)]
async fn tails_are_those_of_all_gateways() {
    let gateways = Gateways::new(2).await;
    let (a, b) = gateways.pair();
    both_open(&gateways).await;
    a.append(one("a")).await;
    assert_eq!(b.tail().await, 1);
    b.append(one("b")).await;
    assert_eq!(a.tail().await, 2);
}

#[tokio::test(start_paused = true)]
async fn reads_start_at_the_newest_tail() {
    // data-plane.md §7.2
    let gateways = Gateways::new(2).await;
    let (a, b) = gateways.pair();
    let bounds = ReadBounds { count: Some(10), ..Default::default() };
    let bounded = |start, clamp| ReadRequest { start, clamp, bounds, ..Default::default() };
    let cases = [
        (ReadStart::SeqNum(SeqNum::new(1)), false, &["a2"][..], "beyond the tail known here"),
        (ReadStart::TailOffset(1), false, &["a2"], "from the end"),
        (ReadStart::Timestamp(Timestamp::new(NOW)), false, &["a1", "a2"], "later than all that is known here"),
        (ReadStart::SeqNum(SeqNum::FIRST), false, &["a1", "a2"], "from the start"),
    ];
    for (start, clamp, expected, why) in cases {
        let gateways = Gateways::new(2).await;
        let (a, b) = gateways.pair();
        both_open(&gateways).await;
        a.append(one("a1")).await;
        a.append(one("a2")).await;
        let mut reader = b.reader(bounded(start, clamp)).await.unwrap();
        assert_eq!(bodies(peek(&mut reader)), expected, "{why}");
        assert!(matches!(peek(&mut reader), Poll::Ready(None)), "{why}");
    }
    both_open(&gateways).await;
    a.append(one("a1")).await;
    let stream = b.stream().await;
    let beyond = bounded(ReadStart::SeqNum(SeqNum::new(9)), false);
    let refused = b.streams.read(stream, None, &beyond).await;
    assert!(matches!(refused, Err(Failure::OutOfRange(error)) if error.tail == Position::new(1, NOW)));
}

#[tokio::test(start_paused = true)]
async fn a_follower_hears_what_others_append_and_the_log_listens_only_while_there_is_one() {
    let gateways = Gateways::new(2).await;
    let (a, b) = gateways.pair();
    both_open(&gateways).await;
    let mut reader = b.reader(from_the_start()).await.unwrap();
    assert!(is_heartbeat(peek(&mut reader), 0));
    assert!(!b.store.listens());
    assert!(peek(&mut reader).is_pending());
    let mut another = b.reader(from_the_start()).await.unwrap();
    assert!(is_heartbeat(peek(&mut another), 0));
    assert!(peek(&mut another).is_pending());
    assert!(b.store.listens());
    a.append(one("a1")).await;
    a.append(one("a2")).await;
    b.store.report();
    assert!(matches!(peek(&mut another), Poll::Ready(Some(Ok(ReadEvent::Followed(batches)))) if batches.len() == 2));
    assert_eq!(bodies(peek(&mut reader)), ["a1", "a2"]);
    b.append(one("b")).await;
    assert_eq!(bodies(peek(&mut reader)), ["b"]);
    drop(another);
    assert!(b.store.listens());
    drop(reader);
    assert!(!b.store.listens());
}

#[tokio::test(start_paused = true)]
async fn a_follower_that_waits_is_woken_by_what_others_append() {
    let gateways = Gateways::new(2).await;
    let (a, b) = gateways.pair();
    both_open(&gateways).await;
    let count = Arc::new(Count::default());
    let waker = Waker::from(count.clone());
    let mut reader = b.reader(from_the_start()).await.unwrap();
    let mut poll = || reader.poll_next(&mut Context::from_waker(&waker), clock::instant());
    assert!(is_heartbeat(poll(), 0));
    assert!(poll().is_pending());
    for (times, body) in ["a1", "a2", "a3"].into_iter().enumerate() {
        // It is not polled between what it is given and what comes next.
        a.append(one(body)).await;
        b.store.report();
        assert_eq!(count.0.load(Ordering::Relaxed), times + 1);
        assert_eq!(bodies(poll()), [body]);
    }
    assert!(reader.waits());
}

#[tokio::test(start_paused = true)]
async fn a_read_that_ends_at_the_tail_makes_nobody_listen() {
    let gateways = Gateways::new(1).await;
    let gateway = &gateways.all[0];
    gateway.append(one("a")).await;
    let bounds = ReadBounds { count: Some(9), ..Default::default() };
    let mut reader = gateway.reader(ReadRequest { bounds, ..from_the_start() }).await.unwrap();
    assert_eq!(bodies(peek(&mut reader)), ["a"]);
    assert!(matches!(peek(&mut reader), Poll::Ready(None)));
    assert!(!gateway.store.listens());
}

#[tokio::test(start_paused = true)]
async fn a_follower_reads_on_where_what_was_missed_is_not_told() {
    let gateways = Gateways::new(2).await;
    let (a, b) = gateways.pair();
    both_open(&gateways).await;
    b.append(one("b1")).await;
    let mut reader = b.reader(from_the_start()).await.unwrap();
    assert_eq!(bodies(peek(&mut reader)), ["b1"]);
    assert!(is_heartbeat(peek(&mut reader), 1));
    assert!(peek(&mut reader).is_pending());
    b.store.forget_what_was_missed();
    let mut writer = b.writer().await;
    put(&mut writer, &one("b2"));
    a.append(one("a1")).await;
    a.append(one("a2")).await;
    b.store.settle();
    let mut seen = bodies(peek(&mut reader));
    while seen.len() < 3 {
        match peek(&mut reader) {
            Poll::Ready(Some(Ok(ReadEvent::Heartbeat(_)))) => {}
            event => seen.extend(bodies(event)),
        }
    }
    assert_eq!(seen, ["a1", "a2", "b2"]);
}

#[tokio::test(start_paused = true)]
async fn a_trim_on_one_gateway_is_seen_on_another() {
    let gateways = Gateways::new(2).await;
    let (a, b) = gateways.pair();
    both_open(&gateways).await;
    a.append(testing::input(&[("a1", None), ("a2", None)])).await;
    assert_eq!(b.tail().await, 2);
    a.append(testing::Records::new().trim(1).input()).await;
    let mut reader = b.reader(from_the_start()).await.unwrap();
    let Poll::Ready(Some(Ok(ReadEvent::Records { slices, .. }))) = peek(&mut reader) else { panic!() };
    assert_eq!(slices[0].first_seq_num(), SeqNum::new(1));
}

/// Polls until nothing moves any more, as [`told`] does.
async fn read_on(reader: &mut ReadSession) -> Poll<Option<Result<ReadEvent, Failure>>> {
    for _ in 0..20 {
        let polled = peek(reader);
        if polled.is_ready() {
            return polled;
        }
        tokio::task::yield_now().await;
    }
    Poll::Pending
}

#[tokio::test(start_paused = true)]
async fn a_reader_goes_on_behind_what_another_gateway_trimmed() {
    // data-plane.md §5.3: trimmed records are skipped.
    let gateways = Gateways::new(2).await;
    let (a, b) = gateways.pair();
    a.append(testing::input(&[("a1", None), ("a2", None)])).await;
    let mut reader = b.reader(from_the_start()).await.unwrap();
    // Nobody tells its gateway what happens then.
    a.append(testing::Records::new().trim(2).input()).await;
    a.append(one("a3")).await;
    a.stream().await.trim().await.unwrap();
    assert_eq!(bodies(read_on(&mut reader).await).last().map(String::as_str), Some("a3"));
}

#[tokio::test(start_paused = true)]
async fn who_asks_together_is_answered_by_one_refresh_that_began_after() {
    let gateways = Gateways::new(1).await;
    let gateway = &gateways.all[0];
    let stream = gateway.stream().await;
    let before = gateway.store.refreshes();
    let held = gateway.store.hold_refreshes();
    let ask = || {
        let stream = stream.clone();
        tokio::spawn(async move { stream.refreshed().await })
    };
    let first = ask();
    tokio::task::yield_now().await;
    tokio::task::yield_now().await;
    assert_eq!(gateway.store.refreshes() - before, 1);
    // These come when the first has begun, and must not believe it.
    let later: Vec<_> = (0..5).map(|_| ask()).collect();
    for _ in 0..5 {
        tokio::task::yield_now().await;
    }
    assert_eq!(gateway.store.refreshes() - before, 1, "one at a time");
    drop(held);
    first.await.unwrap().unwrap();
    for asked in later {
        asked.await.unwrap().unwrap();
    }
    assert_eq!(gateway.store.refreshes() - before, 2);
}

#[tokio::test(start_paused = true)]
async fn a_writer_that_is_not_polled_holds_up_nobody_elses_refresh() {
    let gateways = Gateways::new(1).await;
    let gateway = &gateways.all[0];
    gateway.append(one("a")).await;
    let held = gateway.store.hold_refreshes();
    let mut stalled = gateway.writer().await;
    put(&mut stalled, &testing::with_match(one("b"), 0));
    assert!(told(&mut stalled).await.is_pending());
    drop(held);
    assert_eq!(gateway.tail().await, 1);
    assert_eq!(told_failure(&mut stalled).await, mismatch(1));
}

#[tokio::test(start_paused = true)]
async fn a_session_that_failed_keeps_no_room_from_others() {
    let gateways = Gateways::new(2).await;
    let (a, b) = gateways.pair();
    both_open(&gateways).await;
    a.append(one("a")).await;
    let room = b.streams.in_flight.available_permits();
    let mut writer = b.writer().await;
    put(&mut writer, &testing::with_match(one("b"), 0));
    put(&mut writer, &testing::uniform_input(10, 100));
    b.store.settle();
    assert!(b.streams.in_flight.available_permits() < room, "undecided");
    assert_eq!(told_failure(&mut writer).await, mismatch(1));
    assert_eq!(b.streams.in_flight.available_permits(), room, "although the session is still there");
}

/// Long enough for what nobody comes for to be judged all the same.
async fn nobody_comes() {
    tokio::time::sleep(Duration::from_secs(3)).await;
}

#[tokio::test(start_paused = true)]
async fn a_session_that_nobody_polls_keeps_no_room_from_others() {
    let gateways = Gateways::new(2).await;
    let (a, b) = gateways.pair();
    both_open(&gateways).await;
    let room = b.streams.in_flight.available_permits();
    let free = || b.streams.in_flight.available_permits();
    a.append(one("a")).await;
    let (mut refused, mut overtaken, mut goes_in) = (b.writer().await, b.writer().await, b.writer().await);
    // Refused by what is known now, and not by what is known later.
    put(&mut goes_in, &testing::with_match(one("b2"), 2));
    put(&mut goes_in, &one("b3"));
    put(&mut overtaken, &one("b1"));
    put(&mut overtaken, &testing::with_match(one("b4"), 0));
    put(&mut overtaken, &one("b5"));
    put(&mut refused, &testing::with_match(testing::uniform_input(10, 100), 0));
    put(&mut refused, &one("behind"));
    assert!(free() < room);
    nobody_comes().await;
    b.store.settle();
    nobody_comes().await;
    b.store.settle();
    nobody_comes().await;
    assert_eq!(free(), room, "and nobody was polled");
    // What comes in now is not put in behind what was refused, and keeps no room either.
    put(&mut refused, &one("late"));
    assert_eq!(free(), room);
    let refreshes = b.store.refreshes();
    assert_eq!((told_range(&mut goes_in).await, told_range(&mut goes_in).await), ((2, 3), (3, 4)));
    assert_eq!(told_range(&mut overtaken).await, (1, 2));
    let is_mismatch = |failure| matches!(failure, Failure::Rejected(Rejection::SeqNumMismatch { .. }));
    assert!(is_mismatch(told_failure(&mut overtaken).await));
    assert!(is_mismatch(told_failure(&mut refused).await));
    assert!(matches!(ack(&mut refused), Poll::Ready(None)));
    assert_eq!(b.store.refreshes(), refreshes, "all was known");
    assert_eq!(gateways.committed().await, ["a", "b1", "b2", "b3"]);
}

#[tokio::test(start_paused = true)]
async fn what_comes_while_nobody_polls_is_not_refused_by_what_was_known_before() {
    let gateways = Gateways::new(2).await;
    let (a, b) = gateways.pair();
    both_open(&gateways).await;
    a.append(one("a1")).await;
    let mut writer = b.writer().await;
    // A number that another gateway's next record makes right, before anyone looks.
    put(&mut writer, &testing::with_match(one("b"), 2));
    a.append(one("a2")).await;
    nobody_comes().await;
    b.store.settle();
    assert_eq!(told_range(&mut writer).await, (2, 3));
    assert_eq!(gateways.committed().await, ["a1", "a2", "b"]);
}

#[tokio::test(start_paused = true)]
async fn a_log_that_fails_keeps_no_room_for_what_was_taken_back() {
    let gateways = Gateways::new(2).await;
    let (_, b) = gateways.pair();
    both_open(&gateways).await;
    let room = b.streams.in_flight.available_permits();
    let (mut undecided, mut deleted) = (b.writer().await, b.writer().await);
    put(&mut undecided, &testing::with_match(one("b"), 7));
    b.store.fail();
    assert_eq!(b.streams.in_flight.available_permits(), room, "at once");
    assert!(matches!(told_failure(&mut undecided).await, Failure::Store(StoreError::Unknown(_))));
    drop(undecided);
    drop(std::mem::replace(&mut deleted, b.writer().await));
    put(&mut deleted, &testing::with_match(one("b"), 7));
    b.streams.delete_stream(&basin(), &orders()).await.unwrap();
    nobody_comes().await;
    assert_eq!(b.streams.in_flight.available_permits(), room, "and so does one that was deleted");
    assert_eq!(told_failure(&mut deleted).await, Failure::StreamDeletionPending);
}

#[tokio::test(start_paused = true)]
async fn bytes_in_flight_are_given_back_when_what_was_judged_again_is_durable() {
    let gateways = Gateways::new(2).await;
    let (a, b) = gateways.pair();
    both_open(&gateways).await;
    let room = b.streams.in_flight.available_permits();
    let mut writer = b.writer().await;
    put(&mut writer, &one("b"));
    a.append(one("a")).await;
    b.store.report();
    assert!(b.streams.in_flight.available_permits() < room, "judged again, and not durable yet");
    b.store.settle();
    assert_eq!(b.streams.in_flight.available_permits(), room);
    assert_eq!(told_range(&mut writer).await, (1, 2));
}
