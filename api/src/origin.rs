//! Where the traffic of an incident comes from: autonomous systems and countries of its largest sources.

use std::collections::BTreeMap;

use collector::enrich::Tables;
use schemas::incident::{Incident, Share};
use schemas::net::Address;

/// Autonomous systems that are told of an incident.
const AUTONOMOUS_SYSTEMS_MAX: usize = 10;

/// Fills in what the tables know of the incident's largest sources; where no tables are, it stays untold.
///
/// Shares are of all packets, and sources that are not among the largest are nobody's: what is told is at the least.
pub fn tell(incident: &mut Incident, tables: &Tables) {
    if tables.is_empty() || incident.top_src_ips.is_empty() {
        return;
    }
    let (systems, countries) = origins(&incident.top_src_ips, tables);
    (incident.top_src_asns, incident.geo_breakdown) = (Some(systems), Some(countries));
}

/// The autonomous systems, largest first, and the countries of sources.
fn origins(sources: &[Share<Address>], tables: &Tables) -> (Vec<Share<u32>>, BTreeMap<String, f64>) {
    let mut systems: BTreeMap<u32, Share<u32>> = BTreeMap::new();
    let mut countries: BTreeMap<String, f64> = BTreeMap::new();
    for source in sources {
        let place = tables.place(source.value);
        if place.autonomous_system != 0 {
            let number = place.autonomous_system;
            let sum = systems.entry(number).or_insert(Share { value: number, packets: 0, octets: 0, share: 0.0 });
            sum.packets += source.packets;
            sum.octets += source.octets;
            sum.share += source.share;
        }
        if let (Ok(country), false) = (std::str::from_utf8(&place.country), place.country == [0; 2]) {
            *countries.entry(country.to_owned()).or_default() += source.share;
        }
    }
    let mut systems: Vec<Share<u32>> = systems.into_values().collect();
    systems.sort_by_key(|system| std::cmp::Reverse(system.packets));
    systems.truncate(AUTONOMOUS_SYSTEMS_MAX);
    (systems, countries)
}

#[cfg(test)]
mod tests {
    use bench::synthesize::mmdb::{Mmdb, Value};
    use collector::enrich::{Config, Enrichment};

    use super::*;

    fn source(address: &str, packets: u64, share: f64) -> Share<Address> {
        Share { value: address.parse().unwrap(), packets, octets: packets * 100, share }
    }

    #[test]
    fn sources_are_summed_by_their_autonomous_system_and_country() {
        let mut mmdb = Mmdb::new(true);
        for (prefix, asn, country) in [("192.0.2.0/24", "AS64496", "CH"), ("198.51.100.0/24", "AS64497", "CH"), ("2001:db8::/32", "", "SE")]
        {
            let record = Value::Map(vec![("asn", Value::text(asn)), ("country_code", Value::text(country))]);
            mmdb.insert(prefix.parse().unwrap(), &record);
        }
        let file = std::env::temp_dir().join(format!("weir-origin-{}.mmdb", std::process::id()));
        std::fs::write(&file, mmdb.finish("Made-up", 24)).unwrap();
        let enrichment = Enrichment::start(&Config { mmdb: vec![file.clone()], ..Config::default() }).unwrap();
        std::fs::remove_file(file).unwrap();
        let sources = [
            source("192.0.2.1", 10, 0.125),
            source("198.51.100.1", 30, 0.375),
            source("192.0.2.2", 25, 0.25),
            source("2001:db8::1", 5, 0.125),
            source("203.0.113.1", 5, 0.0625),
        ];
        let (systems, countries) = origins(&sources, &enrichment.tables().get());
        let told: Vec<_> = systems.iter().map(|system| (system.value, system.packets, system.octets, system.share)).collect();
        // 10 + 25 packets of the first, 30 of the second; who is in no file is nobody's.
        assert_eq!(told, [(64_496, 35, 3_500, 0.375), (64_497, 30, 3_000, 0.375)]);
        assert_eq!(countries, BTreeMap::from([("CH".to_owned(), 0.75), ("SE".to_owned(), 0.125)]));
    }
}
