//! Which steps undo what somebody else has changed, and what kind of thing each one repairs. Pure.

use std::collections::HashSet;

use super::{Op, Overlay, diff};

/// The steps among `taken` that were called for only because the kernel was no longer as it had been left:
/// it was `left` like this, and has been `found` like that.
pub fn repairs<'a>(left: &Overlay, found: &Overlay, taken: &'a [Op]) -> Vec<&'a Op> {
    if taken.is_empty() || left == found {
        return Vec::new();
    }
    let back: HashSet<Op> = diff(found, left).into_iter().collect();
    taken.iter().filter(|op| back.contains(op)).collect()
}

/// What a step repairs, in one or two words for people.
pub fn repaired_thing(op: &Op) -> &'static str {
    match op {
        Op::AddSegment { .. } | Op::DeleteSegment { .. } => "bridge",
        Op::ReplaceVxlan { .. } => "VXLAN device",
        Op::SetMtu { .. } => "MTU",
        Op::SetPath { .. } | Op::SetPortPath { .. } => "fast path",
        Op::AddPort { .. } | Op::DeletePort { .. } => "port",
        Op::SetFdb { .. } | Op::DeleteFdb { .. } => "forwarding entry",
        Op::SetNeighbour { .. } | Op::DeleteNeighbour { .. } => "neighbour",
        Op::SetFlood { .. } | Op::DeleteFlood { .. } => "flood entry",
        Op::AddGuard(_) | Op::DeleteGuard(_) => "guard route",
        Op::Announce { .. } => "announcement",
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn guarded(cidrs: &[&str]) -> Overlay {
        let guards: BTreeSet<ipnet::Ipv4Net> = cidrs.iter().map(|cidr| cidr.parse().unwrap()).collect();
        let mut overlay = Overlay::default();
        overlay.guards.extend(guards);
        overlay
    }

    #[test]
    fn a_repair_is_what_somebody_else_has_undone_and_not_what_is_new() {
        let left = guarded(&["10.1.0.0/24", "10.2.0.0/24"]);
        let found = guarded(&["10.2.0.0/24", "10.9.0.0/24"]);
        let wanted = guarded(&["10.1.0.0/24", "10.2.0.0/24", "10.3.0.0/24"]);
        let taken = diff(&found, &wanted);
        let told: Vec<_> = repairs(&left, &found, &taken).into_iter().map(ToString::to_string).collect();
        assert_eq!(told, ["delete guard 10.9.0.0/24", "add guard 10.1.0.0/24"]);
        // What was changed and is no longer wanted either is no repair.
        let taken = diff(&found, &guarded(&["10.9.0.0/24"]));
        assert!(repairs(&left, &found, &taken).is_empty());
        assert!(repairs(&found, &found, &diff(&found, &wanted)).is_empty());
    }
}
