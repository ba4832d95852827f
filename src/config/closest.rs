//! The known name that a misspelt one most likely meant.

/// The name with the smallest edit distance to `wrong`, unless even that is too far to be a slip.
pub(super) fn closest<'a>(wrong: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        .map(|name| (distance(wrong, name), name))
        .min()
        .filter(|(distance, name)| *distance <= name.len().div_ceil(3))
        .map(|(_, name)| name)
}

/// Levenshtein's distance. `wrong` is cut off where it is far longer than any name, which bounds the work.
fn distance(wrong: &str, name: &str) -> usize {
    let name: Vec<char> = name.chars().collect();
    let mut row: Vec<usize> = (0..=name.len()).collect();
    for (i, a) in wrong.chars().take(128).enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        row[0] = left;
        for (j, b) in name.iter().enumerate() {
            let above = row[j + 1];
            left = (diagonal + usize::from(a != *b)).min(left + 1).min(above + 1);
            diagonal = above;
            row[j + 1] = left;
        }
    }
    row[name.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_levenshteins() {
        for (a, b, want) in
            [("", "", 0), ("a", "", 1), ("", "abc", 3), ("kitten", "sitting", 3), ("ab", "ba", 2)]
        {
            assert_eq!(distance(a, b), want, "{a} {b}");
        }
    }

    #[test]
    fn a_slip_is_recognised_and_nonsense_is_not() {
        let known = ["cluster-store", "scope", "socket"];
        assert_eq!(closest("cluster_store", known), Some("cluster-store"));
        assert_eq!(closest("scop", known), Some("scope"));
        assert_eq!(closest("quux-frobnicate", known), None);
    }
}
