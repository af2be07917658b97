//! What the verdicts come to: rows of attacks that are alike, classes of peace, and the figures that are promised.

use schemas::time::Timestamp;
use serde::Serialize;

use super::bound;
use super::judge::{Alarm, Verdict, judge};
use super::play::Played;
use super::probe::Behaviour;
use crate::latency::rank;

/// A row of attacks that differ in nothing that is told apart; of three numbers each rule has one, in the order of [`super::rules::NAMES`].
#[derive(Clone, Debug, Serialize)]
pub(super) struct Row {
    pub(super) scenario: String,
    pub(super) row: String,
    pub(super) telemetry: String,
    /// Whether times count from the evidence, since packets are told of late.
    pub(super) is_cache: bool,
    /// Packets for each that is sampled.
    pub(super) interval: u32,
    pub(super) ratio: f64,
    /// Whether the attacks are as strong from begin to end.
    pub(super) is_steady: bool,
    /// Whether it is left out of the sums.
    pub(super) apart: bool,
    pub(super) attacks: usize,
    /// The largest recall that any detector could have.
    pub(super) bound: f64,
    /// Milliseconds in which the best test finds 95 of 100, by samples alone; 0 where every packet is told, `None` if it never does.
    pub(super) soonest: Option<f64>,
    pub(super) recall: [f64; 3],
    /// Milliseconds to the first alarm, of those that were found.
    pub(super) after_p50: [Option<f64>; 3],
    pub(super) after_p95: [Option<f64>; 3],
    /// Parts of those that were found whose family (in the end and at first), subtype and target are right, and the median error of the largest second.
    pub(super) family_right: f64,
    pub(super) first_family_right: f64,
    pub(super) subtype_right: f64,
    pub(super) target_right: f64,
    pub(super) peak_error: Option<f64>,
    /// Alarms on parts of the target, further ones on it, and in the other direction.
    pub(super) pieces: [u32; 3],
    pub(super) repeats: [u32; 3],
    pub(super) echoes: [u32; 3],
    /// For sums over rows.
    #[serde(skip)]
    times: [Vec<f64>; 3],
}

/// What came of one class of peace.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Calm {
    pub(super) scenario: String,
    pub(super) class: &'static str,
    /// Hosts or happenings.
    pub(super) count: usize,
    pub(super) alarms: [usize; 3],
    /// The first of the program's own, for whoever asks why.
    pub(super) examples: Vec<String>,
}

/// A scenario as a whole.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Whole {
    pub(super) scenario: String,
    pub(super) about: String,
    pub(super) seed: u64,
    pub(super) packets_per_second: f64,
    pub(super) bits_per_second: f64,
    /// Alarms that hit an attack, and those that hit none.
    pub(super) right: [usize; 3],
    pub(super) wrong: [usize; 3],
    pub(super) virtual_seconds: f64,
    pub(super) records: u64,
    pub(super) cpu_seconds: f64,
    /// Of these in the analysts.
    pub(super) analysts_cpu_seconds: f64,
    /// The program's first alarms that belong to no attack.
    pub(super) strangers: Vec<String>,
}

/// A figure that is promised, and what it is.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Figure {
    pub(super) what: &'static str,
    pub(super) target: String,
    pub(super) values: [Option<f64>; 3],
    pub(super) reached: Option<bool>,
    pub(super) unit: &'static str,
    /// Attacks, alarms or host-days that it is drawn from.
    pub(super) of: f64,
}

/// All that was found.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Sums {
    pub(super) rows: Vec<Row>,
    pub(super) calm: Vec<Calm>,
    pub(super) wholes: Vec<Whole>,
    pub(super) host_days: f64,
    pub(super) figures: Vec<Figure>,
}

/// Alarms that are told as examples.
const EXAMPLES: usize = 5;

impl Sums {
    /// Adds what a scenario has come to.
    pub(super) fn add(&mut self, played: &Played) {
        let judged = played.alarms.each_ref().map(|alarms| judge(&played.trials, alarms));
        self.add_rows(played, judged.each_ref().map(|(verdicts, _)| verdicts.as_slice()));
        let strangers = judged.each_ref().map(|(_, strangers)| strangers.as_slice());
        self.add_calm(played, strangers);
        // What stands apart is neither right nor wrong.
        let count = |of: fn(&Verdict) -> u32| {
            judged.each_ref().map(|(verdicts, _)| {
                let own = verdicts.iter().zip(&played.trials).filter(|(_, trial)| !trial.apart);
                own.map(|(verdict, _)| of(verdict)).sum::<u32>() as usize
            })
        };
        let pieces = count(|verdict| verdict.pieces);
        let lists = strangers.map(<[_]>::len);
        let scenario = &played.scenario;
        self.wholes.push(Whole {
            scenario: scenario.name.clone(),
            about: scenario.about.clone(),
            seed: scenario.seed,
            packets_per_second: scenario.limits.packets_per_second,
            bits_per_second: scenario.limits.bits_per_second,
            right: count(|verdict| verdict.hits),
            wrong: [0, 1, 2].map(|rule: usize| lists.get(rule).unwrap_or(&0) + pieces.get(rule).unwrap_or(&0)),
            virtual_seconds: played.seconds,
            records: played.ledger.records_decoded,
            cpu_seconds: played.spent[0].as_secs_f64(),
            analysts_cpu_seconds: played.spent[2].as_secs_f64(),
            strangers: if played.world.is_some() { Vec::new() } else { examples(strangers[0]) },
        });
    }

    fn add_rows(&mut self, played: &Played, verdicts: [&[Verdict]; 3]) {
        let mut seen = Vec::new();
        for (number, trial) in played.trials.iter().enumerate() {
            let key = (trial.row.clone(), trial.exporter, trial.ratio.to_bits());
            if !seen.contains(&key) {
                seen.push(key);
                let alike = |other: &super::attacks::Trial| {
                    (&other.row, other.exporter, other.ratio.to_bits()) == (&trial.row, trial.exporter, trial.ratio.to_bits())
                };
                let members: Vec<usize> = (number..played.trials.len()).filter(|own| played.trials.get(*own).is_some_and(alike)).collect();
                self.rows.push(row(played, &members, verdicts));
            }
        }
    }

    fn add_calm(&mut self, played: &Played, strangers: [&[&Alarm]; 3]) {
        let Some(world) = &played.world else { return };
        self.host_days += world.host_days();
        let classed = strangers.map(|alarms| alarms.iter().map(|alarm| (world.class_of(alarm), *alarm)).collect::<Vec<_>>());
        for (class, count) in world.classes() {
            let of = |alarms: &Vec<(&'static str, &Alarm)>| alarms.iter().filter(|(own, _)| *own == class).count();
            let own: Vec<&Alarm> = classed[0].iter().filter(|(own, _)| *own == class).map(|(_, alarm)| *alarm).collect();
            let scenario = played.scenario.name.clone();
            self.calm.push(Calm { scenario, class, count, alarms: classed.each_ref().map(of), examples: examples(&own) });
        }
    }

    /// Sums up what the project promises.
    pub(super) fn finish(&mut self) {
        let figures = [
            self.recall("recall at 2 times the limit and more", "1.00", |row| row.ratio >= 2.0, 1.0),
            self.recall("recall at 1.5 times the limit", "1.00", |row| row.ratio == 1.5, 1.0),
            self.recall("recall at 1.2 times the limit", ">= 0.95", |row| row.ratio == 1.2, 0.95),
            self.precision(),
            self.false_alarms(),
            self.time("time to detect, p95, at 4 times the limit and more", 300.0, |row| row.ratio >= 4.0 && !row.is_cache),
            self.time("... where samples allow it", 300.0, |row| row.ratio >= 4.0 && !row.is_cache && row.allows(300.0)),
            self.time("time to detect, p95, at 1.5 times the limit", 1_000.0, |row| row.ratio == 1.5 && !row.is_cache),
            self.time("... where samples allow it", 1_000.0, |row| row.ratio == 1.5 && !row.is_cache && row.allows(1_000.0)),
            self.time("NetFlow and IPFIX: from the first record with the evidence, p95", 1_000.0, |row| row.is_cache),
        ];
        self.figures = figures.into_iter().flatten().collect();
    }

    /// Rows of attacks on hosts and prefixes for which a figure is promised.
    pub(super) fn promised(&self) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(|row| !row.apart)
    }

    /// Where sampling leaves enough to find 99 in 100 attacks at the least.
    fn recall(&self, what: &'static str, target: &'static str, holds: fn(&Row) -> bool, least: f64) -> Option<Figure> {
        let rows: Vec<&Row> = self.promised().filter(|row| holds(row) && row.bound >= 0.99).collect();
        let attacks: usize = rows.iter().map(|row| row.attacks).sum();
        let recall = |rule: usize| -> f64 {
            let found: f64 = rows.iter().map(|row| row.recall.get(rule).unwrap_or(&0.0) * row.attacks as f64).sum();
            found / attacks as f64
        };
        let values = [0, 1, 2].map(recall);
        let [own, ..] = values;
        let reached = Some(own >= least - 1e-9);
        (attacks > 0).then(|| Figure { what, target: target.to_owned(), values: values.map(Some), reached, unit: "", of: attacks as f64 })
    }

    fn precision(&self) -> Option<Figure> {
        let sum = |of: fn(&Whole) -> [usize; 3], rule: usize| -> f64 {
            self.wholes.iter().map(|whole| of(whole).get(rule).copied().unwrap_or(0) as f64).sum()
        };
        let values = [0, 1, 2].map(|rule| {
            let (right, wrong) = (sum(|whole| whole.right, rule), sum(|whole| whole.wrong, rule));
            (right + wrong > 0.0).then(|| right / (right + wrong))
        });
        let reached = values[0].map(|own| own >= 0.98);
        let of = sum(|whole| whole.right, 0) + sum(|whole| whole.wrong, 0);
        Some(Figure { what: "precision on the whole set", target: ">= 0.98".to_owned(), values, reached, unit: "", of })
    }

    fn false_alarms(&self) -> Option<Figure> {
        let values = [0, 1, 2].map(|rule| {
            let alarms: usize = self.calm.iter().filter_map(|calm| calm.alarms.get(rule)).sum();
            alarms as f64 / self.host_days
        });
        let reached = Some(values[0] <= 0.001);
        let target = "<= 0.001".to_owned();
        (self.host_days > 0.0).then(|| Figure {
            what: "false alarms a host-day",
            target,
            values: values.map(Some),
            reached,
            unit: "",
            of: self.host_days,
        })
    }

    fn time(&self, what: &'static str, most: f64, holds: fn(&Row) -> bool) -> Option<Figure> {
        let rows: Vec<&Row> = self.promised().filter(|row| row.is_steady && holds(row)).collect();
        let times = |rule: usize| {
            let mut times: Vec<f64> = rows.iter().filter_map(|row| row.times.get(rule)).flatten().copied().collect();
            times.sort_by(f64::total_cmp);
            (!times.is_empty()).then(|| rank(&times, 95))
        };
        let values = [0, 1, 2].map(times);
        let reached = values[0].map(|own| own <= most);
        let of = rows.iter().map(|row| row.attacks).sum::<usize>();
        (of > 0).then(|| Figure { what, target: format!("<= {most:.0}"), values, reached, unit: "ms", of: of as f64 })
    }
}

impl Row {
    /// Whether samples allow 95 of 100 to be found in so many milliseconds, with the tenth of a second that an agent may wait.
    fn allows(&self, milliseconds: f64) -> bool {
        self.soonest.is_some_and(|soonest| soonest + 100.0 <= milliseconds)
    }

    /// Milliseconds to the first alarm of one rule, of those attacks that it has found.
    pub(super) fn times_of(&self, rule: usize) -> &[f64] {
        self.times.get(rule).map_or(&[], Vec::as_slice)
    }
}

/// The row of attacks by their numbers.
fn row(played: &Played, members: &[usize], verdicts: [&[Verdict]; 3]) -> Row {
    let trials: Vec<&super::attacks::Trial> = members.iter().filter_map(|number| played.trials.get(*number)).collect();
    let of = verdicts.map(|verdicts| members.iter().filter_map(|number| verdicts.get(*number)).collect::<Vec<_>>());
    let count = trials.len() as f64;
    let telemetry = trials.first().and_then(|trial| played.scenario.telemetry.get(trial.exporter)).copied();
    let times = of.each_ref().map(|verdicts| {
        let mut times: Vec<f64> = verdicts.iter().filter_map(|verdict| verdict.after_milliseconds).collect();
        times.sort_by(f64::total_cmp);
        times
    });
    let found: Vec<&&Verdict> = of[0].iter().filter(|verdict| verdict.after_milliseconds.is_some()).collect();
    let part = |holds: fn(&Verdict) -> bool| found.iter().filter(|verdict| holds(verdict)).count() as f64 / found.len().max(1) as f64;
    let percentile = |percent| times.each_ref().map(|times| (!times.is_empty()).then(|| rank(times, percent)));
    let sum = |of_one: fn(&Verdict) -> u32| of.each_ref().map(|verdicts| verdicts.iter().map(|verdict| of_one(verdict)).sum());
    let mut errors: Vec<f64> = found.iter().filter_map(|verdict| verdict.peak_error).collect();
    errors.sort_by(f64::total_cmp);
    let first = trials.first();
    Row {
        scenario: played.scenario.name.clone(),
        row: first.map_or_else(String::new, |trial| trial.row.clone()),
        telemetry: telemetry.map_or_else(String::new, |telemetry| telemetry.name()),
        is_cache: telemetry.is_some_and(|telemetry| telemetry.behaviour.is_cache()),
        interval: telemetry.map_or(1, |telemetry| if telemetry.behaviour == Behaviour::Mirror { 1 } else { telemetry.interval }),
        ratio: first.map_or(0.0, |trial| trial.ratio),
        is_steady: first.is_some_and(|trial| trial.is_steady),
        apart: first.is_some_and(|trial| trial.apart),
        attacks: trials.len(),
        bound: trials.iter().map(|trial| trial.bound).sum::<f64>() / count,
        soonest: soonest(&trials),
        recall: times.each_ref().map(|times| times.len() as f64 / count),
        after_p50: percentile(50),
        after_p95: percentile(95),
        family_right: part(|verdict| verdict.kind.is_some_and(|(family, _)| family)),
        first_family_right: part(|verdict| verdict.is_first_family_right),
        subtype_right: part(|verdict| verdict.kind.is_some_and(|(_, subtype)| subtype)),
        target_right: part(|verdict| verdict.is_target_right),
        peak_error: (!errors.is_empty()).then(|| rank(&errors, 50)),
        pieces: sum(|verdict| verdict.pieces),
        repeats: sum(|verdict| verdict.hits.saturating_sub(1)),
        echoes: sum(|verdict| verdict.echoes),
        times,
    }
}

/// The mean over attacks that are alike but for their kind, in milliseconds.
fn soonest(trials: &[&super::attacks::Trial]) -> Option<f64> {
    let each = trials.iter().map(|trial| trial.samples_per_second.map_or(Some(0.0), |samples| bound::soonest(samples, trial.ratio)));
    let seconds: f64 = each.sum::<Option<f64>>()?;
    Some(seconds / trials.len() as f64 * 1e3)
}

fn examples(alarms: &[&Alarm]) -> Vec<String> {
    let told = alarms.iter().take(EXAMPLES).map(|alarm| {
        let kind = alarm.picture.as_ref().map_or("", |picture| picture.family);
        let [packets, bits] = alarm.picture.as_ref().map_or([0.0; 2], |picture| picture.peak);
        let at: Timestamp = alarm.opened;
        format!("{at} {:?} {} {kind}, {packets:.0} packets/s, {:.2} Gbit/s", alarm.direction, alarm.target, bits / 1e9)
    });
    told.collect()
}
