//! What was right and what was not: alarms held against the attacks that there were.

use schemas::counter::Direction;
use schemas::incident::Incident;
use schemas::net::Prefix;
use schemas::time::Timestamp;

use super::attacks::Trial;
use super::wire::stamp;

/// How long after its end an attack may still be found: records of a cache are 75 s late, and a minute is asked at its end.
const LATE_MILLISECONDS: u64 = 140_000;

/// An alarm of any rule.
#[derive(Clone, Debug)]
pub(super) struct Alarm {
    /// Whom it is about.
    pub(super) target: Prefix,
    /// Towards the target or from it.
    pub(super) direction: Direction,
    /// When it was raised.
    pub(super) opened: Timestamp,
    /// When it was over.
    pub(super) ended: Option<Timestamp>,
    /// What family it was of when it was raised.
    pub(super) first_family: Option<&'static str>,
    /// What else an incident tells in the end.
    pub(super) picture: Option<Picture>,
}

/// What an incident says of an attack.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Picture {
    /// Its family.
    pub(super) family: &'static str,
    /// Its subtype.
    pub(super) subtype: Option<String>,
    /// Its largest second, in packets and bits a second.
    pub(super) peak: [f64; 2],
}

impl Alarm {
    /// One of which nothing else is known.
    pub(super) fn of(target: Prefix, direction: Direction, opened: Timestamp) -> Self {
        Self { target, direction, opened, ended: None, first_family: None, picture: None }
    }

    /// An incident as it is now.
    pub(super) fn follow(&mut self, incident: &Incident) {
        self.ended = incident.ended_at;
        self.first_family.get_or_insert(incident.family.name());
        let peak = [incident.peak_pps as f64, incident.peak_bps as f64];
        self.picture = Some(Picture { family: incident.family.name(), subtype: incident.subtype.clone(), peak });
    }
}

/// What an alarm is to an attack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bearing {
    /// It is about what was attacked: the host; of a prefix, the prefix or one that covers it and is no wider than /24 or /48.
    Hit,
    /// It is about a part of the prefix that was attacked.
    Piece,
    /// It is about the same target in the other direction.
    Echo,
    /// It has to do with something else.
    None,
}

/// What an alarm is to an attack.
pub(super) fn bearing(alarm: &Alarm, trial: &Trial) -> Bearing {
    let (begins, ends) = (stamp(trial.begins), stamp(trial.ends).plus(LATE_MILLISECONDS));
    if alarm.opened < begins || alarm.opened > ends {
        return Bearing::None;
    }
    let (own, target) = (trial.target, alarm.target);
    let widest = if own.is_v4() { 24 } else { 48 };
    let is_carpet = !own.is_host();
    // An IPv6 address may be counted by its /64.
    let stands_for = target == own || (!own.is_v4() && own.is_host() && target.length() >= 64 && target.covers(own));
    let covers = is_carpet && target.covers(own) && target.length() >= widest.min(own.length());
    // A customer's network is wider than what is summed: an alarm on a /24 of it is about the carpet, too.
    let part_of_customer = is_carpet && own.length() < widest && own.covers(target) && target.length() <= widest;
    let piece = own.covers(target);
    match (stands_for || covers || part_of_customer, alarm.direction == trial.direction) {
        (true, true) => Bearing::Hit,
        (true, false) => Bearing::Echo,
        (false, true) if piece => Bearing::Piece,
        (false, false) if piece => Bearing::Echo,
        _ => Bearing::None,
    }
}

/// What a rule made of one attack.
#[derive(Clone, Debug, Default)]
pub(super) struct Verdict {
    /// Milliseconds from when it could be seen to the first alarm that hit it; `None` if none did.
    pub(super) after_milliseconds: Option<f64>,
    /// Alarms that hit it.
    pub(super) hits: u32,
    /// Alarms on parts of it.
    pub(super) pieces: u32,
    /// Alarms on its target in the other direction.
    pub(super) echoes: u32,
    /// Whether the target was named as it is.
    pub(super) is_target_right: bool,
    /// Whether the family was, and the subtype; `None` for a rule that names none.
    pub(super) kind: Option<(bool, bool)>,
    /// Whether the family was right from the first moment.
    pub(super) is_first_family_right: bool,
    /// By what part of it the largest second was missed.
    pub(super) peak_error: Option<f64>,
}

/// Judges the alarms of one rule: a verdict for each attack, and the alarms that belong to none.
///
/// Each attack has a target of its own, so that an alarm belongs to one at the most; alarms on parts of a carpet are no hits.
pub(super) fn judge<'a>(trials: &[Trial], alarms: &'a [Alarm]) -> (Vec<Verdict>, Vec<&'a Alarm>) {
    let mut verdicts = vec![Verdict::default(); trials.len()];
    let mut strangers = Vec::new();
    let mut alarms: Vec<&Alarm> = alarms.iter().collect();
    alarms.sort_by_key(|alarm| alarm.opened);
    for alarm in alarms {
        let found = trials.iter().zip(&mut verdicts).find_map(|(trial, verdict)| match bearing(alarm, trial) {
            Bearing::None => None,
            bearing => Some((trial, verdict, bearing)),
        });
        let Some((trial, verdict, bearing)) = found else {
            strangers.push(alarm);
            continue;
        };
        match bearing {
            Bearing::Hit => hit(alarm, trial, verdict),
            Bearing::Piece => verdict.pieces += 1,
            Bearing::Echo | Bearing::None => verdict.echoes += 1,
        }
    }
    (verdicts, strangers)
}

fn hit(alarm: &Alarm, trial: &Trial, verdict: &mut Verdict) {
    verdict.hits += 1;
    if verdict.after_milliseconds.is_some() {
        return;
    }
    let from = trial.evidence.unwrap_or(trial.visible);
    verdict.after_milliseconds = Some((alarm.opened.0 as f64 - stamp(from).0 as f64).max(0.0));
    verdict.is_target_right = alarm.target == trial.target;
    let Some(picture) = &alarm.picture else { return };
    let (family, subtype) = trial.kind;
    let is_family = picture.family == family;
    verdict.is_first_family_right = alarm.first_family == Some(family);
    // A carpet may be called one in place of its subtype.
    let own = picture.subtype.as_deref();
    let is_subtype = own == subtype || (!trial.target.is_host() && own == Some("carpet_bombing"));
    verdict.kind = Some((is_family, is_family && is_subtype));
    let [told, was] = [picture.peak, trial.peak].map(|[packets, bits]| if trial.is_of_bits { bits } else { packets });
    verdict.peak_error = Some((told / was - 1.0).abs());
}

#[cfg(test)]
mod tests {
    use super::super::attacks::trial_of;
    use super::super::wire::SECOND;
    use super::*;

    fn alarm(target: &str, direction: Direction, second: u64) -> Alarm {
        Alarm::of(target.parse().unwrap(), direction, stamp(second * SECOND))
    }

    fn bearings(target: &str, others: &[&str]) -> Vec<Bearing> {
        let trial = trial_of(target.parse().unwrap(), 100 * SECOND, 160 * SECOND);
        others.iter().map(|other| bearing(&alarm(other, Direction::Incoming, 120), &trial)).collect()
    }

    #[test]
    fn an_attack_on_a_host_is_hit_by_an_alarm_on_it_and_by_no_other() {
        use Bearing::{Echo, Hit, None};
        assert_eq!(bearings("10.0.0.7", &["10.0.0.7", "10.0.0.8", "10.0.0.0/24"]), [Hit, None, None]);
        assert_eq!(bearings("2001:db8::7", &["2001:db8::7", "2001:db8::/64", "2001:db8::/48"]), [Hit, Hit, None]);
        let trial = trial_of("10.0.0.7".parse().unwrap(), 100 * SECOND, 160 * SECOND);
        let at = |direction, second| bearing(&alarm("10.0.0.7", direction, second), &trial);
        assert_eq!([at(Direction::Outgoing, 120), at(Direction::Incoming, 99), at(Direction::Incoming, 301)], [Echo, None, None]);
    }

    #[test]
    fn a_carpet_is_hit_by_what_covers_it_and_its_hosts_are_pieces() {
        use Bearing::{Hit, None, Piece};
        let alarms = ["10.0.0.16/28", "10.0.0.0/24", "10.0.0.0/22", "10.0.0.17", "10.0.1.0/24"];
        assert_eq!(bearings("10.0.0.16/28", &alarms), [Hit, Hit, None, Piece, None]);
        assert_eq!(bearings("10.0.0.0/22", &["10.0.0.0/22", "10.0.1.0/24", "10.0.1.9", "10.0.0.0/21"]), [Hit, Hit, Piece, None]);
    }

    #[test]
    fn the_first_hit_tells_the_time_and_strangers_are_told_apart() {
        let trial = trial_of("10.0.0.7".parse().unwrap(), 100 * SECOND, 160 * SECOND);
        let alarms = [
            alarm("10.0.0.7", Direction::Incoming, 130),
            alarm("10.0.0.7", Direction::Incoming, 102),
            alarm("10.9.0.7", Direction::Incoming, 102),
        ];
        let (verdicts, strangers) = judge(&[trial], &alarms);
        assert_eq!((verdicts[0].after_milliseconds, verdicts[0].hits, strangers.len()), (Some(2_000.0), 2, 1));
        assert!(verdicts[0].is_target_right);
    }
}
