//! Incidents that are one attack: the same family with the same sources on several targets within five minutes.

use std::collections::{BTreeMap, HashMap};

use schemas::counter::Direction;
use schemas::incident::{Family, Incident};
use schemas::time::Timestamp;
use uuid::Uuid;

/// How far apart two incidents of a group may begin.
const APART_MILLISECONDS: u64 = 300_000;
/// Part of the smaller set of sources that must be in the other.
///
/// Of a botnet that is seen sampled, each target shows other members: 3,000 of 10,000 at each have 3 of 10 in common.
const OVERLAP: f64 = 0.2;
/// Sources in common that are needed, where there are so many.
const COMMON_MIN: usize = 4;
/// Incidents that are remembered.
const MEMBERS_MAX: usize = 4_096;

/// What two incidents may have in common: a source, or, of made-up sources, the subtype and the port that most goes to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Mark {
    Source(u64),
    Signature(Option<String>, Option<u16>),
}

/// What is compared of one incident.
#[derive(Clone, Debug)]
struct Member {
    group: Option<Uuid>,
    kind: (Family, Direction),
    started_at: Timestamp,
    sources: Vec<u64>,
    signature: Option<Mark>,
}

impl Member {
    fn marks(&self) -> impl Iterator<Item = Mark> {
        self.sources.iter().map(|source| Mark::Source(*source)).chain(self.signature.clone())
    }
}

/// Every incident of the last minutes.
#[derive(Debug, Default)]
pub struct Groups {
    members: BTreeMap<Uuid, Member>,
}

impl Groups {
    /// Takes in what is known of an incident now: `sources` are hashes of its sources, the smallest of all, ascending.
    pub fn learn(&mut self, incident: &Incident, sources: &[u64]) {
        if self.members.len() >= MEMBERS_MAX && !self.members.contains_key(&incident.uuid) {
            return;
        }
        let made_up = incident.spoofing_detected == Some(true);
        let port = incident.top_dst_ports.first().filter(|port| port.share >= 0.5).map(|port| port.value);
        let member = Member {
            group: incident.group_uuid,
            kind: (incident.family, incident.direction),
            started_at: incident.started_at,
            sources: sources.to_vec(),
            signature: made_up.then(|| Mark::Signature(incident.subtype.clone(), port)),
        };
        self.members.insert(incident.uuid, member);
    }

    /// Forgets what is too old for a new incident to belong to.
    pub fn age(&mut self, now: Timestamp) {
        self.members.retain(|_, member| now.since(member.started_at) <= 2 * APART_MILLISECONDS);
    }

    /// Puts together what belongs together: each incident whose group is new, with the group's name, which is that of its first incident.
    pub fn settle(&mut self) -> Vec<(Uuid, Uuid)> {
        let mut news = Vec::new();
        for (first, second) in self.pairs() {
            let group = [first, second].into_iter().find_map(|uuid| self.members.get(&uuid)?.group).unwrap_or(first);
            for uuid in [first, second] {
                if let Some(member) = self.members.get_mut(&uuid).filter(|member| member.group.is_none()) {
                    member.group = Some(group);
                    news.push((uuid, group));
                }
            }
        }
        news
    }

    /// Pairs of which one at least has no group yet, the earlier first. Candidates share a mark: each is compared with the earliest that has it
    /// only, so that a thousand incidents are no million pairs.
    fn pairs(&self) -> Vec<(Uuid, Uuid)> {
        let mut order: Vec<(&Uuid, &Member)> = self.members.iter().collect();
        order.sort_by_key(|(uuid, member)| (member.started_at, **uuid));
        let mut earliest: HashMap<((Family, Direction), Mark), Uuid> = HashMap::new();
        let mut pairs = Vec::new();
        for (uuid, member) in order {
            let mut candidates: Vec<Uuid> = member.marks().filter_map(|mark| earliest.get(&(member.kind, mark)).copied()).collect();
            candidates.sort_unstable();
            candidates.dedup();
            let fits = |earlier: &Uuid| {
                self.members.get(earlier).is_some_and(|other| (other.group.is_none() || member.group.is_none()) && belong(other, member))
            };
            pairs.extend(candidates.into_iter().filter(fits).map(|earlier| (earlier, *uuid)));
            for mark in member.marks() {
                earliest.entry((member.kind, mark)).or_insert(*uuid);
            }
        }
        pairs
    }
}

/// Whether two incidents are one attack.
fn belong(one: &Member, other: &Member) -> bool {
    let apart = one.started_at.since(other.started_at).max(other.started_at.since(one.started_at));
    let alike = one.signature.is_some() && one.signature == other.signature;
    one.kind == other.kind && apart <= APART_MILLISECONDS && (alike || overlaps(&one.sources, &other.sources))
}

/// Whether two sets overlap, by the smallest hashes of each: below the lower of the two largest hashes both samples are whole.
fn overlaps(one: &[u64], other: &[u64]) -> bool {
    let (Some(one_last), Some(other_last)) = (one.last(), other.last()) else { return false };
    let reach = if one.len() < 64 {
        *other_last
    } else if other.len() < 64 {
        *one_last
    } else {
        *one_last.min(other_last)
    };
    let reach = if one.len() < 64 && other.len() < 64 { u64::MAX } else { reach };
    let within = |sample: &[u64]| sample.iter().take_while(|hash| **hash <= reach).count();
    let common = one.iter().filter(|hash| other.binary_search(hash).is_ok()).count();
    let smaller = within(one).min(within(other));
    smaller > 0 && common >= COMMON_MIN.min(smaller) && common as f64 >= smaller as f64 * OVERLAP
}

#[cfg(test)]
mod tests {
    use schemas::incident::{LimitSource, Metric, Share, Threshold};

    use super::*;

    fn incident(number: u128, started_at: u64, family: Family) -> Incident {
        let threshold = Threshold { metric: Metric::PacketsPerSecond, value: 1.0, source: LimitSource::Static };
        let started_at = Timestamp(1_000_000 + started_at);
        let target = "203.0.113.7".parse().unwrap();
        Incident { family, ..Incident::of(Uuid::from_u128(number), target, Direction::Incoming, threshold, started_at, started_at) }
    }

    /// Well mixed hashes of the members `from..to` of a botnet, the 64 smallest.
    fn bots(from: u64, to: u64) -> Vec<u64> {
        let mut hashes: Vec<u64> = (from..to)
            .map(|bot| (bot + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29).wrapping_mul(0xbf58_476d_1ce4_e5b9))
            .collect();
        hashes.sort_unstable();
        hashes.truncate(64);
        hashes
    }

    fn settled(members: &[(Incident, Vec<u64>)]) -> Vec<(u128, u128)> {
        let mut groups = Groups::default();
        members.iter().for_each(|(incident, sources)| groups.learn(incident, sources));
        groups.settle().into_iter().map(|(uuid, group)| (uuid.as_u128(), group.as_u128())).collect()
    }

    #[test]
    fn one_botnet_on_three_targets_is_one_group() {
        let of = |number, at, from| (incident(number, at, Family::UdpFlood), bots(from, from + 5_000));
        // Half of the bots are at the next target too; the last has none of them.
        let members = [of(3, 0, 0), of(1, 60_000, 2_500), of(2, 120_000, 5_000), of(4, 130_000, 100_000)];
        let mut found = settled(&members);
        found.sort_unstable();
        assert_eq!(found, [(1, 3), (2, 3), (3, 3)]);
    }

    #[test]
    fn another_family_or_another_time_is_another_attack() {
        let of = |number, at, family| (incident(number, at, family), bots(0, 500));
        assert!(settled(&[of(1, 0, Family::UdpFlood), of(2, 10, Family::SynFlood)]).is_empty());
        assert!(settled(&[of(1, 0, Family::UdpFlood), of(2, 300_001, Family::UdpFlood)]).is_empty());
    }

    #[test]
    fn few_sources_in_common_are_chance() {
        let of = |number, from| (incident(number, 0, Family::UdpFlood), bots(from, from + 5_000));
        // One in ten.
        assert!(settled(&[of(1, 0), of(2, 4_500)]).is_empty());
        // One source is the whole of it.
        let single = |number| (incident(number, 0, Family::UdpFlood), vec![77]);
        assert_eq!(settled(&[single(1), single(2)]), [(1, 1), (2, 1)]);
        assert!(settled(&[(incident(1, 0, Family::UdpFlood), vec![]), (incident(2, 0, Family::UdpFlood), vec![])]).is_empty());
    }

    #[test]
    fn made_up_sources_are_told_by_what_they_do() {
        let spoofed = |number: u128, port| {
            let share = Share { value: port, packets: 1, octets: 1, share: 0.9 };
            let own = Incident { spoofing_detected: Some(true), top_dst_ports: vec![share], ..incident(number, 0, Family::SynFlood) };
            (own, bots(u64::try_from(number).unwrap() * 100_000, u64::try_from(number).unwrap() * 100_000 + 90_000))
        };
        assert_eq!(settled(&[spoofed(1, 443), spoofed(2, 443), spoofed(3, 80)]), [(1, 1), (2, 1)]);
    }

    #[test]
    fn who_has_a_group_keeps_it() {
        let mut first = incident(1, 0, Family::UdpFlood);
        first.group_uuid = Some(Uuid::from_u128(9));
        assert_eq!(settled(&[(first, bots(0, 100)), (incident(2, 10, Family::UdpFlood), bots(0, 100))]), [(2, 9)]);
    }
}
