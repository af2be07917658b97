//! Days and weeks of reports, given one by one: what is learned of them, and what is not.

use schemas::counter::Volume;
use schemas::incident::{LimitSource, Threshold};

use super::*;

const MINUTE: u64 = 60_000;
const DAY: u64 = 1_440;
const START: u64 = 20_000 * DAY_MILLISECONDS;

fn target(text: &str) -> Target {
    Target { prefix: text.parse().unwrap(), direction: Direction::Incoming }
}

/// One that had so many packets a second.
fn incident(text: &str, peak_pps: u64) -> Incident {
    let threshold = Threshold { metric: Metric::PacketsPerSecond, value: 1.0, source: LimitSource::Static };
    let now = Timestamp(START);
    let incident = Incident::of(uuid::Uuid::nil(), text.parse().unwrap(), Direction::Incoming, threshold, now, now);
    Incident { peak_pps, peak_bps: peak_pps * 8_000, ..incident }
}

/// A target, what learns of it, and its clock.
struct World {
    baselines: Baselines,
    target: Target,
    minute: u64,
    random: Dither,
    /// The widest step of the rate's random walk, and where it stands, in octaves.
    noise: f64,
    wander: f64,
}

impl World {
    fn new(text: &str, noise: f64) -> Self {
        let baselines = Baselines::new(&config::Baseline { hosts_max: 64, ..config::Baseline::default() }, Metrics::default());
        Self { baselines, target: target(text), minute: 0, random: Dither(7), noise, wander: 0.0 }
    }

    fn now(&self) -> Timestamp {
        Timestamp(START + self.minute * MINUTE)
    }

    /// Minutes of so many packets a second by the number of the minute, each of 1,000 octets; six reports a minute.
    fn run(&mut self, minutes: u64, rate: impl Fn(u64) -> f64) {
        for _ in 0..minutes {
            for span in 0..6 {
                self.random_step();
                let packets = rate(self.minute) * self.wander.exp2() * 10.0;
                let volume = Volume { packets, octets: packets * 1_000.0, flows: 1.0, ..Volume::default() };
                let at = Timestamp(self.now().0 + span * 10_000);
                self.baselines.report(&[HostReport { target: self.target, volume }], at);
            }
            self.minute += 1;
        }
    }

    /// A random walk of octaves that comes back in some minutes, a step for each span.
    fn random_step(&mut self) {
        self.wander = self.wander * 0.9 + (uniform(&mut self.random) * 2.0 - 1.0) * self.noise;
    }

    fn limit(&self) -> f64 {
        self.baselines.learned(self.target).unwrap().packets_per_second
    }

    fn usual(&self) -> Baseline {
        self.baselines.usual(self.target).unwrap()
    }

    fn is_stopped(&self) -> bool {
        let key = Key::of(self.target.prefix).unwrap();
        self.baselines.cell(key, self.target.direction).unwrap().is_stopped()
    }
}

/// A number of [0, 1), by 4,096 steps.
fn uniform(random: &mut Dither) -> f64 {
    (0..12).fold(0.0, |sum, bit| sum + f64::from(random.whole(0.5)) / f64::from(2 << bit))
}

#[test]
fn two_shards_make_one_rate_that_ages() {
    for text in ["2001:db8::7", "203.0.113.0/24", "203.0.113.7"] {
        let baselines = Baselines::default();
        let target = target(text);
        let report = HostReport { target, volume: Volume { packets: 1_000.0, octets: 100_000.0, ..Volume::default() } };
        for span in 0..4 {
            let at = START + span * 10_000;
            baselines.report(&[report], Timestamp(at));
            baselines.report(&[report], Timestamp(at + 300));
            // 1,000 packets in ten seconds on each of two shards.
            let rate = baselines.of_target(target);
            assert!(
                (rate.packets_per_second / 200.0 - 1.0).abs() < 0.002 && (rate.bits_per_second / 160_000.0 - 1.0).abs() < 0.002,
                "{rate:?}"
            );
        }
        assert_eq!(baselines.of_target(Target { direction: Direction::Outgoing, ..target }), Rate::default());
        baselines.report(&[], Timestamp(START + 60_000));
        assert_eq!(baselines.of_target(target), Rate::default());
    }
}

#[test]
fn an_ipv6_host_may_stand_in_its_64() {
    let baselines = Baselines::default();
    let folded = HostReport { target: target("2001:db8:0:1::/64"), volume: Volume { packets: 1_000.0, octets: 1.0, ..Volume::default() } };
    baselines.report(&[folded], Timestamp(START));
    assert!((baselines.of("2001:db8:0:1::7".parse().unwrap()).0.packets_per_second - 100.0).abs() < 0.1);
    assert_eq!(baselines.of("2001:db8:0:2::7".parse().unwrap()).0, Rate::default());
}

/// Nothing is told before thirty minutes; then the middle is within a fifth, and IPv6 and prefixes are at par.
#[test]
fn a_steady_target_is_known_after_its_warm_up() {
    for text in ["203.0.113.7", "2001:db8::7", "2001:db8:0:1::/64", "203.0.113.0/24", "2001:db8::/48"] {
        let mut world = World::new(text, 0.05);
        world.run(30, |_| 50_000.0);
        assert_eq!(world.baselines.learned(world.target), None, "{text}");
        world.run(60, |_| 50_000.0);
        assert!((world.usual().avg_pps / 50_000.0 - 1.0).abs() < 0.2, "{text} {:?}", world.usual());
        // One and a half times the spread of somebody new, an octave, and at most another octave by the fast part.
        assert!((110_000.0..330_000.0).contains(&world.limit()), "{text} {}", world.limit());
        world.run(14 * DAY, |_| 50_000.0);
        assert!((world.usual().avg_pps / 50_000.0 - 1.0).abs() < 0.1, "{text} {:?}", world.usual());
        // The least distance is an octave; the fast part adds no more than the spread.
        assert!((95_000.0..130_000.0).contains(&world.limit()), "{text} {}", world.limit());
    }
}

/// Traffic that doubles and halves around 50,000 each day crosses no limit of its own, and the limit follows the hour.
#[test]
fn a_days_rhythm_is_learned() {
    let day = |minute: u64| 50_000.0 * (minute as f64 / DAY as f64 * std::f64::consts::TAU).sin().exp2();
    let mut world = World::new("203.0.113.7", 0.02);
    world.run(3 * DAY, day);
    for _ in 0..14 * DAY / 10 {
        world.run(10, day);
        assert!(world.limit() > 1.5 * day(world.minute), "{} of {}", day(world.minute), world.limit());
    }
    assert!(!world.is_stopped());
    // At noon of the sine by its peak, at night by the middle: never above eight times the middle.
    world.run(DAY / 4, day);
    assert!(world.limit() < 8.0 * 50_000.0, "{}", world.limit());
}

/// A prefix has 40,000 packets/s, and 200,000 in one hour of the week. After three weeks its limit in that hour is for that hour, and lower before and after.
#[test]
fn a_prefix_knows_the_hour_of_the_week() {
    let week = |minute: u64| if minute % (7 * DAY) / 60 == 50 { 200_000.0 } else { 40_000.0 };
    let mut world = World::new("203.0.113.0/24", 0.02);
    world.run(6 * 7 * DAY + 50 * 60 + 30, week);
    assert!(world.limit() > 300_000.0, "{}", world.limit());
    assert!((world.usual().avg_pps / 200_000.0 - 1.0).abs() < 0.3, "{:?}", world.usual());
    world.run(3 * 60, week);
    assert!(world.limit() < 150_000.0, "{}", world.limit());
}

/// A step to 1.9 times what is usual, below the limit, for six hours.
#[test]
fn six_hours_of_an_attack_that_nobody_sees_raise_no_limit() {
    let mut world = World::new("203.0.113.7", 0.05);
    world.run(7 * DAY, |_| 50_000.0);
    let before = world.limit();
    world.run(60, |_| 95_000.0);
    assert!(world.is_stopped());
    world.run(5 * 60, |_| 95_000.0);
    assert!(world.limit() < before * 1.05, "{before} {}", world.limit());
    // What came is not held against it: learning goes on by itself.
    world.run(120, |_| 50_000.0);
    assert!(!world.is_stopped());
    assert!(world.limit() < before * 1.05, "{before} {}", world.limit());
}

/// An incident of six hours at twenty times the usual, whose onset was a quarter of an hour of growth.
#[test]
fn nothing_is_learned_of_an_incident_and_its_onset() {
    for text in ["203.0.113.7", "203.0.113.0/24"] {
        for incident in ["203.0.113.7", "203.0.113.0/24"] {
            let mut world = World::new(text, 0.05);
            world.run(7 * DAY, |_| 50_000.0);
            let (before, begun) = (world.limit(), world.minute);
            world.run(15, |minute| 50_000.0 * (1.0 + (minute - begun) as f64 / 15.0));
            let attacked = target(incident);
            world.baselines.attacked([attacked].iter());
            world.run(360, |_| 1e6);
            world.baselines.attacked([].iter());
            assert!(world.limit() <= before * 1.02, "{text} in {incident} {before} {}", world.limit());
            world.run(60, |_| 50_000.0);
            // An hour that has just come to count is wider than what is known of a week.
            assert!((0.9..1.3).contains(&(world.limit() / before)), "{text} {before} {}", world.limit());
        }
    }
}

/// From the usual to 1.2 times the limit in 30 and in 60 minutes: it is crossed all the same, on the way or within ten minutes at the top.
#[test]
fn a_ramp_is_not_learned() {
    for (days, noise) in [(1, 0.05), (7, 0.05), (14, 0.1)] {
        for minutes in [30, 60] {
            let mut world = World::new("203.0.113.7", noise);
            world.run(days * DAY, |_| 50_000.0);
            let key = Key::of(world.target.prefix).unwrap();
            let cell = world.baselines.cell(key, Direction::Incoming).unwrap();
            let unpoisoned = { Cell::from_words(cell.to_words()) }.limit(&cell.usual(), &world.baselines.rules).unwrap()[0];
            let (begun, top) = (world.minute, unpoisoned * 1.2);
            let ramp = |minute: u64| 50_000.0 + (top - 50_000.0) * ((minute - begun) as f64 / minutes as f64).min(1.0);
            let crossed = (0..minutes + 10).find(|_| {
                world.run(1, ramp);
                ramp(world.minute) > world.limit()
            });
            assert!(crossed.is_some(), "{days} {noise} {minutes}: {top} {}", world.limit());
        }
    }
}

/// What has lasted a day without an incident is what is normal.
#[test]
fn a_change_that_lasts_is_accepted() {
    let mut world = World::new("203.0.113.7", 0.05);
    world.run(7 * DAY, |_| 50_000.0);
    let before = world.limit();
    world.run(23 * 60, |_| 200_000.0);
    assert!(world.is_stopped() && world.limit() < before * 1.05);
    world.run(3 * 60, |_| 200_000.0);
    assert!(!world.is_stopped() && world.limit() > 400_000.0, "{}", world.limit());
}

/// 30 hosts, a week each after a week: their values wander by a tenth of an octave and more, and learning stops for a few of them.
#[test]
fn noise_stops_no_learning() {
    let mut stops = 0;
    for host in 0..30 {
        let (mut world, mut was) = (World::new("203.0.113.7", 0.1), false);
        world.random = Dither(host);
        world.run(7 * DAY, |_| 50_000.0);
        for _ in 0..7 * DAY / 10 {
            world.run(10, |_| 50_000.0);
            let is = world.is_stopped();
            stops += usize::from(is && !was);
            was = is;
        }
    }
    // One in thirty host-weeks, by the derivation.
    assert!(stops <= 4, "{stops}");
}

/// A router tells of a flow that goes on once a minute, with a jitter of ten seconds.
#[test]
fn lumps_of_a_minute_are_the_same_as_an_even_stream() {
    let world = World::new("203.0.113.7", 0.0);
    for minute in 0..3 * DAY {
        let at = START + minute * MINUTE + minute * 7 % 2 * 10_000;
        let volume = Volume { packets: 50_000.0 * 60.0, octets: 3e9, flows: 1.0, ..Volume::default() };
        world.baselines.report(&[HostReport { target: world.target, volume }], Timestamp(at));
    }
    assert!((world.usual().avg_pps / 50_000.0 - 1.0).abs() < 0.3, "{:?}", world.usual());
}

#[test]
fn a_restart_keeps_what_was_learned_and_damage_is_named() {
    let now = |world: &World| world.now();
    for text in ["203.0.113.7", "2001:db8::7", "2001:db8:0:1::/64", "203.0.113.0/24"] {
        let mut world = World::new(text, 0.05);
        world.baselines.watch(["203.0.113.7".parse().unwrap()]);
        world.run(3 * DAY, |_| 50_000.0);
        world.baselines.teach(&incident("198.51.100.1", 1_000_000), now(&world));
        let mut saved = Vec::new();
        world.baselines.write(now(&world), &mut saved).unwrap();
        let mut again = World { minute: world.minute + 2 * DAY, ..World::new(text, 0.05) };
        assert_eq!(again.baselines.read(&saved, now(&again)), Ok(2), "{text}");
        again.baselines.watch(["203.0.113.7".parse().unwrap()]);
        again.baselines.report(&[], now(&again));
        assert_eq!(again.usual(), world.usual());
        let [known, kept] = [&world, &again].map(|world| world.baselines.node("203.0.113.7".parse().unwrap()));
        assert_eq!(known.map(|known| known.p99_pps.round()), kept.map(|kept| kept.p99_pps.round()));
        assert!(kept.is_some());
        assert_eq!(again.baselines.learned(target("198.51.100.1")).unwrap().packets_per_second, 1.5e6);
        assert_eq!(again.baselines.of_target(again.target), Rate::default());
        again.run(10, |_| 50_000.0);
        assert!((again.limit() / world.limit() - 1.0).abs() < 0.3 && !again.limit().is_nan());

        let fresh = || World::new(text, 0.0).baselines;
        for (at, octet) in saved.iter().enumerate().step_by(7) {
            let mut damaged = saved.clone();
            damaged[at] = !octet;
            assert!(fresh().read(&damaged, now(&world)).is_err(), "{at}");
        }
        for length in (0..saved.len()).step_by(5) {
            assert!(fresh().read(&saved[..length], now(&world)).is_err(), "{length}");
        }
    }
}

#[test]
fn a_false_positive_teaches_for_some_time() {
    let mut world = World::new("203.0.113.7", 0.05);
    world.run(2 * DAY, |_| 50_000.0);
    world.baselines.teach(&incident("203.0.113.7", 1_000_000), world.now());
    assert_eq!(world.limit(), 1.5e6);
    let general = || schemas::limit::Limit::of(1e5, 1e9);
    let raised = world.baselines.raise(Limit::new(general(), LimitSource::Static), world.target);
    assert_eq!((raised.get(Metric::PacketsPerSecond), raised.get(Metric::BitsPerSecond)), (1.5e6, 1.2e10));
    assert_eq!(raised.source(Metric::PacketsPerSecond), LimitSource::Baseline);
    let own = Limit::new(general(), LimitSource::Host);
    assert_eq!(world.baselines.raise(own.clone(), world.target), own);
    // Of a part of a /24 it is the /24 that may carry more.
    world.baselines.teach(&incident("203.0.113.64/26", 2_000_000), world.now());
    assert_eq!(world.baselines.learned(target("203.0.113.0/24")).map(|learned| learned.packets_per_second), Some(3e6));
    world.minute += 91 * DAY;
    world.run(1, |_| 50_000.0);
    assert!(world.limit() < 400_000.0, "{}", world.limit());
}

/// A table that was full before the restart is full after it: who was away with the program was not silent, and makes no room.
#[test]
fn after_a_restart_nobody_makes_room_who_was_known() {
    let known = |baselines: &Baselines| (0..64_u32).filter(|host| baselines.usual(of(*host)).is_some()).count();
    fn of(host: u32) -> Target {
        Target { prefix: Address::from_v4(0xcb00_7100 + host).host(), direction: Direction::Incoming }
    }
    let config = config::Baseline { hosts_max: 64, ..config::Baseline::default() };
    let baselines = Baselines::new(&config, Metrics::default());
    let report = |baselines: &Baselines, hosts: std::ops::Range<u32>, at: u64| {
        let volume = Volume { packets: 1e6, octets: 1e9, ..Volume::default() };
        let reports: Vec<HostReport> = hosts.map(|host| HostReport { target: of(host), volume }).collect();
        baselines.report(&reports, Timestamp(at));
    };
    (0..6 * 40).for_each(|span| report(&baselines, 0..64, START + span * 10_000));
    let mut saved = Vec::new();
    baselines.write(Timestamp(START + 400_000), &mut saved).unwrap();
    let again = Baselines::new(&config, Metrics::default());
    let back = START + 5 * DAY_MILLISECONDS;
    again.read(&saved, Timestamp(back)).unwrap();
    // The two tables hash by secrets of their own: not everybody who had room before has room again.
    let taken_up = known(&again);
    assert!(taken_up > 16, "{taken_up}");
    report(&again, 1_000..9_000, back + 60_000);
    assert_eq!(known(&again), taken_up);
}

/// A million hosts of IPv4 take 64 octets each, and the counters 160 for each direction: 384 in all. A host of IPv6 takes 78: 398.
#[test]
fn a_host_costs_less_than_eighty_octets() {
    let config = config::Baseline { hosts_max: 1_000_000, ..config::Baseline::default() };
    let (octets, hosts) = Baselines::new(&config, Metrics::default()).size();
    assert!(hosts == 0 && octets <= 142_000_000, "{octets}");
}
