//! Where an answer is read: the smallest table that has every field asked for, at a level that is fine enough and reaches back far enough.

use std::collections::BTreeMap;

use serde::Serialize;

use super::dimension::Field;

/// Points of a chart whose step is ours to choose.
const POINTS_MAX: u64 = 300;
/// Steps to choose from, in seconds.
const STEPS: &[u64] = &[1, 10, 60, 300, 900, 3_600, 7_200, 21_600, 86_400, 172_800, 604_800];
/// A ranking over less than this is read from single flows, so that its ends need not be whole minutes.
const EXACT_SECONDS_MAX: u64 = 300;
const MINUTE: u64 = 60;
const HOUR: u64 = 3_600;

/// How fine a table is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Single flows.
    Flows,
    /// Sums of a minute.
    Minute,
    /// Sums of an hour.
    Hour,
}

/// What a table is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// Protocol and application.
    Application,
    /// Interfaces and customers.
    Traffic,
    /// Autonomous systems and countries.
    System,
    /// The source's prefix.
    SourcePrefix,
    /// The destination's prefix.
    DestinationPrefix,
}

/// One table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Table {
    /// `flows`.
    Flows,
    /// Sums by the minute.
    Minutes(Family),
    /// Sums by the hour.
    Hours(Family),
}

/// Seconds since 1970, the end not included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The first second.
    pub from: u64,
    /// The second behind the last one.
    pub to: u64,
}

/// What a table holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// The first second that has a row; `None` if the table is empty.
    pub start: Option<u64>,
    /// Rows.
    pub rows: u64,
}

/// What every table holds, by its name.
pub type Coverage = BTreeMap<String, Held>;

/// A table and the part of the range that is read from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Which.
    pub table: Table,
    /// What is read.
    pub span: Span,
}

/// Where an answer is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The parts, the earliest first.
    pub parts: Vec<Part>,
    /// The range that is answered, whole steps of the tables.
    pub span: Span,
    /// Seconds of a point.
    pub step: u64,
    /// Why these.
    pub reason: String,
    /// The part of the range that no table with these fields holds any more.
    pub missing: Option<Span>,
}

impl Family {
    const ALL: &[Self] = &[Self::Application, Self::Traffic, Self::System, Self::SourcePrefix, Self::DestinationPrefix];

    fn has(self, field: Field) -> bool {
        use Field::{
            Application, DestinationAs, DestinationCountry, DestinationCustomer, DestinationPrefix, Direction, EgressBoundary,
            EgressInterface, Exporter, IngressBoundary, IngressInterface, Protocol, SourceAs, SourceCountry, SourceCustomer, SourcePrefix,
        };
        match self {
            Self::Application => matches!(field, Exporter | Protocol | Application),
            Self::Traffic => matches!(
                field,
                Exporter
                    | IngressInterface
                    | EgressInterface
                    | Direction
                    | IngressBoundary
                    | EgressBoundary
                    | Protocol
                    | SourceCustomer
                    | DestinationCustomer
            ),
            Self::System => matches!(field, SourceAs | DestinationAs | SourceCountry | DestinationCountry),
            Self::SourcePrefix => field == SourcePrefix,
            Self::DestinationPrefix => field == DestinationPrefix,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Application => "application",
            Self::Traffic => "traffic",
            Self::System => "as",
            Self::SourcePrefix | Self::DestinationPrefix => "prefix",
        }
    }
}

impl Table {
    /// Its name.
    #[must_use]
    pub fn name(self) -> String {
        match self {
            Self::Flows => "flows".to_owned(),
            Self::Minutes(family) => format!("{}_1m", family.name()),
            Self::Hours(family) => format!("{}_1h", family.name()),
        }
    }

    /// How fine it is.
    #[must_use]
    pub fn level(self) -> Level {
        match self {
            Self::Flows => Level::Flows,
            Self::Minutes(_) => Level::Minute,
            Self::Hours(_) => Level::Hour,
        }
    }

    /// The family of sums that it is of.
    #[must_use]
    pub fn family(self) -> Option<Family> {
        match self {
            Self::Flows => None,
            Self::Minutes(family) | Self::Hours(family) => Some(family),
        }
    }

    fn seconds(self) -> u64 {
        match self {
            Self::Flows => 1,
            Self::Minutes(_) => MINUTE,
            Self::Hours(_) => HOUR,
        }
    }

    /// Every table that is ever asked, by its name.
    pub fn names() -> impl Iterator<Item = String> {
        let families = Family::ALL.iter().filter(|family| **family != Family::DestinationPrefix);
        std::iter::once(Self::Flows).chain(families.flat_map(|family| [Self::Minutes(*family), Self::Hours(*family)])).map(Self::name)
    }
}

impl Span {
    /// Its length in seconds.
    #[must_use]
    pub fn seconds(self) -> u64 {
        self.to.saturating_sub(self.from)
    }

    fn snapped(self, seconds: u64) -> Self {
        Self { from: floor(self.from, seconds), to: ceil(self.to, seconds) }
    }
}

fn floor(moment: u64, seconds: u64) -> u64 {
    moment - moment % seconds.max(1)
}

fn ceil(moment: u64, seconds: u64) -> u64 {
    moment.next_multiple_of(seconds.max(1))
}

/// The step by which a range has no more points than a chart can show.
#[must_use]
pub fn step_of(span: Span) -> u64 {
    let least = span.seconds().div_ceil(POINTS_MAX);
    STEPS.iter().copied().find(|step| *step >= least).unwrap_or_else(|| ceil(least, 604_800))
}

/// What is held, as the choice of tables asks for it.
struct Holdings<'a> {
    coverage: &'a Coverage,
    family: Option<Family>,
}

impl Holdings<'_> {
    fn start(&self, table: Table) -> u64 {
        self.coverage.get(&table.name()).and_then(|held| held.start).unwrap_or(u64::MAX)
    }

    /// Whether rows of before `from` were held here, are gone, and are still in what is coarser.
    fn has_lost(&self, table: Table, from: u64) -> bool {
        let start = self.start(table);
        let coarser: Vec<Table> = match (table, self.family) {
            (Table::Flows, Some(family)) => vec![Table::Minutes(family), Table::Hours(family)],
            // Any sums of before tell that there was something.
            (Table::Flows, None) => Family::ALL.iter().flat_map(|family| [Table::Minutes(*family), Table::Hours(*family)]).collect(),
            (Table::Minutes(_), Some(family)) => vec![Table::Hours(family)],
            _ => Vec::new(),
        };
        start > from && coarser.iter().any(|other| self.start(*other) < floor(start, other.seconds()))
    }
}

impl Held {
    fn begins(self) -> u64 {
        self.start.unwrap_or(u64::MAX)
    }
}

/// Since when a family of sums is whole: since its first minute if it has not lost any yet, and otherwise since its first hour.
fn reach(family: Family, coverage: &Coverage) -> u64 {
    let [minute, hour] =
        [Table::Minutes(family), Table::Hours(family)].map(|table| coverage.get(&table.name()).copied().unwrap_or_default().begins());
    if floor(minute, HOUR) == hour { minute } else { minute.min(hour) }
}

/// The smallest family of sums that has all of the fields, of those that reach back to `from`, or as far as anything does.
///
/// A family that has come with an upgrade knows nothing of the time before, which single flows may still cover.
fn family(fields: &[Field], from: u64, coverage: &Coverage) -> Option<Family> {
    let fits: Vec<Family> = Family::ALL.iter().copied().filter(|family| fields.iter().all(|field| family.has(*field))).collect();
    let flows = floor(coverage.get(&Table::Flows.name()).copied().unwrap_or_default().begins(), MINUTE);
    let earliest = fits.iter().map(|family| reach(*family, coverage)).chain([flows]).min().unwrap_or(u64::MAX).max(from);
    let rows = |family: &Family| coverage.get(&Table::Minutes(*family).name()).map_or(0, |held| held.rows);
    fits.into_iter().filter(|family| reach(*family, coverage) <= earliest).min_by_key(|family| (rows(family), *family))
}

/// Where a chart is read: every point from one table.
#[must_use]
pub fn chart(fields: &[Field], span: Span, step: Option<u64>, coverage: &Coverage) -> Plan {
    let wanted = step.unwrap_or_else(|| step_of(span)).max(1);
    let from = floor(span.from, wanted);
    let holdings = Holdings { coverage, family: family(fields, from, coverage) };
    let Some(family) = holdings.family else {
        return single_flows(&holdings, span.snapped(wanted), wanted);
    };
    let (minutes, hours) = (Table::Minutes(family), Table::Hours(family));
    let (table, reason) = if wanted.is_multiple_of(HOUR) {
        (hours, "sums by the hour have every field and are as fine as the step")
    } else if !wanted.is_multiple_of(MINUTE) && !holdings.has_lost(Table::Flows, from) {
        (Table::Flows, "the step is finer than a minute")
    } else if !holdings.has_lost(minutes, from) {
        let is_coarsened = !wanted.is_multiple_of(MINUTE);
        let coarsened = "flows of so long ago are kept no more: the step is that of the sums by the minute";
        (minutes, if is_coarsened { coarsened } else { "sums by the minute have every field and are as fine as the step" })
    } else {
        (hours, "sums by the minute of so long ago are kept no more: the step is that of the sums by the hour")
    };
    let step = ceil(wanted, table.seconds());
    let span = span.snapped(step);
    Plan { parts: vec![Part { table, span }], span, step, reason: reason.to_owned(), missing: None }
}

/// Where a ranking is read: whole hours from the sums by the hour, what is before and behind them from those by the minute.
#[must_use]
pub fn ranking(fields: &[Field], span: Span, coverage: &Coverage) -> Plan {
    let holdings = Holdings { coverage, family: family(fields, span.from, coverage) };
    let Some(family) = holdings.family else {
        return single_flows(&holdings, span, span.seconds());
    };
    let is_whole = span == span.snapped(MINUTE);
    if !is_whole && span.seconds() < EXACT_SECONDS_MAX && !holdings.has_lost(Table::Flows, span.from) {
        let reason = "a range so short need not begin and end with a minute".to_owned();
        return Plan { parts: vec![Part { table: Table::Flows, span }], span, step: span.seconds(), reason, missing: None };
    }
    let (minutes, hours) = (Table::Minutes(family), Table::Hours(family));
    let mut span = span.snapped(MINUTE);
    let mut reason = "the smallest table that has every field".to_owned();
    if holdings.has_lost(minutes, span.from) {
        span.from = floor(span.from, HOUR);
        // What the minutes have lost altogether, the last hour of the range included.
        if holdings.start(minutes) >= span.to {
            span.to = ceil(span.to, HOUR);
        }
        "sums by the minute of so long ago are kept no more: the range begins with an hour".clone_into(&mut reason);
    }
    let (first, last) = (ceil(span.from, HOUR), floor(span.to, HOUR));
    let parts = if first < last {
        let all = [(minutes, span.from, first), (hours, first, last), (minutes, last, span.to)];
        all.into_iter().filter(|(_, from, to)| from < to).map(|(table, from, to)| Part { table, span: Span { from, to } }).collect()
    } else {
        vec![Part { table: minutes, span }]
    };
    Plan { parts, span, step: span.seconds(), reason, missing: None }
}

/// What only single flows have is read from them, and is missing where they are kept no more.
fn single_flows(holdings: &Holdings<'_>, span: Span, step: u64) -> Plan {
    let start = holdings.start(Table::Flows);
    let is_lost = holdings.has_lost(Table::Flows, span.from);
    let missing = is_lost.then(|| Span { from: span.from, to: start.min(span.to) });
    let reason = if is_lost {
        "only single flows have every field, and those of so long ago are kept no more"
    } else {
        "only single flows have every field"
    };
    Plan { parts: vec![Part { table: Table::Flows, span }], span, step, reason: reason.to_owned(), missing }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 86_400;
    const NOON: u64 = 1_795_176_000;

    /// Flows of a week, minutes of 90 days, hours of two years.
    fn coverage() -> Coverage {
        let held = |days: u64, rows| Held { start: Some(NOON - days * DAY), rows };
        Table::names()
            .map(|name| {
                let held = match name.as_str() {
                    "flows" => held(7, 1_000_000_000),
                    "application_1m" => held(90, 1_000_000),
                    minutes if minutes.ends_with("_1m") => held(90, 2_000_000),
                    _ => held(730, 100_000),
                };
                (name, held)
            })
            .collect()
    }

    fn back(days: u64) -> Span {
        Span { from: NOON - days * DAY, to: NOON }
    }

    fn tables(plan: &Plan) -> Vec<String> {
        plan.parts.iter().map(|part| part.table.name()).collect()
    }

    #[test]
    fn a_chart_has_a_step_that_people_expect() {
        for (seconds, step) in
            [(300, 1), (3_600, 60), (DAY, 300), (7 * DAY, 3_600), (30 * DAY, 21_600), (90 * DAY, DAY), (365 * DAY, 2 * DAY)]
        {
            assert_eq!(step_of(Span { from: NOON - seconds, to: NOON }), step, "{seconds}");
        }
        assert!(step_of(Span { from: 0, to: 100_000 * DAY }) * POINTS_MAX >= 100_000 * DAY);
    }

    #[test]
    fn a_chart_is_read_from_the_smallest_table_with_its_fields_that_is_fine_enough() {
        let chart = |fields: &[Field], span, step| super::chart(fields, span, step, &coverage());
        assert_eq!(tables(&chart(&[], back(1), None)), ["application_1m"]);
        assert_eq!(tables(&chart(&[Field::SourceAs], back(30), None)), ["as_1h"]);
        assert_eq!(tables(&chart(&[Field::IngressInterface], back(1), Some(600))), ["traffic_1m"]);
        assert_eq!(tables(&chart(&[Field::SourceAs, Field::Protocol], back(1), None)), ["flows"]);
        assert_eq!(tables(&chart(&[Field::SourceAs], back(1), Some(90))), ["flows"]);
    }

    #[test]
    fn what_flows_no_longer_cover_comes_from_the_sums_or_is_said_to_be_missing() {
        let fine = chart(&[Field::SourceAs], back(8), Some(10), &coverage());
        assert_eq!((tables(&fine), fine.step, fine.missing), (vec!["as_1m".to_owned()], 60, None));
        assert!(fine.reason.contains("kept no more"), "{}", fine.reason);
        let old = chart(&[Field::SourceAs], back(100), Some(300), &coverage());
        assert_eq!((tables(&old), old.step), (vec!["as_1h".to_owned()], 3_600));
        let ports = chart(&[Field::SourcePort], back(8), None, &coverage());
        assert_eq!(ports.missing, Some(Span { from: NOON - 8 * DAY, to: NOON - 7 * DAY }));
        // A store that has only just begun has lost nothing.
        let mut young = coverage();
        for (name, held) in &mut young {
            let seconds = if name.ends_with("_1h") { HOUR } else { MINUTE };
            held.start = Some(floor(NOON - 630, seconds));
        }
        young.insert("flows".to_owned(), Held { start: Some(NOON - 630), rows: 1 });
        assert_eq!(chart(&[Field::SourcePort], back(1), None, &young).missing, None);
    }

    #[test]
    fn sums_that_came_with_an_upgrade_are_read_for_what_they_cover() {
        let hours = |hours: u64| Span { from: NOON - hours * HOUR, to: NOON };
        let read = |coverage: &Coverage, span| {
            let plans = [chart(&[Field::SourceAs], span, Some(300), coverage), ranking(&[Field::SourceAs], span, coverage)];
            plans.map(|plan| (plan.parts[0].table.level(), plan.missing))
        };
        let mut coverage = coverage();
        for name in ["as_1m", "as_1h"] {
            coverage.insert(name.to_owned(), Held::default());
        }
        assert_eq!(read(&coverage, hours(24)), [(Level::Flows, None), (Level::Flows, None)]);
        // They began half an hour after ten, in the midst of the first hour that they have.
        for (name, start) in [("as_1m", NOON - 90 * 60), ("as_1h", NOON - 2 * HOUR)] {
            coverage.insert(name.to_owned(), Held { start: Some(start), rows: 10 });
        }
        assert_eq!(read(&coverage, hours(1)), [(Level::Minute, None), (Level::Hour, None)]);
        assert_eq!(read(&coverage, hours(2)), [(Level::Flows, None), (Level::Flows, None)]);
        let missing = Some(Span { from: NOON - 192 * HOUR, to: NOON - 168 * HOUR });
        assert_eq!(read(&coverage, hours(192)), [(Level::Flows, missing), (Level::Flows, missing)]);
        // Where flows begin later than they do, they are the best that there is.
        coverage.insert("flows".to_owned(), Held { start: Some(NOON - HOUR), rows: 10 });
        assert_eq!(read(&coverage, hours(24))[0], (Level::Minute, None));
    }

    #[test]
    fn a_ranking_is_exact_to_the_minute_and_reads_whole_hours_as_such() {
        let span = Span { from: NOON - 2 * DAY - 90, to: NOON + 30 };
        let plan = ranking(&[Field::SourceAs], span, &coverage());
        let day = |from, to| Span { from, to };
        let parts: Vec<(String, Span)> = plan.parts.iter().map(|part| (part.table.name(), part.span)).collect();
        assert_eq!(
            parts,
            [
                ("as_1m".to_owned(), day(NOON - 2 * DAY - 120, NOON - 2 * DAY)),
                ("as_1h".to_owned(), day(NOON - 2 * DAY, NOON)),
                ("as_1m".to_owned(), day(NOON, NOON + 60)),
            ]
        );
        let short = ranking(&[Field::SourceAs], Span { from: NOON - 30, to: NOON }, &coverage());
        assert_eq!(tables(&short), ["flows"]);
        let old = ranking(&[Field::SourceAs], Span { from: NOON - 100 * DAY - 90, to: NOON }, &coverage());
        assert_eq!((tables(&old), old.span.from), (vec!["as_1h".to_owned()], NOON - 100 * DAY - 3_600));
    }
}
