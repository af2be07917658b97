//! Export datagrams and frames into columns.

pub mod frame;
pub mod sflow5;

mod clock;
mod column;
mod config;
mod control;
mod cursor;
mod domain;
mod element;
mod error;
mod group;
mod netflow5;
mod option;
mod persist;
mod plan;
mod sampling;
mod section;
mod sequence;
mod shared;
mod state;
mod template;
mod waiting;
mod walk;

use std::collections::HashMap;
use std::sync::Arc;

use schemas::counter::{DomainReport, SamplingSource};
use schemas::flow::{Column, ColumnSet, FlowBatch, Origin, Version};
use schemas::interface::CounterSample;
use schemas::ledger::Ledger;
use schemas::net::{Address, PrefixTable};
use schemas::time::Timestamp;

pub use config::Config;
pub use error::DecodeError;
pub use sampling::SamplingOverride;
pub use shared::{ControlThread, SharedTemplates};

use control::{Control, ControlSet};
use cursor::{u16_at, u32_at};
use domain::Domain;
use plan::{Moment, uptime_since};
use sequence::Count;
use state::{Scope, State, hash_of};
use template::{Announcements, TEMPLATE_ID_MIN, template_set};
use waiting::{Waiter, Waiting};
use walk::{Header, Set, Sets};

/// Rows that a batch must have room for before a datagram or a set is decoded: more records than one can hold.
pub const ROWS_PER_DATAGRAM_MAX: usize = 65_536;

/// One datagram as the socket or a capture hands it over.
#[derive(Clone, Copy, Debug)]
pub struct Datagram<'a> {
    /// The sender.
    pub exporter: Address,
    /// Its UDP port.
    pub source_port: u16,
    /// When it arrived.
    pub arrival: Timestamp,
    /// What it carries.
    pub payload: &'a [u8],
}

/// Where templates are kept.
#[derive(Debug)]
pub enum Templates {
    /// In the decoder itself, which takes in a template before it reads on: one thread, and captures.
    Inline,
    /// With a control thread, for all shards.
    Shared(SharedTemplates),
}

/// Decodes datagrams of every protocol into columns; one for each shard.
pub struct Decoder {
    config: Config,
    plane: Plane,
    agents: sflow5::Agents,
    domains: Vec<Domain>,
    index: HashMap<Scope, usize>,
    of_exporter: HashMap<Address, Vec<usize>>,
    last: Option<(Scope, usize)>,
    waiting: Waiting,
    /// Something was learned since the waiting sets were last searched.
    is_new: bool,
    generation: u64,
    housekeeping: Timestamp,
    spans: Vec<u32>,
    overrides: PrefixTable<u32>,
    nothing: Arc<State>,
}

enum Plane {
    Inline(Box<Control>),
    Shared(Box<SharedTemplates>),
}

/// What all sets of a datagram share.
#[derive(Clone, Copy)]
struct Context {
    scope: Scope,
    source_port: u16,
    arrival: Timestamp,
    header: Header,
}

/// What became of a set: whether its records are part of the sequence, and could be counted.
enum Outcome {
    Records(Count),
    NoRecords,
    Uncounted,
}

impl Decoder {
    /// A decoder that has heard nothing yet.
    #[must_use]
    pub fn new(config: &Config, templates: Templates) -> Self {
        let overrides = config.sampling.iter().map(|entry| (entry.exporters, entry.interval.get())).collect();
        let plane = match templates {
            Templates::Inline => Plane::Inline(Box::new(Control::new(config))),
            Templates::Shared(shared) => Plane::Shared(Box::new(shared)),
        };
        Self {
            config: config.clone(),
            plane,
            agents: sflow5::Agents::default(),
            domains: Vec::new(),
            index: HashMap::new(),
            of_exporter: HashMap::new(),
            last: None,
            waiting: Waiting::default(),
            is_new: false,
            generation: 0,
            housekeeping: Timestamp(0),
            spans: Vec::new(),
            overrides: PrefixTable::new(overrides),
            nothing: Arc::default(),
        }
    }

    /// Decodes one datagram into rows of `batch`; whatever becomes of it is counted in its sender's ledger. Never panics.
    ///
    /// The sender is admitted here: a datagram that [`Exporters::admit`](crate::exporter::Exporters::admit) refuses is not looked
    /// at. The caller keeps room for [`ROWS_PER_DATAGRAM_MAX`] rows.
    pub fn decode(&mut self, datagram: &Datagram<'_>, exporters: &mut crate::exporter::Exporters, batch: &mut FlowBatch) {
        let Some(exporter) = exporters.admit(datagram.exporter, datagram.arrival) else {
            return;
        };
        let ledger = &mut exporter.ledger;
        let payload = datagram.payload;
        let result = match u16_at(payload, 0) {
            Some(0) if u32_at(payload, 0) == Some(5) => {
                let overridden = self.overrides.get(datagram.exporter).map(|(_, interval)| *interval);
                return sflow5::decode(datagram, overridden, &mut self.agents, ledger, batch);
            }
            Some(1) => netflow5::netflow1(payload, batch).map(|header| {
                self.fixed(datagram, Version::Netflow1, &header, netflow5::PRESENT_NETFLOW1, ledger, batch);
            }),
            Some(5) => netflow5::netflow5(payload, batch)
                .map(|header| self.fixed(datagram, Version::Netflow5, &header, netflow5::PRESENT, ledger, batch)),
            Some(7) => netflow5::netflow7(payload, batch)
                .map(|header| self.fixed(datagram, Version::Netflow7, &header, netflow5::PRESENT, ledger, batch)),
            Some(9) => {
                walk::netflow9(payload).and_then(|(header, sets)| self.sets(datagram, Version::Netflow9, header, sets, ledger, batch))
            }
            Some(10) => walk::ipfix(payload).and_then(|(header, sets)| self.sets(datagram, Version::Ipfix, header, sets, ledger, batch)),
            Some(version) => Err(DecodeError::Version { version }),
            None => Err(DecodeError::Truncated { offset: payload.len(), needed: 2 - payload.len().min(2) }),
        };
        match result {
            Ok(()) => ledger.datagrams_decoded += 1,
            Err(error) => {
                tracing::trace!(exporter = %datagram.exporter, %error, "malformed datagram");
                ledger.datagrams_malformed += 1;
            }
        }
    }

    /// Commits what a version 1, 5 or 7 datagram has written.
    fn fixed(
        &mut self,
        datagram: &Datagram<'_>,
        version: Version,
        header: &netflow5::Header,
        mut present: ColumnSet,
        ledger: &mut Ledger,
        batch: &mut FlowBatch,
    ) {
        let scope = Scope { exporter: datagram.exporter, version, domain: u32::from(header.engine), port: 0 };
        let rows = header.count;
        let records = u64::try_from(rows).unwrap_or(0);
        ledger.sets_seen += 1;
        ledger.sets_decoded += 1;
        let mut clock_offset_milliseconds = 0;
        let (mut interval, mut sampling_source) = (header.sampling_interval, SamplingSource::Unknown);
        if let Some(domain) = self.domain(scope).and_then(|index| self.domains.get_mut(index)) {
            let (export, uptime) = (header.export_milliseconds, Some(header.uptime_milliseconds));
            domain.observe_clock(export, uptime, datagram.arrival);
            clock_offset_milliseconds = domain.clock_offset(export, uptime);
            if let Some(sequence) = header.sequence {
                domain.observe_sequence(sequence, Some(Count::flows(rows)), Some(header.uptime_milliseconds), ledger);
            }
            interval = domain.overridden.or(interval);
            sampling_source = match (domain.overridden, interval) {
                (Some(_), _) => SamplingSource::Config,
                (None, Some(_)) => SamplingSource::Header,
                (None, None) => SamplingSource::Unknown,
            };
            domain.see(rows, (interval, sampling_source), batch);
        }
        if let Some(interval) = interval {
            let first = batch.rows();
            column::slot(&mut batch.sampling_interval, first, rows).fill(interval);
            present = present.with(Column::SamplingInterval);
        }
        let origin = Origin {
            exporter: datagram.exporter,
            source_port: datagram.source_port,
            version,
            observation_domain_id: scope.domain,
            template_id: 0,
            arrival_milliseconds: datagram.arrival.0,
            export_milliseconds: header.export_milliseconds,
            clock_offset_milliseconds,
            time_resolution_milliseconds: 1,
            sampling_source,
            present,
            derived: ColumnSet::default(),
        };
        self.commit(rows, if interval.is_none() { records } else { 0 }, origin, ledger, batch);
    }

    /// Makes rows valid and counts them.
    fn commit(&self, rows: usize, unknown: u64, origin: Origin, ledger: &mut Ledger, batch: &mut FlowBatch) {
        let records = u64::try_from(rows).unwrap_or(0);
        ledger.records_decoded += records;
        ledger.records_sampling_unknown += unknown;
        if origin.clock_offset_milliseconds.unsigned_abs() >= self.config.clock_wrong_seconds_min.saturating_mul(1_000) {
            ledger.records_clock_corrected += records;
        }
        batch.commit(rows, origin);
    }

    /// Decodes the sets of a v9 or IPFIX datagram; those before a length that cannot be are decoded all the same.
    fn sets(
        &mut self,
        datagram: &Datagram<'_>,
        version: Version,
        header: Header,
        octets: &[u8],
        ledger: &mut Ledger,
        batch: &mut FlowBatch,
    ) -> Result<(), DecodeError> {
        let scope = Scope { exporter: datagram.exporter, version, domain: header.domain, port: 0 };
        let context = Context { scope, source_port: datagram.source_port, arrival: datagram.arrival, header };
        let mut domain = self.resolve(&scope, datagram.source_port);
        if let Some(domain) = domain.and_then(|index| self.domains.get_mut(index)) {
            domain.observe_clock(header.export_milliseconds, header.uptime_milliseconds, datagram.arrival);
        }
        let mut records = Some(Count::default());
        let mut result = Ok(());
        for set in Sets::new(octets) {
            ledger.sets_seen += 1;
            let set = match set {
                Ok(set) => set,
                Err(error) => {
                    ledger.sets_malformed += 1;
                    (result, records) = (Err(error), None);
                    break;
                }
            };
            let outcome = if set.id >= TEMPLATE_ID_MIN {
                self.data(domain, &context, set, ledger, batch)
            } else {
                self.templates(domain, &context, set, ledger);
                domain = self.resolve(&scope, datagram.source_port);
                Outcome::NoRecords
            };
            match outcome {
                Outcome::Records(more) => records = records.map(|records| records.and(more)),
                Outcome::NoRecords => {}
                Outcome::Uncounted => records = None,
            }
        }
        if let Some(domain) = domain.and_then(|index| self.domains.get_mut(index)) {
            domain.observe_sequence(header.sequence, records, header.uptime_milliseconds, ledger);
        }
        result
    }

    /// Takes in a template set: at once, or by way of the control thread.
    fn templates(&mut self, domain: Option<usize>, context: &Context, set: Set<'_>, ledger: &mut Ledger) {
        let Some((style, options)) = template_set(context.scope.version, set.id) else {
            // Reserved set ids (RFC 7011 §3.3.2).
            ledger.sets_malformed += 1;
            return;
        };
        if Announcements::new(set.body, style, options, self.config.template_fields_max).any(|announcement| announcement.is_err()) {
            ledger.sets_malformed += 1;
        } else {
            ledger.sets_decoded += 1;
        }
        self.hand_over(domain, context, set, true, ledger);
    }

    /// Hands a set over to the control plane, unless it says nothing new.
    fn hand_over(&mut self, domain: Option<usize>, context: &Context, set: Set<'_>, is_template: bool, ledger: &mut Ledger) {
        let Some(domain) = domain.and_then(|index| self.domains.get_mut(index)) else {
            ledger.control_dropped += 1;
            return;
        };
        if !domain.is_pending() && domain.state.knows(hash_of(set.id, set.body), context.arrival, context.source_port) {
            return;
        }
        let set = ControlSet {
            scope: context.scope,
            source_port: context.source_port,
            arrival: context.arrival,
            set_id: set.id,
            body: set.body.into(),
        };
        match &mut self.plane {
            Plane::Inline(control) => {
                let outcome = control.process(&set);
                ledger.templates_learned += outcome.learned;
                ledger.templates_refused += outcome.refused;
                self.generation += 1;
                self.is_new = true;
            }
            Plane::Shared(shared) => match shared.hand_over(set) {
                Some(number) if is_template => {
                    domain.pending = Some(number);
                    if !Arc::ptr_eq(&domain.state, &self.nothing) {
                        domain.state.superseded.store(true, std::sync::atomic::Ordering::Relaxed);
                    }
                }
                Some(_) => {}
                None => ledger.control_dropped += 1,
            },
        }
    }

    /// Decodes a data set, or lets it wait.
    fn data(&mut self, domain: Option<usize>, context: &Context, set: Set<'_>, ledger: &mut Ledger, batch: &mut FlowBatch) -> Outcome {
        if domain.and_then(|index| self.domains.get(index)).is_some_and(|domain| !domain.is_pending())
            && let Some(outcome) = self.known_data(domain, context, set, ledger, batch)
        {
            return outcome;
        }
        if self.config.wait && domain.is_some() {
            let waiter = Waiter {
                scope: context.scope,
                source_port: context.source_port,
                arrival: context.arrival,
                header: context.header,
                set_id: set.id,
                body: set.body.into(),
            };
            self.waiting.push(waiter, &self.config, ledger);
        } else {
            ledger.sets_without_template += 1;
            if let Some(domain) = domain.and_then(|index| self.domains.get_mut(index)) {
                domain.give_up();
            }
        }
        Outcome::Uncounted
    }

    /// Decodes a data set; `None` if its template is not known.
    fn known_data(
        &mut self,
        index: Option<usize>,
        context: &Context,
        set: Set<'_>,
        ledger: &mut Ledger,
        batch: &mut FlowBatch,
    ) -> Option<Outcome> {
        let domain = self.domains.get_mut(index?)?;
        let plan = domain.state.plan(set.id)?;
        let Some(rows) = plan.records(set.body, &mut self.spans) else {
            ledger.sets_malformed += 1;
            return Some(Outcome::Uncounted);
        };
        ledger.sets_decoded += 1;
        let records = rows;
        if plan.is_options() {
            ledger.options_decoded += u64::try_from(rows).unwrap_or(0);
            self.hand_over(index, context, set, false, ledger);
            // What it tells holds for the sets behind it.
            index.into_iter().for_each(|index| self.update(index));
            return Some(Outcome::Records(Count::options(rows)));
        }
        let rows = rows.min(batch.remaining());
        let export = context.header.export_milliseconds;
        let uptime = context.header.uptime_milliseconds.or_else(|| Some(uptime_since(domain.state.system_init_milliseconds?, export)));
        let moment = Moment { export_milliseconds: export, uptime_milliseconds: uptime };
        let written = plan.run(set.body, rows, &self.spans, &moment, batch);
        let (unknown, interval, source) = sampling::apply(batch, rows, plan, &domain.state.rates, domain.overridden);
        let counted_from = context.header.uptime_milliseconds.filter(|_| plan.tells_uptimes());
        // The column is written as soon as one of the rows has a rate, be it not the last.
        let is_known = plan.has_interval() || unknown < u64::try_from(rows).unwrap_or(0);
        let sampled = if is_known { ColumnSet::of(&[Column::SamplingInterval]) } else { ColumnSet::default() };
        domain.see(rows, (interval, source), batch);
        let origin = Origin {
            exporter: context.scope.exporter,
            source_port: context.source_port,
            version: context.scope.version,
            observation_domain_id: context.scope.domain,
            template_id: set.id,
            arrival_milliseconds: context.arrival.0,
            export_milliseconds: export,
            clock_offset_milliseconds: domain.clock_offset(export, counted_from),
            time_resolution_milliseconds: written.time_resolution_milliseconds,
            sampling_source: source,
            present: written.present.union(sampled),
            derived: written.derived,
        };
        self.commit(rows, unknown, origin, ledger, batch);
        Some(Outcome::Records(Count::flows(records)))
    }

    /// One report for each observation domain, source id, engine and sub-agent of `exporter`.
    #[must_use]
    pub fn domains(&self, exporter: Address) -> Vec<DomainReport> {
        let mut reports = self.agents.domains(exporter);
        let own = self.of_exporter.get(&exporter).into_iter().flatten();
        reports.extend(own.filter_map(|&index| self.domains.get(index)).map(Domain::report));
        reports
    }

    /// What interfaces counted since this was last asked, with the exporter that told it (sFlow).
    pub fn take_counters(&mut self) -> Vec<(Address, CounterSample)> {
        self.agents.take_counters()
    }

    /// Takes in what the control thread has told since.
    fn refresh(&mut self, exporters: &mut crate::exporter::Exporters) {
        let Plane::Shared(shared) = &mut self.plane else {
            return;
        };
        // The thread tells what became of a set before it publishes what it learned from it.
        let generation = shared.snapshot().generation;
        self.is_new |= generation != self.generation;
        self.generation = generation;
        for (exporter, outcome) in shared.outcomes() {
            let ledger = exporters.ledger(exporter);
            ledger.templates_learned += outcome.learned;
            ledger.templates_refused += outcome.refused;
        }
    }
}

#[cfg(test)]
#[path = "decode/tests.rs"]
mod tests;
