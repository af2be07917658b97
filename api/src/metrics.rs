//! Counts of the program itself and the Prometheus text of everything that is counted.

use std::time::Duration;

use dashmap::DashMap;

use crate::live::{Live, Totals};

/// What the API counts.
#[derive(Debug, Default)]
pub struct Metrics {
    requests: DashMap<(&'static str, u16), (u64, Duration)>,
}

impl Metrics {
    /// Counts a request that was answered.
    pub fn request(&self, route: &'static str, status: u16, took: Duration) {
        let mut entry = self.requests.entry((route, status)).or_default();
        entry.0 += 1;
        entry.1 += took;
    }

    /// Everything in the Prometheus text format 0.0.4.
    #[must_use]
    pub fn text(&self, live: &Live) -> String {
        let mut text = Text::default();
        collector(&mut text, live);
        self.api(&mut text);
        process(&mut text);
        text.0
    }

    fn api(&self, text: &mut Text) {
        let mut requests: Vec<_> = self.requests.iter().map(|entry| (*entry.key(), *entry.value())).collect();
        requests.sort_unstable();
        text.family("weir_api_requests_total", "counter", "HTTP requests by route and status");
        for ((route, status), (count, _)) in &requests {
            text.sample("weir_api_requests_total", &[("route", route), ("status", &status.to_string())], count);
        }
        text.family("weir_api_request_seconds_total", "counter", "Time spent on HTTP requests by route and status");
        for ((route, status), (_, took)) in &requests {
            text.sample("weir_api_request_seconds_total", &[("route", route), ("status", &status.to_string())], took.as_secs_f64());
        }
    }
}

/// A text in the exposition format.
#[derive(Debug, Default)]
pub struct Text(String);

impl Text {
    /// Begins a metric.
    pub fn family(&mut self, name: &str, kind: &str, help: &str) {
        self.0.push_str(&format!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
    }

    /// Adds a sample with its labels.
    pub fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl std::fmt::Display) {
        self.0.push_str(name);
        for (index, (label, text)) in labels.iter().enumerate() {
            let escaped = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            self.0.push_str(&format!("{}{label}=\"{escaped}\"", if index == 0 { '{' } else { ',' }));
        }
        if !labels.is_empty() {
            self.0.push('}');
        }
        self.0.push_str(&format!(" {value}\n"));
    }

    /// A metric of one sample without labels.
    pub fn single(&mut self, name: &str, kind: &str, help: &str, value: impl std::fmt::Display) {
        self.family(name, kind, help);
        self.sample(name, &[], value);
    }
}

/// The loss ledger of every exporter and in sum, and what the kernel and the queues dropped.
fn collector(text: &mut Text, live: &Live) {
    let Totals { ledger, kernel_drops, suspects_refused, snapshots_dropped } = live.totals();
    let exporters = live.exporters();
    for (count, value) in ledger.counts() {
        let kind = if count.ends_with("_waiting") { "gauge" } else { "counter" };
        let suffix = if kind == "gauge" { "" } else { "_total" };
        let name = format!("weir_collector_{count}{suffix}");
        text.single(&name, kind, "Sum over all exporters, refused ones included", value);
        let name = format!("weir_collector_exporter_{count}{suffix}");
        text.family(&name, kind, "By exporter");
        for exporter in &exporters {
            let value = exporter.ledger.counts().find(|(name, _)| *name == count).map_or(0, |(_, value)| value);
            text.sample(&name, &[("exporter", &exporter.exporter.to_string())], value);
        }
    }
    text.single("weir_collector_exporters", "gauge", "Exporters heard since the start", exporters.len());
    text.single("weir_collector_kernel_drops_total", "counter", "Datagrams that the kernel dropped at our sockets", kernel_drops);
    text.single("weir_collector_suspects_refused_total", "counter", "Targets without room among the suspects", suspects_refused);
    text.single("weir_collector_snapshots_dropped_total", "counter", "Snapshots that the analysts had no room for", snapshots_dropped);
}

/// CPU time and memory of the process, by their usual names.
fn process(text: &mut Text) {
    // Fields of proc(5) behind the command, which may hold spaces: utime and stime are the 12th and 13th, in ticks of 10 ms.
    if let Ok(stat) = std::fs::read_to_string("/proc/self/stat")
        && let Some((_, fields)) = stat.rsplit_once(')')
    {
        let ticks: u64 = fields.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
        let seconds = Duration::from_millis(ticks.saturating_mul(10)).as_secs_f64();
        text.single("process_cpu_seconds_total", "counter", "User and system CPU time", seconds);
    }
    // Pages of 4 KiB; the second field is what is resident.
    if let Ok(statm) = std::fs::read_to_string("/proc/self/statm")
        && let Some(pages) = statm.split_whitespace().nth(1).and_then(|field| field.parse::<u64>().ok())
    {
        text.single("process_resident_memory_bytes", "gauge", "Resident memory", pages.saturating_mul(4_096));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_escaped() {
        let mut text = Text::default();
        text.sample("a", &[("b", "x\"y\\z\n")], 1);
        assert_eq!(text.0, "a{b=\"x\\\"y\\\\z\\n\"} 1\n");
    }
}
