//! Plans: a template compiled once, then run over whole data sets, an operation a column.

use schemas::flow::{Column, ColumnSet, FlowBatch, fragment};

use super::clock::{Uptime, from_ntp, from_uptime};
use super::column::{Chained, Fixed, Place, Records, Write, addresses, each_number, numbers, slot};
use super::cursor::{number, u8_at, u16_at};
use super::element::{Clock, Edge, Meaning, meaning};
use super::group::{Group, Groups};
use super::section::Section;
use super::template::{Definition, VARIABLE};

/// A template, ready to decode.
#[derive(Debug)]
pub(crate) struct Plan {
    definition: Definition,
    /// Fields of records of one length that go into their columns as they are.
    groups: Vec<Group>,
    operations: Vec<Operation>,
    /// Octets of each run of fixed fields; one more than there are fields of variable length.
    runs: Vec<usize>,
    record_octets_min: usize,
    present: ColumnSet,
    /// Columns of `present` that only a field of the uptime clock feeds.
    by_uptime: ColumnSet,
    /// What the ends are told in, where the uptime clock tells them and where it cannot.
    end_resolutions: [u16; 2],
    system_init: Option<Place>,
    section: Option<Section>,
    has_selector: bool,
    has_interval: bool,
}

/// What is done with one field.
#[derive(Clone, Copy, Debug)]
enum Operation {
    Number { column: Column, place: Place, write: Write },
    Address { column: Column, place: Place, write: Write },
    Time { end: bool, clock: Clock, place: Place, write: Write },
    Duration { place: Place, per_millisecond: u64 },
    FragmentOffset { place: Place },
    FragmentFlags { place: Place },
    IcmpHalf { place: Place, shift: u32 },
    Rate { taken: Place, other: Place, is_population: bool },
}

/// What a plan needs beside the octets of the set.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    /// The header's export time, unix milliseconds.
    pub(crate) export_milliseconds: u64,
    /// The exporter's uptime at that time, where it is known: by the header (v9) or by options data (IPFIX).
    pub(crate) uptime_milliseconds: Option<u32>,
}

/// What a plan made of a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rows {
    /// Rows written behind the batch's last.
    pub(crate) rows: usize,
    /// The columns that were written.
    pub(crate) present: ColumnSet,
    /// Those of them that come out of packet sections.
    pub(crate) derived: ColumnSet,
    /// What the ends are told in.
    pub(crate) time_resolution_milliseconds: u16,
}

impl Plan {
    /// Compiles a definition; never fails: a field that means nothing here is passed over.
    ///
    /// Of a field that is repeated the first is taken (RFC 7011 §8 leaves it to the collector). Of different fields for one column
    /// the first is, unless it holds nothing: a template may have both an IPv4 and an IPv6 source address.
    pub(crate) fn compile(definition: Definition) -> Self {
        let mut compiler = Compiler::default();
        let (mut runs, mut run) = (Vec::new(), 0);
        let scopes = usize::from(definition.scope_fields.unwrap_or(0));
        for (index, field) in definition.fields.iter().enumerate() {
            let place = Place { run: runs.len(), offset: run, length: field.length };
            if field.length == VARIABLE {
                runs.push(std::mem::take(&mut run));
            } else {
                run += usize::from(field.length);
            }
            let repeated = definition
                .fields
                .iter()
                .take(index)
                .any(|earlier| (earlier.enterprise, earlier.element) == (field.enterprise, field.element));
            if index >= scopes
                && !repeated
                && let Some(meaning) = meaning(field.enterprise, field.element)
            {
                compiler.add(meaning, place);
            }
        }
        runs.push(run);
        compiler.finish(definition, runs)
    }

    /// The template that the plan was made from.
    pub(crate) fn definition(&self) -> &Definition {
        &self.definition
    }

    /// Whether the records are options.
    pub(crate) fn is_options(&self) -> bool {
        self.definition.scope_fields.is_some()
    }

    /// Whether records tell which sampler saw the flow.
    pub(crate) fn has_selector(&self) -> bool {
        self.has_selector
    }

    /// Whether records tell their own sampling interval.
    pub(crate) fn has_interval(&self) -> bool {
        self.has_interval
    }

    /// Finds the records of a set: how many there are, with their places in `spans` where they vary in length.
    ///
    /// `None` if octets are left but not even one record fits. What is left behind the last record is padding.
    pub(crate) fn records(&self, body: &[u8], spans: &mut Vec<u32>) -> Option<usize> {
        let rows = if self.runs.len() == 1 { body.len() / self.record_octets_min } else { self.chain(body, spans) };
        (rows > 0 || body.is_empty()).then_some(rows)
    }

    /// The octets of each record that [`Plan::records`] has found.
    pub(crate) fn split<'a>(&self, body: &'a [u8], spans: &'a [u32]) -> impl Iterator<Item = &'a [u8]> {
        let (fixed, spans) = if self.runs.len() == 1 { (body, [].as_slice()) } else { ([].as_slice(), spans) };
        let last_run = self.runs.last().copied().unwrap_or(0);
        let chained = spans.chunks_exact(self.spans_per_record()).map(move |spans| match *spans {
            [start, .., end] => body.get(start as usize..(end as usize).saturating_add(last_run)).unwrap_or_default(),
            _ => Default::default(),
        });
        fixed.chunks_exact(self.record_octets_min).chain(chained)
    }

    fn spans_per_record(&self) -> usize {
        2 * self.runs.len() - 1
    }

    /// Walks records of variable length (RFC 7011 §7): one octet of length, or 255 and two.
    fn chain(&self, body: &[u8], spans: &mut Vec<u32>) -> usize {
        spans.clear();
        let (mut position, mut rows) = (0usize, 0);
        while body.len() - position >= self.record_octets_min {
            let kept = spans.len();
            let Some(end) = self.chain_record(body, position, spans) else {
                spans.truncate(kept);
                break;
            };
            position = end;
            rows += 1;
        }
        rows
    }

    fn chain_record(&self, body: &[u8], start: usize, spans: &mut Vec<u32>) -> Option<usize> {
        let (last_run, runs) = self.runs.split_last()?;
        let mut position = start;
        spans.push(u32::try_from(position).ok()?);
        for run in runs {
            position += run;
            let (length, prefix) = match u8_at(body, position)? {
                255 => (usize::from(u16_at(body, position + 1)?), 3),
                length => (usize::from(length), 1),
            };
            let content = position + prefix;
            position = content + length;
            spans.push(u32::try_from(content).ok()?);
            spans.push(u32::try_from(position).ok()?);
        }
        let end = position + last_run;
        (end <= body.len()).then_some(end)
    }

    /// Whether its times count from the two clocks of the datagram's header alone.
    pub(crate) fn tells_uptimes(&self) -> bool {
        let end = Column::FlowEndMilliseconds;
        self.system_init.is_none() && self.by_uptime.has(end) && self.present.has(end)
    }

    /// Writes `rows` records of a set, found by [`Plan::records`], behind the batch's last row; nothing is committed.
    pub(crate) fn run(&self, body: &[u8], rows: usize, spans: &[u32], moment: &Moment, batch: &mut FlowBatch) -> Rows {
        if self.runs.len() == 1 {
            let octets = body.get(..rows * self.record_octets_min).unwrap_or_default();
            let records = Fixed::new(octets, self.record_octets_min);
            let uptime = moment.uptime_milliseconds.map(|uptime| Uptime::new(moment.export_milliseconds, uptime));
            self.groups.iter().for_each(|group| group.run(records, rows, uptime, batch));
            self.run_over(records, rows, moment, batch)
        } else {
            self.run_over(Chained::new(body, spans, self.spans_per_record()), rows, moment, batch)
        }
    }

    fn run_over<'a>(&self, records: impl Records<'a>, rows: usize, moment: &Moment, batch: &mut FlowBatch) -> Rows {
        let knows_uptime = moment.uptime_milliseconds.is_some() || self.system_init.is_some();
        for operation in &self.operations {
            match *operation {
                Operation::Number { column, place, write } => numbers(batch, rows, column, records, place, write),
                Operation::Address { column, place, write } => addresses(batch, rows, column, records, place, write),
                Operation::Time { clock: Clock::Uptime, .. } if !knows_uptime => {}
                Operation::Time { end, clock, place, write } => self.time(batch, rows, end, clock, records, place, write, moment),
                _ => rare(operation, batch, rows, records),
            }
        }
        let present = if knows_uptime { self.present } else { self.present.minus(self.by_uptime) };
        let derived = self.section.as_ref().map_or(ColumnSet::default(), |section| section.run(records, rows, batch));
        let [resolution, without_uptime] = self.end_resolutions;
        let time_resolution_milliseconds = if knows_uptime { resolution } else { without_uptime };
        Rows { rows, present: present.union(derived), derived, time_resolution_milliseconds }
    }

    #[expect(clippy::too_many_arguments, reason = "the fields of one operation, and where they are written")]
    fn time<'a>(
        &self,
        batch: &mut FlowBatch,
        rows: usize,
        end: bool,
        clock: Clock,
        records: impl Records<'a>,
        place: Place,
        write: Write,
        moment: &Moment,
    ) {
        let first = batch.rows();
        let column = if end { &mut batch.flow_end_milliseconds } else { &mut batch.flow_start_milliseconds };
        let column = slot(column, first, rows);
        let export = moment.export_milliseconds;
        match (clock, self.system_init) {
            (Clock::Seconds, _) => each_number(column, records, place, write, |seconds| seconds.saturating_mul(1_000)),
            (Clock::Milliseconds, _) => each_number(column, records, place, write, |milliseconds| milliseconds),
            (Clock::Ntp, _) => each_number(column, records, place, write, from_ntp),
            (Clock::MicrosecondsBefore, _) => {
                each_number(column, records, place, write, |microseconds| export.saturating_sub(microseconds / 1_000));
            }
            (Clock::Uptime, Some(init)) => {
                let inits = records.fields(init).map(number);
                for ((time, octets), init) in column.iter_mut().zip(records.fields(place)).zip(inits) {
                    if write == Write::Set || *time == 0 {
                        *time = from_uptime(export, uptime_since(init, export), low_half(number(octets)));
                    }
                }
            }
            (Clock::Uptime, None) => {
                let uptime = Uptime::new(export, moment.uptime_milliseconds.unwrap_or(0));
                each_number(column, records, place, write, |moment| uptime.at(low_half(moment)));
            }
        }
    }
}

/// The uptime clock at `export_milliseconds` of an exporter that was started at `init_milliseconds`.
pub(crate) fn uptime_since(init_milliseconds: u64, export_milliseconds: u64) -> u32 {
    low_half(export_milliseconds.wrapping_sub(init_milliseconds))
}

#[expect(clippy::cast_possible_truncation, reason = "the uptime clock has 32 bits and wraps")]
fn low_half(milliseconds: u64) -> u32 {
    milliseconds as u32
}

/// The operations that few templates have.
fn rare<'a>(operation: &Operation, batch: &mut FlowBatch, rows: usize, records: impl Records<'a>) {
    let first = batch.rows();
    match *operation {
        Operation::Duration { place, per_millisecond } => {
            let starts = slot(&mut batch.flow_start_milliseconds, first, rows).iter();
            let ends = slot(&mut batch.flow_end_milliseconds, first, rows).iter_mut();
            for ((end, start), octets) in ends.zip(starts).zip(records.fields(place)) {
                *end = start.saturating_add(number(octets) / per_millisecond);
            }
        }
        Operation::FragmentOffset { place } => merge_fragment(batch, rows, records, place, |value| match value & 0x1fff {
            0 => 0,
            _ => fragment::FRAGMENT | fragment::LATER,
        }),
        // Bit 2 from the left of the one octet is "more fragments".
        Operation::FragmentFlags { place } => {
            merge_fragment(batch, rows, records, place, |value| if value & 0x20 != 0 { fragment::FRAGMENT } else { 0 });
        }
        Operation::IcmpHalf { place, shift } => {
            let column = slot(&mut batch.icmp_type_code, first, rows);
            for (value, octets) in column.iter_mut().zip(records.fields(place)) {
                *value |= u16::from(u8::try_from(number(octets)).unwrap_or(u8::MAX)) << shift;
            }
        }
        Operation::Rate { taken, other, is_population } => {
            let column = slot(&mut batch.sampling_interval, first, rows);
            for ((interval, taken_octets), other_octets) in column.iter_mut().zip(records.fields(taken)).zip(records.fields(other)) {
                let taken = number(taken_octets);
                let other = number(other_octets);
                let population = if is_population { other } else { taken.saturating_add(other) };
                *interval = super::sampling::interval_of(taken, population).unwrap_or(0);
            }
        }
        Operation::Number { .. } | Operation::Address { .. } | Operation::Time { .. } => {}
    }
}

fn merge_fragment<'a>(batch: &mut FlowBatch, rows: usize, records: impl Records<'a>, place: Place, bits: impl Fn(u64) -> u8) {
    let first = batch.rows();
    for (value, octets) in slot(&mut batch.fragment, first, rows).iter_mut().zip(records.fields(place)) {
        *value |= bits(number(octets));
    }
}

/// Collects the operations of a plan.
#[derive(Default)]
struct Compiler {
    operations: Vec<Operation>,
    written: ColumnSet,
    otherwise_than_by_uptime: ColumnSet,
    /// Clocks of the fields that starts and ends are taken from, the first first.
    clocks: [Vec<Clock>; 2],
    system_init: Option<Place>,
    section: Option<(Place, super::frame::Link)>,
    frame_octets: Option<Place>,
    durations: Option<Operation>,
    /// Moments of events: for what nothing else tells.
    events: Vec<(Clock, Place)>,
    taken: Option<Place>,
    left: Option<Place>,
    population: Option<Place>,
}

impl Compiler {
    fn write(&mut self, column: Column) -> Write {
        let write = if self.written.has(column) { Write::Fill } else { Write::Set };
        self.written = self.written.with(column);
        write
    }

    fn add(&mut self, meaning: Meaning, place: Place) {
        match meaning {
            Meaning::Number(column) => {
                let write = self.write(column);
                self.operations.push(Operation::Number { column, place, write });
            }
            Meaning::Largest(column) => {
                let write = if self.write(column) == Write::Set { Write::Set } else { Write::Largest };
                self.operations.push(Operation::Number { column, place, write });
            }
            Meaning::Address4(column) | Meaning::Address6(column) => {
                let octets = if matches!(meaning, Meaning::Address4(_)) { 4 } else { 16 };
                // A prefix of another length would be an address of another host.
                if place.length == octets || place.length == VARIABLE {
                    let write = self.write(column);
                    self.operations.push(Operation::Address { column, place, write });
                }
            }
            Meaning::Time(Edge::Both, clock) => self.events.push((clock, place)),
            Meaning::Time(edge, clock) => self.add_time(edge, clock, place),
            Meaning::Duration(per_millisecond) => self.durations = Some(Operation::Duration { place, per_millisecond }),
            Meaning::SystemInit => self.system_init = Some(place),
            Meaning::FragmentOffset => self.add_merged(Column::Fragment, Operation::FragmentOffset { place }),
            Meaning::FragmentFlags => self.add_merged(Column::Fragment, Operation::FragmentFlags { place }),
            Meaning::IcmpType => self.add_merged(Column::IcmpTypeCode, Operation::IcmpHalf { place, shift: 8 }),
            Meaning::IcmpCode => self.add_merged(Column::IcmpTypeCode, Operation::IcmpHalf { place, shift: 0 }),
            Meaning::SamplingInterval => {
                let write = self.write(Column::SamplingInterval);
                self.operations.push(Operation::Number { column: Column::SamplingInterval, place, write });
            }
            Meaning::SamplingTaken => self.taken = Some(place),
            Meaning::SamplingLeft => self.left = Some(place),
            Meaning::SamplingPopulation => self.population = Some(place),
            Meaning::Section(link) => self.section = self.section.or(Some((place, link))),
            Meaning::FrameOctets => self.frame_octets = Some(place),
        }
    }

    fn add_merged(&mut self, column: Column, operation: Operation) {
        self.written = self.written.with(column);
        self.operations.push(operation);
    }

    fn add_time(&mut self, edge: Edge, clock: Clock, place: Place) {
        for (end, column) in [(false, Column::FlowStartMilliseconds), (true, Column::FlowEndMilliseconds)] {
            if edge == Edge::Both || (edge == Edge::End) == end {
                let write = self.write(column);
                let [starts, ends] = &mut self.clocks;
                let clocks = if end { ends } else { starts };
                clocks.push(clock);
                if clock != Clock::Uptime {
                    self.otherwise_than_by_uptime = self.otherwise_than_by_uptime.with(column);
                }
                self.operations.push(Operation::Time { end, clock, place, write });
            }
        }
    }

    /// What the ends are told in: of several fields the first holds, since the others only fill in for it.
    fn end_resolution(&self, knows_uptime: bool) -> u16 {
        let [_, ends] = &self.clocks;
        let clock = ends.iter().find(|&&clock| knows_uptime || clock != Clock::Uptime);
        if clock == Some(&Clock::Seconds) { 1_000 } else { 1 }
    }

    fn finish(mut self, definition: Definition, runs: Vec<usize>) -> Plan {
        let (start, end) = (Column::FlowStartMilliseconds, Column::FlowEndMilliseconds);
        if let Some(operation) = self.durations.filter(|_| self.written.has(start) && !self.written.has(end)) {
            self.add_merged(end, operation);
            let [starts, ends] = &mut self.clocks;
            ends.clone_from(starts);
            if self.otherwise_than_by_uptime.has(start) {
                self.otherwise_than_by_uptime = self.otherwise_than_by_uptime.with(end);
            }
        }
        for (clock, place) in std::mem::take(&mut self.events) {
            self.add_time(Edge::Both, clock, place);
        }
        let pair = self.left.map(|place| (place, false)).or(self.population.map(|place| (place, true)));
        if let (Some(taken), Some((other, is_population)), false) = (self.taken, pair, self.written.has(Column::SamplingInterval)) {
            self.add_merged(Column::SamplingInterval, Operation::Rate { taken, other, is_population });
        }
        let end_resolutions = [true, false].map(|knows_uptime| self.end_resolution(knows_uptime));
        let times = ColumnSet::of(&[start, end]);
        let mut groups = Groups::default();
        if runs.len() == 1 {
            // Only first writes of a column: they may come before all others.
            let is_init_told = self.system_init.is_some();
            self.operations.retain(|operation| !match *operation {
                Operation::Number { column, place, write: Write::Set } | Operation::Address { column, place, write: Write::Set } => {
                    groups.take_in(column, place.offset, place.length)
                }
                Operation::Time { end: is_end, clock, place, write: Write::Set } => match (clock, if is_end { end } else { start }) {
                    (Clock::Milliseconds, column) => groups.take_in(column, place.offset, place.length),
                    (Clock::Uptime, column) if !is_init_told => groups.take_in_uptime(column, place.offset, place.length),
                    _ => false,
                },
                _ => false,
            });
        }
        Plan {
            record_octets_min: definition.record_octets_min().max(1),
            groups: groups.into_vec(),
            operations: self.operations,
            runs,
            present: self.written,
            by_uptime: times.minus(self.otherwise_than_by_uptime),
            end_resolutions,
            system_init: self.system_init,
            section: self.section.map(|(place, link)| Section::new(place, link, self.frame_octets, self.written)),
            has_selector: self.written.has(Column::SelectorId),
            has_interval: self.written.has(Column::SamplingInterval),
            definition,
        }
    }
}

#[cfg(test)]
#[path = "plan/tests.rs"]
mod tests;
