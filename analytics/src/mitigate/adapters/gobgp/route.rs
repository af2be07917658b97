//! A blackhole as a gobgp path: prefix, origin, next hop, communities, and the marker by which it is known again.

use prost::Message;
use schemas::net::{Address, Prefix};

use super::proto::{
    Any, CommunitiesAttribute, Destination, Family, IpAddressPrefix, LargeCommunitiesAttribute, LargeCommunity, MpReachNlriAttribute,
    NextHopAttribute, OriginAttribute, Path,
};
use crate::config;
use crate::mitigate::adapters::AdapterError;

/// NO_EXPORT (RFC 1997).
const NO_EXPORT: u32 = 0xffff_ff01;

/// How a version of gobgp nests prefixes and attributes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    /// `apipb.GobgpApi`: `google.protobuf.Any`.
    V3,
    /// `api.GoBgpService`: typed oneofs.
    V4,
}

/// An attribute or prefix: its message's name in version 3, its field in version 4's oneof.
struct Kind(&'static str, u32);

const PREFIX: Kind = Kind("IPAddressPrefix", 1);
const ORIGIN: Kind = Kind("OriginAttribute", 2);
const NEXT_HOP: Kind = Kind("NextHopAttribute", 4);
const COMMUNITIES: Kind = Kind("CommunitiesAttribute", 9);
const MP_REACH: Kind = Kind("MpReachNLRIAttribute", 12);
const LARGE_COMMUNITIES: Kind = Kind("LargeCommunitiesAttribute", 21);

impl Dialect {
    pub(super) fn service(self) -> &'static str {
        match self {
            Self::V3 => "apipb.GobgpApi",
            Self::V4 => "api.GoBgpService",
        }
    }

    /// `TableLookupPrefix.Type`: the prefix itself.
    pub(super) fn exact(self) -> i32 {
        i32::from(self == Self::V4)
    }

    /// `TableLookupPrefix.Type`: the prefix and what lies within.
    pub(super) fn longer(self) -> i32 {
        self.exact() + 1
    }

    fn wrap(self, Kind(name, field): &Kind, message: &impl Message) -> Vec<u8> {
        let value = message.encode_to_vec();
        match self {
            Self::V3 => Any { type_url: format!("type.googleapis.com/apipb.{name}"), value }.encode_to_vec(),
            Self::V4 => {
                let mut wrapped = Vec::with_capacity(value.len() + 8);
                prost::encoding::bytes::encode(*field, &value, &mut wrapped);
                wrapped
            }
        }
    }

    /// The message within, if it is of this kind.
    fn unwrap<M: Message + Default>(self, Kind(name, field): &Kind, mut wrapped: &[u8]) -> Option<M> {
        match self {
            Self::V3 => {
                let any = Any::decode(wrapped).ok()?;
                let is_kind = any.type_url.rsplit(['/', '.']).next() == Some(*name);
                is_kind.then(|| M::decode(any.value.as_slice()).ok()).flatten()
            }
            Self::V4 => {
                let (own, wire_type) = prost::encoding::decode_key(&mut wrapped).ok()?;
                if own != *field {
                    return None;
                }
                let mut value: Vec<u8> = Vec::new();
                let context = prost::encoding::DecodeContext::default();
                prost::encoding::bytes::merge(wire_type, &mut value, &mut wrapped, context).ok()?;
                M::decode(value.as_slice()).ok()
            }
        }
    }
}

/// What every route of an adapter is announced with.
#[derive(Clone, Debug)]
pub struct Attributes {
    next_hop_v4: String,
    next_hop_v6: String,
    communities: Vec<u32>,
    large_communities: Vec<LargeCommunity>,
    marker: LargeCommunity,
}

impl Attributes {
    /// Reads the settings.
    ///
    /// # Errors
    ///
    /// [`AdapterError::Setting`] if a community or the endpoint is none.
    pub fn of(settings: &config::Gobgp) -> Result<Self, AdapterError> {
        let setting = |key, value: &str, wanted| AdapterError::Setting { key, value: value.to_owned(), wanted };
        if settings.endpoint.parse::<http::Uri>().ok().and_then(|uri| uri.scheme().cloned()).is_none() {
            return Err(setting("endpoint", &settings.endpoint, "an address like http://127.0.0.1:50051"));
        }
        let community = |text: &String| community(text).ok_or_else(|| setting("communities", text, "a community like 65535:666"));
        let mut communities = settings.communities.iter().map(community).collect::<Result<Vec<_>, _>>()?;
        if settings.no_export && !communities.contains(&NO_EXPORT) {
            communities.push(NO_EXPORT);
        }
        let large = |key, text: &str| large_community(text).ok_or_else(|| setting(key, text, "a large community like 64496:1:666"));
        let marker = large("marker", &settings.marker)?;
        let own = settings.large_communities.iter().map(|text| large("large_communities", text));
        let large_communities = own.chain([Ok(marker)]).collect::<Result<Vec<_>, _>>()?;
        let (next_hop_v4, next_hop_v6) = (settings.next_hop_v4.to_string(), settings.next_hop_v6.to_string());
        Ok(Self { next_hop_v4, next_hop_v6, communities, large_communities, marker })
    }

    /// The path of a route to `target`.
    pub(super) fn path(&self, dialect: Dialect, target: Prefix) -> Path {
        let family = family(target);
        let prefix = IpAddressPrefix { prefix_len: u32::from(target.length()), prefix: target.first().to_string() };
        let nlri = dialect.wrap(&PREFIX, &prefix);
        let next_hop = if target.is_v4() {
            dialect.wrap(&NEXT_HOP, &NextHopAttribute { next_hop: self.next_hop_v4.clone() })
        } else {
            let reach = MpReachNlriAttribute { family: Some(family), next_hops: vec![self.next_hop_v6.clone()], nlris: vec![nlri.clone()] };
            dialect.wrap(&MP_REACH, &reach)
        };
        let pattrs = vec![
            // 0 is IGP (RFC 4271 §4.3).
            dialect.wrap(&ORIGIN, &OriginAttribute { origin: 0 }),
            next_hop,
            dialect.wrap(&COMMUNITIES, &CommunitiesAttribute { communities: self.communities.clone() }),
            dialect.wrap(&LARGE_COMMUNITIES, &LargeCommunitiesAttribute { communities: self.large_communities.clone() }),
        ];
        Path { nlri, pattrs, family: Some(family), neighbor_ip: String::new() }
    }

    /// Whether a path carries our marker.
    pub(super) fn is_ours(&self, dialect: Dialect, path: &Path) -> bool {
        let large = path.pattrs.iter().find_map(|octets| dialect.unwrap::<LargeCommunitiesAttribute>(&LARGE_COMMUNITIES, octets));
        large.is_some_and(|large| large.communities.contains(&self.marker))
    }
}

/// Whether the speaker itself is the path's source, and not a peer.
pub(super) fn is_local(path: &Path) -> bool {
    // Version 3 prints Go's nil, version 4 its invalid address.
    ["", "<nil>", "invalid IP"].contains(&path.neighbor_ip.as_str())
}

/// The prefix of a table's entry.
pub(super) fn prefix_of(destination: &Destination) -> Option<Prefix> {
    destination.prefix.parse().ok()
}

/// A prefix as gobgp looks it up: always with its length.
pub(super) fn text_of(target: Prefix) -> String {
    let first: Address = target.first();
    format!("{first}/{}", target.length())
}

pub(super) fn family(target: Prefix) -> Family {
    Family { afi: if target.is_v4() { 1 } else { 2 }, safi: 1 }
}

fn community(text: &str) -> Option<u32> {
    let (asn, value) = text.split_once(':')?;
    Some(u32::from(asn.parse::<u16>().ok()?) << 16 | u32::from(value.parse::<u16>().ok()?))
}

fn large_community(text: &str) -> Option<LargeCommunity> {
    let mut parts = text.split(':').map(|part| part.parse::<u32>().ok());
    let community = LargeCommunity { global_admin: parts.next()??, local_data1: parts.next()??, local_data2: parts.next()?? };
    parts.next().is_none().then_some(community)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> config::Gobgp {
        let config::Adapter::Gobgp(settings) = toml::from_str("type = \"gobgp\"\nid = \"edge\"").unwrap();
        settings
    }

    #[test]
    fn the_default_is_blackhole_and_no_export() {
        let attributes = Attributes::of(&settings()).unwrap();
        assert_eq!(attributes.communities, [0xffff_029a, 0xffff_ff01]);
        let path = attributes.path(Dialect::V3, "203.0.113.7".parse().unwrap());
        let any = Any::decode(path.nlri.as_slice()).unwrap();
        assert_eq!(any.type_url, "type.googleapis.com/apipb.IPAddressPrefix");
        assert_eq!(
            IpAddressPrefix::decode(any.value.as_slice()).unwrap(),
            IpAddressPrefix { prefix_len: 32, prefix: "203.0.113.7".into() }
        );
    }

    #[test]
    fn a_route_is_known_by_its_marker_in_both_dialects() {
        let ours = Attributes::of(&settings()).unwrap();
        let theirs = Attributes::of(&config::Gobgp { marker: "64496:1:2".into(), ..settings() }).unwrap();
        for dialect in [Dialect::V3, Dialect::V4] {
            for target in ["203.0.113.7", "2001:db8::7"] {
                let path = ours.path(dialect, target.parse().unwrap());
                assert!(ours.is_ours(dialect, &path));
                assert!(!theirs.is_ours(dialect, &path));
                assert!(is_local(&path));
            }
        }
    }

    #[test]
    fn version_4_nests_the_prefix_in_its_oneof() {
        let path = Attributes::of(&settings()).unwrap().path(Dialect::V4, "203.0.113.7".parse().unwrap());
        // Field 1, length 15: { field 1: varint 32; field 2, length 11: the text }.
        assert_eq!(path.nlri.split_at(6).0, [0x0a, 15, 0x08, 32, 0x12, 11]);
    }

    #[test]
    fn a_community_that_is_none_is_named() {
        let error = |settings: config::Gobgp| Attributes::of(&settings).unwrap_err().to_string();
        let wrong = error(config::Gobgp { communities: vec!["65536:1".into()], ..settings() });
        assert_eq!(wrong, "communities: 65536:1 is not a community like 65535:666");
        assert!(error(config::Gobgp { marker: "1:2".into(), ..settings() }).starts_with("marker: 1:2"));
        assert!(error(config::Gobgp { endpoint: "127.0.0.1:50051".into(), ..settings() }).starts_with("endpoint"));
    }
}
