//! Plots of what was found, as SVG: recall and time to detect by ratio, a line for each rule.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result};

use super::rules::NAMES;
use super::sums::{Row, Sums};

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 360.0;
/// Room for the numbers on the left and below, and above and on the right.
const MARGINS: [f64; 4] = [60.0, 40.0, 30.0, 150.0];
const COLOURS: [&str; 4] = ["#0b6e4f", "#c8553d", "#3d5a80", "#999999"];

/// A plot: points by ratio, a line each.
struct Plot {
    title: &'static str,
    /// Name and points, ascending by ratio.
    lines: Vec<(&'static str, Vec<(f64, f64)>)>,
    /// What the vertical axis has numbers at, the first the lowest and the last the highest.
    ticks: Vec<f64>,
    is_logarithmic: bool,
}

/// Writes `recall.svg` and `time.svg` into a folder.
///
/// # Errors
///
/// If they cannot be written.
pub(super) fn write(sums: &Sums, folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    for (name, plot) in [("recall", recall(sums)), ("time", time(sums))] {
        let path = folder.join(format!("{name}.svg"));
        std::fs::write(&path, plot.svg()).with_context(|| path.display().to_string())?;
    }
    Ok(())
}

/// Rows of what is told of at once, by ratio.
fn by_ratio(sums: &Sums) -> Vec<(f64, Vec<&Row>)> {
    let mut ratios: Vec<(f64, Vec<&Row>)> = Vec::new();
    for row in sums.promised().filter(|row| !row.is_cache && row.is_steady) {
        match ratios.iter_mut().find(|(ratio, _)| *ratio == row.ratio) {
            Some((_, rows)) => rows.push(row),
            None => ratios.push((row.ratio, vec![row])),
        }
    }
    ratios.sort_by(|(one, _), (other, _)| one.total_cmp(other));
    ratios
}

fn recall(sums: &Sums) -> Plot {
    let ratios = by_ratio(sums);
    let line = |of: &dyn Fn(&Row) -> f64| {
        let mean = |rows: &Vec<&Row>| {
            let all: usize = rows.iter().map(|row| row.attacks).sum();
            rows.iter().map(|row| of(row) * row.attacks as f64).sum::<f64>() / all.max(1) as f64
        };
        ratios.iter().map(|(ratio, rows)| (*ratio, mean(rows))).collect::<Vec<_>>()
    };
    let mut lines: Vec<_> =
        (0..NAMES.len()).zip(NAMES).map(|(rule, name)| (name, line(&|row| row.recall.get(rule).copied().unwrap_or(0.0)))).collect();
    lines.push(("bound by samples", line(&|row| row.bound)));
    Plot { title: "Recall by ratio to the limit: sFlow and mirror", lines, ticks: vec![0.0, 0.25, 0.5, 0.75, 1.0], is_logarithmic: false }
}

fn time(sums: &Sums) -> Plot {
    let ratios = by_ratio(sums);
    let line = |rule: usize| {
        let largest = |rows: &Vec<&Row>| {
            let mut times: Vec<f64> = rows.iter().flat_map(|row| row.times_of(rule)).copied().collect();
            times.sort_by(f64::total_cmp);
            (!times.is_empty()).then(|| crate::latency::rank(&times, 95))
        };
        ratios.iter().filter_map(|(ratio, rows)| Some((*ratio, largest(rows)?))).collect::<Vec<_>>()
    };
    let lines = (0..NAMES.len()).zip(NAMES).map(|(rule, name)| (name, line(rule))).collect();
    let ticks = vec![10.0, 100.0, 1_000.0, 10_000.0, 100_000.0];
    Plot { title: "Milliseconds to the first alarm, p95, by ratio: sFlow and mirror", lines, ticks, is_logarithmic: true }
}

impl Plot {
    fn svg(&self) -> String {
        let mut text = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" font-size=\"11\">\n\
             <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"white\"/>\n<text x=\"{WIDTH}\" dx=\"-320\" y=\"18\" font-size=\"13\" \
             text-anchor=\"middle\">{}</text>\n",
            self.title
        );
        let [left, below, ..] = MARGINS;
        for tick in &self.ticks {
            let y = self.y(*tick);
            // Writing to a string cannot fail.
            let _ = writeln!(
                text,
                "<path d=\"M{left} {y:.1}H{:.1}\" stroke=\"#ddd\"/><text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{tick}</text>",
                WIDTH - MARGINS[3],
                left - 6.0,
                y + 4.0,
            );
        }
        for ratio in self.ratios() {
            let x = self.x(ratio);
            let _ = writeln!(text, "<text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{ratio}</text>", HEIGHT - below + 16.0);
        }
        for (number, ((name, points), colour)) in self.lines.iter().zip(COLOURS).enumerate() {
            let line: Vec<String> = points.iter().map(|(ratio, value)| format!("{:.1},{:.1}", self.x(*ratio), self.y(*value))).collect();
            let y = 50.0 + 18.0 * number as f64;
            let _ = writeln!(
                text,
                "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>\n<text x=\"{:.1}\" y=\"{y:.1}\" fill=\"{colour}\">{name}</text>",
                line.join(" "),
                WIDTH - MARGINS[3] + 12.0,
            );
        }
        text.push_str("</svg>\n");
        text
    }

    fn ratios(&self) -> Vec<f64> {
        let mut ratios: Vec<f64> = self.lines.iter().flat_map(|(_, points)| points.iter().map(|(ratio, _)| *ratio)).collect();
        ratios.sort_by(f64::total_cmp);
        ratios.dedup();
        ratios
    }

    /// Ratios from 1 to 60, by their logarithm.
    fn x(&self, ratio: f64) -> f64 {
        let [left, _, _, right] = MARGINS;
        left + (WIDTH - left - right) * ratio.max(1.0).ln() / 60f64.ln()
    }

    fn y(&self, value: f64) -> f64 {
        let [_, below, above, _] = MARGINS;
        let (least, most) = (self.ticks.first().copied().unwrap_or(0.0), self.ticks.last().copied().unwrap_or(1.0));
        let part = if self.is_logarithmic {
            (value.clamp(least, most) / least).ln() / (most / least).ln()
        } else {
            (value.clamp(least, most) - least) / (most - least)
        };
        HEIGHT - below - (HEIGHT - below - above) * part
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plot_has_a_line_for_each_rule_within_its_frame() {
        let lines = vec![("one", vec![(1.2, 0.5), (50.0, 1.0)]), ("two", vec![(1.2, 0.0)])];
        let plot = Plot { title: "recall", lines, ticks: vec![0.0, 1.0], is_logarithmic: false };
        let text = plot.svg();
        assert_eq!(text.matches("<polyline").count(), 2);
        assert!(plot.x(50.0) < WIDTH - MARGINS[3] && plot.x(1.2) > MARGINS[0]);
        assert_eq!((plot.y(1.0), plot.y(0.0)), (MARGINS[2], HEIGHT - MARGINS[1]));
    }
}
