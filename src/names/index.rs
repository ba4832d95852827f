//! Finds places by the hash of what is there, in eight bytes an entry. Two things may share a hash: whoever asks
//! looks at each place, which costs less than a copy of every name.

use std::{
    hash::{DefaultHasher, Hash as _, Hasher},
    net::IpAddr,
};

/// Bytes of a name that are hashed at a time.
const PART: usize = 64;

/// Places in a list, by hash.
#[derive(Debug, Clone, Default)]
pub(super) struct Index {
    /// Hash and place, ascending, none twice.
    entries: Box<[(u32, u32)]>,
}

impl Index {
    /// Of hashes and places.
    pub(super) fn of(entries: impl IntoIterator<Item = (u32, u32)>) -> Self {
        let mut entries: Vec<_> = entries.into_iter().collect();
        entries.sort_unstable();
        entries.dedup();
        Self { entries: entries.into() }
    }

    /// The places with this hash, ascending: those of all that is looked for, and perhaps others.
    pub(super) fn places(&self, hash: u32) -> impl Iterator<Item = u32> + '_ {
        let first = self.entries.partition_point(|(of, _)| *of < hash);
        self.entries.iter().skip(first).take_while(move |(of, _)| *of == hash).map(|(_, place)| *place)
    }

    /// All hashes with their places, those of one hash together.
    pub(super) fn groups(&self) -> impl Iterator<Item = &[(u32, u32)]> {
        self.entries.chunk_by(|one, next| one.0 == next.0)
    }
}

/// The same for a name in upper and in lower case.
pub(super) fn hash_of_name(name: &str) -> u32 {
    let mut hasher = DefaultHasher::new();
    for part in name.as_bytes().chunks(PART) {
        let mut lower = [0; PART];
        let lower = &mut lower[..part.len()];
        lower.copy_from_slice(part);
        lower.make_ascii_lowercase();
        hasher.write(lower);
    }
    short(&hasher)
}

pub(super) fn hash_of_address(ip: IpAddr) -> u32 {
    let mut hasher = DefaultHasher::new();
    ip.hash(&mut hasher);
    short(&hasher)
}

fn short(hasher: &DefaultHasher) -> u32 {
    let [a, b, c, d, ..] = hasher.finish().to_be_bytes();
    u32::from_be_bytes([a, b, c, d])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_place_of_a_hash_is_found_once() {
        let index = Index::of([(7, 3), (9, 0), (7, 1), (7, 3), (u32::MAX, 5), (0, 4)]);
        let places = |hash| index.places(hash).collect::<Vec<_>>();
        assert_eq!(places(7), [1, 3]);
        assert_eq!((places(0), places(8), places(u32::MAX)), (vec![4], vec![], vec![5]));
        assert_eq!(index.groups().map(<[_]>::len).collect::<Vec<_>>(), [1, 2, 1, 1]);
        assert_eq!(Index::default().places(7).count(), 0);
    }

    #[test]
    fn case_does_not_count_and_all_of_a_long_name_does() {
        let long = "Ab".repeat(100);
        assert_eq!(hash_of_name(&long), hash_of_name(&long.to_ascii_lowercase()));
        assert_ne!(hash_of_name(&long), hash_of_name(&long[..199]));
        assert_ne!(hash_of_name("web"), hash_of_name("web2"));
    }
}
