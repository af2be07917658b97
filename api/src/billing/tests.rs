//! The percentile against a naive one, and what a month's slots come to.

use proptest::prelude::*;

use super::period::{Month, billable, zone};
use super::*;

/// 2026-11-20T12:00:00Z.
const NOW: Timestamp = Timestamp(1_795_176_000_000);

fn period(month: &str, now: Timestamp) -> Period {
    Period::new(month.parse().unwrap(), &zone("UTC").unwrap(), now).unwrap()
}

/// A month that is long over: 30 days of 288 slots.
fn september() -> Period {
    period("2026-09", NOW)
}

fn slots(octets: &[u64]) -> Vec<Slot> {
    (0..).zip(octets).map(|(number, &octets)| Slot { number, octets, ..Slot::default() }).collect()
}

/// The method as the field tells it: sort, drop, take the next.
fn naive(octets: &[u64], counted: usize, hundredths: usize) -> u64 {
    let mut all = octets.to_vec();
    all.resize(counted, 0);
    all.sort_unstable_by(|one, other| other.cmp(one));
    all.drain(..counted * (10_000 - hundredths) / 10_000);
    let octets = all.first().copied().unwrap_or(0);
    (octets * 8 + 150) / 300
}

/// A month of 30 days has 8,640 slots, of which 432 are dropped: the 433rd is billed.
#[test]
fn the_largest_twentieth_is_dropped_and_the_next_is_billed() {
    let octets: Vec<u64> = (1..=8_640).map(|rank| rank * 37_500).collect();
    let charge = charge(&mut slots(&octets), september().slots(), Percentile::USUAL, &september());
    // 37,500 octets in 300 s are 1,000 bit/s.
    assert_eq!((charge.rate_bps, charge.peak_bps), ((8_640 - 432) * 1_000, 8_640_000));
    // Number 0 has rank 1.
    assert_eq!((charge.rate_at, charge.peak_at), (Some(september().slot(8_207)), Some(september().slot(8_639))));
    assert_eq!((charge.mean_bps, charge.octets), (4_320_500, 8_640 * 8_641 / 2 * 37_500));
}

/// 36 hours are 432 slots: a month in which nothing else happened is free.
#[test]
fn slots_without_traffic_count_as_zero() {
    let full = vec![37_500; 432];
    let of = |octets: &[u64]| charge(&mut slots(octets), 8_640, Percentile::USUAL, &september());
    assert_eq!((of(&full).rate_bps, of(&full).rate_at), (0, None));
    assert_eq!(of(&full).peak_bps, 1_000);
    assert_eq!(of(&[full, vec![1_000]].concat()).rate_bps, 27);
    assert_eq!(of(&[]), Charge::default());
}

/// One in 1,000 packets, 100 of them with 1,000 octets each in the slot: the variance of the octets is 1,000 × 999 × 100 × 1,000².
#[test]
fn the_error_of_the_rate_is_that_of_its_slot() {
    let slot = Slot { number: 3, octets: 100_000_000, variance: 1_000.0 * 999.0 * 100.0 * 1e6, unknown_flows: 2 };
    let charge = charge(&mut [slot], 1, Percentile::USUAL, &september());
    // Its root is 9,994,999 octets: 1.96 of them over 300 s are 522,405 bit/s of the 2,666,667.
    assert_eq!((charge.rate_bps, charge.rate_error_bps), (2_666_667, 522_405));
    assert_eq!((charge.octets_error, charge.unknown_flows), (19_590_198, 2));
}

proptest! {
    #[test]
    fn the_rate_is_that_of_the_naive_method(
        octets in prop::collection::vec(prop_oneof![Just(0), 0..10_u64, 0..1_u64 << 40], 0..400),
        empty in 0..400_usize,
        hundredths in 1..=10_000_u16,
    ) {
        let counted = octets.len() + empty;
        let charge = charge(&mut slots(&octets), u32::try_from(counted).unwrap(), Percentile(hundredths), &september());
        prop_assert_eq!(charge.rate_bps, naive(&octets, counted, hundredths.into()));
        prop_assert!(charge.rate_bps <= charge.peak_bps);
        if let Some(at) = charge.rate_at {
            let number = usize::try_from(at.since(september().from) / 300_000).unwrap();
            prop_assert_eq!((octets[number] * 8 + 150) / 300, charge.rate_bps);
        }
    }

    #[test]
    fn a_larger_percentile_is_never_a_smaller_bill(octets in prop::collection::vec(0..1_u64 << 40, 1..300), one in 1..=10_000_u16, other in 1..=10_000_u16) {
        let counted = u32::try_from(octets.len()).unwrap();
        let rate = |hundredths| charge(&mut slots(&octets), counted, Percentile(hundredths), &september()).rate_bps;
        prop_assert!(rate(one.min(other)) <= rate(one.max(other)));
    }

    #[test]
    fn gaps_and_slots_that_were_heard_make_the_period(heard in prop::collection::btree_set(0..9_000_u32, 0..300)) {
        let heard: Vec<u32> = heard.into_iter().collect();
        let period = september();
        let gaps = period.gaps(&heard);
        let missing: u64 = gaps.iter().map(|gap| gap.to.since(gap.from) / 300_000).sum();
        let there = heard.iter().filter(|slot| **slot < period.slots_elapsed()).count();
        prop_assert_eq!(missing + u64::try_from(there).unwrap(), u64::from(period.slots_elapsed()));
        prop_assert!(gaps.iter().all(|gap| gap.from < gap.to) && gaps.windows(2).all(|pair| pair[0].to < pair[1].from));
    }
}

#[test]
fn a_percentile_is_a_number_above_0_and_at_most_100() {
    for (text, hundredths) in [("95", 9_500), ("97.5", 9_750), ("99.99", 9_999), ("100", 10_000), ("0.01", 1), ("050", 5_000)] {
        assert_eq!(text.parse(), Ok(Percentile(hundredths)), "{text}");
    }
    for text in ["", "0", "100.01", "101", "95.123", "-1", "+95", "1e1", ".5", "95.", "NaN", "４5"] {
        assert!(text.parse::<Percentile>().is_err(), "{text}");
    }
    assert_eq!([8_640, 8_928, 1, 0].map(|slots| Percentile::USUAL.dropped(slots)), [432, 446, 0, 0]);
    assert_eq!(Percentile(10_000).dropped(8_640), 0);
}

#[test]
fn a_month_is_the_calendars_of_its_time_zone() {
    // November 2026 has 30 days; in Berlin October has 31 days and an hour, and begins two hours before UTC's.
    assert_eq!((period("2026-11", NOW).from, period("2026-11", NOW).slots()), ("2026-11-01T00:00:00Z".parse().unwrap(), 8_640));
    let october = Period::new("2026-10".parse().unwrap(), &zone("Europe/Berlin").unwrap(), NOW).unwrap();
    assert_eq!((october.from, october.slots()), ("2026-09-30T22:00:00Z".parse().unwrap(), 31 * 288 + 12));
    assert!(zone("Nowhere/Else").is_err());
    for text in ["2026-13", "2026-00", "2026-1", "26-11", "2026/11", "1969-12", "2026-11-01", "2106-01", "+026-01"] {
        assert!(text.parse::<Month>().is_err(), "{text}");
    }
}

/// 19 days and 12 hours less the five minutes in which the last records come: 19 × 288 + 144 − 1.
#[test]
fn of_the_present_month_the_slots_count_that_are_over() {
    let period = period("2026-11", NOW);
    assert_eq!((period.slots_elapsed(), period.until()), (5_615, "2026-11-20T11:55:00Z".parse().unwrap()));
    let first = |now: &str| {
        Period::new("2026-11".parse().unwrap(), &zone("UTC").unwrap(), now.parse().unwrap()).map(|period| period.slots_elapsed())
    };
    assert_eq!(first("2026-10-31T23:59:59Z"), None);
    assert_eq!((first("2026-11-01T00:09:59Z"), first("2026-11-01T00:10:00Z")), (Some(0), Some(1)));
    assert_eq!(september().slots_elapsed(), september().slots());
}

#[test]
fn what_minutes_no_longer_cover_cannot_be_billed() {
    let utc = zone("UTC").unwrap();
    let months = |minute: Option<&str>, hour: Option<&str>| {
        let moment = |text: Option<&str>| text.map(|text| text.parse().unwrap());
        let (first, last) = billable(moment(minute), moment(hour), &utc, NOW);
        format!("{first} {last}")
    };
    assert_eq!(months(None, None), "2026-11 2026-11");
    // Collected since then.
    assert_eq!(months(Some("2026-08-22T10:31:00Z"), Some("2026-08-22T10:00:00Z")), "2026-08 2026-11");
    // Minutes of 90 days, hours of three years.
    assert_eq!(months(Some("2026-08-22T00:00:00Z"), Some("2026-08-01T00:00:00Z")), "2026-09 2026-11");
    // The month's first minute is there.
    assert_eq!(months(Some("2026-09-01T00:02:00Z"), Some("2026-09-01T00:00:00Z")), "2026-09 2026-11");
}

#[test]
fn what_enters_is_taken_from_where_it_entered_and_what_leaves_from_where_it_left() {
    let subject = || Subject::Interface("192.0.2.1".parse().unwrap(), 7);
    let made = |into: [&[u64]; 2], out: [&[u64]; 2]| {
        let series = Series { into: into.map(slots), out: out.map(slots) };
        let bill = bill(subject(), series, 8_640, Missing::Zero, Percentile(10_000), &september());
        [(bill.into.0.rate_bps, bill.into.1), (bill.out.0.rate_bps, bill.out.1)]
    };
    let (one, two): (&[u64], &[u64]) = (&[37_500], &[75_000]);
    use Observed::{Egress, Ingress};
    assert_eq!(made([one, two], [two, one]), [(1_000, Ingress), (1_000, Egress)]);
    assert_eq!(made([one, &[]], [two, &[]]), [(1_000, Ingress), (2_000, Ingress)]);
    assert_eq!(made([&[], two], [&[], one]), [(2_000, Egress), (1_000, Egress)]);
    assert_eq!(made([&[], &[]], [&[], &[]]), [(0, Ingress), (0, Egress)]);
}

/// A month at 1,000 bit/s, and in the third hour records that were observed on the other side.
#[test]
fn a_stray_record_of_the_other_side_does_not_move_a_month() {
    let month = vec![37_500; 8_640];
    let out = |stray: &[(u32, u64)]| {
        let stray = stray.iter().map(|&(number, octets)| Slot { number, octets, ..Slot::default() }).collect();
        let series = Series { out: [slots(&month), stray], ..Series::default() };
        let subject = Subject::Interface("192.0.2.1".parse().unwrap(), 7);
        let bill = bill(subject, series, 8_640, Missing::Zero, Percentile::USUAL, &september());
        (bill.out.0.rate_bps, bill.out.0.octets, bill.out.1)
    };
    let all = 8_640 * 37_500;
    assert_eq!(out(&[]), (1_000, all, Observed::Ingress));
    // An hour has 450,000 octets: less than a hundredth of them says nothing of the interface, a hundredth is its own word for that hour.
    assert_eq!(out(&[(30, 4_499)]), (1_000, all, Observed::Ingress));
    assert_eq!(out(&[(30, 4_500)]), (1_000, all - 450_000 + 4_500, Observed::Both));
    // From the second half on the exporter observes what leaves, too: nothing is counted twice, and nothing is lost.
    let later: Vec<(u32, u64)> = (4_320..8_640).map(|number| (number, 37_500)).collect();
    assert_eq!(out(&later), (1_000, all, Observed::Both));
}

#[test]
fn gaps_count_as_zero_unless_they_are_to_be_passed_over() {
    // Heard in half of the slots, each of them with the same traffic.
    let series = || Series { into: [slots(&[37_500; 4_320]), Vec::new()], out: [slots(&[18_750; 4_320]), Vec::new()] };
    let bill = |missing| bill(Subject::Customer("one".to_owned()), series(), 4_320, missing, "50".parse().unwrap(), &september());
    let (zero, skip) = (bill(Missing::Zero), bill(Missing::Skip));
    // Of 8,640 slots 4,320 are dropped, and an empty one is next.
    assert_eq!((zero.rate_bps, zero.slots, zero.slots_missing, zero.into.0.mean_bps), (0, 8_640, 4_320, 500));
    assert_eq!((skip.rate_bps, skip.slots, skip.slots_missing, skip.into.0.mean_bps), (1_000, 4_320, 4_320, 1_000));
    assert_eq!((skip.into.0.rate_bps, skip.out.0.rate_bps), (1_000, 500));
}
