//! `bench`: a load for any server of the API, measured and checked.
//!
//! | file | what it is | sockets, time |
//! |---|---|---|
//! | `stamp`, `check` | what stands in every record, and whether all of them are there | none |
//! | `schedule` | when each send is meant to happen | a parameter |
//! | `latency`, `timeline`, `meter`, `run` | what is counted | a parameter; `run` tells it |
//! | `body` | the batches that are sent | none |
//! | `assignment` | what a writer writes, and where | none |
//! | `report`, `plot` | what is said of it, in words and in a picture | none |
//! | `writer`, `appends`, `reader` | writers and readers under load, and the sessions and requests that they use | yes |
//! | `scenario` | what is done in which order | yes |
//! | `pacer`, `process`, `target`, `tasks`, `progress` | a timer, `/proc`, the server and its streams, tasks, a line | yes |
//! | `interrupts` | Ctrl-C | yes |

mod appends;
mod assignment;
mod body;
mod check;
mod interrupts;
mod latency;
mod meter;
mod pacer;
mod plot;
mod process;
mod progress;
mod reader;
mod report;
mod run;
mod scenario;
mod schedule;
mod stamp;
mod target;
mod tasks;
mod timeline;
mod writer;

use std::{fs, future::ready, path::Path, sync::Arc, time::Duration};

use self::{
    check::Findings,
    interrupts::Interrupts,
    latency::Latencies,
    meter::Meter,
    process::ProcessError,
    progress::Progress,
    report::{LatencyReport, Report, Settings, Throughput},
    run::Run,
    scenario::Bench,
    target::{Stage, Target, TemporaryDirectory},
};
use super::{CliError, block_on, block_on_all, print_line, say};
use crate::{
    config::{BenchConfig, BenchStore, BenchTarget, Scenario, StoreConfig},
    types::{Cipher, Compression},
    wire::json,
};

pub(super) const EXAMPLES: &str = "\
Examples:
  s2s-gateway bench appends --memory
  s2s-gateway bench appends --addr http://127.0.0.1:8080 --pid $(pgrep -n s2s-gateway)
  s2s-gateway bench latency --rate 2000 --duration 30s --plot latency.svg
  s2s-gateway bench catch-up --record-size 100 --batch 1000 --size 64MiB --compression zstd
  s2s-gateway bench fan-out --followers 500 --rate 100
  s2s-gateway bench idle --followers 5000 --connections 50 --addr http://127.0.0.1:8080 --pid PID
  s2s-gateway bench unary --streams 64 --connections 64
  s2s-gateway bench appends --nats nats://127.0.0.1:4222 --nats-prefix bench
  s2s-gateway bench mixed --streams 10 --followers 100 --readers 4 --json

Every record carries a stamp and a checksum, and all that is read is checked:
each record once, in order, undamaged. What appends writes is read back between
rounds, in time that is not measured. Latencies count from the time at which a
batch was meant to be sent: at a rate that is when it was due, even if the server
kept the one before it waiting. Ctrl-C ends the load and reports what there is;
a second one ends the run.

Exit codes: 0 done, 1 a check failed or a session gave up, 2 wrong usage.";

/// How often progress is drawn, and throughput is looked at.
const TICK: Duration = Duration::from_millis(100);

/// Measures, and says what was measured.
pub(super) fn run(config: BenchConfig) -> Result<(), CliError> {
    match &config.target {
        BenchTarget::Server(endpoint) => block_on(bench_or_cut_off(&config, ready(Ok(Target::server(endpoint))))),
        BenchTarget::InProcess(BenchStore::Given(store)) => {
            block_on_all(bench_or_cut_off(&config, Target::in_process(store)))
        }
        BenchTarget::InProcess(BenchStore::TemporaryDirectory) => {
            // Removed after all else: whatever still runs may have the store, which writes until nobody has it any more.
            let directory = TemporaryDirectory::default();
            let store = StoreConfig::Disk(directory.path().into());
            block_on_all(bench_or_cut_off(&config, Target::in_process(&store)))
        }
    }
}

async fn bench_or_cut_off(
    config: &BenchConfig,
    target: impl Future<Output = Result<Target, CliError>>,
) -> Result<(), CliError> {
    let interrupts = Interrupts::listen().map_err(|error| CliError::Start(error.to_string()))?;
    let target = target.await?;
    let outcome = tokio::select! {
        outcome = bench(config, &target, &interrupts) => outcome,
        () = interrupts.second() => Err(CliError::Bench(cut_off(&target).into())),
    };
    target.stop().await;
    outcome
}

fn cut_off(target: &Target) -> &'static str {
    match target.is_in_process() {
        true => "interrupted again",
        false => "interrupted again: the streams are left on the server",
    }
}

async fn bench(config: &BenchConfig, target: &Target, interrupts: &Interrupts) -> Result<(), CliError> {
    let meter = meter(config, target)?;
    let mut stage = Stage::open(target, config).await?;
    if config.keep {
        say(format_args!("the streams are left in basin {}", stage.basin()));
    }
    let set = set(&mut stage, config.load.streams, interrupts).await;
    let measured = match set.and_then(|()| check_key(config, &stage)) {
        Ok(()) => measure(config, target, &stage, meter, interrupts).await,
        Err(error) => Err(error),
    };
    let struck = match config.keep {
        true => Ok(()),
        false => stage.strike().await,
    };
    let (report, gave_up) = measured?;
    publish(config, &report)?;
    struck?;
    verdict(&report, gave_up)
}

async fn set(stage: &mut Stage, streams: usize, interrupts: &Interrupts) -> Result<(), CliError> {
    tokio::select! {
        set = stage.set(streams) => set,
        () = interrupts.first() => Err(CliError::Bench("interrupted before there was anything to measure".into())),
    }
}

/// Without a key every append to an encrypted stream is refused, and with one that is not used nothing is encrypted,
/// though someone may believe so.
fn check_key(config: &BenchConfig, stage: &Stage) -> Result<(), CliError> {
    let basin = stage.basin();
    match (stage.cipher(), &config.encryption_key, config.cipher) {
        (Some(cipher), None, _) => {
            let cipher = cipher.name();
            Err(CliError::Bench(format!("basin {basin} encrypts its streams ({cipher}): --encryption-key is needed")))
        }
        (None, Some(_), Some(cipher)) => {
            Err(CliError::Bench(format!("the server made basin {basin} without the cipher {}", cipher.name())))
        }
        _ => Ok(()),
    }
}

/// The processes that can be told apart from what is measured.
fn meter(config: &BenchConfig, target: &Target) -> Result<Meter, CliError> {
    let mut meter = Meter::default();
    let this = if target.is_in_process() { "gateway and load" } else { "load" };
    match (config.pid.map(|pid| meter.watch("server", pid)), meter.watch(this, std::process::id())) {
        (Some(Err(error)), _) => Err(CliError::Start(format!("--pid: {error}"))),
        (_, Ok(()) | Err(ProcessError::Unsupported)) => Ok(meter),
        (_, Err(error)) => Err(CliError::Start(error.to_string())),
    }
}

async fn measure(
    config: &BenchConfig,
    target: &Target,
    stage: &Stage,
    meter: Meter,
    interrupts: &Interrupts,
) -> Result<(Report, u64), CliError> {
    let bench = Arc::new(Bench::new(config, target, stage, meter)?);
    let listening = tokio::spawn(stop_on_interrupt(bench.run.clone(), interrupts.clone()));
    let watching = tokio::spawn(watch(bench.clone(), Progress::new(config.quiet), config.duration));
    let findings = bench.go().await;
    listening.abort();
    watching.abort();
    // Whatever it drew is wiped when it has ended.
    let _ = watching.await;
    Ok((report(config, target, stage, &bench, findings), bench.run.failures().gave_up))
}

async fn stop_on_interrupt(run: Arc<Run>, interrupts: Interrupts) {
    interrupts.first().await;
    run.stop();
}

async fn watch(bench: Arc<Bench>, mut progress: Progress, duration: Duration) {
    let mut ticks = tokio::time::interval(TICK);
    loop {
        ticks.tick().await;
        let now = bench.run.now();
        let (measured, volume) = (bench.lanes.volume(), bench.lanes.volume() + bench.aside.volume());
        bench.meter().look(now, measured);
        let passed = bench.meter().measured(now);
        progress.show(bench.stage(), now, passed, duration, volume);
    }
}

fn report(config: &BenchConfig, target: &Target, stage: &Stage, bench: &Bench, checks: Findings) -> Report {
    let (total, meter, failures) = (bench.lanes.total(), bench.meter(), bench.run.failures());
    let measured = meter.measured(bench.run.now());
    let throughput = |count: run::Count| match config.scenario {
        // What goes through there does so when it is over.
        Scenario::Idle => None,
        _ => Throughput::new(count.batches, count.records, count.bytes, measured),
    };
    let delays = config.load.rate.map(|_| &total.delays);
    let latencies = [
        ("append to ack", Some(&total.acks)),
        ("append to delivery", Some(&total.deliveries)),
        ("sent after its time", delays),
        ("session to first record", Some(&total.openings)),
    ];
    Report {
        scenario: config.scenario.name(),
        server: target.description().into(),
        version: env!("CARGO_PKG_VERSION"),
        settings: settings(config, stage),
        interrupted: bench.run.is_stopping(),
        measured_seconds: measured.as_secs_f64(),
        appended: throughput(total.appended),
        read: throughput(total.read),
        latencies: latencies.into_iter().filter_map(|(name, of)| latency(name, of?)).collect(),
        processes: meter.processes(),
        checks,
        violations: failures.violations,
        errors: failures.errors,
        timeline: meter.rates().to_vec(),
    }
}

fn latency(name: &'static str, latencies: &Latencies) -> Option<LatencyReport> {
    let percentiles = latencies.percentiles()?;
    Some(LatencyReport { name, percentiles, distribution: latencies.distribution() })
}

fn settings(config: &BenchConfig, stage: &Stage) -> Settings {
    let load = &config.load;
    Settings {
        streams: load.streams,
        sessions: load.sessions,
        followers: load.followers,
        readers: load.readers,
        connections: load.connections,
        record_size: load.record_size,
        batch: load.batch,
        in_flight: load.in_flight,
        rate: load.rate,
        compression: match load.compression {
            Compression::None => "none",
            compression => compression.coding(),
        },
        body: load.body.name(),
        cipher: stage.cipher().map(Cipher::name),
        duration_seconds: config.duration.as_secs_f64(),
    }
}

fn publish(config: &BenchConfig, report: &Report) -> Result<(), CliError> {
    let said = match config.json {
        true => print_line(&json::encode_report(report)),
        false => print_line(report.table().trim_end().as_bytes()),
    };
    // A picture that cannot be drawn is no reason to keep the figures back, nor the other way round.
    let drawn = config.plot.as_deref().map_or(Ok(()), |file| draw(file, report));
    said.and(drawn)
}

fn draw(file: &Path, report: &Report) -> Result<(), CliError> {
    let unusable = |reason: String| CliError::Bench(format!("--plot {}: {reason}", file.display()));
    let svg = plot::svg(report).map_err(|error| unusable(error.to_string()))?;
    fs::write(file, svg).map_err(|error| unusable(error.to_string()))
}

fn verdict(report: &Report, gave_up: u64) -> Result<(), CliError> {
    match (report.is_clean(), gave_up) {
        (false, _) => Err(CliError::Bench("the check failed".into())),
        (true, 0) => Ok(()),
        (true, sessions) => Err(CliError::Bench(format!("{sessions} sessions gave up, see the errors"))),
    }
}
