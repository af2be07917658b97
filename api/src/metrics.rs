//! Counts of the program itself and the Prometheus text of everything that is counted.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use dashmap::DashMap;
use schemas::alarm::AlarmKind;

use crate::live::{Live, Totals};
use crate::notify::Notifier;

/// What the API counts, and the way to what the other parts count.
#[derive(Debug, Default)]
pub struct Metrics {
    /// The analysts' and mitigation's own.
    pub analytics: analytics::metrics::Metrics,
    requests: DashMap<(&'static str, u16), (u64, Duration)>,
    shards: OnceLock<Vec<Arc<collector::metrics::Metrics>>>,
    enrichment: OnceLock<Arc<collector::enrich::metrics::Metrics>>,
    notifier: OnceLock<Arc<Notifier>>,
    engine: OnceLock<Arc<collector::store::engine::metrics::Metrics>>,
    dropped: OnceLock<Arc<collector::store::retain::Dropped>>,
    connections_refused: AtomicU64,
    accepts_failed: AtomicU64,
}

/// What is counted in the state, at the moment of reading.
#[derive(Debug, Default)]
pub struct Standing {
    /// Rules by state.
    pub rules: BTreeMap<&'static str, u64>,
    /// Incidents that are going on.
    pub active_incidents: usize,
    /// Whether the kill switch is thrown.
    pub frozen: bool,
}

impl collector::connections::Watch for Metrics {
    fn connection_refused(&self) {
        self.connections_refused.fetch_add(1, Ordering::Relaxed);
        tracing::debug!("an HTTP connection was closed: api.connections_max are open");
    }

    fn accept_failed(&self, error: &std::io::Error) {
        if self.accepts_failed.fetch_add(1, Ordering::Relaxed) == 0 {
            tracing::warn!(%error, "an HTTP connection cannot be accepted; further ones are counted");
        }
    }
}

impl Metrics {
    /// Counts a request that was answered.
    pub fn request(&self, route: &'static str, status: u16, took: Duration) {
        let mut entry = self.requests.entry((route, status)).or_default();
        entry.0 += 1;
        entry.1 += took;
    }

    /// Makes the shards' own counts known.
    pub fn collects(&self, shards: Vec<Arc<collector::metrics::Metrics>>) {
        drop(self.shards.set(shards));
    }

    /// Makes the counts of what is known of addresses known.
    pub fn enriches(&self, enrichment: Arc<collector::enrich::metrics::Metrics>) {
        drop(self.enrichment.set(enrichment));
    }

    /// Makes known what the store drops because it is too much.
    pub fn retains(&self, dropped: Arc<collector::store::retain::Dropped>) {
        drop(self.dropped.set(dropped));
    }

    /// Makes the embedded engine's counts known.
    pub fn runs_engine(&self, engine: Arc<collector::store::engine::metrics::Metrics>) {
        drop(self.engine.set(engine));
    }

    /// Makes the notifier's counts known.
    pub fn notifies(&self, notifier: Arc<Notifier>) {
        drop(self.notifier.set(notifier));
    }

    /// Everything in the Prometheus text format 0.0.4.
    #[must_use]
    pub fn text(&self, live: &Live, standing: &Standing) -> String {
        let mut text = Text::default();
        collector(&mut text, live);
        self.shards(&mut text);
        self.enrichment(&mut text);
        for (name, help, value) in self.engine.get().into_iter().flat_map(|engine| engine.counts()) {
            text.single(name, if name.ends_with("_total") { "counter" } else { "gauge" }, help, value);
        }
        for (name, value) in self.dropped.get().into_iter().flat_map(|dropped| dropped.counts()) {
            text.single(name, "counter", "Of single flows and sums, the oldest first, since they were over their bound", value);
        }
        self.analytics(&mut text, standing);
        alarms(&mut text, live);
        self.notify(&mut text);
        self.api(&mut text);
        process(&mut text);
        text.0
    }

    fn shards(&self, text: &mut Text) {
        let mut families: BTreeMap<&'static str, Vec<u64>> = BTreeMap::new();
        for shard in self.shards.get().into_iter().flatten() {
            for (name, value) in shard.counts() {
                families.entry(name).or_default().push(value);
            }
        }
        for (name, values) in families {
            text.family(name, if name.ends_with("_total") { "counter" } else { "gauge" }, "By shard");
            for (shard, value) in values.iter().enumerate() {
                text.sample(name, &[("shard", &shard.to_string())], value);
            }
        }
    }

    fn enrichment(&self, text: &mut Text) {
        for (name, help, value) in self.enrichment.get().into_iter().flat_map(|enrichment| enrichment.counts()) {
            text.single(name, if name.ends_with("_total") { "counter" } else { "gauge" }, help, value);
        }
    }

    fn analytics(&self, text: &mut Text, standing: &Standing) {
        for (name, value) in self.analytics.counts().all() {
            text.single(name, "counter", "Since the start", value);
        }
        text.single("weir_analytics_incidents_active", "gauge", "Incidents that are going on", standing.active_incidents);
        text.family("weir_analytics_rules", "gauge", "Rules by state, of those that are not gone");
        for state in ["dry_run", "pending", "active", "failed", "withdrawing"] {
            text.sample("weir_analytics_rules", &[("state", state)], standing.rules.get(state).copied().unwrap_or(0));
        }
        text.single("weir_analytics_mitigation_frozen", "gauge", "1 while the kill switch is thrown", u8::from(standing.frozen));
    }

    fn notify(&self, text: &mut Text) {
        let Some(notifier) = self.notifier.get() else {
            return;
        };
        let counts = notifier.counts();
        for (name, help, count) in [
            ("weir_api_notifications_delivered_total", "Events delivered", &counts.delivered),
            ("weir_api_notifications_failed_total", "Events given up", &counts.failed),
            ("weir_api_notifications_dropped_total", "Events for which there was no room", &counts.dropped),
        ] {
            text.single(name, "counter", help, count.load(Ordering::Relaxed));
        }
        text.single("weir_api_notifications_waiting", "gauge", "Events that wait", notifier.waiting());
    }

    fn api(&self, text: &mut Text) {
        let mut requests: Vec<_> = self.requests.iter().map(|entry| (*entry.key(), *entry.value())).collect();
        requests.sort_unstable();
        for (name, help, count) in [
            ("weir_api_connections_refused_total", "HTTP connections over the bound", &self.connections_refused),
            ("weir_api_accepts_failed_total", "HTTP connections that the system did not give", &self.accepts_failed),
        ] {
            text.single(name, "counter", help, count.load(Ordering::Relaxed));
        }
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
    let Totals { ledger, store, kernel_drops, suspects_refused, answers_refused } = live.totals();
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
    for (count, value) in store.counts() {
        // What waits goes down as well.
        let (kind, suffix) = if matches!(count, "records_waiting" | "records_spooled") { ("gauge", "") } else { ("counter", "_total") };
        text.single(&format!("weir_collector_store_{count}{suffix}"), kind, "Sum over all exporters", value);
        let name = format!("weir_collector_exporter_store_{count}{suffix}");
        text.family(&name, kind, "By exporter");
        for exporter in &exporters {
            let value = exporter.store.counts().find(|(name, _)| *name == count).map_or(0, |(_, value)| value);
            text.sample(&name, &[("exporter", &exporter.exporter.to_string())], value);
        }
    }
    let mut last = "";
    for (name, label, value) in live.store().map(|status| status.metrics().counts()).unwrap_or_default() {
        if name != last {
            text.family(name, if name.ends_with("_total") { "counter" } else { "gauge" }, "Of the store");
            last = name;
        }
        text.sample(name, label.as_slice(), value);
    }
    text.single("weir_collector_exporters", "gauge", "Exporters heard since the start", exporters.len());
    text.single("weir_collector_kernel_drops_total", "counter", "Datagrams that the kernel dropped at our sockets", kernel_drops);
    for (name, value) in live.interfaces().metrics().counts() {
        text.single(name, if name.ends_with("_total") { "counter" } else { "gauge" }, "Interfaces of exporters", value);
    }
    text.single("weir_collector_suspects_refused_total", "counter", "Targets without room among the suspects", suspects_refused);
    text.single("weir_collector_answers_refused_total", "counter", "Suspects whose other direction found no room", answers_refused);
}

/// What the analysts do not see, by kind.
fn alarms(text: &mut Text, live: &Live) {
    let alarms = live.alarms();
    text.family("weir_analytics_alarms", "gauge", "What the detector does not see, by kind");
    for kind in AlarmKind::ALL {
        text.sample("weir_analytics_alarms", &[("kind", kind.name())], alarms.iter().filter(|alarm| alarm.kind == *kind).count());
    }
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
