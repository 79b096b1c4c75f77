//! What sessions cost beside the price of their bytes: the gateway against two servers that do nothing else.
//!
//! ```text
//! load (this process, h2, frames encoded beforehand) ──TCP──► h2       splits frames, acks, plays back, passes on
//!                                                      │      hyper    the same, one task and one channel a session
//!                                                      │      memory   the gateway, everything in memory
//!                                                      └────► disk     the gateway, on a disk of this machine
//! ```
//!
//! `cargo bench --bench baseline -- [SCENARIO…] [--rounds N] [--seconds S] [--servers h2,hyper,memory,disk]`
//!
//! Each server is a process of its own, fresh for every measurement, so that its CPU time and its memory can be asked
//! from the system. The servers take turns, several rounds; what is printed is the median of the rounds, and its
//! ratio to "hyper". Absolute figures are those of a machine and a moment, and of this load; ratios last longer.
//! `GATEWAY_BIN` names another gateway to measure.

mod disk;
mod load;
mod payload;
mod row;
mod scenarios;
mod server;
mod table;
mod yardstick;
mod yardstick_h2;
mod yardstick_hyper;

use std::time::Duration;

use self::{
    scenarios::{SCENARIOS, Scenario},
    server::Kind,
};

/// What was said on the command line.
struct Options {
    scenarios: Vec<&'static Scenario>,
    kinds: Vec<Kind>,
    rounds: usize,
    seconds: f64,
}

impl Options {
    fn parse(mut args: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self { scenarios: Vec::new(), kinds: Kind::ALL.to_vec(), rounds: 3, seconds: 1.0 };
        while let Some(arg) = args.next() {
            let mut value = || args.next().ok_or_else(|| format!("{arg} needs a value"));
            match arg.as_str() {
                // cargo says this to every bench.
                "--bench" => {}
                "--rounds" => options.rounds = value()?.parse().map_err(|error| format!("{arg}: {error}"))?,
                "--seconds" => options.seconds = value()?.parse().map_err(|error| format!("{arg}: {error}"))?,
                "--servers" => options.kinds = value()?.split(',').map(Kind::named).collect::<Result<_, _>>()?,
                name => options.scenarios.push(scenario(name)?),
            }
        }
        if options.scenarios.is_empty() {
            options.scenarios = SCENARIOS.iter().collect();
        }
        Ok(options)
    }

    fn time(&self) -> Duration {
        Duration::from_secs_f64(self.seconds)
    }
}

fn scenario(name: &str) -> Result<&'static Scenario, String> {
    let names = || SCENARIOS.iter().map(|scenario| scenario.name).collect::<Vec<_>>().join(" ");
    SCENARIOS.iter().find(|scenario| scenario.name == name).ok_or_else(|| format!("{name}: not one of {}", names()))
}

fn main() {
    let mut args = std::env::args().skip(1).peekable();
    match args.peek().map(String::as_str) {
        Some("--serve-h2") => return yardstick::serve(yardstick_h2::connection),
        Some("--serve-hyper") => return yardstick::serve(yardstick_hyper::connection),
        // `cargo test` runs benches without a word, to see whether they start.
        None => return println!("`cargo bench --bench baseline` measures"),
        Some(_) => {}
    }
    let options = Options::parse(args).unwrap_or_else(|error| {
        eprintln!("{error}");
        std::process::exit(2);
    });
    table::head(&options.kinds);
    for scenario in &options.scenarios {
        // One value of each row of the scenario, for each round, for each server.
        let mut measured = vec![Vec::new(); options.kinds.len()];
        for _ in 0..options.rounds {
            for (kind, rounds) in options.kinds.iter().zip(&mut measured) {
                rounds.extend(scenario.measure(*kind, options.time()));
            }
        }
        table::rows(scenario, &options.kinds, &measured);
    }
}
