//! Template sets, built here.

use super::*;

fn field(element: u16, length: u16) -> Field {
    Field { enterprise: 0, element, length }
}

fn read(set: &[u8], style: Style, options: bool) -> Vec<Result<Announcement, CutRecord>> {
    Announcements::new(&set[4..], style, options, 512).collect()
}

#[test]
fn a_definition_that_is_written_reads_as_itself_in_all_four_formats() {
    for (style, scope_fields) in [(Style::Netflow9, None), (Style::Netflow9, Some(1)), (Style::Ipfix, None), (Style::Ipfix, Some(2))] {
        let mut fields = vec![field(1, 4), field(34, 4), field(35, 1)];
        if style == Style::Ipfix {
            fields.push(Field { enterprise: 29_305, element: 1, length: 8 });
            fields.push(field(82, VARIABLE));
        }
        let definition = Definition { id: 300, style, scope_fields, fields };
        let set = definition.to_set();
        assert_eq!(usize::from(u16::from_be_bytes([set[2], set[3]])), set.len());
        assert_eq!(read(&set, style, scope_fields.is_some()), [Ok(Announcement::Define(definition))]);
    }
}

#[test]
fn fields_without_octets_are_left_out_and_a_record_without_octets_is_refused() {
    // Template 256: elements 8 (4 octets) and 65 (none); template 257: element 8 of no octets; then two octets of padding.
    let set = [0, 2, 0, 24, 1, 0, 0, 2, 0, 8, 0, 4, 0, 65, 0, 0, 1, 1, 0, 1, 0, 8, 0, 0, 0, 0];
    let expected = Definition { id: 256, style: Style::Ipfix, scope_fields: None, fields: vec![field(8, 4)] };
    assert_eq!(read(&set, Style::Ipfix, false), [Ok(Announcement::Define(expected)), Ok(Announcement::Refused)]);
}

#[test]
fn withdrawals_are_told_from_definitions() {
    let set = [0, 2, 0, 12, 1, 0, 0, 0, 0, 2, 0, 0];
    assert_eq!(read(&set, Style::Ipfix, false), [Ok(Announcement::Withdraw(256)), Ok(Announcement::WithdrawAll)]);
    assert_eq!(read(&[0, 3, 0, 8, 0, 3, 0, 0], Style::Ipfix, true), [Ok(Announcement::WithdrawAll)]);
    // Version 9 has none: a template without fields is one that nothing can follow.
    assert_eq!(read(&[0, 0, 0, 8, 1, 3, 0, 0], Style::Netflow9, false), [Ok(Announcement::Refused)]);
}

#[test]
fn a_count_beyond_the_set_is_a_cut_record_and_costs_no_memory() {
    let set = [0, 0, 0, 12, 1, 0, 0xff, 0xff, 0, 8, 0, 4];
    assert_eq!(read(&set, Style::Netflow9, false), [Err(CutRecord)]);
}

#[test]
fn a_field_of_65535_octets_is_variable_in_ipfix_and_refused_in_version_9() {
    let fields = [1, 0, 0, 1, 0, 8, 0xff, 0xff];
    let set = |id: u8| [[0, id, 0, 12].as_slice(), &fields].concat();
    assert_eq!(read(&set(0), Style::Netflow9, false), [Ok(Announcement::Refused)]);
    assert!(matches!(read(&set(2), Style::Ipfix, false)[..], [Ok(Announcement::Define(_))]));
}

#[test]
fn every_prefix_of_a_template_set_reads_as_fewer_templates() {
    let first = Definition { id: 256, style: Style::Ipfix, scope_fields: None, fields: vec![field(8, 4), field(12, 4)] };
    let second = Definition { id: 257, style: Style::Ipfix, scope_fields: None, fields: vec![field(7, 2)] };
    let body = [&first.to_set()[4..], &second.to_set()[4..]].concat();
    for length in 0..body.len() {
        let read: Vec<_> = Announcements::new(&body[..length], Style::Ipfix, false, 512).collect();
        let whole = read.iter().filter(|announcement| matches!(announcement, Ok(Announcement::Define(_)))).count();
        // The first definition has 12 octets, the second 8 more.
        assert_eq!(whole, usize::from(length >= 12), "{length} octets");
    }
}
