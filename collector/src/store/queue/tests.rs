//! The order of blocks, wherever they wait.

use schemas::net::Address;

use super::super::account::{Account, Charge, Share};
use super::super::config::Spool as SpoolConfig;
use super::super::recovered::Recovered;
use super::*;

/// Room for two blocks in memory and so many on disk, each block being a number.
fn queue(folder: &std::path::Path, blocks_max: u64) -> Queue {
    let config = Config { queue_octets_max: 2, spool: SpoolConfig { blocks_max, ..SpoolConfig::default() }, ..Config::default() };
    let (spool, _) = Spool::open(folder, &config.spool, &Recovered::default());
    Queue::new(&config, spool, Arc::default())
}

fn push(queue: &Queue, number: u8, account: &Arc<Account>) {
    let exporters = [Charge { account: Arc::clone(account), records: 1 }].into();
    queue.push(vec![number].into(), Charges([Share { exporters, sum: Account::new(Address::default()) }].into()));
}

fn first(queue: &Queue) -> Block {
    let Next::Insert(block) = queue.next_from(0) else { panic!("nothing waits") };
    block
}

/// The engine takes everything that waits.
fn drain(queue: &Queue) -> Vec<u8> {
    let mut numbers = Vec::new();
    while let Next::Insert(block) = queue.next_from(0) {
        numbers.extend_from_slice(&block.octets);
        queue.acknowledged(&block);
    }
    numbers
}

#[test]
fn the_oldest_goes_first_whether_it_waits_in_memory_or_on_disk() {
    let folder = std::env::temp_dir().join(format!("weir-queue-{}", Uuid::new_v4()));
    let (queue, account) = (queue(&folder, 2), Account::new(Address::from_v4(1)));
    // 0 and 1 in memory, 2 and 3 on disk, 4 finds room nowhere.
    (0..5).for_each(|number| push(&queue, number, &account));
    let ledger = account.ledger();
    assert_eq!((ledger.records_spooled, ledger.records_dropped_by_spool), (2, 1));
    // One is stored; the other cannot go to the disk, which is full, and stays before those on it.
    let block = first(&queue);
    queue.acknowledged(&block);
    queue.retreat();
    push(&queue, 5, &account);
    assert_eq!(drain(&queue), [1, 2, 3, 5]);
    // The spool is empty and the engine answers: what is new waits in memory again.
    push(&queue, 6, &account);
    assert_eq!(account.ledger().records_spooled, 0);
    // The engine goes away: what is in memory goes to disk, and nothing is left in memory for a crash to take.
    queue.retreat();
    push(&queue, 7, &account);
    assert_eq!(account.ledger().records_spooled, 2);
    assert_eq!(drain(&queue), [6, 7]);
    assert_eq!(account.ledger().records_stored, 7);
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_block_that_is_brought_to_safety_while_it_is_sent_ends_where_it_lies_then() {
    let folder = std::env::temp_dir().join(format!("weir-queue-{}", Uuid::new_v4()));
    let (queue, account) = (queue(&folder, 9), Account::new(Address::from_v4(1)));
    (0..2).for_each(|number| push(&queue, number, &account));
    let sent = first(&queue);
    queue.retreat();
    assert_eq!(account.ledger().records_spooled, 2, "that which is sent is on disk too");
    queue.acknowledged(&sent);
    assert_eq!((account.ledger().records_spooled, account.ledger().records_stored), (1, 1));
    assert_eq!(drain(&queue), [1]);
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_later_block_may_overtake_wherever_both_wait() {
    let folder = std::env::temp_dir().join(format!("weir-queue-{}", Uuid::new_v4()));
    let (queue, account) = (queue(&folder, 9), Account::new(Address::from_v4(1)));
    // 0 and 1 in memory, 2 on disk.
    (0..3).for_each(|number| push(&queue, number, &account));
    for number in [1_u8, 2] {
        let Next::Insert(block) = queue.next_from(1) else { panic!("{number} waits") };
        assert_eq!(*block.octets, [number]);
        queue.acknowledged(&block);
    }
    assert!(matches!(queue.next_from(1), Next::Nothing));
    assert_eq!((drain(&queue), account.ledger().records_stored), (vec![0], 3));
    std::fs::remove_dir_all(folder).unwrap();
}

/// By the number of shards a block finds the one that may have it already.
#[test]
fn the_shards_at_the_first_attempt_are_known_after_a_crash_wherever_the_block_waited() {
    let folder = std::env::temp_dir().join(format!("weir-queue-{}", Uuid::new_v4()));
    let (before, account) = (queue(&folder, 9), Account::new(Address::from_v4(1)));
    (0..3).for_each(|number| push(&before, number, &account));
    // The first is in memory when it is sent, the last on disk.
    for sequence in [0, 2] {
        let Next::Insert(mut block) = before.next_from(sequence) else { panic!() };
        before.tried(&mut block, Past { shards: 3, is_in_doubt: false });
    }
    before.retreat();
    drop(before);
    let after = queue(&folder, 9);
    let shards = [0, 1, 2].map(|sequence| {
        let Next::Insert(block) = after.next_from(sequence) else { panic!() };
        (block.past.shards, block.past.is_in_doubt)
    });
    assert_eq!(shards, [(3, true), (0, true), (3, true)]);
    std::fs::remove_dir_all(folder).unwrap();
}
