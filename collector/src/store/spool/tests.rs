//! A spool in a folder of its own: what comes back after an end, a cut, a flipped bit.

use proptest::prelude::*;
use schemas::ledger::StoreLedger;
use schemas::net::Address;

use super::super::account::{Account, Charge, Fate, Share};
use super::*;

/// A folder that goes with its handle.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        let folder = std::env::temp_dir().join(format!("weir-spool-{}", Uuid::new_v4()));
        fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    fn open(&self, config: &Config) -> (Spool, Opened, Recovered) {
        let recovered = Recovered::default();
        let (spool, opened) = Spool::open(&self.0, config, &recovered);
        (spool, opened, recovered)
    }

    fn segment(&self) -> PathBuf {
        self.0.join(name(0))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

/// `exporters` of 10 rows each.
fn charges(exporters: u32) -> Charges {
    let charge = |number| Charge { account: Account::new(Address::from_v4(number)), records: 10 };
    Charges([Share { exporters: (0..exporters).map(charge).collect(), sum: Account::new(Address::default()) }].into())
}

/// What block `number` holds.
fn block(number: u64) -> Vec<u8> {
    (0..1_000 + number * 100).flat_map(|octet| [u8::try_from(octet % 251).unwrap(), u8::try_from(number).unwrap()]).collect()
}

/// Block `number` of `exporters`, as the queue has it.
fn queued(number: u64, exporters: u32) -> Block {
    Block { id: Uuid::new_v4(), sequence: number, octets: block(number).into(), charges: charges(exporters), past: Past::default() }
}

fn append(spool: &mut Spool, block: &Block) -> Result<(), SpoolError> {
    spool.append(block, record::of(block)?)
}

fn read(spool: &mut Spool, sequence: u64) -> Result<Block, Lost> {
    let found = spool.place(sequence).unwrap().read().unwrap();
    spool.resolve(sequence, found).unwrap()
}

/// A spool that blocks 0 and on were written to.
fn written(folder: &Folder, blocks: u64) -> Vec<Uuid> {
    let (mut spool, _, _) = folder.open(&Config::default());
    let append = |number| {
        let block = queued(number, 2);
        append(&mut spool, &block).unwrap();
        block.id
    };
    (0..blocks).map(append).collect()
}

/// Reads and removes everything: the blocks' sequences, and how many could not be read back.
fn drain(spool: &mut Spool) -> (Vec<u64>, u64) {
    let (mut sequences, mut corrupt) = (Vec::new(), 0);
    while let Some(sequence) = spool.first_from(0) {
        match read(spool, sequence) {
            Ok(read) => {
                assert_eq!(read.octets, block(sequence), "what is read back is what was written");
                sequences.push(sequence);
            }
            Err(_) => corrupt += 1,
        }
        spool.remove(sequence).unwrap();
    }
    (sequences, corrupt)
}

#[test]
fn what_was_written_is_there_after_a_crash_in_order_and_with_its_counts() {
    let folder = Folder::new();
    let ids = written(&folder, 3);
    let (mut spool, opened, recovered) = folder.open(&Config::default());
    assert_eq!((opened.blocks, opened.rows, opened.segments_corrupt), (3, 60, 0));
    assert_eq!(read(&mut spool, 0).unwrap().id, ids[0]);
    let expected = StoreLedger { records_recovered: 30, records_spooled: 30, ..StoreLedger::default() };
    assert_eq!(recovered.exporter(Address::from_v4(1)), expected);
    assert_eq!(recovered.sum().imbalance(0), 0);
    assert_eq!(drain(&mut spool), (vec![0, 1, 2], 0));
    assert_eq!((spool.octets(), fs::read_dir(&folder.0).unwrap().count()), (0, 0));
}

#[test]
fn what_the_engine_has_acknowledged_does_not_come_back() {
    let folder = Folder::new();
    written(&folder, 3);
    let (mut spool, _, _) = folder.open(&Config::default());
    spool.remove(0).unwrap();
    drop(spool);
    let (mut spool, opened, _) = folder.open(&Config::default());
    assert_eq!(opened.blocks, 2);
    // What is new goes behind what is old.
    append(&mut spool, &queued(3, 1)).unwrap();
    assert_eq!((spool.segments(), drain(&mut spool)), (2, (vec![1, 2, 3], 0)));
}

#[test]
fn a_block_over_a_bound_is_refused_by_name() {
    let folder = Folder::new();
    let (mut spool, _, _) = folder.open(&Config { blocks_max: 1, ..Config::default() });
    let refusal = |spool: &mut Spool, number| append(spool, &queued(number, 1)).map_err(|error| error.name());
    assert_eq!((refusal(&mut spool, 0), refusal(&mut spool, 1)), (Ok(()), Err("blocks_max")));
    let (mut spool, _, _) = folder.open(&Config { octets_max: 300, ..Config::default() });
    assert_eq!(refusal(&mut spool, 1), Err("octets_max"));
    // It is known before the next is compressed, and until something goes.
    assert_eq!(spool.admits().map_err(|error| error.name()), Err("octets_max"));
    spool.remove(0).unwrap();
    assert!(spool.admits().is_ok());
    let (mut spool, _, _) = folder.open(&Config { octets_max: 0, ..Config::default() });
    assert_eq!(refusal(&mut spool, 1), Err("none"));
}

#[test]
fn a_block_that_is_set_aside_is_taken_up_by_the_next_start() {
    let folder = Folder::new();
    let (mut spool, _, _) = folder.open(&Config::default());
    let [kept, sent] = [0, 1].map(|number| queued(number, 2));
    append(&mut spool, &kept).unwrap();
    spool.set_aside(&sent).unwrap();
    assert_eq!(spool.blocks(), 1, "it does not come back while the program runs");
    fs::write(folder.0.join("set_aside").join("torn.new"), "half a block").unwrap();
    let (mut spool, opened, recovered) = folder.open(&Config::default());
    assert_eq!((opened.blocks, opened.rows_corrupt, recovered.sum().records_recovered), (2, 0, 40));
    assert_eq!(read(&mut spool, 1).unwrap().id, sent.id);
    assert_eq!(drain(&mut spool), (vec![0, 1], 0));
    assert_eq!(fs::read_dir(folder.0.join("set_aside")).unwrap().count(), 0);
}

#[test]
fn what_is_set_aside_has_a_bound() {
    let folder = Folder::new();
    let (spool, _, _) = folder.open(&Config { octets_max: 4_000, ..Config::default() });
    let set_aside = |number| spool.set_aside(&queued(number, 1)).map_err(|error| error.name());
    // A record of some 700 octets, of which a quarter of 4,000 holds one.
    assert_eq!((set_aside(0), set_aside(1)), (Ok(()), Err("disk_full")));
}

#[test]
fn a_folder_that_cannot_be_made_is_named_and_then_let_alone_for_a_while() {
    let folder = Folder::new();
    fs::write(folder.0.join("file"), "").unwrap();
    let (mut spool, _) = Spool::open(&folder.0.join("file/spool"), &Config::default(), &Recovered::default());
    let mut refusal = || append(&mut spool, &queued(0, 1)).unwrap_err().name();
    assert_eq!((refusal(), refusal()), ("io", "paused"));
}

#[test]
fn a_record_that_a_crash_has_torn_is_counted_and_the_others_are_read() {
    let folder = Folder::new();
    written(&folder, 3);
    let length = fs::metadata(folder.segment()).unwrap().len();
    File::options().write(true).open(folder.segment()).unwrap().set_len(length - 1).unwrap();
    let (mut spool, opened, recovered) = folder.open(&Config::default());
    assert_eq!((opened.blocks, opened.rows_corrupt, opened.segments_corrupt), (2, 20, 0));
    assert_eq!((recovered.sum().records_dropped_corrupt, recovered.sum().imbalance(0)), (20, 0));
    assert_eq!(drain(&mut spool), (vec![0, 1], 0));
}

#[test]
fn a_flipped_bit_costs_one_block_whose_rows_are_counted_and_the_segment_is_set_aside() {
    // In the middle block's counts, and in its octets.
    for at in [40, 200] {
        let folder = Folder::new();
        written(&folder, 3);
        let mut octets = fs::read(folder.segment()).unwrap();
        let records = segment::scan(octets.as_slice()).unwrap().records;
        octets[usize::try_from(records[1].offset).unwrap() + at] ^= 1;
        fs::write(folder.segment(), &octets).unwrap();
        let (mut spool, opened, recovered) = folder.open(&Config::default());
        assert_eq!(drain(&mut spool), (vec![0, 2], u64::from(at == 200)));
        let counted_at_open = if at == 40 { 20 } else { 0 };
        assert_eq!((opened.rows_corrupt, recovered.sum().records_dropped_corrupt), (counted_at_open, counted_at_open));
        assert!(folder.0.join("corrupt").join(name(0)).exists() && !folder.segment().exists());
    }
}

/// A segment of a few blocks, as octets.
fn segment_of(blocks: u64) -> Vec<u8> {
    let mut octets = segment::HEADER.to_vec();
    for number in 0..blocks {
        let exporters = vec![(Address::from_v4(1), 10), (Address::from_v4(2), 7)];
        let (mut head, mut record) = record::record(Uuid::from_u128(number.into()), number, exporters, &block(number)).unwrap();
        head.rows_before = number * 17;
        record::seal(&head, &mut record);
        octets.extend(record);
    }
    octets
}

proptest! {
    #[test]
    fn whatever_is_cut_and_flipped_what_is_read_back_was_written(
        blocks in 0_u64..5, cut in any::<prop::sample::Index>(), flips in prop::collection::vec((any::<prop::sample::Index>(), 0_u8..8), 0..4)
    ) {
        let mut octets = segment_of(blocks);
        octets.truncate(octets.len() - cut.index(octets.len()) / 4);
        for (place, bit) in &flips {
            let place = place.index(octets.len());
            octets[place] ^= 1 << bit;
        }
        let scan = segment::scan(octets.as_slice()).unwrap();
        let mut last = None;
        let mut rows = 0;
        for found in &scan.records {
            prop_assert!(last < Some(found.head.sequence), "the order is kept");
            last = Some(found.head.sequence);
            rows += found.head.rows();
            let (head, read) = segment::read(octets.as_slice(), found.offset).unwrap().unwrap();
            prop_assert_eq!(&head, &found.head);
            if let Some(read) = read {
                prop_assert_eq!(read, block(found.head.sequence));
            }
        }
        prop_assert!(rows + scan.rows_lost <= blocks * 17, "no more is lost and found than there was");
        if flips.is_empty() {
            prop_assert!(!scan.is_corrupt());
        }
    }
}

#[test]
fn accounts_follow_what_is_recovered() {
    let folder = Folder::new();
    written(&folder, 1);
    let (mut spool, _, recovered) = folder.open(&Config::default());
    let charges = read(&mut spool, 0).unwrap().charges;
    charges.turn(Fate::Spooled, Fate::Stored);
    let ledger = recovered.exporter(Address::from_v4(0));
    assert_eq!((ledger.records_recovered, ledger.records_stored, ledger.records_spooled), (10, 10, 0));
}

#[test]
fn a_head_that_is_damaged_while_the_program_runs_is_counted_by_exporter_when_nothing_waits() {
    let folder = Folder::new();
    written(&folder, 2);
    let (mut spool, _, recovered) = folder.open(&Config::default());
    let mut octets = fs::read(folder.segment()).unwrap();
    // An exporter of the first head.
    octets[segment::HEADER.len() + record::FIXED_OCTETS] ^= 1;
    fs::write(folder.segment(), octets).unwrap();
    let lost = read(&mut spool, 0).unwrap_err();
    lost.charges.turn(Fate::Spooled, Fate::DroppedCorrupt);
    spool.remove(0).unwrap();
    assert_eq!((recovered.sum().records_dropped_corrupt, recovered.sum().records_spooled), (20, 20));
    assert_eq!(recovered.exporter(Address::from_v4(1)).records_spooled, 20, "whose they were is not known yet");
    read(&mut spool, 1).unwrap().charges.turn(Fate::Spooled, Fate::Stored);
    spool.remove(1).unwrap();
    for ledger in [recovered.exporter(Address::from_v4(0)), recovered.exporter(Address::from_v4(1))] {
        assert_eq!((ledger.records_stored, ledger.records_dropped_corrupt, ledger.imbalance(0)), (10, 10, 0));
    }
}
