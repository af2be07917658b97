//! The largest groups where there are more than fit into memory: found among those whose buckets are the largest, and known to be the largest.
//!
//! Groups are spread over buckets by a hash, and the buckets summed, which takes the same memory however many groups there are. A group has at
//! most what its bucket has: once the last of the groups that are shown has as much as the largest bucket that was not looked into, no other
//! group can have more, and the ranking is exact. Where traffic is so even that this does not come about, the answer says how much a group
//! may have that it has missed.

use serde_json::Value;

use super::ask::{Answered, AskError, Desk};
use super::level::Plan;
use super::question::{Measure, Question};
use super::volume::Volume;

/// Buckets: a few octets each.
pub const BUCKETS: u64 = 262_144;
/// Buckets that are looked into at least, at first and when that was not enough.
const FIRST: u64 = 1_024;
const SECOND: u64 = 32_768;
/// Groups that are shown, for each of which there may be buckets of small groups that are as large.
const BUCKETS_OF_A_GROUP: u64 = 4;

/// A ranking.
#[derive(Debug)]
pub struct Ranked {
    /// The groups, and the totals of all.
    pub answered: Answered,
    /// How many groups there are.
    pub groups: u64,
    /// Whether that is an estimate, within 1 % or so.
    pub are_groups_estimated: bool,
    /// How much a group may have that is not among those shown though it is larger than one of them; `None` if there is none.
    pub missed_max: Option<u64>,
}

/// Ranks groups, at once if they are few enough.
///
/// # Errors
///
/// [`AskError`].
pub async fn ranked(desk: &Desk, question: &Question, plan: &Plan) -> Result<Ranked, AskError> {
    let groups_max = desk.config().groups_at_once_max;
    match desk.ask(&question.ranking(plan).with_groups_max(groups_max)).await {
        Ok(answered) => {
            let groups = answered.rows_before_limit_at_least;
            Ok(Ranked { answered, groups, are_groups_estimated: false, missed_max: None })
        }
        Err(AskError::Groups) => by_buckets(desk, question, plan, groups_max).await,
        Err(error) => Err(error),
    }
}

async fn by_buckets(desk: &Desk, question: &Question, plan: &Plan, groups_max: u64) -> Result<Ranked, AskError> {
    let first = FIRST.max(question.top.saturating_mul(BUCKETS_OF_A_GROUP)).min(SECOND);
    // One more than are ever looked into, for the bound.
    let summed = desk.ask(&question.buckets(plan, SECOND + 1)).await?;
    let number = |row: &[Value], at: usize| row.get(at).and_then(Value::as_u64).unwrap_or(0);
    let groups = summed.data.first().map_or(0, |row| number(row, 1));
    let measured = |row: &[Value], keys: usize| amount(question.measure, &Volume::read(row.get(keys..).unwrap_or_default()));
    let mut taken = first;
    loop {
        let count = usize::try_from(taken).unwrap_or(usize::MAX);
        let buckets: Vec<u64> = summed.data.iter().take(count).map(|row| number(row, 0)).collect();
        // What the largest group can have that is in none of them.
        let left = summed.data.get(count).map_or(0, |row| measured(row, 2));
        let mut answered = desk.ask(&question.ranking_within(plan, &buckets)).await?;
        let shown = u64::try_from(answered.data.len()).unwrap_or(u64::MAX);
        let least = if shown < question.top { 0 } else { answered.data.last().map_or(0, |row| measured(row, question.keys())) };
        let is_exact = least >= left;
        // A second look must not be for more groups than fit.
        if is_exact || taken >= SECOND || groups / (BUCKETS / SECOND) > groups_max {
            answered.totals =
                summed.totals.get(2..).map(|sums| [vec![Value::Null; question.keys()], sums.to_vec()].concat()).unwrap_or_default();
            return Ok(Ranked { answered, groups, are_groups_estimated: true, missed_max: (!is_exact).then_some(left) });
        }
        taken = SECOND;
    }
}

fn amount(measure: Measure, volume: &Volume) -> u64 {
    match measure {
        Measure::Octets => volume.octets,
        Measure::Packets => volume.packets,
        Measure::Flows => volume.flows,
    }
}
