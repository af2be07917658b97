//! Who may call: secrets of 64 hex digits, roles, and the caller that a bearer token stands for.

use std::fmt;
use std::net::IpAddr;

use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::error::ApiError;
use crate::state::audit::Actor;

/// A token or node key in clear: 64 hex digits, shown once, stored only as SHA-256.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    /// A new secret from the system's random source.
    ///
    /// # Errors
    ///
    /// [`getrandom::Error`] if the system has none to give.
    pub fn generate() -> Result<Self, getrandom::Error> {
        let mut octets = [0; 32];
        getrandom::fill(&mut octets)?;
        Ok(Self(hex(&octets)))
    }

    /// The secret that `text` is: 64 hex digits; capitals are taken as small letters.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        (text.len() == 64 && text.bytes().all(|digit| digit.is_ascii_hexdigit())).then(|| Self(text.to_ascii_lowercase()))
    }

    /// The 64 digits.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.0
    }

    /// What is stored: the SHA-256 of the 64 digits.
    #[must_use]
    pub fn hash(&self) -> [u8; 32] {
        Sha256::digest(self.0.as_bytes()).into()
    }
}

/// Never the digits: secrets must not leave by a log line.
impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Secret")
    }
}

/// Octets as small hex digits.
#[must_use]
pub fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

/// What a token may do; each role but `deploy` may do all that the one before it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Registers nodes and nothing else.
    Deploy,
    /// Reads.
    Readonly,
    /// Reads, and labels incidents.
    Analyst,
    /// Mitigates.
    Operator,
    /// Everything.
    Owner,
}

impl Role {
    /// Every role.
    pub const ALL: &[Self] = &[Self::Deploy, Self::Readonly, Self::Analyst, Self::Operator, Self::Owner];

    /// The word of the API.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Deploy => "deploy",
            Self::Readonly => "readonly",
            Self::Analyst => "analyst",
            Self::Operator => "operator",
            Self::Owner => "owner",
        }
    }
}

impl std::str::FromStr for Role {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let known = || Self::ALL.iter().map(|role| role.name()).collect::<Vec<_>>().join(", ");
        Self::ALL.iter().copied().find(|role| role.name() == text).ok_or_else(|| format!("must be one of {}", known()))
    }
}

/// Who may call a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Anybody.
    Public,
    /// Tokens that register nodes: deploy, operator and owner.
    Deploy,
    /// Tokens of this role or a higher one; never deploy tokens.
    Least(Role),
}

impl Access {
    /// Whether a token of `role` may call.
    #[must_use]
    pub fn allows(self, role: Role) -> bool {
        match self {
            Self::Public => true,
            Self::Deploy => matches!(role, Role::Deploy | Role::Operator | Role::Owner),
            Self::Least(least) => role != Role::Deploy && role >= least,
        }
    }
}

/// The token behind a request.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The token's name for good.
    pub token: Uuid,
    /// The token in clear, as the caller sent it.
    pub secret: Secret,
    /// The token's display name.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// The workspace that it opens.
    pub workspace: Uuid,
    /// Where the request came from.
    pub address: IpAddr,
}

impl Caller {
    /// The caller as the audit log names it.
    #[must_use]
    pub fn actor(&self) -> Actor {
        Actor {
            workspace: self.workspace,
            token: Some(self.token),
            name: self.name.clone(),
            address: Some(self.address.to_canonical().to_string()),
        }
    }
}

/// The secret of `Authorization: Bearer …`.
///
/// # Errors
///
/// [`ApiError::Unauthorized`] if the header is missing or malformed.
pub fn bearer(headers: &HeaderMap) -> Result<Secret, ApiError> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let value = values.next().ok_or(ApiError::Unauthorized("a bearer token is required"))?;
    let malformed = ApiError::Unauthorized("the Authorization header must be: Bearer and a token of 64 hex digits");
    let (Ok(text), None) = (value.to_str(), values.next()) else {
        return Err(malformed);
    };
    match text.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => Secret::parse(token.trim()).ok_or(malformed),
        _ => Err(malformed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_of_a_secret_is_the_sha_256_of_its_digits() {
        // sha256 of 64 times "0", by coreutils: printf '0%.0s' {1..64} | sha256sum
        let secret = Secret::parse(&"0".repeat(64)).unwrap();
        assert_eq!(hex(&secret.hash()), "60e05bd1b195af2f94112fa7197a5c88289058840ce7c6df9693756bc6250f55");
        assert!(Secret::parse(&"0".repeat(63)).is_none());
        assert!(Secret::parse(&"g".repeat(64)).is_none());
    }

    #[test]
    fn a_secret_is_never_printed() {
        assert_eq!(format!("{:?}", Secret::generate().unwrap()), "Secret");
    }

    #[test]
    fn deploy_tokens_register_nodes_and_nothing_else() {
        assert!(Access::Deploy.allows(Role::Deploy) && Access::Deploy.allows(Role::Operator) && Access::Deploy.allows(Role::Owner));
        assert!(!Access::Deploy.allows(Role::Analyst) && !Access::Deploy.allows(Role::Readonly));
        assert!(!Access::Least(Role::Readonly).allows(Role::Deploy));
        assert!(Access::Least(Role::Analyst).allows(Role::Operator) && !Access::Least(Role::Operator).allows(Role::Analyst));
    }
}
