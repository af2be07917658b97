//! What an insert says besides its block, so that a block which is sent again is stored once, in what views make of it too.

use uuid::Uuid;

use super::insert::Insert;

/// Rows that the engine takes in one piece: more than any block has.
const ROWS_MAX: u32 = 16_777_216;

impl Insert {
    /// Inserts of flows, on a cluster of so many shards or (0) a single server; which columns a block has, it says itself.
    #[must_use]
    pub fn flows(shards: u32) -> Self {
        Self::of("INSERT INTO flows FORMAT Native", shards)
    }

    /// Inserts of what interfaces count, on the same.
    #[must_use]
    pub fn interface_counters(shards: u32) -> Self {
        Self::of("INSERT INTO interface_counters FORMAT JSONEachRow", shards)
    }

    fn of(statement: &str, shards: u32) -> Self {
        let mut settings = vec![
            // The answer comes when the block is stored, and not when it waits for others.
            ("async_insert", "0".to_owned()),
            ("insert_deduplicate", "1".to_owned()),
            // What views sum up is summed up: adding it up once more, before it is written, finds nothing and costs a third of an insert.
            ("optimize_on_insert", "0".to_owned()),
            // The limit of one statement is for questions: a block that never fitted would keep all behind it waiting. That of the server holds.
            ("max_memory_usage", "0".to_owned()),
            // Numbers and addresses come in the narrowest type that holds them.
            ("input_format_native_allow_types_conversion", "1".to_owned()),
            // A view that has not got the block yet takes it, though the table has it already.
            ("deduplicate_blocks_in_dependent_materialized_views", "1".to_owned()),
            // Views see a block in one piece and make one piece of it, every time alike: of several, some could be missing.
            ("max_threads", "1".to_owned()),
            ("max_insert_threads", "1".to_owned()),
            ("max_insert_block_size", ROWS_MAX.to_string()),
            ("min_insert_block_size_rows", ROWS_MAX.to_string()),
            ("min_insert_block_size_bytes", "0".to_owned()),
        ];
        if shards > 0 {
            settings.push(("distributed_foreground_insert", "1".to_owned()));
        }
        let settings = settings.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        Self { statement: statement.to_owned(), settings, shards }
    }

    /// The shard of the cluster that a block goes to, as a whole: when it is sent again it meets itself, though the cluster has grown
    /// since it was first sent, to `shards_then` (0 = never).
    #[must_use]
    pub fn shard(&self, id: Uuid, shards_then: u32) -> Option<u128> {
        let of = |shards: u32| id.as_u128().checked_rem(u128::from(shards)).map(|shard| shard + 1);
        // One that has gone since has taken the block along, if it had it.
        of(shards_then).filter(|shard| *shard <= u128::from(self.shards)).or_else(|| of(self.shards))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shard_of_a_block_follows_from_its_id() {
        let cluster = Insert::flows(3);
        assert_eq!([0, 1, 2, 3, 3].map(|id| cluster.shard(Uuid::from_u128(id), 0)), [Some(1), Some(2), Some(3), Some(1), Some(1)]);
        assert_eq!(Insert::flows(0).shard(Uuid::from_u128(1), 0), None);
    }

    #[test]
    fn a_block_goes_to_the_shard_of_its_first_attempt_as_long_as_there_is_one() {
        let grown = Insert::flows(4);
        assert_eq!([3, 4, 5].map(|id| grown.shard(Uuid::from_u128(id), 3)), [Some(1), Some(2), Some(3)]);
        // The fifth of five shards has gone: of those that are left, it is the first.
        assert_eq!(grown.shard(Uuid::from_u128(4), 5), Some(1));
        assert_eq!(Insert::flows(0).shard(Uuid::from_u128(4), 5), None);
    }
}
