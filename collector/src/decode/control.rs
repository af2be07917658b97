//! The control plane of decoding: owns netflow_parser and the templates, publishes what it knows as immutable states.

use std::collections::HashMap;
use std::sync::Arc;

use netflow_parser::NetflowParser;
use schemas::flow::Version;
use schemas::net::Address;
use schemas::time::Timestamp;

use super::Config;
use super::option;
use super::plan::Plan;
use super::sampling::Rates;
use super::state::{Known, Scope, State, hash_of};
use super::template::{Announcement, Announcements, Definition, template_set};
use crate::enrich::interface::{Interfaces, Source};

/// Port scopes that one scope is split into at most.
const SPLITS_MAX: usize = 16;

/// A set that the control plane has to see: templates, withdrawals, options data.
#[derive(Clone, Debug)]
pub(crate) struct ControlSet {
    /// Its scope, the port 0.
    pub(crate) scope: Scope,
    /// The sender's port.
    pub(crate) source_port: u16,
    /// When it arrived.
    pub(crate) arrival: Timestamp,
    /// Its set id.
    pub(crate) set_id: u16,
    /// The octets behind its header.
    pub(crate) body: Box<[u8]>,
}

/// What became of a control set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// Templates that are new or changed.
    pub(crate) learned: u64,
    /// Templates refused: impossible, or over a bound.
    pub(crate) refused: u64,
}

/// One scope as the control plane holds it.
struct Entry {
    parser: NetflowParser,
    state: Arc<State>,
}

/// The owner of all templates.
pub(crate) struct Control {
    config: Config,
    scopes: HashMap<Scope, Entry>,
    templates_by_exporter: HashMap<Address, usize>,
    templates: usize,
    fields: usize,
    interfaces: Option<Interfaces>,
}

impl Control {
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            config: config.clone(),
            scopes: HashMap::new(),
            templates_by_exporter: HashMap::new(),
            templates: 0,
            fields: 0,
            interfaces: None,
        }
    }

    /// The same; what options data say of interfaces is told to `interfaces`.
    pub(crate) fn telling(self, interfaces: Option<Interfaces>) -> Self {
        Self { interfaces, ..self }
    }

    /// What is known of a scope.
    pub(crate) fn state(&self, scope: &Scope) -> Option<&Arc<State>> {
        self.scopes.get(scope).map(|entry| &entry.state)
    }

    /// Everything that is known.
    pub(crate) fn states(&self) -> HashMap<Scope, Arc<State>> {
        self.scopes.iter().map(|(scope, entry)| (*scope, entry.state.clone())).collect()
    }

    /// Takes in a control set; the scope's state is another one afterwards.
    pub(crate) fn process(&mut self, set: &ControlSet) -> Outcome {
        let port = self.state(&set.scope).filter(|state| state.ports.contains(&set.source_port)).map_or(0, |_| set.source_port);
        let scope = Scope { port, ..set.scope };
        match template_set(set.scope.version, set.set_id) {
            Some((style, options)) => {
                let announcements = Announcements::new(&set.body, style, options, self.config.template_fields_max);
                self.templates(scope, set, announcements, options)
            }
            None => {
                self.options(scope, set);
                Outcome::default()
            }
        }
    }

    fn templates(&mut self, mut scope: Scope, set: &ControlSet, announcements: Announcements<'_>, options: bool) -> Outcome {
        let mut outcome = Outcome::default();
        let (mut ids, mut is_sound) = (Vec::new(), true);
        for announcement in announcements {
            match announcement {
                Ok(Announcement::Define(definition)) => {
                    let id = definition.id;
                    if scope.port == 0 && self.contradicts(&scope, &definition, set) {
                        scope = self.split(&scope, set, &definition);
                    }
                    match self.define(&scope, definition, set.arrival, set.source_port) {
                        Defined::AsBefore => ids.push(id),
                        Defined::New => {
                            outcome.learned += 1;
                            ids.push(id);
                        }
                        Defined::Refused => (outcome.refused, is_sound) = (outcome.refused + 1, false),
                    }
                }
                Ok(Announcement::Refused) => outcome.refused += 1,
                Ok(Announcement::Withdraw(id)) => {
                    is_sound = false;
                    self.withdraw(&scope, |plan| plan.definition().id == id);
                }
                Ok(Announcement::WithdrawAll) => {
                    is_sound = false;
                    self.withdraw(&scope, |plan| plan.is_options() == options);
                }
                Err(_) => {}
            }
        }
        // Whoever has handed the set over waits for another state, whether or not anything in it is new.
        for scope in [Scope { port: 0, ..scope }, scope] {
            if let Some(entry) = self.scopes.get_mut(&scope) {
                entry.change(|_| {});
            }
        }
        // A set that met a bound may meet room when it comes again, one that withdraws may meet templates.
        if is_sound && let Some(entry) = self.scopes.get_mut(&scope) {
            let hash = hash_of(set.set_id, &set.body);
            entry.change(|state| state.remember(hash, ids));
        }
        outcome
    }

    /// Whether a definition contradicts one that another sender still announces.
    fn contradicts(&self, scope: &Scope, definition: &Definition, set: &ControlSet) -> bool {
        let Some(known) = self.state(scope).and_then(|state| state.plans.get(&definition.id)) else {
            return false;
        };
        let (at, port) = known.announced();
        let active = set.arrival.since(at) <= self.config.sender_active_seconds_max * 1_000;
        port != set.source_port && active && known.plan.definition() != definition
    }

    /// Gives the sender that was first and the one of `set` scopes of their own; any third is taken to speak as the newest.
    fn split(&mut self, scope: &Scope, set: &ControlSet, definition: &Definition) -> Scope {
        let own = Scope { port: set.source_port, ..*scope };
        let Some(base) = self.state(scope).cloned() else {
            return own;
        };
        let first = base.plans.get(&definition.id).map_or(0, |known| known.announced().1);
        for port in [first, set.source_port] {
            let known = self.state(scope).is_some_and(|state| state.ports.contains(&port));
            let full = self.state(scope).is_some_and(|state| state.ports.len() >= SPLITS_MAX);
            if known || full {
                continue;
            }
            for plan in base.plans.values() {
                let (at, _) = plan.announced();
                self.define(&Scope { port, ..*scope }, plan.plan.definition().clone(), at, port);
            }
            if let Some(entry) = self.entry(scope) {
                entry.change(|state| state.ports.push(port));
            }
        }
        self.define(scope, definition.clone(), set.arrival, set.source_port);
        if self.state(scope).is_some_and(|state| state.ports.contains(&set.source_port)) { own } else { *scope }
    }

    fn entry(&mut self, scope: &Scope) -> Option<&mut Entry> {
        if !self.scopes.contains_key(scope) {
            if self.scopes.len() >= self.config.domains_max {
                return None;
            }
            let parser = NetflowParser::builder()
                .with_cache_size(self.config.templates_per_exporter_max.max(1))
                .with_max_field_count(self.config.template_fields_max)
                .build()
                .ok()?;
            self.scopes.insert(*scope, Entry { parser, state: Arc::default() });
        }
        self.scopes.get_mut(scope)
    }

    fn define(&mut self, scope: &Scope, definition: Definition, at: Timestamp, port: u16) -> Defined {
        let (per_exporter_max, templates_max) = (self.config.templates_per_exporter_max, self.config.templates_max);
        let fields_max = self.config.template_fields_in_all_max;
        let of_exporter = self.templates_by_exporter.get(&scope.exporter).copied().unwrap_or(0);
        let (templates, fields) = (self.templates, self.fields);
        let version = scope.version;
        let Some(entry) = self.entry(scope) else {
            return Defined::Refused;
        };
        let before = entry.state.plans.get(&definition.id);
        if let Some(known) = before.filter(|known| known.plan.definition() == &definition) {
            known.announce(at, port);
            return Defined::AsBefore;
        }
        let fields_before = before.map(|known| known.plan.definition().fields.len());
        let is_new = fields_before.is_none();
        let fields_after = fields - fields_before.unwrap_or(0) + definition.fields.len();
        if fields_after > fields_max || is_new && (of_exporter >= per_exporter_max || templates >= templates_max) {
            return Defined::Refused;
        }
        let message = message(version, scope.domain, &definition.to_set());
        if !accepts(&mut entry.parser, &message) {
            return Defined::Refused;
        }
        let id = definition.id;
        let known = Known::new(Arc::new(Plan::compile(definition)), at, port);
        entry.change(|state| {
            if !is_new {
                state.forget(id);
            }
            state.plans.insert(id, known);
        });
        self.fields = fields_after;
        self.templates += usize::from(is_new);
        *self.templates_by_exporter.entry(scope.exporter).or_default() += usize::from(is_new);
        Defined::New
    }

    fn withdraw(&mut self, scope: &Scope, is_meant: impl Fn(&Plan) -> bool) {
        let Some(entry) = self.scopes.get_mut(scope) else {
            return;
        };
        let ids: Vec<u16> = entry.state.plans.iter().filter(|(_, known)| is_meant(&known.plan)).map(|(id, _)| *id).collect();
        self.remove(scope, &ids);
    }

    fn remove(&mut self, scope: &Scope, ids: &[u16]) {
        let Some(entry) = self.scopes.get_mut(scope) else {
            return;
        };
        for &id in ids {
            let mut removed = None;
            entry.change(|state| removed = state.forget(id));
            let Some(known) = removed else {
                continue;
            };
            if scope.version == Version::Ipfix {
                // A withdrawal (RFC 7011 §8.1), so that netflow_parser forgets it too.
                let set_id: u8 = if known.plan.is_options() { 3 } else { 2 };
                let [high, low] = id.to_be_bytes();
                let _nothing = entry.parser.parse_bytes(&message(scope.version, scope.domain, &[0, set_id, 0, 8, high, low, 0, 0]));
            }
            self.templates = self.templates.saturating_sub(1);
            self.fields = self.fields.saturating_sub(known.plan.definition().fields.len());
            if let Some(count) = self.templates_by_exporter.get_mut(&scope.exporter) {
                *count = count.saturating_sub(1);
            }
        }
    }

    fn options(&mut self, scope: Scope, set: &ControlSet) {
        let Some(entry) = self.scopes.get_mut(&scope) else {
            return;
        };
        let Some(plan) = entry.state.plan(set.set_id).filter(|plan| plan.is_options()).cloned() else {
            return;
        };
        let mut spans = Vec::new();
        if plan.records(&set.body, &mut spans).is_none() {
            return;
        }
        let (mut rates, mut system_init) = (entry.state.rates.clone(), entry.state.system_init_milliseconds);
        let mut told = Vec::new();
        for record in plan.split(&set.body, &spans) {
            let facts = option::to_set(plan.definition(), record)
                .and_then(|set| option::read(&mut entry.parser, &message(scope.version, scope.domain, &set), plan.definition()));
            if let Some(facts) = facts {
                rates.learn(&facts);
                system_init = facts.system_init_milliseconds.or(system_init);
                told.extend(facts.told());
            }
        }
        if let Some(interfaces) = self.interfaces.as_ref().filter(|_| !told.is_empty()) {
            interfaces.tell(scope.exporter, Source::Options, &told, set.arrival);
        }
        let is_new = rates != entry.state.rates || system_init != entry.state.system_init_milliseconds;
        entry.change(|state| {
            // What was told before says something new again.
            is_new.then(|| state.forget_options());
            state.rates = rates;
            state.system_init_milliseconds = system_init;
            state.remember(hash_of(set.set_id, &set.body), Vec::new());
        });
    }

    /// Forgets templates that were not announced for their lifetime (RFC 7011 §8.4), and scopes that hold nothing.
    pub(crate) fn expire(&mut self, now: Timestamp) -> bool {
        let lifetime = self.config.template_lifetime_seconds * 1_000;
        let mut aged = Vec::new();
        for (scope, entry) in &self.scopes {
            let ids: Vec<u16> =
                entry.state.plans.iter().filter(|(_, known)| now.since(known.announced().0) > lifetime).map(|(id, _)| *id).collect();
            if !ids.is_empty() {
                aged.push((*scope, ids));
            }
        }
        for (scope, ids) in &aged {
            self.remove(scope, ids);
        }
        self.scopes.retain(|_, entry| !entry.state.plans.is_empty());
        self.templates_by_exporter.retain(|_, count| *count > 0);
        !aged.is_empty()
    }

    /// Every scope with what is known of it: what survives a restart.
    pub(crate) fn scopes(&self) -> impl Iterator<Item = (&Scope, &State)> {
        self.scopes.iter().map(|(scope, entry)| (scope, entry.state.as_ref()))
    }

    /// Takes in a template from before a restart.
    pub(crate) fn restore(&mut self, scope: &Scope, definition: Definition, at: Timestamp, port: u16) {
        if self.define(scope, definition, at, port) == Defined::New && scope.port != 0 {
            let base = Scope { port: 0, ..*scope };
            let own = scope.port;
            if let Some(entry) = self.entry(&base).filter(|entry| !entry.state.ports.contains(&own) && entry.state.ports.len() < SPLITS_MAX)
            {
                entry.change(|state| state.ports.push(own));
            }
        }
    }

    /// Takes in sampling rates from before a restart.
    pub(crate) fn restore_rates(&mut self, scope: &Scope, rates: Rates, system_init_milliseconds: Option<u64>) {
        if let Some(entry) = self.scopes.get_mut(scope) {
            entry.change(|state| (state.rates, state.system_init_milliseconds) = (rates, system_init_milliseconds));
        }
    }
}

impl Entry {
    /// Replaces the state by one that is changed: whoever holds the old one keeps it.
    fn change(&mut self, change: impl FnOnce(&mut State)) {
        // Copies only if somebody holds it.
        let state = Arc::make_mut(&mut self.state);
        state.superseded = Arc::default();
        change(state);
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Defined {
    AsBefore,
    New,
    Refused,
}

/// A message of one set, as netflow_parser reads it.
fn message(version: Version, domain: u32, set: &[u8]) -> Vec<u8> {
    let mut message = Vec::with_capacity(20 + set.len());
    if version == Version::Netflow9 {
        message.extend([0, 9, 0, 1]);
        message.extend([0; 12]);
    } else {
        message.extend(10u16.to_be_bytes());
        message.extend(u16::try_from(16 + set.len()).unwrap_or(u16::MAX).to_be_bytes());
        message.extend([0; 8]);
    }
    message.extend(domain.to_be_bytes());
    message.extend(set);
    message
}

/// Whether netflow_parser has taken the template in `message`.
fn accepts(parser: &mut NetflowParser, message: &[u8]) -> bool {
    use netflow_parser::NetflowPacket;
    use netflow_parser::variable_versions::{ipfix, v9};
    match parser.parse_bytes(message).packets.first() {
        Some(NetflowPacket::V9(packet)) => {
            packet.flowsets.iter().any(|set| matches!(set.body, v9::FlowSetBody::Template(_) | v9::FlowSetBody::OptionsTemplate(_)))
        }
        Some(NetflowPacket::IPFix(packet)) => packet.flowsets.iter().any(|set| {
            use ipfix::FlowSetBody as Body;
            matches!(set.body, Body::Template(_) | Body::OptionsTemplate(_) | Body::V9Template(_) | Body::V9OptionsTemplate(_))
        }),
        _ => false,
    }
}
