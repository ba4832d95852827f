//! The two laws that the reconciler stands on.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test may fail")]

mod common {
    pub(crate) mod overlays;
}

use common::overlays::overlay;
use proptest::prelude::*;
use rs_overlay::plan::{Op, Port, apply, diff};

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn what_is_as_it_should_be_is_left_alone(a in overlay()) {
        prop_assert_eq!(diff(&a, &a), vec![]);
    }

    #[test]
    fn the_steps_lead_from_any_overlay_to_any_other(a in overlay(), b in overlay()) {
        prop_assert_eq!(apply(&diff(&a, &b), a), b);
    }

    #[test]
    fn each_step_can_be_repeated(a in overlay(), b in overlay()) {
        let steps = diff(&a, &b);
        let twice: Vec<_> = steps.iter().flat_map(|step| [step.clone(), step.clone()]).collect();
        prop_assert_eq!(apply(&twice, a), b);
    }

    #[test]
    fn nothing_is_deleted_that_stays_as_it_is(a in overlay(), b in overlay()) {
        for step in diff(&a, &b) {
            if let Op::DeletePort { vni, endpoint } = step {
                let port = |overlay: &rs_overlay::plan::Overlay| -> Option<(String, Port)> {
                    let segment = overlay.segments.get(&vni)?;
                    Some((segment.network.to_string(), *segment.ports.get(&endpoint)?))
                };
                let (old, new) = (port(&a), port(&b));
                prop_assert!(old.is_some());
                // A container's interface is taken away only for another network or another MAC.
                if let (Some((network, old)), Some((wanted, new))) = (old, new) {
                    prop_assert!(network != wanted || old.mac != new.mac);
                }
            }
        }
    }
}
