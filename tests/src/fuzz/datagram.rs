//! Sequences of datagrams through the decoder, with a sound exporter beside them that must not notice.

use std::cell::RefCell;
use std::sync::LazyLock;

use bench::synthesize::Protocol;
use collector::decode::{Config, Datagram, Decoder, Templates};
use collector::exporter::Exporters;
use schemas::flow::FlowBatch;
use schemas::net::{Address, PrefixSet};

use super::seed::{self, MOMENT};

/// Rows of the batch: what one datagram may need, twice.
const ROWS: usize = 1 << 17;
/// Datagrams of one input that are fed.
const DATAGRAMS_MAX: usize = 256;
const SOUND: Address = Address::from_v4(0x0a00_00fe);

/// What the sound exporter sends: templates and six flows in three datagrams.
static SOUND_DATAGRAMS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| seed::datagrams(Protocol::Netflow9, 100));

/// Feeds a sequence (see [`seed::sequence`]); the first two octets of each datagram become `version`.
///
/// Asserts that every datagram and set lands in exactly one count of the ledger, that no more rows come out than the batch
/// holds, and that the flows of another exporter, before and after, are decoded as if nothing had been.
pub(super) fn feed(input: &[u8], version: Option<u16>) {
    with_batch(|batch| feed_into(input, version, batch));
}

thread_local! {
    // Made once: so many rows take longer to make than to fill.
    static BATCH: RefCell<FlowBatch> = RefCell::new(FlowBatch::with_capacity(ROWS));
}

/// Lends an empty batch.
pub(super) fn with_batch<T>(work: impl FnOnce(&mut FlowBatch) -> T) -> T {
    BATCH.with_borrow_mut(|batch| {
        batch.clear();
        work(batch)
    })
}

fn feed_into(input: &[u8], version: Option<u16>, batch: &mut FlowBatch) {
    let mut decoder = Decoder::new(&Config::default(), Templates::Inline);
    let mut exporters = Exporters::new(PrefixSet::default(), 16);
    let before = sound(&mut decoder, &mut exporters, batch);
    for (index, (sender, payload)) in (0..).zip(split(input).take(DATAGRAMS_MAX)) {
        let mut payload = payload.to_vec();
        if let (Some(version), Some(head)) = (version, payload.get_mut(..2)) {
            head.copy_from_slice(&version.to_be_bytes());
        }
        // The exporter by the lowest bits; the highest ones move its source port and our clock.
        let exporter = Address::from_v4(0x0a00_0001 + u32::from(sender & 3));
        let arrival = MOMENT.plus(index * 10 + if sender & 0x40 == 0 { 0 } else { 3_600_000 });
        let datagram = Datagram { exporter, source_port: 2_000 + u16::from(sender >> 7), arrival, payload: &payload };
        decoder.decode(&datagram, &mut exporters, batch);
        decoder.release(arrival, &mut exporters, batch);
        assert!(batch.rows() <= ROWS);
        if batch.remaining() < ROWS / 2 {
            batch.clear();
        }
    }
    batch.clear();
    let after = sound(&mut decoder, &mut exporters, batch);
    assert_eq!(before, after, "another exporter's flows are harmed");
    let balances = exporters.total().imbalance();
    assert_eq!((balances[0].1, balances[1].1), (0, 0), "{:?}", exporters.total());
}

/// Decodes what the sound exporter sends; destination, octets and interval of each flow.
fn sound(decoder: &mut Decoder, exporters: &mut Exporters, batch: &mut FlowBatch) -> Vec<(Address, u64, u32)> {
    for payload in SOUND_DATAGRAMS.iter() {
        decoder.decode(&Datagram { exporter: SOUND, source_port: 9, arrival: MOMENT, payload }, exporters, batch);
    }
    let flows = (0..batch.rows()).map(|row| (batch.destination_address[row], batch.octet_delta_count[row], batch.sampling_interval[row]));
    let flows = flows.collect();
    batch.clear();
    flows
}

/// The datagrams of a sequence with the octet in front of each; a length beyond the end takes the rest.
fn split(mut input: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    std::iter::from_fn(move || {
        let [sender, high, low, rest @ ..] = input else { return None };
        let (payload, next) = rest.split_at(usize::from(u16::from_be_bytes([*high, *low])).min(rest.len()));
        input = next;
        Some((*sender, payload))
    })
}
