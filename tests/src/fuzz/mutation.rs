//! Turns a sound input into unsound ones, the same ones every time.

use bench::synthesize::Random;

/// The values that lengths and counts go wrong with.
const TELLING: [u16; 10] = [0, 1, 2, 3, 4, 5, 255, 256, 32_768, 65_535];

/// A mutation of `input`: one to four changes, drawn from `random`.
#[must_use]
pub fn mutate(input: &[u8], random: &mut Random) -> Vec<u8> {
    let mut octets = input.to_vec();
    for _ in 0..=random.below(4) {
        change(&mut octets, random);
    }
    octets
}

fn change(octets: &mut Vec<u8>, random: &mut Random) {
    let length = u32::try_from(octets.len()).unwrap();
    if length < 4 {
        octets.extend(random.number().to_be_bytes());
        return;
    }
    let at = usize::try_from(random.below(length)).unwrap();
    let even = (at & !1).min(octets.len() - 2);
    match random.below(8) {
        0 => octets[at] ^= 1 << random.below(8),
        1 => octets[at] = u8::try_from(random.below(256)).unwrap(),
        2 => octets.truncate(at),
        // Headers are made of numbers of two octets: one of them says something wrong.
        3 | 4 => octets[even..even + 2].copy_from_slice(&TELLING[usize::try_from(random.below(10)).unwrap()].to_be_bytes()),
        // A stretch is said twice, or left out, or stands where another stood.
        5 => {
            let end = (at + 1 + usize::try_from(random.below(64)).unwrap()).min(octets.len());
            let stretch = octets[at..end].to_vec();
            octets.splice(at..at, stretch);
        }
        6 => {
            let end = (at + 1 + usize::try_from(random.below(16)).unwrap()).min(octets.len());
            octets.drain(at..end);
        }
        _ => {
            let from = usize::try_from(random.below(length)).unwrap();
            let count = (octets.len() - at.max(from)).min(32);
            octets.copy_within(from..from + count, at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_mutations_and_each_is_another_one() {
        let input: Vec<u8> = (0..100).collect();
        let draw = || {
            let mut random = Random::new(7);
            (0..50).map(|_| mutate(&input, &mut random)).collect::<Vec<_>>()
        };
        assert_eq!(draw(), draw());
        assert!(draw().iter().filter(|one| **one != input).count() > 45);
    }
}
