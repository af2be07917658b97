//! One block to the engine, and what its answer means.

use std::time::Duration;

use bytes::Bytes;
use clickhouse::Client;
use clickhouse::error::Error;
use uuid::Uuid;

use super::queue::Block;

/// How long the engine may take for a block: then it is sent again, and stored once all the same.
const DEADLINE: Duration = Duration::from_secs(30);
/// Octets of a block that are compressed and sent at a time: few enough that what is compressed stays in the processor's cache, where
/// room for a whole block would be fresh memory each time, which the system clears first.
const PIECE_OCTETS: usize = 1 << 18;

/// Codes of ClickHouse's `ErrorCodes.cpp` by which a block is wrong, and not the moment.
const REFUSALS: &[u32] = &[
    6,   // CANNOT_PARSE_TEXT
    8,   // THERE_IS_NO_COLUMN
    10,  // NOT_FOUND_COLUMN_IN_BLOCK
    16,  // NO_SUCH_COLUMN_IN_TABLE
    20,  // NUMBER_OF_COLUMNS_DOESNT_MATCH
    26,  // CANNOT_PARSE_QUOTED_STRING
    27,  // CANNOT_PARSE_INPUT_ASSERTION_FAILED
    33,  // CANNOT_READ_ALL_DATA
    36,  // BAD_ARGUMENTS
    44,  // ILLEGAL_COLUMN
    47,  // UNKNOWN_IDENTIFIER
    50,  // UNKNOWN_TYPE
    53,  // TYPE_MISMATCH
    62,  // SYNTAX_ERROR
    69,  // ARGUMENT_OUT_OF_BOUND
    70,  // CANNOT_CONVERT_TYPE
    115, // UNKNOWN_SETTING
    117, // INCORRECT_DATA
    128, // TOO_LARGE_ARRAY_SIZE
    131, // TOO_LARGE_STRING_SIZE
    246, // CORRUPTED_DATA
    261, // UNKNOWN_BLOCK_INFO_FIELD
    271, // CANNOT_DECOMPRESS
    349, // CANNOT_INSERT_NULL_IN_ORDINARY_COLUMN
];

/// How blocks are inserted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Insert {
    /// `INSERT INTO … FORMAT Native`.
    pub statement: String,
    /// Settings that go with it, the block's id aside.
    pub settings: Vec<(String, String)>,
    /// Shards of the cluster, 0 on a single server.
    pub shards: u32,
}

/// Why the engine has not acknowledged a block.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// It does not answer, or cannot for now: the block is sent again.
    #[error("{reason}")]
    Later {
        /// The condition's name, as a metric has it.
        name: &'static str,
        /// The engine's words.
        reason: String,
    },
    /// It never will.
    #[error("{0}")]
    Refused(String),
}

impl Failure {
    /// There is nobody to send it to.
    pub(crate) fn unsent(reason: &dyn std::fmt::Display) -> Self {
        Self::Later { name: "away", reason: reason.to_string() }
    }

    /// The program ends, and the engine has not answered.
    pub(crate) fn stop() -> Self {
        Self::Later { name: "stop", reason: "the engine did not answer before the stop".to_owned() }
    }
}

/// Inserts a block as a whole, or not at all.
///
/// # Errors
///
/// [`Failure`]; after [`Failure::Later`] the engine may have it nevertheless.
pub async fn insert(client: &Client, insert: &Insert, block: &Block) -> Result<(), Failure> {
    send(client, insert, (block.id, block.past.shards), block.octets.clone()).await
}

/// Inserts rows as a whole, or not at all, under an id, and the shards that the cluster had when they were first sent (0 = now).
///
/// # Errors
///
/// [`Failure`]; after [`Failure::Later`] the engine may have them nevertheless.
pub(crate) async fn send(client: &Client, insert: &Insert, (id, shards_then): (Uuid, u32), rows: Bytes) -> Result<(), Failure> {
    let mut request = client.insert_formatted_with(insert.statement.as_str());
    for (name, value) in &insert.settings {
        request = request.with_setting(name, value);
    }
    if let Some(shard) = insert.shard(id, shards_then) {
        request = request.with_setting("insert_shard_id", shard.to_string());
    }
    let mut request = request.with_setting("insert_deduplication_token", id.to_string()).with_timeouts(Some(DEADLINE), Some(DEADLINE));
    let all = async {
        for piece in pieces(&rows) {
            request.send(piece).await?;
        }
        Ok(())
    };
    // A request that is given up in the middle is cut, and never ends as if it were whole.
    tokio::time::timeout(DEADLINE, all).await.unwrap_or(Err(Error::TimedOut)).map_err(failure)?;
    request.end().await.map_err(failure)
}

/// A block's octets in turn, in pieces that share its memory.
fn pieces(octets: &Bytes) -> impl Iterator<Item = Bytes> {
    (0..octets.len()).step_by(PIECE_OCTETS).map(|first| octets.slice(first..octets.len().min(first + PIECE_OCTETS)))
}

fn failure(error: Error) -> Failure {
    let reason = error.to_string();
    let name = match &error {
        Error::BadResponse(words) => match code(words) {
            Some(code) if REFUSALS.contains(&code) => return Failure::Refused(reason),
            Some(241) => "memory",
            Some(252) => "too_many_parts",
            Some(243) => "disk_full",
            Some(_) => "engine",
            None => "response",
        },
        Error::TimedOut => "timeout",
        Error::Network(_) => "network",
        _ => "client",
    };
    Failure::Later { name, reason: reason.chars().take(300).collect() }
}

/// The number in `Code: 241. DB::Exception: …`.
fn code(words: &str) -> Option<u32> {
    let digits = words.split_once("Code: ")?.1;
    let end = digits.find(|character: char| !character.is_ascii_digit()).unwrap_or(digits.len());
    digits.get(..end)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pieces_of_a_block_are_its_octets_in_order() {
        let octets: Bytes = (0..PIECE_OCTETS * 2 + 5).map(|place| place.to_le_bytes()[0] ^ place.to_le_bytes()[2]).collect();
        let all: Vec<Bytes> = pieces(&octets).collect();
        assert_eq!(all.iter().map(Bytes::len).collect::<Vec<_>>(), [PIECE_OCTETS, PIECE_OCTETS, 5]);
        assert_eq!(all.concat(), octets);
        assert_eq!(pieces(&octets.slice(..PIECE_OCTETS)).count(), 1);
    }

    #[test]
    fn what_is_wrong_with_the_moment_is_tried_again_and_what_is_wrong_with_the_block_is_not() {
        let answer = |words: &str| failure(Error::BadResponse(words.to_owned()));
        assert!(matches!(answer("Code: 241. DB::Exception: (total) memory limit exceeded"), Failure::Later { name: "memory", .. }));
        assert!(matches!(answer("Code: 252. DB::Exception: Too many parts"), Failure::Later { name: "too_many_parts", .. }));
        assert!(matches!(answer("502 Bad Gateway"), Failure::Later { name: "response", .. }));
        assert!(matches!(answer("Code: 16. DB::Exception: No such column"), Failure::Refused(_)));
        assert!(matches!(failure(Error::TimedOut), Failure::Later { name: "timeout", .. }));
    }
}
