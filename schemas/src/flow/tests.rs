//! Batches: what is taken over, kept and forgotten.

use std::sync::Arc;

use super::*;

fn origin(present: ColumnSet) -> Origin {
    Origin {
        exporter: Address::from_v4(1),
        source_port: 1,
        version: Version::Ipfix,
        observation_domain_id: 0,
        template_id: 256,
        arrival_milliseconds: 0,
        export_milliseconds: 0,
        clock_offset_milliseconds: 0,
        time_resolution_milliseconds: 1,
        sampling_source: SamplingSource::Unknown,
        present,
        derived: ColumnSet::default(),
    }
}

#[test]
fn a_cleared_batch_shows_nothing_of_its_last_rows() {
    let mut batch = FlowBatch::with_capacity(8);
    batch.source_port[0] = 53;
    batch.vlan_id[1] = 7;
    batch.commit(2, origin(ColumnSet::of(&[Column::SourcePort, Column::VlanId])));
    assert_eq!((batch.rows(), batch.remaining(), batch.segments().len()), (2, 6, 1));
    batch.clear();
    assert_eq!((batch.rows(), batch.source_port[0], batch.vlan_id[1]), (0, 0, 0));
}

#[test]
fn segments_that_are_taken_over_keep_their_rows_lists_and_labels() {
    let (mut sum, mut part) = (FlowBatch::with_capacity(4), FlowBatch::with_capacity(8));
    for port in [53, 123, 161] {
        let row = part.rows();
        part.source_port[row] = port;
        part.communities[row] = part.push_communities([u32::from(port), 7].into_iter());
        part.commit(1, origin(ColumnSet::of(&[Column::SourcePort, Column::Communities])));
    }
    part.labels.mark_written(&Arc::default());
    part.labels.is_repeat[2] = 1;
    for segments in [2..3, 0..0, 0..2] {
        sum.append_segments(&part, segments);
    }
    assert_eq!(sum.source_port[..4], [161, 53, 123, 0]);
    assert_eq!([0, 1, 2].map(|row| sum.community_list(sum.communities[row])), [&[161, 7][..], &[53, 7], &[123, 7]]);
    assert_eq!(sum.labels.is_repeat[..3], [1, 0, 0]);
    assert_eq!(sum.segments().iter().map(|segment| (segment.first, segment.rows)).collect::<Vec<_>>(), [(0, 1), (1, 1), (2, 1)]);
    // A rate that is learned later is a column that is written from then on, and zeroed with the rest.
    sum.sampling_interval[1] = 100;
    sum.learn_sampling(1, SamplingSource::Options);
    assert_eq!(sum.segments()[1].origin.sampling_source, SamplingSource::Options);
    assert!(sum.written().has(Column::SamplingInterval));
    sum.clear();
    assert_eq!(sum.sampling_interval[1], 0);
}

#[test]
fn appended_rows_keep_their_values_segments_and_labels() {
    let (mut sum, mut part) = (FlowBatch::with_capacity(8), FlowBatch::with_capacity(4));
    for port in [53, 123] {
        part.source_port[0] = port;
        part.communities[0] = part.push_communities([u32::from(port), 7].into_iter());
        part.commit(1, origin(ColumnSet::of(&[Column::SourcePort, Column::Communities])));
        sum.append(&part);
        part.clear();
    }
    part.vlan_id[0] = 7;
    part.labels.mark_written(&Arc::default());
    part.labels.is_repeat[0] = 1;
    part.commit(1, origin(ColumnSet::of(&[Column::VlanId])));
    sum.append(&part);
    assert_eq!((&sum.source_port[..3], &sum.vlan_id[..3]), ([53, 123, 0].as_slice(), [0, 0, 7].as_slice()));
    assert_eq!([0, 1, 2].map(|row| sum.community_list(sum.communities[row])), [&[53, 7][..], &[123, 7], &[]]);
    assert_eq!(sum.segments().iter().map(|segment| segment.first).collect::<Vec<_>>(), [0, 1, 2]);
    assert_eq!(sum.labels.is_repeat[..3], [0, 0, 1]);
    sum.clear();
    assert_eq!((sum.labels.is_repeat[2], sum.labels.are_written()), (0, false));
}
