//! One signed POST, and whether another try makes sense.

use std::time::Duration;

use hmac::{Hmac, Mac as _};
use sha2::Sha256;
use ureq::Agent;
use ureq::unversioned::transport::DefaultConnector;

use super::Kind;
use super::public::PublicResolver;
use crate::auth::hex;
use crate::config;

/// A receiver may ask for a pause of this at most.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(600);

/// What came of a try.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The receiver has it.
    Delivered,
    /// Another try may fare better.
    Later {
        /// What went wrong.
        reason: String,
        /// The pause that the receiver asked for.
        after: Option<Duration>,
    },
    /// The receiver will never take it.
    Never {
        /// What went wrong.
        reason: String,
    },
}

/// A receiver.
#[derive(Debug)]
pub struct Webhook {
    agent: Agent,
    url: String,
    secret: String,
}

impl Webhook {
    /// The receiver of the configuration.
    #[must_use]
    pub fn new(config: &config::Webhook) -> Self {
        let settings = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            // A proxy would connect for us to wherever it likes.
            .proxy(None)
            .timeout_global(Some(Duration::from_millis(config.timeout_milliseconds)))
            .user_agent(concat!("Weir/", env!("CARGO_PKG_VERSION")))
            .build();
        let resolver = PublicResolver { allow_private: config.allow_private };
        let agent = Agent::with_parts(settings, DefaultConnector::default(), resolver);
        Self { agent, url: config.url.clone(), secret: config.secret.clone() }
    }

    /// Tries once.
    #[must_use]
    pub fn send(&self, kind: Kind, timestamp: &str, body: &str) -> Outcome {
        let request = self
            .agent
            .post(&self.url)
            .header("content-type", "application/json")
            .header("x-weir-event", kind.name())
            .header("x-weir-timestamp", timestamp)
            .header("x-weir-signature", signature(&self.secret, timestamp, body));
        let response = match request.send(body) {
            Ok(response) => response,
            Err(error @ (ureq::Error::BadUri(_) | ureq::Error::Tls(_))) => return Outcome::Never { reason: error.to_string() },
            Err(ureq::Error::Io(error)) if error.kind() == std::io::ErrorKind::PermissionDenied => {
                return Outcome::Never { reason: error.to_string() };
            }
            Err(error) => return Outcome::Later { reason: error.to_string(), after: None },
        };
        let status = response.status();
        let reason = format!("{} answered {status}", self.url);
        let after = response.headers().get("retry-after").and_then(|value| value.to_str().ok()?.trim().parse().ok());
        let after = after.map(|seconds| Duration::from_secs(seconds).min(RETRY_AFTER_MAX));
        match status.as_u16() {
            200..=299 => Outcome::Delivered,
            429 | 503 => Outcome::Later { reason, after },
            408 | 500..=599 => Outcome::Later { reason, after: None },
            _ => Outcome::Never { reason },
        }
    }
}

/// `sha256=` and the hex HMAC-SHA256 of timestamp, a full stop and the body.
#[must_use]
pub fn signature(secret: &str, timestamp: &str, body: &str) -> String {
    // HMAC takes a key of any length.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret.as_bytes()) else {
        return String::new();
    };
    mac.update(timestamp.as_bytes());
    mac.update(b".");
    mac.update(body.as_bytes());
    format!("sha256={}", hex(&mac.finalize().into_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_covers_the_timestamp_and_the_raw_body() {
        // printf '2026-11-20T12:00:00.000Z.{}' | openssl dgst -sha256 -hmac secret
        let expected = "sha256=6544c116e579649766fba795a5ffcc4cf4bcb8727940ace306e2a6910debe642";
        assert_eq!(signature("secret", "2026-11-20T12:00:00.000Z", "{}"), expected);
    }
}
