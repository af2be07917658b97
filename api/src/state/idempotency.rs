//! First answers of requests with an `Idempotency-Key`, kept for 24 hours.
//!
//! An answer may carry a new token or a node's key, and those are nowhere stored in clear: so it is sealed with a key made from the
//! caller's own token, which only the caller has.

use hmac::{Hmac, Mac as _};
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use rusqlite::{Connection, OptionalExtension as _, params};
use sha2::Sha256;
use uuid::Uuid;

use schemas::time::Timestamp;

use super::{StateError, milliseconds};
use crate::auth::Secret;

/// How long a first answer is given again, in milliseconds: a day.
pub const KEPT_MILLISECONDS: u64 = 24 * 60 * 60 * 1_000;

/// A first answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct First {
    /// SHA-256 of method, path and body.
    pub request_hash: Vec<u8>,
    /// Its status.
    pub status: u16,
    /// Its body.
    pub body: Vec<u8>,
}

/// The first answer to `key`, if it is younger than a day and can be opened.
///
/// # Errors
///
/// SQLite's.
pub fn find(connection: &Connection, token: Uuid, secret: &Secret, key: &str, now: Timestamp) -> Result<Option<First>, StateError> {
    let sql = "SELECT request_hash, status, answer FROM idempotency WHERE token_uuid = ?1 AND key = ?2 AND created_at > ?3";
    let oldest = milliseconds(Timestamp(now.milliseconds().saturating_sub(KEPT_MILLISECONDS)));
    let read = |row: &rusqlite::Row<'_>| Ok((row.get::<_, Vec<u8>>(0)?, row.get::<_, u16>(1)?, row.get::<_, Vec<u8>>(2)?));
    let found = connection.query_row(sql, params![token.to_string(), key, oldest], read).optional()?;
    Ok(found.and_then(|(request_hash, status, sealed)| open(secret, key, sealed).map(|body| First { request_hash, status, body })))
}

/// Keeps a first answer, and forgets those that are over a day old.
///
/// # Errors
///
/// SQLite's.
pub fn keep(connection: &Connection, token: Uuid, secret: &Secret, key: &str, first: First, now: Timestamp) -> Result<(), StateError> {
    let oldest = milliseconds(Timestamp(now.milliseconds().saturating_sub(KEPT_MILLISECONDS)));
    connection.execute("DELETE FROM idempotency WHERE created_at <= ?1", [oldest])?;
    let Some(sealed) = seal(secret, key, first.body) else {
        return Ok(());
    };
    connection.execute(
        "INSERT OR REPLACE INTO idempotency (token_uuid, key, request_hash, status, answer, created_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        params![token.to_string(), key, first.request_hash, first.status, sealed, milliseconds(now)],
    )?;
    Ok(())
}

fn cipher(secret: &Secret) -> Option<LessSafeKey> {
    let mut derived = Hmac::<Sha256>::new_from_slice(secret.text().as_bytes()).ok()?;
    derived.update(b"weir idempotency");
    UnboundKey::new(&CHACHA20_POLY1305, &derived.finalize().into_bytes()).ok().map(LessSafeKey::new)
}

fn seal(secret: &Secret, key: &str, mut body: Vec<u8>) -> Option<Vec<u8>> {
    let mut nonce = [0; 12];
    getrandom::fill(&mut nonce).ok()?;
    cipher(secret)?.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(key.as_bytes()), &mut body).ok()?;
    Some([nonce.as_slice(), &body].concat())
}

fn open(secret: &Secret, key: &str, sealed: Vec<u8>) -> Option<Vec<u8>> {
    let (nonce, body) = sealed.split_first_chunk::<12>()?;
    let mut body = body.to_vec();
    let opened = cipher(secret)?.open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::from(key.as_bytes()), &mut body).ok()?;
    Some(opened.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_opened_only_by_the_token_and_key_that_sealed_it() {
        let (mine, other) = (Secret::generate().unwrap(), Secret::generate().unwrap());
        let sealed = seal(&mine, "a", b"{\"token\":\"x\"}".to_vec()).unwrap();
        assert!(!sealed.windows(5).any(|window| window == b"token"));
        assert_eq!(open(&mine, "a", sealed.clone()).unwrap(), b"{\"token\":\"x\"}");
        assert_eq!(open(&other, "a", sealed.clone()), None);
        assert_eq!(open(&mine, "b", sealed), None);
    }
}
