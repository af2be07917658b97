//! Windows over rings that are made by hand.

use schemas::counter::Volume;
use schemas::incident::LimitSource;
use schemas::time::Timestamp;

use super::*;

const MULTIPLES: [f64; 4] = [2.0, 1.0, 1.0, 1.0];
const NOW: u64 = 1_000_000;

fn limit() -> Limit {
    Limit::new(schemas::limit::Limit::of(100_000.0, 1e9), LimitSource::Static)
}

fn ring(slots: impl IntoIterator<Item = (u64, f64, f64, f64)>) -> Ring {
    let mut ring = Ring::default();
    for (slot, packets, octets, samples) in slots {
        ring.add(slot, &Volume { packets, octets, samples, ..Volume::default() }, Timestamp(NOW * 100));
    }
    ring
}

fn scan_with(ring: &Ring, changed: (u64, u64), explained: u64, multiples: [f64; 4]) -> Scan {
    let look = Look { ring, changed, explained, limit: &limit(), multiples, rules: &config::Incident::default() };
    Scanner::default().scan(&look)
}

fn scan(ring: &Ring, changed: (u64, u64)) -> Scan {
    scan_with(ring, changed, 0, MULTIPLES)
}

/// 10,000 packets in each 0.1 s are 100,000 a second: the limit itself, in every window.
#[test]
fn a_mean_at_the_limit_is_not_over_it_and_one_in_a_thousand_more_is() {
    let at = ring((0..300).map(|back| (NOW - back, 10_000.0, 0.0, 10_000.0)));
    assert!(scan(&at, (NOW - 300, NOW)).crossings.is_empty());
    let over = ring((0..300).map(|back| (NOW - back, 10_010.0, 0.0, 10_010.0)));
    // Over it are the windows of 1, 5 and 30 s; that of 0.1 s has twice the limit.
    let slots: Vec<u64> = scan(&over, (NOW - 300, NOW)).crossings.iter().map(|crossing| crossing.slots).collect();
    assert_eq!(slots, [10, 50, 300]);
}

/// 46 packets in 0.1 s are 460 a second, over twice a limit of 200; so are 100.
#[test]
fn a_burst_of_a_few_packets_is_no_attack_however_low_the_limit() {
    let low = Limit::new(schemas::limit::Limit::of(200.0, 1e9), LimitSource::Static);
    let crossings = |packets: f64| {
        let ring = ring([(NOW, packets, 0.0, packets)]);
        let look =
            Look { ring: &ring, changed: (NOW, NOW), explained: 0, limit: &low, multiples: MULTIPLES, rules: &config::Incident::default() };
        Scanner::default().scan(&look).crossings.len()
    };
    assert_eq!((crossings(46.0), crossings(100.0)), (0, 1));
}

/// 21,000 packets in 0.1 s are 210,000 a second, over twice the limit; in the second around them they are 21,000.
#[test]
fn a_tenth_of_a_second_must_be_over_twice_the_limit() {
    let found = scan(&ring([(NOW, 21_000.0, 0.0, 21_000.0)]), (NOW, NOW));
    let [only] = found.crossings.as_slice() else { panic!("{found:?}") };
    assert_eq!((only.slots, only.last, only.metric), (1, NOW, Metric::PacketsPerSecond));
    assert!(scan(&ring([(NOW, 19_000.0, 0.0, 19_000.0)]), (NOW, NOW)).crossings.is_empty());
}

/// One sample at 1 in 32,768 in 0.1 s is 327,680 packets a second, and its error is 100 %.
#[test]
fn a_single_sample_says_nothing() {
    assert!(scan(&ring([(NOW, 32_768.0, 32_768.0 * 1_500.0, 1.0)]), (NOW, NOW)).crossings.is_empty());
}

/// 120 samples at 1 in 1,000 in a second are 120,000 packets a second ± 9.1 %: by 3.5 errors that could be 82,000.
/// 660 samples in five seconds are 132,000 ± 3.9 %: at least 114,000.
#[test]
fn evidence_of_few_samples_waits_for_a_longer_window() {
    let second = ring((0..10).map(|back| (NOW - back, 12_000.0, 0.0, 12.0)));
    assert!(scan(&second, (NOW - 9, NOW)).crossings.is_empty());
    let five = ring((0..50).map(|back| (NOW - back, 13_200.0, 0.0, 13.2)));
    assert!(scan(&five, (NOW - 49, NOW)).crossings.iter().any(|crossing| crossing.slots == 50));
}

/// The fewest samples, 1 in `interval`, by which a window of `slots` is over a limit of 100,000 packets a second.
fn fewest(interval: f64, slots: u64, multiple: f64) -> u32 {
    let rules = config::Incident::default();
    let is_over = |samples: u32| {
        let (samples, single) = (f64::from(samples), 100_000.0);
        let value = samples * interval * SLOTS_PER_SECOND as f64 / slots as f64;
        let error = sampling_error(samples, samples * interval);
        let limit = single * multiple;
        let crossing = Crossing { metric: Metric::PacketsPerSecond, slots, last: NOW, value, limit, single, error };
        super::is_over(&crossing, samples, f64::INFINITY, &rules)
    };
    (1..).find(|samples| is_over(*samples)).unwrap()
}

/// The chance that a Poisson count of this mean is `least` or more.
fn chance(mean: f64, least: u32) -> f64 {
    let logarithm = (1..=least).map(|number| (mean / f64::from(number)).ln()).sum::<f64>() - mean;
    (least..least + 10_000)
        .scan(logarithm.exp(), |term, count| {
            let this = *term;
            *term *= mean / f64::from(count + 1);
            Some(this)
        })
        .sum()
}

/// Each window that ends in one of the 864,000 slots of a day is a chance for a false alarm; windows that overlap are counted as if they did not.
#[test]
fn a_sampled_host_at_half_of_its_limit_opens_less_than_one_false_incident_in_a_thousand_days() {
    for interval in [100.0, 256.0, 512.0, 1_000.0, 1_700.0, 2_048.0, 2_300.0, 4_096.0, 5_000.0, 8_192.0, 16_384.0] {
        let alarms = |part: f64| -> f64 {
            let windows = WINDOW_SLOTS.into_iter().zip(MULTIPLES);
            windows
                .map(|(slots, multiple)| {
                    let mean = part * 100_000.0 * slots as f64 / SLOTS_PER_SECOND as f64 / interval;
                    864_000.0 * chance(mean, fewest(interval, slots, multiple))
                })
                .sum()
        };
        assert!(alarms(0.5) < 0.001, "{} a day at 1 in {interval}", alarms(0.5));
        assert!(alarms(0.75) < 0.01, "{} a day at 1 in {interval}", alarms(0.75));
        assert!(alarms(0.9) < 1.0, "{} a day at 1 in {interval}", alarms(0.9));
    }
}

/// 200,000 packets a second, 1 in 1,000, are 200 samples a second on average; 1 in 2,000, 100.
#[test]
fn a_flood_of_twice_the_limit_shows_within_a_second() {
    assert!(chance(200.0, fewest(1_000.0, 10, 1.0)) > 0.999);
    assert!(chance(100.0, fewest(2_000.0, 10, 1.0)) > 0.95);
}

/// 120,000 packets a second, 1 in 1,000, and 150,000 in one of them: its 150 samples, less two errors, prove 125,500.
#[test]
fn a_peak_is_what_the_samples_prove() {
    let samples = |back: u64| if back < 10 { 15.0 } else { 12.0 };
    let found = scan(&ring((0..300).map(|back| (NOW - back, samples(back) * 1e3, samples(back) * 1e5, samples(back)))), (NOW, NOW));
    assert!((found.peak_packets - 125_518.0).abs() < 20.0, "{}", found.peak_packets);
}

/// A flow of 60 s with 1 Gbit leaves 1/600 of it, 208,333 octets, in each slot: 16.7 Mb/s.
#[test]
fn a_long_flow_is_no_spike() {
    let flow = ring((0..600).map(|back| (NOW - back, 100.0, 208_333.0, 100.0)));
    let found = scan(&flow, (NOW - 599, NOW));
    assert!(found.crossings.is_empty());
    assert!((found.peak_bits - 16_666_640.0).abs() < 100.0, "{}", found.peak_bits);
}

/// A burst of a second, 50 s ago, of which only the sum of its second is kept.
#[test]
fn a_window_in_the_past_is_found_when_its_slots_change() {
    let mut past = ring([(NOW, 1.0, 1.0, 1.0)]);
    for slot in NOW - 500..NOW - 490 {
        past.add(slot, &Volume { packets: 15_000.0, samples: 15_000.0, ..Volume::default() }, Timestamp(NOW * 100));
    }
    let found = scan(&past, (NOW - 500, NOW - 491));
    assert_eq!(found.worst().map(|crossing| crossing.last), Some(NOW - 491));
    assert_eq!(found.first, Some(NOW - 500));
    assert!(scan(&past, (NOW, NOW)).crossings.is_empty(), "only what has changed is looked at");
}

/// A second of 1,000,000 packets lies in 30-s windows for 30 s; once it is explained, it weighs nothing.
#[test]
fn what_an_ended_incident_explains_is_not_found_again() {
    let burst = ring((100..110).map(|back| (NOW - back, 1e6, 0.0, 1e6)).chain([(NOW, 10.0, 0.0, 10.0)]));
    assert!(scan(&burst, (NOW, NOW)).crossings.iter().any(|crossing| crossing.slots == 300));
    assert!(scan_with(&burst, (NOW, NOW), NOW - 100, MULTIPLES).crossings.is_empty());
}

/// The window of 30 s that holds one strong second is over the limit and begins long before it.
#[test]
fn the_start_is_where_the_traffic_began() {
    let long_only = scan_with(&ring((0..10).map(|back| (NOW - back, 1e6, 0.0, 1e6))), (NOW, NOW), 0, [0.0, 0.0, 0.0, 1.0]);
    assert_eq!(long_only.first, Some(NOW - 9));
}

#[test]
fn a_window_whose_multiple_is_zero_is_off() {
    let flood = ring((0..300).map(|back| (NOW - back, 1e6, 0.0, 1e6)));
    let found = scan_with(&flood, (NOW, NOW), 0, [0.0, 0.0, 1.0, 0.0]);
    assert!(found.crossings.iter().all(|crossing| crossing.slots == 50));
    assert!(found.peak_packets > 9e6);
}

/// 1,100 SYN packets in each 0.1 s are 11,000 a second, among 66,000 others; sampled 1 in 100 that are 110 samples of them a second,
/// ± 9.5 %, and 550 in five.
#[test]
fn a_kind_of_traffic_is_held_to_its_own_limit_by_its_own_samples() {
    let syn = Metric::SynPacketsPerSecond;
    let limit = Limit::new(schemas::limit::Limit::of(100_000.0, 1e9).with(syn, 9_000.0), LimitSource::Static);
    let found = |interval: f64| {
        let mut ring = Ring::default();
        for slot in NOW - 49..=NOW {
            let volume = Volume { packets: 7_700.0, syn_packets: 1_100.0, samples: 7_700.0 / interval, ..Volume::default() };
            ring.add(slot, &volume, Timestamp(NOW * 100));
        }
        let (changed, rules) = ((NOW - 49, NOW), config::Incident::default());
        let look = Look { ring: &ring, changed, explained: 0, limit: &limit, multiples: MULTIPLES, rules: &rules };
        Scanner::default().scan(&look)
    };
    let whole = found(1.0);
    assert!(whole.crossings.iter().all(|crossing| crossing.metric == syn));
    assert_eq!(whole.crossings.iter().map(|crossing| crossing.slots).collect::<Vec<_>>(), [10, 50]);
    assert_eq!((whole.first, whole.last_warm), (Some(NOW - 49), Some(NOW)));
    assert!((whole.peak_ratio - 11.0 / 9.0).abs() < 1e-9, "{}", whole.peak_ratio);
    let sampled = found(100.0);
    assert_eq!(sampled.crossings.iter().map(|crossing| crossing.slots).collect::<Vec<_>>(), [50]);
    assert!((sampled.crossings[0].error - (0.99_f64 / 550.0).sqrt()).abs() < 1e-9, "{:?}", sampled.crossings);
}
