//! The control thread with real threads: shards learn from each other, and nothing outdated is decoded.

use super::super::{Datagram, Decoder, ROWS_PER_DATAGRAM_MAX};
use super::*;
use crate::exporter::Exporters;
use schemas::flow::FlowBatch;
use schemas::net::PrefixSet;

struct Shard {
    decoder: Decoder,
    exporters: Exporters,
    batch: FlowBatch,
}

const ARRIVAL: Timestamp = Timestamp(1_700_000_000_000);

impl Shard {
    fn new(control: &ControlThread, config: &Config) -> Self {
        Self {
            decoder: Decoder::new(config, control.templates().unwrap()),
            exporters: Exporters::new(PrefixSet::default(), 64),
            batch: FlowBatch::with_capacity(2 * ROWS_PER_DATAGRAM_MAX),
        }
    }

    fn send(&mut self, sets: &[u8]) {
        let mut payload = vec![0, 10];
        payload.extend(u16::try_from(16 + sets.len()).unwrap().to_be_bytes());
        payload.extend(1_700_000_000u32.to_be_bytes());
        payload.extend([0; 8]);
        payload.extend(sets);
        let datagram = Datagram { exporter: Address::from_v4(0xc000_0201), source_port: 1, arrival: ARRIVAL, payload: &payload };
        self.decoder.decode(&datagram, &mut self.exporters, &mut self.batch);
    }

    /// Waits until `rows` rows are there: the control thread takes its time.
    fn wait_for(&mut self, rows: usize) -> Vec<u16> {
        let end = std::time::Instant::now() + Duration::from_secs(20);
        loop {
            self.decoder.release(ARRIVAL, &mut self.exporters, &mut self.batch);
            if self.batch.rows() >= rows || std::time::Instant::now() > end {
                break;
            }
            std::thread::yield_now();
        }
        self.batch.source_port[..self.batch.rows()].to_vec()
    }
}

/// Template 256: source port, destination port; and the two swapped.
const PORTS: [u8; 16] = [0, 2, 0, 16, 1, 0, 0, 2, 0, 7, 0, 2, 0, 11, 0, 2];
const SWAPPED: [u8; 16] = [0, 2, 0, 16, 1, 0, 0, 2, 0, 11, 0, 2, 0, 7, 0, 2];
const DATA: [u8; 8] = [1, 0, 0, 8, 0, 1, 0, 2];

#[test]
fn a_template_learned_by_one_shard_is_known_to_all() {
    let config = Config::default();
    let control = ControlThread::start(&config, None).unwrap();
    let (mut first, mut second) = (Shard::new(&control, &config), Shard::new(&control, &config));
    second.send(&DATA);
    first.send(&[PORTS.as_slice(), &DATA].concat());
    assert_eq!((first.wait_for(1), second.wait_for(1)), (vec![1], vec![1]));
    assert_eq!(first.exporters.total().templates_learned, 1);
    control.stop();
}

#[test]
fn data_behind_a_new_layout_waits_for_it() {
    let config = Config::default();
    let control = ControlThread::start(&config, None).unwrap();
    let mut shard = Shard::new(&control, &config);
    for _ in 0..50 {
        shard.send(&[PORTS.as_slice(), &DATA].concat());
        shard.wait_for(1);
        shard.send(&[SWAPPED.as_slice(), &DATA].concat());
        assert_eq!(shard.wait_for(2), [1, 2]);
        shard.batch.clear();
    }
    assert_eq!(shard.exporters.total().sets_waiting, 0);
}

#[test]
fn a_full_queue_is_counted_and_the_shard_goes_on() {
    let config = Config::default();
    let control = ControlThread::start(&config, None).unwrap();
    let mut shard = Shard::new(&control, &config);
    control.stop();
    shard.send(&[PORTS.as_slice(), &DATA].concat());
    let total = shard.exporters.total();
    assert_eq!((total.control_dropped, total.sets_waiting, total.sets_decoded), (1, 1, 1));
}

#[test]
fn templates_survive_a_restart_and_a_corrupt_file_is_no_failure() {
    let folder = std::env::temp_dir().join(format!("weir-templates-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join("templates.json");
    let config = Config::default();
    let control = ControlThread::start(&config, Some(file.clone())).unwrap();
    let mut shard = Shard::new(&control, &config);
    shard.send(&[PORTS.as_slice(), &DATA].concat());
    shard.wait_for(1);
    control.stop();

    let control = ControlThread::start(&config, Some(file.clone())).unwrap();
    let mut shard = Shard::new(&control, &config);
    shard.send(&DATA);
    assert_eq!(shard.wait_for(1), [1]);
    control.stop();

    let whole = std::fs::read(&file).unwrap();
    for length in [0, 1, whole.len() / 2, whole.len() - 1] {
        std::fs::write(&file, &whole[..length]).unwrap();
        ControlThread::start(&config, Some(file.clone())).unwrap().stop();
    }
    std::fs::remove_dir_all(&folder).unwrap();
}
