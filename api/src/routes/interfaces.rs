//! `/api/v1/exporters/{id}/interfaces`: volume by flows against the interfaces' own counters.

use std::collections::{BTreeMap, BTreeSet};

use axum::routing::MethodFilter;
use serde_json::{Value, json};

use collector::enrich::interface::config::{Device, Snmp};
use collector::enrich::interface::{Interface, Source};
use schemas::counter::{DomainReport, SamplingSource};
use schemas::interface::Boundary;
use schemas::net::Address;
use schemas::time::Timestamp;

use crate::auth::{Access, Role};
use crate::crosscheck::{Comparison, Counted, Exporter, Flows};
use crate::error::{ApiError, Fault};
use crate::live::ExporterNews;
use crate::query::ask::AskError;
use crate::query::compile::{Bound, Statement};
use crate::query::level::Span;
use crate::query::view::OWN_SHARE;
use crate::query::window;
use crate::server::{Answer, Call, Route};

pub(super) const ROUTES: &[Route] = &[Route {
    method: MethodFilter::GET,
    path: "/api/v1/exporters/{id}/interfaces",
    access: Access::Least(Role::Readonly),
    parameters: &["from", "to", "limit", "offset"],
    handler: |call| Box::pin(list(call)),
}];

/// An interface and one of its directions: 0 in, 1 out.
type Side = (u32, u64);

/// A range in unix seconds, its end not included.
#[derive(Clone, Copy, Debug)]
struct Range {
    from: u64,
    to: u64,
}

async fn list(mut call: Call) -> Result<Answer, ApiError> {
    let now = call.now;
    let from = call.query.take("from", window::moment(now));
    let to = call.query.take("to", window::moment(now));
    let page = call.query.page(100, 1_000);
    call.query.finish()?;
    let asked = window::span(from, to, now).map_err(|(field, fault)| ApiError::InvalidParameter(vec![Fault::new(field, fault)]))?;
    let asked = whole_minutes(asked, to.is_none(), now);
    let news = call.path("id").parse().ok().and_then(|address| call.app.live.exporter(address));
    let news = news.ok_or(ApiError::NotFound("exporter"))?;

    let memory = from_memory(&call, news.exporter, asked);
    let (mut counters, mut range) = memory;
    let (flows, away) = match from_store(&call, news.exporter, asked, &mut counters, &mut range).await {
        Ok(flows) => (Some(flows), None),
        // What the counters told last is in memory, and better than nothing.
        Err(error @ (AskError::Away(_) | AskError::Busy { .. } | AskError::Memory)) if !counters.is_empty() => {
            (None, Some(error.to_string()))
        }
        Err(error) => return Err(error.into()),
    };
    let shared = shared(&call, &news, flows.is_some(), range);
    let snapshot = call.app.live.interfaces().snapshot();
    let device = snapshot.device(news.exporter);
    let mut indexes: BTreeSet<u32> = device.into_iter().flat_map(|device| device.iter().map(|(index, _)| index)).collect();
    indexes.extend(news.domains.iter().flat_map(|domain| domain.interfaces.iter().copied()));
    indexes.extend(counters.keys().chain(flows.iter().flat_map(BTreeMap::keys)).map(|(index, _)| *index));
    let total = u64::try_from(indexes.len()).unwrap_or(u64::MAX);
    let skip = usize::try_from(page.offset).unwrap_or(usize::MAX);
    let take = usize::try_from(page.limit).unwrap_or(usize::MAX);
    let entries: Vec<Value> = indexes
        .into_iter()
        .skip(skip)
        .take(take)
        .map(|index| {
            let (_, boundary) = snapshot.interface(news.exporter, index);
            let mut entry = shown(index, device.and_then(|device| device.interface(index)), boundary);
            for (way, name) in [(0, "in"), (1, "out")] {
                let own = flows.as_ref().and_then(|flows| flows.get(&(index, way))).copied();
                let comparison = Comparison::of(own, counters.get(&(index, way)).copied(), &shared);
                if let Value::Object(fields) = &mut entry {
                    fields.insert(name.to_owned(), comparison.shown());
                }
            }
            entry
        })
        .collect();
    Ok(Answer::ok(json!({
        "exporter": news.exporter, "from": window::shown(range.from), "to": window::shown(range.to),
        "flows_unavailable": away, "interfaces": entries, "total": total, "limit": page.limit, "offset": page.offset,
    })))
}

/// An interface as far as it is known.
pub(super) fn shown(index: u32, interface: Option<&Interface>, boundary: Boundary) -> Value {
    let nothing = Interface::default();
    let it = interface.unwrap_or(&nothing);
    let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    json!({
        "index": index, "name": text(&it.name), "description": text(&it.description),
        "speed_bps": (it.speed_bits != 0).then_some(it.speed_bits), "boundary": boundary, "up": it.is_up,
        "sources": { "name": it.name_source, "description": it.description_source, "speed": it.speed_source },
    })
}

fn shared(call: &Call, news: &ExporterNews, has_flows: bool, range: Range) -> Exporter {
    let number = |value: u64| f64::from(u32::try_from(value).unwrap_or(u32::MAX));
    let is_set = |domain: &&DomainReport| domain.sampling_source == SamplingSource::Config;
    Exporter {
        // What is asked of up to the end of the minute that is going on has had a part of it.
        seconds: number(range.to.min(call.now.milliseconds() / 1_000).saturating_sub(heard_from(range, news.first_seen))),
        layer_2_octets: number(call.app.config.collector.interfaces.layer_2_octets),
        intervals: news.domains.iter().filter_map(|domain| domain.sampling_interval).collect(),
        interval_set: news.domains.iter().find(is_set).and_then(|domain| domain.sampling_interval),
        lost_by_sequence: news.ledger.lost_by_sequence,
        has_flows,
        awaits_counters: awaits_counters(&call.app.config.collector.interfaces.snmp, news, call.now),
    }
}

/// Whether an exporter was heard so lately that the SNMP poller, which asks those that were heard, may not have counters of a whole minute.
fn awaits_counters(snmp: &Snmp, news: &ExporterNews, now: Timestamp) -> bool {
    let interval = |device: &Device| device.interval_seconds.unwrap_or(snmp.interval_seconds);
    let device = snmp.devices.iter().find(|device| device.exporters.contains(news.exporter));
    device.is_some_and(|device| now.since(news.first_seen) / 1_000 < interval(device).saturating_mul(2).saturating_add(60))
}

/// The minutes that a range touches, and without an end those that are over: counters and flows are kept by the minute, and of the one that is
/// going on the counters tell one part and the flows another.
fn whole_minutes(asked: Span, is_open: bool, now: Timestamp) -> Range {
    let now = now.milliseconds() / 1_000;
    let to = if is_open { now - now % 60 } else { asked.to.next_multiple_of(60) };
    let from = asked.from - asked.from % 60;
    Range { from: from.min(to.saturating_sub(60)), to }
}

/// Since when flows of a range could come: where the exporter was heard for the first time in the range's first minute, that minute is not whole.
fn heard_from(range: Range, first_seen: Timestamp) -> u64 {
    let heard = first_seen.milliseconds() / 1_000;
    if (range.from..range.from + 60).contains(&heard) { heard } else { range.from }
}

/// What the counters in memory tell, and the range that they cover.
fn from_memory(call: &Call, exporter: Address, range: Range) -> (BTreeMap<Side, Counted>, Range) {
    let at = |seconds: u64| Timestamp(seconds.saturating_mul(1_000));
    let minutes = call.app.live.interfaces().minutes(exporter, at(range.from), at(range.to));
    let mut sums: BTreeMap<(u32, Source), [u64; 5]> = BTreeMap::new();
    for minute in &minutes {
        let own = [minute.octets_in, minute.octets_out, minute.packets_in, minute.packets_out, minute.milliseconds];
        let sum = sums.entry((minute.interface, minute.source)).or_default();
        sum.iter_mut().zip(own).for_each(|(sum, own)| *sum += own);
    }
    let mut counters = BTreeMap::new();
    for ((index, source), sum) in sums {
        let name = if source == Source::Snmp { "snmp" } else { "sflow" };
        put(&mut counters, index, name, sum.map(real));
    }
    let times = || minutes.iter().map(|minute| minute.time.milliseconds() / 1_000);
    let covered = times().min().zip(times().max());
    (counters, covered.map_or(range, |(first, last)| covering(range, first, last)))
}

/// The part of a range that minutes from `first` to `last` cover.
fn covering(range: Range, first: u64, last: u64) -> Range {
    Range { from: range.from.max(first), to: range.to.min(last + 60) }
}

/// Puts both directions of an interface's counters; of two sources the one that covers more time holds.
fn put(
    counters: &mut BTreeMap<Side, Counted>,
    index: u32,
    source: &'static str,
    [octets_in, octets_out, packets_in, packets_out, milliseconds]: [f64; 5],
) {
    for (way, octets, packets) in [(0, octets_in, packets_in), (1, octets_out, packets_out)] {
        let counted = Counted { octets, packets, milliseconds, source };
        let held = counters.entry((index, way)).or_insert(counted);
        if milliseconds >= held.milliseconds {
            *held = counted;
        }
    }
}

/// Asks the store for the counters, which take the place of those in memory, and for the flows of the range that they cover.
async fn from_store(
    call: &Call,
    exporter: Address,
    asked: Range,
    counters: &mut BTreeMap<Side, Counted>,
    range: &mut Range,
) -> Result<BTreeMap<Side, Flows>, AskError> {
    let desk = &call.app.desk;
    let rows = desk.ask(&counters_of(exporter, asked)).await?.data;
    let (mut first, mut last) = (u64::MAX, 0);
    let mut stored = BTreeMap::new();
    for row in &rows {
        let number = |place: usize| row.get(place).and_then(Value::as_u64).unwrap_or(0);
        let Ok(index) = u32::try_from(number(0)) else { continue };
        let source = if number(1) == 1 { "snmp" } else { "sflow" };
        put(&mut stored, index, source, [2, 3, 4, 5, 6].map(|place| real(number(place))));
        (first, last) = (first.min(number(7)), last.max(number(8)));
    }
    if !stored.is_empty() {
        *counters = stored;
        *range = covering(asked, first, last);
    }
    let mut flows: BTreeMap<Side, Flows> = BTreeMap::new();
    for row in desk.ask(&flows_of(exporter, *range)).await?.data {
        let number = |place: usize| row.get(place).and_then(Value::as_u64).unwrap_or(0);
        let Ok(index) = u32::try_from(number(0)) else { continue };
        let (way, at_egress) = (number(1), number(2) == 1);
        let own = Flows {
            octets: row.get(3).and_then(Value::as_f64).unwrap_or(0.0),
            octets_variance: row.get(4).and_then(Value::as_f64).unwrap_or(0.0),
            flows: number(5),
            unknown_flows: number(6),
            at_egress,
        };
        // Each direction by what was observed on this interface itself; the other sightings are of other interfaces.
        let is_own = at_egress == (way == 1);
        let held = flows.entry((index, way)).or_insert(own);
        if held.at_egress != at_egress {
            let (mine, others) = if is_own { (own, *held) } else { (*held, own) };
            *held = if mine.octets * f64::from(OWN_SHARE) >= others.octets { mine } else { others };
        }
    }
    Ok(flows)
}

fn counters_of(exporter: Address, range: Range) -> Statement {
    let mut statement = Statement::default();
    statement.push(
        "SELECT interface, toUInt8(origin), sum(octets_in), sum(octets_out), sum(packets_in), sum(packets_out), sum(milliseconds), \
         toUnixTimestamp(min(time)), toUnixTimestamp(max(time)) FROM interface_counters WHERE ",
    );
    within(&mut statement, exporter, range);
    statement.push(" GROUP BY interface, origin ORDER BY interface, origin");
    statement
}

fn flows_of(exporter: Address, range: Range) -> Statement {
    let mut statement = Statement::default();
    statement.push(
        "SELECT side.1 AS interface, side.2 AS way, toUInt8(flow_direction = 1) AS at_egress, sum(octets), sum(octets_variance), \
         sum(flows), sum(unknown_flows) FROM traffic_1m ARRAY JOIN [(ingress_interface, 0), (egress_interface, 1)] AS side WHERE ",
    );
    within(&mut statement, exporter, range);
    statement.push(" GROUP BY interface, way, at_egress ORDER BY interface, way, at_egress");
    statement
}

fn within(statement: &mut Statement, exporter: Address, range: Range) {
    let text = if exporter.is_v4() { format!("::ffff:{exporter}") } else { exporter.to_string() };
    statement.push("exporter = toIPv6(").bind("String", Bound::Text(text)).push(") AND time >= toDateTime(");
    statement.bind("UInt32", Bound::Number(range.from)).push(") AND time < toDateTime(");
    statement.bind("UInt32", Bound::Number(range.to)).push(")");
}

#[expect(clippy::cast_precision_loss, reason = "53 bits of octets are more than a rate needs")]
fn real(value: u64) -> f64 {
    value as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_of_whole_minutes() {
        let of = |from, to, is_open| {
            let range = whole_minutes(Span { from, to }, is_open, Timestamp(3_630_500));
            (range.from, range.to)
        };
        // Without an end, up to the minute that is going on; at least one.
        assert_eq!((of(30, 3_630, true), of(3_610, 3_630, true)), ((0, 3_600), (3_540, 3_600)));
        assert_eq!((of(61, 119, false), of(60, 120, false), of(3_000, 3_630, false)), ((60, 120), (60, 120), (3_000, 3_660)));
    }

    #[test]
    fn flows_are_summed_over_the_time_in_which_they_could_come() {
        let range = Range { from: 600, to: 700 };
        // Heard first 13 seconds into the range; later than its first minute, though counters are kept from before; long before.
        for (first_seen, from) in [(613_500, 613), (660_000, 600), (599_999, 600)] {
            assert_eq!(heard_from(range, Timestamp(first_seen)), from);
        }
    }
}
