//! What was measured, and how it is said: a table for people, the same as JSON for programs.

use std::{
    collections::BTreeMap,
    fmt::{self, Write},
    time::Duration,
};

use indicatif::{HumanBytes, HumanCount};
use serde::Serialize;

use super::{
    check::Findings,
    latency::{Percentiles, Quantile},
    process::ProcessReport,
    timeline::{Rate, mib_per_second},
};

/// A run from its settings to its verdict.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Report {
    pub(super) scenario: &'static str,
    /// Which server, in words.
    pub(super) server: String,
    /// Of this tool.
    pub(super) version: &'static str,
    pub(super) settings: Settings,
    /// Whether it was ended before its time.
    pub(super) interrupted: bool,
    /// Seconds measured: without setting up, and without what is read back for the check alone.
    pub(super) measured_seconds: f64,
    pub(super) appended: Option<Throughput>,
    pub(super) read: Option<Throughput>,
    /// Each in microseconds.
    pub(super) latencies: Vec<LatencyReport>,
    pub(super) processes: Vec<ProcessReport>,
    pub(super) checks: Findings,
    /// What the server broke of the protocol, by what it was; fails the run as the checks do.
    pub(super) violations: BTreeMap<String, u64>,
    /// What failed otherwise, by what it was.
    pub(super) errors: BTreeMap<String, u64>,
    pub(super) timeline: Vec<Rate>,
}

/// The load, as it was asked for.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Settings {
    pub(super) streams: usize,
    pub(super) sessions: usize,
    pub(super) followers: usize,
    pub(super) readers: usize,
    pub(super) connections: usize,
    pub(super) record_size: usize,
    pub(super) batch: usize,
    pub(super) in_flight: usize,
    /// Batches per second, of all sessions together; as many as go without.
    pub(super) rate: Option<f64>,
    pub(super) compression: &'static str,
    pub(super) body: &'static str,
    /// What the server encrypts records with.
    pub(super) cipher: Option<&'static str>,
    pub(super) duration_seconds: f64,
}

/// How much went through.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Throughput {
    /// Acknowledged, or in messages of a read.
    pub(super) batches: u64,
    pub(super) records: u64,
    /// Bytes of the records' bodies.
    pub(super) bytes: u64,
    pub(super) batches_per_second: f64,
    pub(super) records_per_second: f64,
    pub(super) mib_per_second: f64,
}

impl Throughput {
    /// What this makes in `measured`; nothing if nothing went through.
    pub(super) fn new(batches: u64, records: u64, bytes: u64, measured: Duration) -> Option<Self> {
        let per_second = |count: u64| count as f64 / measured.as_secs_f64().max(1e-9);
        (batches > 0).then(|| Self {
            batches,
            records,
            bytes,
            batches_per_second: per_second(batches),
            records_per_second: per_second(records),
            mib_per_second: mib_per_second(bytes, measured),
        })
    }
}

/// One kind of latency.
#[derive(Clone, Debug, Serialize)]
pub(super) struct LatencyReport {
    /// From what to what.
    pub(super) name: &'static str,
    #[serde(flatten)]
    pub(super) percentiles: Percentiles,
    pub(super) distribution: Vec<Quantile>,
}

impl Report {
    /// Whether everything was there, once, in order, undamaged, in the protocol's words.
    pub(super) fn is_clean(&self) -> bool {
        self.checks.is_clean() && self.violations.is_empty()
    }

    /// The table.
    pub(super) fn table(&self) -> String {
        let mut out = String::new();
        self.write_table(&mut out).expect("a String takes all that is written");
        out
    }

    fn write_table(&self, out: &mut String) -> fmt::Result {
        let ended = if self.interrupted { ", interrupted" } else { "" };
        writeln!(out, "{} on {}, {:.1} s measured{ended}", self.scenario, self.server, self.measured_seconds)?;
        writeln!(out, "{}\n", self.settings)?;
        self.write_throughput(out)?;
        self.write_latencies(out)?;
        self.write_processes(out)?;
        self.write_verdict(out)
    }

    fn write_throughput(&self, out: &mut String) -> fmt::Result {
        if self.appended.is_none() && self.read.is_none() {
            return Ok(());
        }
        writeln!(out, "{:<12}{:>14}{:>14}{:>14}{:>12}", "", "batches/s", "records/s", "MiB/s", "in all")?;
        for (name, throughput) in [("appended", self.appended), ("read", self.read)] {
            let Some(throughput) = throughput else { continue };
            let Throughput { batches_per_second, records_per_second, mib_per_second, bytes, .. } = throughput;
            let bytes = HumanBytes(bytes).to_string();
            let (batches, records) = (count(batches_per_second), count(records_per_second));
            writeln!(out, "{name:<12}{batches:>14}{records:>14}{mib_per_second:>14.2}{bytes:>12}")?;
        }
        writeln!(out)
    }

    fn write_latencies(&self, out: &mut String) -> fmt::Result {
        if self.latencies.is_empty() {
            return Ok(());
        }
        write!(out, "{:<24}", "latency")?;
        ["p50", "p90", "p99", "p99.9", "max", "mean"].iter().try_for_each(|column| write!(out, "{column:>11}"))?;
        writeln!(out)?;
        for LatencyReport { name, percentiles, .. } in &self.latencies {
            write!(out, "{name:<24}")?;
            let Percentiles { p50, p90, p99, p99_9, max, mean, .. } = *percentiles;
            [p50, p90, p99, p99_9, max, mean].iter().try_for_each(|micros| write!(out, "{:>11}", time(*micros)))?;
            writeln!(out)?;
        }
        writeln!(out)
    }

    fn write_processes(&self, out: &mut String) -> fmt::Result {
        if self.processes.is_empty() {
            return Ok(());
        }
        let columns = ["CPU", "cores", "a batch", "a record read", "memory before", "most", "after", "a follower"];
        write!(out, "{:<24}", "process")?;
        columns.iter().try_for_each(|column| write!(out, "{column:>14}"))?;
        writeln!(out)?;
        for process in &self.processes {
            self.write_process(out, process)?;
        }
        writeln!(out)
    }

    fn write_process(&self, out: &mut String, process: &ProcessReport) -> fmt::Result {
        let each = |of: Option<u64>| of.map_or_else(|| "-".into(), |n| time(process.cpu_seconds * 1e6 / n as f64));
        let memory = |bytes| HumanBytes(bytes).to_string();
        let grown = process.resident_after.saturating_sub(process.resident_before);
        let cells = [
            format!("{:.2} s", process.cpu_seconds),
            format!("{:.2}", process.cores),
            each(self.appended.map(|appended| appended.batches)),
            each(self.read.map(|read| read.records)),
            memory(process.resident_before),
            memory(process.resident_most),
            memory(process.resident_after),
            grown.checked_div(self.settings.followers as u64).map_or_else(|| "-".into(), memory),
        ];
        write!(out, "{:<24}", format!("{} ({})", process.role, process.pid))?;
        cells.iter().try_for_each(|cell| write!(out, "{cell:>14}"))?;
        writeln!(out)
    }

    fn write_verdict(&self, out: &mut String) -> fmt::Result {
        for (error, times) in &self.errors {
            writeln!(out, "error, {times}×: {error}")?;
        }
        for (violation, times) in &self.violations {
            writeln!(out, "FAILED, {times}×: {violation}")?;
        }
        let Findings { checked, lost, doubled, reordered, damaged, foreign } = self.checks;
        let checked = HumanCount(checked);
        match self.checks.is_clean() {
            true => writeln!(out, "checked {checked} records: each once, in order, undamaged"),
            false => writeln!(
                out,
                "FAILED: of {checked} records checked {lost} lost, {doubled} doubled, {reordered} out of order, \
                 {damaged} damaged, {foreign} foreign"
            ),
        }
    }
}

impl fmt::Display for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = [
            ("streams", self.streams),
            ("writers", self.sessions),
            ("followers", self.followers),
            ("readers", self.readers),
            ("connections", self.connections),
        ];
        let counts = counts.into_iter().filter(|(_, count)| *count > 0);
        counts.into_iter().try_for_each(|(what, count)| write!(f, "{what} {count}, "))?;
        let rate = self.rate.map_or_else(|| "as fast as acks come".into(), |rate| format!("{rate} batches/s"));
        write!(f, "batches of {} × {} B, in flight {}, {rate}, ", self.batch, self.record_size, self.in_flight)?;
        write!(f, "{} bodies, compression {}", self.body, self.compression)?;
        self.cipher.map_or(Ok(()), |cipher| write!(f, ", cipher {cipher}"))
    }
}

/// Whole from a hundred on; below that a digit behind the point is not noise.
fn count(number: f64) -> String {
    match number {
        0.0..100.0 => format!("{number:.1}"),
        _ => HumanCount(number.round() as u64).to_string(),
    }
}

/// Three digits and a unit.
fn time(micros: f64) -> String {
    let (value, unit) = match micros {
        ..1000.0 => (micros, "µs"),
        ..1e6 => (micros / 1e3, "ms"),
        _ => (micros / 1e6, "s"),
    };
    match value {
        ..10.0 => format!("{value:.2} {unit}"),
        ..100.0 => format!("{value:.1} {unit}"),
        _ => format!("{value:.0} {unit}"),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::{super::latency::Latencies, *};
    use crate::wire::json;

    pub(in super::super) fn sample() -> Report {
        let mut latencies = Latencies::default();
        (1..=1000).for_each(|micros| latencies.record(Duration::from_micros(micros), 1));
        let rate = |at| Rate { at, appended_mib_s: 10.0 * at, read_mib_s: 0.0 };
        Report {
            scenario: "appends",
            server: "http://127.0.0.1:8080".into(),
            version: "0.0.0",
            settings: Settings {
                streams: 1,
                sessions: 1,
                followers: 0,
                readers: 0,
                connections: 1,
                record_size: 1024,
                batch: 100,
                in_flight: 32,
                rate: None,
                compression: "none",
                body: "text",
                cipher: None,
                duration_seconds: 10.0,
            },
            interrupted: false,
            measured_seconds: 10.0,
            appended: Throughput::new(1000, 100_000, 100 << 20, Duration::from_secs(10)),
            read: None,
            latencies: vec![LatencyReport {
                name: "append to ack",
                percentiles: latencies.percentiles().unwrap(),
                distribution: latencies.distribution(),
            }],
            processes: vec![ProcessReport {
                role: "server",
                pid: 42,
                cpu_seconds: 0.1,
                cores: 0.01,
                resident_before: 1 << 20,
                resident_most: 3 << 20,
                resident_after: 2 << 20,
            }],
            checks: Findings { checked: 100_000, ..Findings::default() },
            violations: BTreeMap::new(),
            errors: BTreeMap::new(),
            timeline: (1..=10).map(|second| rate(f64::from(second))).collect(),
        }
    }

    #[test]
    fn the_table_says_what_counts() {
        let table = sample().table();
        for part in [
            "appends on http://127.0.0.1:8080, 10.0 s measured\n",
            "streams 1, writers 1, connections 1, batches of 100 × 1024 B, in flight 32, as fast as acks come",
            "appended               100        10,000         10.00  100.00 MiB\n",
            "append to ack                500 µs     900 µs     990 µs     999 µs",
            "server (42)                     0.10 s          0.01        100 µs             -",
            "checked 100,000 records: each once, in order, undamaged\n",
        ] {
            assert!(table.contains(part), "{part:?} in\n{table}");
        }
        assert!(!table.contains("FAILED"));
    }

    #[test]
    fn faults_and_errors_are_said() {
        let mut report = sample();
        report.checks.lost = 3;
        report.interrupted = true;
        report.errors.insert("429 rate_limited".into(), 2);
        assert!(!report.is_clean());
        let table = report.table();
        for part in
            ["10.0 s measured, interrupted", "FAILED: of 100,000 records checked 3 lost", "error, 2×: 429 rate_limited"]
        {
            assert!(table.contains(part), "{part:?} in\n{table}");
        }
        let mut report = sample();
        report.errors.insert("429 rate_limited".into(), 2);
        assert!(report.is_clean(), "a server may refuse");
        report.violations.insert("a stray ack".into(), 1);
        assert!(!report.is_clean());
        assert!(report.table().contains("FAILED, 1×: a stray ack"));
    }

    #[test]
    fn the_same_as_json() {
        let text = String::from_utf8(json::encode_report(&sample())).unwrap();
        for part in [
            r#""scenario":"appends""#,
            r#""settings":{"streams":1,"#,
            r#""rate":null"#,
            r#""interrupted":false,"measured_seconds":10.0"#,
            r#""appended":{"batches":1000,"records":100000,"bytes":104857600,"batches_per_second":100.0,"#,
            r#""read":null"#,
            r#""latencies":[{"name":"append to ack","count":1000,"mean":"#,
            r#""distribution":[{"quantile":0.0,"micros":"#,
            r#""processes":[{"role":"server","pid":42,"#,
            r#""checks":{"checked":100000,"lost":0,"doubled":0,"reordered":0,"damaged":0,"foreign":0}"#,
            r#""timeline":[{"at":1.0,"appended_mib_s":10.0,"read_mib_s":0.0}"#,
        ] {
            assert!(text.contains(part), "{part} in\n{text}");
        }
    }

    #[test]
    fn times_have_three_digits() {
        for (micros, text) in
            [(0.25, "0.25 µs"), (31.4, "31.4 µs"), (999.4, "999 µs"), (6300.0, "6.30 ms"), (2.5e6, "2.50 s")]
        {
            assert_eq!(time(micros), text);
        }
    }
}
