//! What a process has used of CPU and memory, as Linux tells it in `/proc`. Reading files is all that happens outside of
//! plain functions here.

use std::{fs, io, time::Duration};

use serde::Serialize;

/// A moment in a process's life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Usage {
    /// CPU time since it began, of all its threads.
    pub(super) cpu: Duration,
    /// Bytes of memory that it occupies.
    pub(super) resident: u64,
}

/// What a process used while it was watched.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct ProcessReport {
    /// Whose process it is.
    pub(super) role: &'static str,
    pub(super) pid: u32,
    /// CPU seconds while it was measured.
    pub(super) cpu_seconds: f64,
    /// CPU seconds per second: 1 is one core.
    pub(super) cores: f64,
    /// Bytes of memory before the load, at most while it ran, and after.
    pub(super) resident_before: u64,
    pub(super) resident_most: u64,
    pub(super) resident_after: u64,
}

/// Why a process cannot be watched.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProcessError {
    /// There is no `/proc`.
    #[error("CPU and memory of a process are read from /proc, which only Linux has")]
    Unsupported,
    /// There is no such process, or it is not ours to look at.
    #[error("process {pid} cannot be looked at: {error}")]
    Unreadable {
        /// Which one.
        pid: u32,
        /// What the system says.
        error: io::Error,
    },
    /// The files are not as they should be.
    #[error("/proc says something of process {0} that cannot be understood")]
    Strange(u32),
}

/// Looks at process `pid`.
pub(super) fn usage(pid: u32) -> Result<Usage, ProcessError> {
    if !cfg!(target_os = "linux") {
        return Err(ProcessError::Unsupported);
    }
    let read = |file| {
        fs::read_to_string(format!("/proc/{pid}/{file}")).map_err(|error| ProcessError::Unreadable { pid, error })
    };
    let (stat, status) = (read("stat")?, read("status")?);
    let found = cpu_ticks(&stat).zip(resident(&status)).ok_or(ProcessError::Strange(pid))?;
    let ticks_per_second = rustix::param::clock_ticks_per_second();
    Ok(Usage { cpu: Duration::from_secs_f64(found.0 as f64 / ticks_per_second as f64), resident: found.1 })
}

/// User and system time: fields 14 and 15, of which the second may hold anything, also spaces and parentheses.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let behind_name = &stat[stat.rfind(')')? + 1..];
    let mut fields = behind_name.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

fn resident(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// Watches a process over periods that are measured, and not over what lies between.
#[derive(Clone, Debug)]
pub(super) struct Watch {
    role: &'static str,
    pid: u32,
    before: Usage,
    /// When the present period began.
    begun: Usage,
    latest: Usage,
    cpu: Duration,
    most: u64,
}

impl Watch {
    /// Begins to watch what has used `now`.
    pub(super) fn new(role: &'static str, pid: u32, now: Usage) -> Self {
        Self { role, pid, before: now, begun: now, latest: now, cpu: Duration::ZERO, most: now.resident }
    }

    /// Which process it is.
    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    /// A measured period begins.
    pub(super) fn begin(&mut self, now: Usage) {
        self.begun = now;
        self.look(now);
    }

    /// In between.
    pub(super) fn look(&mut self, now: Usage) {
        self.latest = now;
        self.most = self.most.max(now.resident);
    }

    /// It ends.
    pub(super) fn end(&mut self, now: Usage) {
        self.look(now);
        self.cpu += now.cpu.saturating_sub(self.begun.cpu);
    }

    /// What was used, in `measured`, all periods together.
    pub(super) fn report(&self, measured: Duration) -> ProcessReport {
        ProcessReport {
            role: self.role,
            pid: self.pid,
            cpu_seconds: self.cpu.as_secs_f64(),
            cores: self.cpu.as_secs_f64() / measured.as_secs_f64().max(1e-9),
            resident_before: self.before.resident,
            resident_most: self.most,
            resident_after: self.latest.resident,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_counted_behind_the_name() {
        let stat = "4242 (a) (b c) S 1 4242 4242 0 -1 4194560 1 2 3 4 150 25 9 9 20 0 8 0 12345 1 2 3";
        assert_eq!(cpu_ticks(stat), Some(175));
        assert_eq!(cpu_ticks("4242 (x) S 1"), None);
        assert_eq!(resident("Name:\tx\nVmHWM:\t  99 kB\nVmRSS:\t    12 kB\n"), Some(12 * 1024));
        assert_eq!(resident("Name:\tx\n"), None, "a process that has ended and was not waited for");
    }

    #[test]
    fn only_measured_periods_count() {
        let usage = |seconds, resident| Usage { cpu: Duration::from_secs(seconds), resident };
        let mut watch = Watch::new("server", 1, usage(10, 100));
        watch.begin(usage(11, 100));
        watch.end(usage(13, 700));
        watch.begin(usage(50, 300));
        watch.look(usage(51, 900));
        watch.end(usage(51, 400));
        let report = watch.report(Duration::from_secs(2));
        assert_eq!((report.cpu_seconds, report.cores), (3.0, 1.5));
        let resident = (report.resident_before, report.resident_most, report.resident_after);
        assert_eq!(resident, (100, 900, 400));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn this_process_can_be_looked_at() {
        assert!(usage(std::process::id()).unwrap().resident > 0);
        assert!(matches!(usage(u32::MAX), Err(ProcessError::Unreadable { .. })));
    }
}
