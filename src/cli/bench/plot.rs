//! A picture of a report: throughput over time, and below it how the latencies are distributed. SVG, made of values.

use std::{error::Error, ops::Range};

use plotters::{
    coord::{Shift, types::RangedCoordf64},
    prelude::{
        BLACK, Cartesian2d, ChartBuilder, ChartContext, Color, DrawingArea, IntoDrawingArea, LineSeries, PathElement,
        RGBColor, SVGBackend, SeriesLabelPosition, WHITE,
    },
};

use super::{latency::Quantile, report::Report, timeline::Rate};

/// Width and height.
const SIZE: (u32, u32) = (960, 800);
const COLOURS: [RGBColor; 4] =
    [RGBColor(31, 119, 180), RGBColor(214, 96, 20), RGBColor(44, 140, 60), RGBColor(120, 80, 160)];

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Chart<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;

/// Draws `report`. Fails only where the library does, which is not expected of a picture in memory.
pub(super) fn svg(report: &Report) -> Result<String, Box<dyn Error>> {
    let mut text = String::new();
    {
        let area = SVGBackend::with_string(&mut text, SIZE).into_drawing_area();
        area.fill(&WHITE)?;
        let title = format!("{} on {}", report.scenario, report.server);
        let area = area.titled(&title, ("sans-serif", 20))?;
        let (above, below) = area.split_vertically(380);
        throughput(&above, &report.timeline)?;
        latencies(&below, report)?;
        area.present()?;
    }
    Ok(text)
}

fn throughput(area: &Area<'_>, rates: &[Rate]) -> Result<(), Box<dyn Error>> {
    let end = rates.last().map_or(1.0, |rate| rate.at);
    let most = rates.iter().map(|rate| rate.appended_mib_s.max(rate.read_mib_s)).fold(0.0, f64::max);
    let mut chart = chart(area, "throughput", 0.0..end, 0.0..(most * 1.1).max(1e-3))?;
    chart.configure_mesh().x_desc("seconds measured").y_desc("MiB/s").light_line_style(WHITE).draw()?;
    let line = |value: fn(&Rate) -> f64| rates.iter().map(move |rate| (rate.at, value(rate)));
    let lines = [("appended", line(|rate| rate.appended_mib_s)), ("read", line(|rate| rate.read_mib_s))];
    for ((name, points), colour) in lines.into_iter().zip(COLOURS) {
        if points.clone().any(|(_, value)| value > 0.0) {
            draw(&mut chart, name, colour, points)?;
        }
    }
    legend(&mut chart)
}

/// The percentiles on a scale of nines, the latencies on a scale of tens.
fn latencies(area: &Area<'_>, report: &Report) -> Result<(), Box<dyn Error>> {
    let points = || report.latencies.iter().flat_map(|latency| &latency.distribution);
    let least = points().map(tens).fold(6.0, f64::min).floor();
    let most = points().map(tens).fold(least + 1.0, f64::max).ceil();
    let slowest = points().map(nines).fold(1.0, f64::max);
    let mut chart = chart(area, "latency", 0.0..slowest, least..most)?;
    chart
        .configure_mesh()
        .x_desc("percentile")
        .x_label_formatter(&|nines| percentile(*nines))
        .y_labels((most - least) as usize + 1)
        .y_label_formatter(&|tens| micros(*tens))
        .light_line_style(WHITE)
        .draw()?;
    for (latency, colour) in report.latencies.iter().zip(COLOURS) {
        draw(&mut chart, latency.name, colour, latency.distribution.iter().map(|point| (nines(point), tens(point))))?;
    }
    legend(&mut chart)
}

/// How many nines a quantile has: 0.9 one, 0.99 two. On this scale the slow end has room.
fn nines(point: &Quantile) -> f64 {
    -(1.0 - point.quantile).log10()
}

fn tens(point: &Quantile) -> f64 {
    point.micros.max(0.01).log10()
}

fn percentile(nines: f64) -> String {
    let percent = 100.0 * (1.0 - 10_f64.powf(-nines));
    let digits = (nines.floor() as usize).saturating_sub(1);
    format!("p{percent:.digits$}")
}

fn micros(tens: f64) -> String {
    match tens.round() as i32 {
        tens @ ..3 => format!("{} µs", 10_f64.powi(tens)),
        tens @ 3..6 => format!("{} ms", 10_f64.powi(tens - 3)),
        tens => format!("{} s", 10_f64.powi(tens - 6)),
    }
}

fn chart<'a, 'b>(
    area: &'a Area<'b>,
    caption: &str,
    x: Range<f64>,
    y: Range<f64>,
) -> Result<Chart<'a, 'b>, Box<dyn Error>> {
    let mut builder = ChartBuilder::on(area);
    builder.caption(caption, ("sans-serif", 16)).margin(12).x_label_area_size(40).y_label_area_size(70);
    builder.build_cartesian_2d(x, y).map_err(Into::into)
}

fn draw(
    chart: &mut Chart<'_, '_>,
    name: &str,
    colour: RGBColor,
    points: impl Iterator<Item = (f64, f64)>,
) -> Result<(), Box<dyn Error>> {
    let series = LineSeries::new(points, colour.stroke_width(2));
    let sign = move |(x, y)| PathElement::new([(x, y), (x + 16, y)], colour.stroke_width(2));
    chart.draw_series(series)?.label(name).legend(sign);
    Ok(())
}

fn legend<'a, 'b: 'a>(chart: &mut Chart<'a, 'b>) -> Result<(), Box<dyn Error>> {
    let mut labels = chart.configure_series_labels();
    labels.position(SeriesLabelPosition::UpperLeft).background_style(WHITE.mix(0.8)).border_style(BLACK.mix(0.3));
    labels.draw().map_err(Into::into)
}

#[cfg(test)]
mod tests {
    use super::{super::report::tests::sample, *};

    /// The names of the elements, in order, if each that is opened is closed, by nesting, and no text has a stray sign.
    fn elements(svg: &str) -> Option<Vec<&str>> {
        let (mut open, mut names) = (Vec::new(), Vec::new());
        for part in svg.trim().strip_prefix('<')?.split('<') {
            let (tag, text) = part.split_once('>')?;
            if text.contains('>') || text.split('&').skip(1).any(|rest| !rest.contains(';')) {
                return None;
            }
            let name = tag.trim_matches('/').split_ascii_whitespace().next()?;
            match (tag.starts_with('/'), tag.ends_with('/')) {
                (true, _) => (open.pop()? == name).then_some(())?,
                (false, true) => names.push(name),
                (false, false) => {
                    open.push(name);
                    names.push(name);
                }
            }
        }
        open.is_empty().then_some(names)
    }

    #[test]
    fn the_picture_is_well_formed_and_has_its_lines() {
        let mut report = sample();
        report.server = "<http://a&b>".into();
        let svg = svg(&report).unwrap();
        let elements = elements(&svg).unwrap_or_else(|| panic!("{svg}"));
        assert_eq!(elements[0], "svg");
        let lines = |colour: &str| svg.matches(&format!("stroke=\"{colour}\"")).count();
        assert_eq!(lines("#1F77B4"), 4, "appended and its latency, each with a sign in a legend");
        assert_eq!(lines("#D66014"), 0, "nothing was read");
        for text in ["throughput", "MiB/s", "append to ack", "p90", "&lt;http://a&amp;b&gt;"] {
            assert!(svg.contains(text), "{text}");
        }
    }

    #[test]
    fn a_report_of_nothing_can_be_drawn() {
        let mut report = sample();
        report.timeline.clear();
        report.latencies.clear();
        assert!(elements(&svg(&report).unwrap()).is_some());
    }

    #[test]
    fn scales() {
        let labels: Vec<_> = [0.0, 1.0, 2.0, 3.0].map(percentile).into();
        assert_eq!(labels, ["p0", "p90", "p99.0", "p99.90"]);
        let labels: Vec<_> = [-1.0, 0.0, 2.0, 3.0, 5.0, 6.0].map(micros).into();
        assert_eq!(labels, ["0.1 µs", "1 µs", "100 µs", "1 ms", "100 ms", "1 s"]);
    }
}
