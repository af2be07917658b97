//! The tables of what was found, in Markdown.

use std::fmt::Write as _;

use super::rules::NAMES;
use super::sums::{Calm, Figure, Row, Sums};
use crate::report::Machine;

/// Everything as tables.
pub(super) fn markdown(sums: &Sums) -> String {
    let [weir, average, minute] = NAMES;
    let mut text = format!("{}.\n\n## Figures\n\n", Machine::this());
    let _ = writeln!(text, "| what | of | target | {weir} | {average} | {minute} | reached |\n|---|---:|---:|---:|---:|---:|---|");
    for figure in &sums.figures {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{}", figure_line(figure));
    }
    let _ = write!(
        text,
        "\n## Attacks\n\nOf three numbers the first is {weir}'s, the second that of the {average}, the third that of the {minute}. Times count from the first \
         packet on the wire, for NetFlow and IPFIX from the first record that carries the evidence; `bound` is the largest recall that \
         samples allow, `soonest` the time in which they allow 95 of 100 to be found. The family is that in the end, and in brackets that of the first moment. Pieces are alarms on parts of the target, repeats further ones on it, echoes those in the other direction.\n"
    );
    attacks(&mut text, sums.promised());
    if sums.rows.iter().any(|row| row.apart) {
        text.push_str(
            "\n## Apart: pulses, and what stays below the limit\n\nNo figure is promised for these; below the limit none is to be found.\n",
        );
        attacks(&mut text, sums.rows.iter().filter(|row| row.apart));
    }
    if !sums.calm.is_empty() {
        let _ = write!(text, "\n## Peace: {:.0} host-days\n\n", sums.host_days);
        let _ = writeln!(text, "| scenario | class | hosts or happenings | {weir} | {average} | {minute} |\n|---|---|---:|---:|---:|---:|");
    }
    for Calm { scenario, class, count, alarms: [own, average, minute], .. } in &sums.calm {
        let _ = writeln!(text, "| {scenario} | {class} | {count} | {own} | {average} | {minute} |");
    }
    wholes(&mut text, sums);
    text
}

fn figure_line(figure: &Figure) -> String {
    let Figure { what, target, values, reached, unit, of } = figure;
    let [own, average, minute] = values.map(|value| match value {
        Some(value) if unit.is_empty() => format!("{value:.4}"),
        Some(value) => format!("{value:.0} {unit}"),
        None => "—".to_owned(),
    });
    let reached = match reached {
        Some(true) => "yes",
        Some(false) => "no",
        None => "—",
    };
    format!("| {what} | {of:.0} | {target} {unit} | {own} | {average} | {minute} | {reached} |")
}

fn attacks<'a>(text: &mut String, rows: impl Iterator<Item = &'a Row>) {
    let mut scenario = "";
    for row in rows {
        if scenario != row.scenario {
            scenario = &row.scenario;
            let _ = write!(
                text,
                "\n### {scenario}\n\n| kind | exporter | ratio | n | bound | recall | soonest, ms | p50, ms | p95, ms | family | subtype | target | peak ± | pieces | repeats | echoes |\n\
                 |---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n",
            );
        }
        let peak = row.peak_error.map_or_else(String::new, |error| format!("{:.0} %", error * 100.0));
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {:.2} | {} | {} | {} | {} | {:.2} ({:.2}) | {:.2} | {:.2} | {peak} | {} | {} | {} |",
            row.row,
            row.telemetry,
            row.ratio,
            row.attacks,
            row.bound,
            three(row.recall.map(|recall| format!("{recall:.2}"))),
            milliseconds(row.soonest),
            three(row.after_p50.map(milliseconds)),
            three(row.after_p95.map(milliseconds)),
            row.family_right,
            row.first_family_right,
            row.subtype_right,
            row.target_right,
            three(row.pieces.map(|count| count.to_string())),
            three(row.repeats.map(|count| count.to_string())),
            three(row.echoes.map(|count| count.to_string())),
        );
    }
}

fn wholes(text: &mut String, sums: &Sums) {
    let _ = write!(
        text,
        "\n## Scenarios\n\n| scenario | seed | limit | right | wrong | virtual time | records | CPU | of it analysts |\n\
         |---|---:|---:|---:|---:|---:|---:|---:|---:|\n",
    );
    for whole in &sums.wholes {
        let _ = writeln!(
            text,
            "| {} | {} | {:.0} packets/s, {:.3} Gbit/s | {} | {} | {:.0} s | {} | {:.1} s | {:.1} s |",
            whole.scenario,
            whole.seed,
            whole.packets_per_second,
            whole.bits_per_second / 1e9,
            three(whole.right.map(|count| count.to_string())),
            three(whole.wrong.map(|count| count.to_string())),
            whole.virtual_seconds,
            whole.records,
            whole.cpu_seconds,
            whole.analysts_cpu_seconds,
        );
    }
}

fn milliseconds(value: Option<f64>) -> String {
    value.map_or_else(|| "—".to_owned(), |value| format!("{value:.0}"))
}

fn three([one, two, three]: [String; 3]) -> String {
    format!("{one} · {two} · {three}")
}
