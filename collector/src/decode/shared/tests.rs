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

#[test]
fn one_exporter_has_no_more_than_its_part_of_the_queue() {
    let (tasks, _queue) = bounded(8);
    let (_outcomes, outcomes) = bounded(1);
    let published: Arc<Published> = Arc::default();
    let mut shared = SharedTemplates {
        tasks,
        outcomes,
        published: published.clone(),
        snapshot: Arc::default(),
        shard: 0,
        number: 0,
        outstanding: VecDeque::new(),
        of_exporter: HashMap::new(),
        per_exporter_max: 2,
    };
    let set = |exporter: u128| ControlSet {
        scope: Scope { exporter: Address(exporter), version: schemas::flow::Version::Ipfix, domain: 0, port: 0 },
        source_port: 1,
        arrival: Timestamp(1),
        set_id: 256,
        body: Box::default(),
    };
    assert_eq!([1, 1, 1, 2].map(|exporter| shared.hand_over(set(exporter))), [Some(1), Some(2), None, Some(3)]);
    // The first was taken in.
    published.snapshot.store(Arc::new(Snapshot { generation: 1, processed: vec![1], ..Snapshot::default() }));
    published.generation.store(1, Ordering::Release);
    assert_eq!([1, 1].map(|exporter| shared.hand_over(set(exporter))), [Some(4), None]);
}

#[test]
fn options_data_name_interfaces() {
    // Template 257: of ingressInterface, its name and its description, both of variable length. A name of interface 9.
    const OPTIONS: [u8; 22] = [0, 3, 0, 22, 1, 1, 0, 3, 0, 1, 0, 10, 0, 4, 0, 82, 255, 255, 0, 83, 255, 255];
    const NAME: [u8; 16] = [1, 1, 0, 16, 0, 0, 0, 9, 4, b'x', b'e', b'-', b'9', 2, b't', b'o'];
    let config = Config::default();
    let interfaces = Interfaces::new(&crate::enrich::interface::Config::default());
    let control = ControlThread::start_telling(&config, None, Some(interfaces.clone())).unwrap();
    let mut shard = Shard::new(&control, &config);
    shard.send(&[OPTIONS.as_slice(), &NAME].concat());
    let end = std::time::Instant::now() + Duration::from_secs(10);
    let name = || {
        interfaces.flush();
        let snapshot = interfaces.snapshot();
        let device = snapshot.devices().next()?.1;
        device.interface(9).map(|it| (it.name.to_string(), it.description.to_string()))
    };
    while name().is_none() && std::time::Instant::now() < end {
        shard.decoder.release(ARRIVAL, &mut shard.exporters, &mut shard.batch);
        std::thread::yield_now();
    }
    assert_eq!(name(), Some(("xe-9".to_owned(), "to".to_owned())));
    control.stop();
}
