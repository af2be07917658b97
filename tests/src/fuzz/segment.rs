//! Segments of the spool, however they were damaged.

use collector::store::spool::record::{FIXED_OCTETS, MAGIC, head_octets};
use collector::store::spool::segment;

/// Where the checksum of a head lies, and where begins what it is made of.
const CRC_AT: usize = 12;
const SUMMED_AT: usize = 16;

/// Reads a segment, and holds what is found in it against what must be.
pub(super) fn check(octets: &[u8]) {
    let scan = segment::scan(octets).expect("octets in memory can be read");
    let (mut end, length) = (0, octets.len() as u64);
    for found in &scan.records {
        assert!(found.offset >= end, "no record lies in another");
        end = found.offset + found.head.record_octets();
        assert!(end <= length, "a record that is called whole is there to its end");
        let (head, block) = segment::read(octets, found.offset).expect("octets in memory can be read").expect("what was found is there");
        assert_eq!(head, found.head);
        assert!(block.is_none_or(|block| block.len() as u64 == u64::from(head.octets)), "a block is as long as its head says");
    }
    assert!(scan.octets >= end && scan.octets <= length.max(segment::HEADER.len() as u64));
    if let Some(torn) = &scan.torn {
        assert!(torn.offset >= end && torn.offset + torn.head.record_octets() > length, "it ends where nothing is any more");
        assert!(segment::read(octets, torn.offset).expect("octets in memory can be read").is_some_and(|(_, block)| block.is_none()));
    }
}

/// Makes the checksums of all heads right that begin somewhere.
pub(super) fn seal(octets: &mut [u8]) {
    let starts: Vec<usize> = (0..octets.len()).filter(|start| octets[*start..].starts_with(&MAGIC)).collect();
    for start in starts {
        let fixed = &octets[start..octets.len().min(start + FIXED_OCTETS)];
        let Some(head) = head_octets(fixed).and_then(|length| octets.get_mut(start..start.checked_add(length)?)) else { continue };
        let sum = crc32(&head[SUMMED_AT..]);
        head[CRC_AT..SUMMED_AT].copy_from_slice(&sum.to_le_bytes());
    }
}

/// CRC-32 as in IEEE 802.3, bit by bit.
fn crc32(octets: &[u8]) -> u32 {
    let step = |sum: u32| if sum & 1 == 1 { sum >> 1 ^ 0xedb8_8320 } else { sum >> 1 };
    !octets.iter().fold(!0, |sum, octet| (0..8).fold(sum ^ u32::from(*octet), |sum, _| step(sum)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_whose_numbers_were_changed_is_sound_again_when_it_is_sealed() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926, "the check value of the catalogue");
        let (_, _, seed) = super::super::seed::all().into_iter().find(|(target, _, _)| *target == "spool").unwrap();
        let mut octets = seed[1..].to_vec();
        let records = |octets: &[u8]| segment::scan(octets).unwrap().records;
        let first = usize::try_from(records(&octets)[0].offset).unwrap();
        let count = records(&octets).len();
        // The sequence.
        octets[first + 32] ^= 0xff;
        assert_eq!(records(&octets).len(), count - 1);
        seal(&mut octets);
        assert_eq!(records(&octets).len(), count);
    }
}
