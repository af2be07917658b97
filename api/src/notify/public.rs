//! Which addresses may be called: public ones only, unless the operator says otherwise.
//!
//! The check sits in the resolver, so that the address that was checked is the one that is connected to; a name that answers
//! differently the second time gains nothing.

use std::net::IpAddr;
use std::sync::LazyLock;

use schemas::net::{Address, Prefix, PrefixSet};
use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;

/// What the special-purpose registries of IANA (RFC 6890) do not call globally reachable, and multicast.
const SPECIAL_V4: &[&str] = &[
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.0.2.0/24",
    "192.88.99.0/24",
    "192.168.0.0/16",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "224.0.0.0/4",
    "240.0.0.0/4",
];

/// Within the global unicast range 2000::/3: protocol assignments, documentation, and 6to4, which leads to any IPv4 address.
const SPECIAL_V6: &[&str] = &["2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20"];

static SPECIAL: LazyLock<PrefixSet> =
    LazyLock::new(|| SPECIAL_V4.iter().chain(SPECIAL_V6).filter_map(|text| text.parse::<Prefix>().ok()).collect());

static GLOBAL_V6: LazyLock<Option<Prefix>> = LazyLock::new(|| "2000::/3".parse().ok());

/// Whether an address is reachable for anybody.
#[must_use]
pub fn is_public(address: IpAddr) -> bool {
    let address = Address::from(address.to_canonical());
    let in_range = address.is_v4() || GLOBAL_V6.is_some_and(|global| global.contains(address));
    in_range && SPECIAL.get(address).is_none()
}

/// Resolves names to addresses that may be called.
#[derive(Debug)]
pub struct PublicResolver {
    /// Whether any address may be.
    pub allow_private: bool,
}

impl Resolver for PublicResolver {
    fn resolve(&self, uri: &Uri, config: &Config, timeout: NextTimeout) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let all = DefaultResolver::default().resolve(uri, config, timeout)?;
        let mut allowed = self.empty();
        for address in all.iter().filter(|address| self.allow_private || is_public(address.ip())) {
            allowed.push(*address);
        }
        if allowed.is_empty() {
            let message = "the address is not public, and allow_private is not set";
            return Err(ureq::Error::Io(std::io::Error::new(std::io::ErrorKind::PermissionDenied, message)));
        }
        Ok(allowed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_listed_prefix_is_sound() {
        assert_eq!(SPECIAL.iter().count(), SPECIAL_V4.len() + SPECIAL_V6.len());
        assert!(GLOBAL_V6.is_some());
    }

    #[test]
    fn addresses_inside_and_their_disguises_are_not_public() {
        for address in [
            "127.0.0.1",
            "10.1.2.3",
            "169.254.169.254",
            "192.168.0.1",
            "100.64.0.1",
            "0.0.0.0",
            "255.255.255.255",
            "224.0.0.1",
            "::1",
            "::",
            "fe80::1",
            "fc00::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "2002:7f00:1::",
            "64:ff9b::7f00:1",
            "ff02::1",
            "::7f00:1",
        ] {
            assert!(!is_public(address.parse().unwrap()), "{address}");
        }
        for address in ["1.1.1.1", "93.184.215.14", "2606:4700::1111", "::ffff:1.1.1.1"] {
            assert!(is_public(address.parse().unwrap()), "{address}");
        }
    }
}
