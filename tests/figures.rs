//! The parts of the bench that can be wrong without a measurement: what follows from samples, and how it is told.
//! A bench has no tests of its own, so that they are here.

#![allow(dead_code, reason = "the bench uses all of it")]

#[path = "../benches/figures/document.rs"]
mod document;
#[path = "../benches/figures/figure.rs"]
mod figure;
#[path = "../benches/figures/goals.rs"]
mod goals;
#[path = "../benches/figures/machine.rs"]
mod machine;
#[path = "../benches/figures/pictures.rs"]
mod pictures;
#[path = "../benches/figures/report.rs"]
mod report;
#[path = "../benches/figures/rounds.rs"]
mod rounds;
#[path = "../benches/figures/table.rs"]
mod table;

mod of_figure {
    use super::figure::{Better, Figure, OURS, Series};

    fn figure(ours: &[f64], theirs: &[f64]) -> Figure {
        let series = vec![Series::new(OURS, ours.to_vec()), Series::new("other", theirs.to_vec())];
        Figure { key: "k", title: String::new(), unit: "us", better: Better::Lower, series, note: None }
    }

    #[test]
    fn rounds_are_compared_one_by_one() {
        // The machine became ten times slower in the last two rounds, for both.
        let ratio = figure(&[1.0, 10.0, 10.0], &[2.0, 20.0, 20.0]).ratio("other").unwrap();
        assert!((ratio - 0.5).abs() < 1e-9);
    }

    #[test]
    fn what_is_no_number_is_no_ratio() {
        assert_eq!(figure(&[1.0], &[0.0]).ratio("other"), None);
        assert_eq!(figure(&[], &[1.0]).ratio("other"), None);
        assert_eq!(figure(&[1.0], &[1.0]).ratio("nobody"), None);
    }
}

mod of_goals {
    use super::{
        figure::{Better, Figure, OURS, Series},
        goals::verdicts,
    };
    const BARE: &str = "bare VXLAN";

    fn of(key: &'static str, series: Vec<Series>) -> Figure {
        Figure { key, title: String::new(), unit: "us", better: Better::Lower, series, note: None }
    }

    #[test]
    fn a_ratio_is_judged_against_the_peer_it_names() {
        let ours = Series::new(OURS, vec![17.0, 18.0]);
        let round = of("round-trip-1-core-p50", vec![ours, Series::new(BARE, vec![16.0, 16.0])]);
        let found = verdicts(&[&round]);
        // Docker's overlay was not measured, so that nothing is said of it.
        assert_eq!(found.len(), 1);
        assert!(found[0].met && (found[0].measured - 1.09375).abs() < 1e-9, "{found:?}");
    }

    #[test]
    fn the_worst_sample_counts_where_all_must_be_in_time() {
        let last = of("convergence-last-1000", vec![Series::new(OURS, vec![400.0, 1001.0])]);
        assert!(!verdicts(&[&last])[0].met);
    }
}

mod of_table {
    use super::{
        figure::{Better, Figure, OURS, Series},
        table::{markdown, number, of_figures, rows},
    };

    fn figure() -> Figure {
        let series = vec![Series::new(OURS, vec![17.5]), Series::new("bare VXLAN", vec![16.0])];
        Figure { key: "k", title: "Round trip".into(), unit: "us", better: Better::Lower, series, note: None }
    }

    #[test]
    fn three_digits_count() {
        for (value, shown) in
            [(0.0, "0"), (0.1234, "0.123"), (1.234, "1.23"), (12.34, "12.3"), (51234.5, "51234")]
        {
            assert_eq!(number(value), shown);
        }
    }

    #[test]
    fn the_ratio_stands_beside_the_peer() {
        let [ours, theirs] = &rows(&figure())[..] else { panic!("two subjects") };
        assert_eq!((ours[0].as_str(), ours[6].as_str()), ("Round trip, us", "-"));
        assert_eq!((theirs[0].as_str(), theirs[6].as_str()), ("", "1.09"));
        assert!(markdown(&[figure()]).contains("|  | bare VXLAN | 16.0 | 16.0 .. 16.0 | - | 1 | 1.09 |"));
        assert!(of_figures(&[figure()]).contains("bare VXLAN"));
    }

    #[test]
    fn a_percentile_takes_a_hundred_samples() {
        let of = |samples: u8| {
            let samples = (0..samples).map(f64::from).collect();
            let figure = Figure { series: vec![Series::new(OURS, samples)], ..figure() };
            rows(&figure)[0][4].clone()
        };
        assert_eq!((of(99).as_str(), of(101).as_str()), ("-", "99.0"));
    }
}

mod of_pictures {
    use super::{
        figure::{Better, Figure, OURS, Series},
        pictures::{Kind, kind, of},
    };

    fn figure(series: Vec<Series>) -> Figure {
        Figure { key: "k", title: "T".into(), unit: "ms", better: Better::Lower, series, note: None }
    }

    #[test]
    fn every_figure_can_be_drawn_or_is_none() {
        let one = Series::new(OURS, vec![1.0]);
        let other = Series::new("other <&>", vec![0.0]);
        let many = Series::new("many", (0..100).map(f64::from).collect());
        let none = Series::new("none", vec![]);
        let odd = Series::new("odd", vec![f64::NAN]);
        assert_eq!(kind(&figure(vec![one.clone()])), None);
        assert_eq!(kind(&figure(vec![one.clone(), none])), None);
        assert_eq!(kind(&figure(vec![one.clone(), odd])), None);
        assert_eq!(of(&figure(vec![])).unwrap(), None);
        for (series, is) in
            [(vec![one.clone(), other.clone()], Kind::Bars), (vec![many, other], Kind::Shares)]
        {
            let figure = figure(series);
            assert_eq!(kind(&figure), Some(is));
            let text = of(&figure).unwrap().unwrap();
            assert!(
                text.contains("other &lt;&amp;&gt;") && text.contains("T, ms (less is better)"),
                "{text}"
            );
        }
    }
}

mod of_report {
    use std::fs;

    use serde_json::Value;

    use super::{
        document,
        figure::{Better, Figure, OURS, Series},
        machine::Machine,
        report::{Measured, Report},
    };

    #[test]
    fn a_run_with_a_failure_in_it_is_written_whole() {
        let series = vec![Series::new(OURS, vec![17.0, 18.0]), Series::new("bare VXLAN", vec![16.0, 16.5])];
        let figure = Figure {
            key: "round-trip-1-core-p50",
            title: "Round trip".into(),
            unit: "us",
            better: Better::Lower,
            series,
            note: Some("one byte".into()),
        };
        let group = |number, outcome| Measured { number, title: "Group", seconds: 1.0, outcome };
        let groups = vec![group(1, Ok(vec![figure])), group(2, Err("no engine".to_owned()))];
        let report = Report { machine: Machine::of_this_run(), quick: true, groups };
        let directory = tempfile::tempdir().unwrap();
        let path = report.write(directory.path()).unwrap();
        let markdown = fs::read_to_string(path).unwrap();
        for part in
            ["Failed: no engine", "bare VXLAN", "(round-trip-1-core-p50.svg)", "Round trip: one byte."]
        {
            assert!(markdown.contains(part), "no {part:?} in {markdown}");
        }
        let json: Value =
            serde_json::from_slice(&fs::read(directory.path().join("report.json")).unwrap()).unwrap();
        assert_eq!(json["groups"][1]["failed"], "no engine");
        assert_eq!(json["groups"][0]["figures"][0]["series"][1]["runs"], 2);
        assert_eq!(json["goals"][0]["met"], true);
        assert!(directory.path().join("round-trip-1-core-p50.svg").is_file());
        let document = "Before.\n<!-- written by the bench: begin -->\nold\n<!-- written by the bench: end -->\nAfter.\n";
        let filled = document::filled(document, &report).unwrap();
        assert!(filled.starts_with("Before.\n") && filled.ends_with("\nAfter.\n") && !filled.contains("old"));
        assert!(filled.contains("bare VXLAN"), "{filled}");
        assert_eq!(document::filled(&filled, &report).unwrap(), filled);
        assert!(document::filled("no marks", &report).is_err());
        assert!(!report.is_whole() && report.printed().contains("FAILED: no engine"));
    }
}
