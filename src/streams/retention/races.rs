//! Appends, trims, deletions, restarts and changed policies in any order, against what must hold whatever the order:
//! nothing goes early, and in the end everything goes.

use std::num::NonZeroU64;

use proptest::prelude::*;

use super::{
    super::tests::{World, ack, basin, one, orders, put},
    tests::{deleted_on_empty, kept_for},
};
use crate::{
    store::StoreError,
    streams::{Access, Failure},
    types::{
        AppendInput, Change, Operations, RetentionPolicy, SeqNum, StreamId, StreamReconfiguration, testing::Records,
    },
};

/// Seconds that a stream stays without records.
const MIN_AGE: u64 = 100;

#[derive(Clone, Copy, Debug)]
enum Step {
    Append,
    /// Trims up to and including the command.
    Trim,
    /// Makes durable what was accepted.
    Release,
    Pass(u64),
    Sweep,
    CloseIdle,
    /// The process ends, and what was not durable is lost.
    Restart,
    Delete,
    /// Keeps records for so many seconds from now on.
    Keep(u64),
    /// Lets the background task run.
    Yield,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => Just(Step::Append),
        1 => Just(Step::Trim),
        4 => Just(Step::Release),
        5 => (0u64..90).prop_map(Step::Pass),
        5 => Just(Step::Sweep),
        2 => Just(Step::CloseIdle),
        1 => Just(Step::Restart),
        1 => Just(Step::Delete),
        1 => prop::sample::select(vec![10u64, 60, 200]).prop_map(Step::Keep),
        2 => Just(Step::Yield),
    ];
    prop::collection::vec(step, 1..60)
}

#[derive(Clone, Copy, Debug)]
struct Record {
    arrived: u64,
    durable: bool,
    /// Trimmed, or too old at a sweep that had its chance to remove it.
    may_be_gone: bool,
}

/// What a client knows of the stream that it uses, in seconds.
struct Model {
    world: World,
    now: u64,
    kept_for: u64,
    life: StreamId,
    records: Vec<Record>,
    made_at: u64,
}

impl Model {
    async fn new() -> Self {
        let world = World::new().await;
        let layer = deleted_on_empty(kept_for(60), MIN_AGE);
        world.streams.ensure_stream(&basin(), &orders(), layer, Operations::ALL).await.unwrap();
        let life = world.stream().await.id();
        Self { world, now: 0, kept_for: 60, life, records: Vec::new(), made_at: 0 }
    }

    async fn step(mut self, step: Step) -> Self {
        match step {
            Step::Append => self.append(one("a")).await,
            Step::Trim => self.append(Records::new().trim(u64::MAX).input()).await,
            Step::Release => self.release(),
            Step::Pass(seconds) => self.pass(seconds),
            Step::Sweep => self.sweep().await,
            Step::CloseIdle => self.world.close_idle(),
            Step::Restart => self = self.restart().await,
            Step::Delete => self.delete().await,
            Step::Keep(seconds) => self.keep(seconds).await,
            Step::Yield => tokio::task::yield_now().await,
        }
        self.check().await;
        self
    }

    async fn append(&mut self, input: AppendInput) {
        let stream = self.world.streams.stream(&basin(), &orders(), Access::Append, None, None).await;
        let stream = match stream {
            // A client may try again later, when the name is free.
            Err(Failure::StreamDeletionPending) => return,
            stream => stream.unwrap(),
        };
        if stream.id() != self.life {
            self.begin_life(stream.id()).await;
        }
        let trims = !input.batch.commands().is_empty();
        let mut writer = self.world.streams.append_session(stream, None).unwrap();
        put(&mut writer, &input);
        assert!(ack(&mut writer).is_pending());
        self.records.push(Record { arrived: self.now, durable: false, may_be_gone: false });
        if trims {
            self.release();
            self.records.iter_mut().for_each(|record| record.may_be_gone = true);
        }
    }

    async fn begin_life(&mut self, id: StreamId) {
        (self.life, self.made_at) = (id, self.now);
        self.records.clear();
        self.world
            .streams
            .ensure_stream(&basin(), &orders(), deleted_on_empty(kept_for(60), MIN_AGE), Operations::ALL)
            .await
            .unwrap();
        self.kept_for = 60;
    }

    fn release(&mut self) {
        self.world.store.release();
        self.records.iter_mut().for_each(|record| record.durable = true);
    }

    fn pass(&mut self, seconds: u64) {
        self.now += seconds;
        self.world.at(self.now);
    }

    async fn sweep(&mut self) {
        let alive = self.is_alive().await;
        let (now, kept_for) = (self.now, self.kept_for);
        let old = |record: &&mut Record| record.durable && record.arrived + kept_for <= now;
        self.records.iter_mut().filter(old).for_each(|record| record.may_be_gone = true);
        self.world.streams.sweep().await;
        if alive && !self.is_alive().await {
            assert!(self.records.iter().all(|record| record.may_be_gone), "a stream with records was deleted");
            let last_use = self.records.last().map_or(self.made_at, |record| record.arrived);
            assert!(last_use + MIN_AGE <= now, "a stream was deleted {} s after its last use", now - last_use);
        }
    }

    async fn restart(mut self) -> Self {
        self.world = self.world.restarted();
        self.world.store.fail(StoreError::Unknown("the process ended".into()));
        self.records.retain(|record| record.durable);
        self
    }

    async fn delete(&mut self) {
        self.release();
        match self.world.streams.delete_stream(&basin(), &orders()).await {
            Ok(()) | Err(Failure::StreamNotFound(..)) => {}
            Err(failure) => panic!("{failure}"),
        }
    }

    async fn keep(&mut self, seconds: u64) {
        let policy = RetentionPolicy::Age(NonZeroU64::new(seconds).unwrap());
        let changes = StreamReconfiguration { retention_policy: Change::Set(policy), ..Default::default() };
        match self.world.streams.reconfigure_stream(&basin(), &orders(), &changes).await {
            Ok(_) => self.kept_for = seconds,
            Err(Failure::StreamNotFound(..) | Failure::StreamDeletionPending) => {}
            Err(failure) => panic!("{failure}"),
        }
    }

    async fn is_alive(&self) -> bool {
        self.world.listed().await.is_some_and(|stream| stream.deleted_at.is_none())
    }

    /// A reader gets every record that is durable and may not be gone, and the tail is where it must be.
    async fn check(&self) {
        if !self.is_alive().await {
            return;
        }
        let stream = self.world.stream().await;
        assert_eq!(stream.id(), self.life, "a stream was made anew without an append");
        let durable = self.records.iter().filter(|record| record.durable).count();
        assert_eq!(stream.check_tail().unwrap().seq_num, SeqNum::new(durable as u64));
        let stays = self.records.iter().take(durable).skip_while(|record| record.may_be_gone).count();
        let visible = self.world.visible().await.len();
        assert!((stays..=durable).contains(&visible), "{visible} of {stays} to {durable} records can be read");
    }

    /// Left alone, the records go, then the stream, then all that was kept of it.
    async fn end(mut self) {
        self.release();
        for _ in 0..3 {
            self.pass(10_000);
            self.sweep().await;
            self.world.close_idle();
        }
        self.world.wait_until_gone().await;
        assert_eq!((self.world.store.memory.memory_used(), self.world.streams.open_count()), (0, 0));
        assert!(matches!(self.world.streams.catalogue().arrivals(self.life).await, Ok(None)));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, ..ProptestConfig::default() })]

    #[test]
    fn nothing_goes_early_and_everything_goes(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let mut model = Model::new().await;
            for step in steps {
                model = model.step(step).await;
            }
            model.end().await;
        });
    }
}

#[tokio::test]
async fn the_model_is_not_blind() {
    let mut model = Model::new().await;
    for step in [Step::Append, Step::Release, Step::Pass(59), Step::Sweep] {
        model = model.step(step).await;
    }
    assert_eq!((model.records[0].may_be_gone, model.world.visible().await.len()), (false, 1));
    for step in [Step::Pass(1), Step::Sweep] {
        model = model.step(step).await;
    }
    assert_eq!((model.records[0].may_be_gone, model.world.visible().await.len()), (true, 0));
    for step in [Step::Pass(MIN_AGE), Step::Sweep] {
        model = model.step(step).await;
    }
    assert!(!model.is_alive().await);
}
