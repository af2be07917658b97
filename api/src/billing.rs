//! What is billed: the 95th percentile of a month's five-minute rates, by customer or by interface.
//!
//! The field's method. The month is cut into slots of five minutes, the mean rate of each slot is taken, the slots are sorted, the
//! largest 5 % are dropped, and the next one is the rate. Both directions are taken by themselves and the larger is billed. A slot
//! without traffic counts as 0; one in which nobody was heard at all is a gap, which is told, and counts as 0 too unless it is to be
//! passed over. A record's octets are spread evenly over the slots that it lasted, over the last two hours of it if it lasted longer: an
//! exporter that tells of a download once in half an hour is billed as one that tells of it every minute. What a record tells of slots that
//! are over comes when it ends, so that the last slots of a bill grow for as long as the longest active timeout of the exporters.

use std::collections::BTreeMap;

use serde::Serialize;

use schemas::net::Address;
use schemas::time::Timestamp;

use crate::query::view::OWN_SHARE;

pub mod ask;
pub mod period;
pub mod show;

use period::Period;

/// Length of a slot.
pub const SLOT_SECONDS: u64 = 300;
const SLOTS_OF_AN_HOUR: u32 = 12;

/// Standard errors on either side of an estimate that hold the truth 95 times of 100.
const ERRORS: f64 = 1.96;

/// Which of the sorted slots is the rate, in hundredths of a percent: above 0, at most 100 %.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Percentile(u16);

impl Percentile {
    /// What the field bills by.
    pub const USUAL: Self = Self(9_500);

    /// How many of the largest slots are dropped.
    #[must_use]
    pub fn dropped(self, slots: u32) -> u32 {
        let dropped = u64::from(slots) * u64::from(10_000_u16.saturating_sub(self.0)) / 10_000;
        u32::try_from(dropped).unwrap_or(u32::MAX)
    }

    /// In percent.
    #[must_use]
    pub fn percent(self) -> f64 {
        f64::from(self.0) / 100.0
    }
}

impl std::str::FromStr for Percentile {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fault = || "must be above 0 and at most 100, with two decimals at most".to_owned();
        let (whole, decimals) = text.split_once('.').unwrap_or((text, "0"));
        let is_number = |text: &str| !text.is_empty() && text.bytes().all(|digit| digit.is_ascii_digit());
        if !is_number(whole) || !is_number(decimals) || whole.len() > 3 || decimals.len() > 2 {
            return Err(fault());
        }
        let hundredths = format!("{whole}{decimals:0<2}").parse().map_err(|_| fault())?;
        if (1..=10_000).contains(&hundredths) { Ok(Self(hundredths)) } else { Err(fault()) }
    }
}

/// What one slot carried in one direction, sampling undone.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Slot {
    /// Its number in the period, from 0.
    pub number: u32,
    /// IP octets.
    pub octets: u64,
    /// Variance of `octets`, from sampling.
    pub variance: f64,
    /// Records whose sampling rate was not known: they count as they are.
    pub unknown_flows: u64,
}

/// One direction of a bill.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Charge {
    /// The percentile, bits a second.
    pub rate_bps: u64,
    /// How far the truth may lie from `rate_bps`, 95 times of 100, for sampling.
    pub rate_error_bps: u64,
    /// The slot that the rate is taken from; `None` if that slot is an empty one.
    pub rate_at: Option<Timestamp>,
    /// The largest slot's rate.
    pub peak_bps: u64,
    /// The largest slot; `None` without traffic.
    pub peak_at: Option<Timestamp>,
    /// The mean over all slots that count.
    pub mean_bps: u64,
    /// Everything carried.
    pub octets: u64,
    /// How far the truth may lie from `octets`, 95 times of 100, for sampling.
    pub octets_error: u64,
    /// Records whose sampling rate was not known: they count as they are, so that figures are too small where there are any.
    pub unknown_flows: u64,
}

/// What one direction comes to, of `counted` slots; `slots` are those with traffic, each once, in any order.
#[must_use]
pub fn charge(slots: &mut [Slot], counted: u32, percentile: Percentile, period: &Period) -> Charge {
    let octets = slots.iter().fold(0_u64, |sum, slot| sum.saturating_add(slot.octets));
    let span = SLOT_SECONDS.saturating_mul(counted.into());
    let mut charge = Charge {
        mean_bps: rate(octets, span),
        octets,
        octets_error: error(slots.iter().map(|slot| slot.variance).sum()),
        unknown_flows: slots.iter().map(|slot| slot.unknown_flows).sum(),
        ..Charge::default()
    };
    if let Some(peak) = slots.iter().max_by_key(|slot| (slot.octets, std::cmp::Reverse(slot.number))) {
        (charge.peak_bps, charge.peak_at) = (rate(peak.octets, SLOT_SECONDS), Some(period.slot(peak.number)));
    }
    let dropped = usize::try_from(percentile.dropped(counted)).unwrap_or(usize::MAX);
    // Behind the slots with traffic come the empty ones.
    if dropped < slots.len() {
        let (_, slot, _) = slots.select_nth_unstable_by_key(dropped, |slot| (std::cmp::Reverse(slot.octets), slot.number));
        charge.rate_bps = rate(slot.octets, SLOT_SECONDS);
        charge.rate_error_bps = rate(error(slot.variance), SLOT_SECONDS);
        charge.rate_at = Some(period.slot(slot.number));
    }
    charge
}

/// Bits a second, to the nearest.
fn rate(octets: u64, seconds: u64) -> u64 {
    let seconds = u128::from(seconds.max(1));
    u64::try_from((u128::from(octets) * 8 + seconds / 2) / seconds).unwrap_or(u64::MAX)
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an error of more than 2^64 octets is told as 2^64")]
fn error(variance: f64) -> u64 {
    (ERRORS * variance.max(0.0).sqrt()).ceil() as u64
}

/// Who is billed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// What enters and leaves a customer's prefixes; traffic that is counted elsewhere is left out.
    Customer,
    /// What enters and leaves an interface.
    Interface,
}

impl By {
    /// As parameters have it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Customer => "customer",
            Self::Interface => "interface",
        }
    }
}

/// Who a bill is for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// A customer by name.
    Customer(String),
    /// An interface of an exporter.
    Interface(Address, u32),
}

/// Where the records were observed that a direction is billed by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Observed {
    /// As they came into the exporter.
    Ingress,
    /// As they left it.
    Egress,
    /// In some hours as they came in, in others as they left.
    Both,
}

/// Slots of one subject: by direction, and where the records were observed; of customers all are taken for observed at ingress.
#[derive(Debug, Default)]
pub struct Series {
    /// Into the customer, or into the exporter by the interface.
    pub into: [Vec<Slot>; 2],
    /// Out of it.
    pub out: [Vec<Slot>; 2],
}

impl Series {
    /// Slots observed at ingress and at egress of one direction, to add to.
    pub fn slots(&mut self, is_out: bool, observed: Observed) -> &mut Vec<Slot> {
        let [ingress, egress] = if is_out { &mut self.out } else { &mut self.into };
        match observed {
            Observed::Egress => egress,
            Observed::Ingress | Observed::Both => ingress,
        }
    }

    /// The slots that count of one direction, and where they were observed. An exporter may observe traffic as it enters, as it leaves, or both,
    /// and then tells it twice: what enters an interface is taken from where it entered, what leaves from where it left, and in hours in which
    /// there is all but nothing of that from the other. A stray record changes an hour at most, and so does a change of the exporter's settings.
    fn chosen(series: [Vec<Slot>; 2], preferred: Observed) -> (Observed, Vec<Slot>) {
        let [ingress, egress] = series;
        let (own, other, instead) = match preferred {
            Observed::Egress => (egress, ingress, Observed::Ingress),
            _ => (ingress, egress, Observed::Egress),
        };
        let mut hours: BTreeMap<u32, [u64; 2]> = BTreeMap::new();
        for (side, slots) in [&own, &other].into_iter().enumerate() {
            for slot in slots {
                if let Some(octets) = hours.entry(slot.number / SLOTS_OF_AN_HOUR).or_default().get_mut(side) {
                    *octets = octets.saturating_add(slot.octets);
                }
            }
        }
        let is_own = |slot: &Slot| {
            let [own, other] = hours.get(&(slot.number / SLOTS_OF_AN_HOUR)).copied().unwrap_or_default();
            own.saturating_mul(OWN_SHARE.into()) >= other
        };
        let mut chosen: Vec<Slot> = own.into_iter().filter(is_own).collect();
        let of_own = chosen.len();
        chosen.extend(other.into_iter().filter(|slot| !is_own(slot)));
        let observed = match (of_own, chosen.len() - of_own) {
            (_, 0) => preferred,
            (0, _) => instead,
            _ => Observed::Both,
        };
        (observed, chosen)
    }
}

/// What a subject is billed.
#[derive(Clone, Debug, PartialEq)]
pub struct Bill {
    /// Who.
    pub subject: Subject,
    /// The larger of both directions' rates.
    pub rate_bps: u64,
    /// What came in, and where it was observed.
    pub into: (Charge, Observed),
    /// What went out, and where it was observed.
    pub out: (Charge, Observed),
    /// Slots that count.
    pub slots: u32,
    /// Slots in which nobody was heard who could have told of it.
    pub slots_missing: u32,
}

/// Which slots count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// All that have elapsed: a gap is 0.
    Zero,
    /// Those in which somebody was heard.
    Skip,
}

/// A subject's bill from its slots; `heard` of the period's slots had data of who tells of the subject.
#[must_use]
pub fn bill(subject: Subject, series: Series, heard: u32, missing: Missing, percentile: Percentile, period: &Period) -> Bill {
    let elapsed = period.slots_elapsed();
    let heard = heard.min(elapsed);
    let slots = if missing == Missing::Skip { heard } else { elapsed };
    let charged = |series: [Vec<Slot>; 2], preferred| {
        let (observed, mut slots_of) = Series::chosen(series, preferred);
        (charge(&mut slots_of, slots, percentile, period), observed)
    };
    let into = charged(series.into, Observed::Ingress);
    let out = match subject {
        Subject::Customer(_) => charged(series.out, Observed::Ingress),
        Subject::Interface(..) => charged(series.out, Observed::Egress),
    };
    let rate_bps = into.0.rate_bps.max(out.0.rate_bps);
    Bill { subject, rate_bps, into, out, slots, slots_missing: elapsed - heard }
}

#[cfg(test)]
mod tests;
