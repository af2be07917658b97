//! A scenario from its first packet to its last incident, on a virtual clock of its own.

use std::time::Duration;

use anyhow::{Result, ensure};
use schemas::counter::SLOT_MILLISECONDS;
use schemas::ledger::Ledger;

use super::attacks::{self, Trial};
use super::evidence::Evidence;
use super::judge::Alarm;
use super::probe::Probe;
use super::rules::Rules;
use super::scenario::Scenario;
use super::wire::{Micros, Wire, stamp};
use super::world::{self, World};
use crate::measure;

/// What a scenario has come to.
pub(super) struct Played {
    /// What was played.
    pub(super) scenario: Scenario,
    /// The attacks in it.
    pub(super) trials: Vec<Trial>,
    /// The peace in it.
    pub(super) world: Option<World>,
    /// The alarms of each rule.
    pub(super) alarms: [Vec<Alarm>; 3],
    /// What became of every record.
    pub(super) ledger: Ledger,
    /// Virtual seconds.
    pub(super) seconds: f64,
    /// CPU time in all, of the pipe's ticks and of the analysts'.
    pub(super) spent: [Duration; 3],
}

/// Plays a scenario.
///
/// # Errors
///
/// If records were lost on the way that no exporter has lost, which would make the figures worthless.
pub(super) fn play(scenario: Scenario) -> Result<Played> {
    let began = measure::own_cpu();
    let mut wire = Wire::new(scenario.seed);
    let mut probes: Vec<Probe> =
        scenario.telemetry.iter().enumerate().map(|(number, telemetry)| Probe::new(number, *telemetry, scenario.seed)).collect();
    let (mut trials, mut end) = attacks::lay(&scenario, &mut wire);
    let world = scenario.peace.as_ref().map(|peace| world::lay(&scenario, peace, &mut wire, &mut probes));
    end = end.max(world.as_ref().map_or(0, |world| world.ends));
    let is_cache = |exporter: usize| scenario.telemetry.get(exporter).is_some_and(|telemetry| telemetry.behaviour.is_cache());
    let mut evidence = Evidence::new(&trials, is_cache);
    let mut rules = Rules::new(scenario.limits);
    run(&mut wire, &mut probes, end, &mut rules, |delivery| evidence.take(&mut trials, delivery));
    let [pipe, analysts] = rules.spent;
    let (alarms, ledger) = rules.finish(stamp(end));
    ensure!(ledger.imbalance().iter().all(|(_, difference)| *difference == 0), "the ledger does not balance: {:?}", ledger.imbalance());
    ensure!(ledger.datagrams_malformed + ledger.sets_malformed == 0, "datagrams were made that cannot be read: {ledger:?}");
    let spent = [measure::own_cpu().saturating_sub(began), pipe, analysts];
    Ok(Played { trials, world, alarms, ledger, seconds: end as f64 / 1e6, spent, scenario })
}

/// Lets time pass: packets, exporters and slots in the order of their moments.
fn run(wire: &mut Wire, probes: &mut [Probe], end: Micros, rules: &mut Rules, mut see: impl FnMut(&super::probe::Delivery<'_>)) {
    let slot = SLOT_MILLISECONDS * 1_000;
    let mut tick = 0;
    loop {
        let packet = wire.next().unwrap_or(Micros::MAX);
        let due = probes.iter().enumerate().map(|(number, probe)| (probe.due(), number)).min().unwrap_or((Micros::MAX, 0));
        let at = tick.min(packet).min(due.0);
        if at >= end {
            return;
        }
        let mut take = |delivery: &super::probe::Delivery<'_>| {
            see(delivery);
            rules.take(delivery);
        };
        if at == tick {
            rules.tick(stamp(tick));
            tick += slot;
        } else if at == due.0 {
            probes.get_mut(due.1).into_iter().for_each(|probe| probe.act(at, &mut take));
        } else {
            wire.step(|exporter, flow| {
                probes.get_mut(exporter).into_iter().for_each(|probe| probe.packet(flow, at, &mut take));
            });
        }
    }
}
