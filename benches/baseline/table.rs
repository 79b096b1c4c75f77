//! The table: a row for each figure, a column for each server, and what is to be reached.

use crate::{scenarios::Scenario, server::Kind};

/// The head of the table.
pub(crate) fn head(kinds: &[Kind]) {
    print!("| {:45} | {:8} ", "work", "unit");
    for kind in kinds {
        print!("| {:>9} ", kind.name());
        if kind.is_gateway() {
            print!("| {:>7} | {:28} ", "× hyper", "reach");
        }
    }
    println!(
        "|\n|---|---{}|",
        kinds.iter().map(|kind| if kind.is_gateway() { "|--:|--:|---" } else { "|--:" }).collect::<String>()
    );
}

/// The rows of a scenario; `measured` has the values of each round for each server.
pub(crate) fn rows(scenario: &Scenario, kinds: &[Kind], measured: &[Vec<Vec<f64>>]) {
    for (i, row) in scenario.rows.iter().enumerate() {
        let value = |server: usize| median(measured[server].iter().map(|round| round[i]).collect());
        let hyper = kinds.iter().position(|kind| *kind == Kind::Hyper).and_then(value);
        print!("| {:45} | {:8} ", row.work, row.unit);
        for (server, kind) in kinds.iter().enumerate() {
            let value = value(server);
            print!("| {:>9} ", value.map_or("–".to_owned(), figure));
            if kind.is_gateway() {
                let reach = if *kind == Kind::Memory { row.memory } else { row.disk };
                let ratio = value.zip(hyper).map_or("–".to_owned(), |(value, hyper)| format!("{:.2}", value / hyper));
                let judged = value.map(|value| reach.judge(value, hyper)).unwrap_or_default();
                print!("| {ratio:>7} | {judged:28} ");
            }
        }
        println!("|");
    }
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

fn figure(value: f64) -> String {
    match value {
        ..10.0 => format!("{value:.2}"),
        ..100.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}
