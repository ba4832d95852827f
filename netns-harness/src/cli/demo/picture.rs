//! A picture of the demo's hosts, in ASCII so that every terminal can show it.

use super::{NETWORK, Network};

/// Columns inside a host's box.
const INNER: usize = 26;

/// Boxes side by side.
const PER_ROW: usize = 3;

const GAP: &str = "   ";

/// One host and its container.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) host: String,
    pub(super) engine: String,
    pub(super) vtep: String,
    pub(super) container: String,
    pub(super) address: String,
}

/// Hosts in rows, each row on the underlay, the store below.
pub(super) fn draw(network: &Network, store: &str, places: &[Place]) -> String {
    let subnets = network.subnets.join(", ");
    let mut lines = vec![format!("network {NETWORK}: {subnets}, VNI {}, MTU {}", network.vni, network.mtu)];
    let width = places.len().min(PER_ROW) * (INNER + 2 + GAP.len()) - GAP.len();
    for row in places.chunks(PER_ROW) {
        let boxes: Vec<Vec<String>> = row.iter().map(|place| host_box(place, network.vni)).collect();
        let height = boxes.first().map_or(0, Vec::len);
        for line in 0..height {
            let parts: Vec<&str> = boxes.iter().filter_map(|one| one.get(line)).map(String::as_str).collect();
            lines.push(parts.join(GAP));
        }
        lines.push(format!("{:=^width$}", " underlay, VXLAN in UDP 4789 "));
    }
    for line in ["|", store] {
        lines.push(format!("{line:^width$}"));
    }
    let lines: Vec<&str> = lines.iter().map(|line| line.trim_end()).collect();
    lines.join("\n") + "\n"
}

fn host_box(place: &Place, vni: u32) -> Vec<String> {
    let edge = |text: &str| format!("+{text:-^INNER$}+");
    let line = |text: &str| format!("|{text:^INNER$}|");
    vec![
        edge(&format!(" {}, Docker {} ", place.host, place.engine)),
        line(&place.container),
        line(&place.address),
        line("     | veth"),
        line("bridge"),
        line("|"),
        line(&format!("VXLAN {vni}")),
        edge(&format!(" VTEP {} ", place.vtep)),
        format!(" {:^INNER$} ", "|"),
    ]
}

/// Hosts as a demo of this size has them.
#[cfg(test)]
pub(super) fn places(count: u8) -> Vec<Place> {
    (1..=count)
        .map(|number| Place {
            host: format!("host{number}"),
            engine: if number % 2 == 0 { "28.5" } else { "20.10.24" }.to_owned(),
            vtep: format!("192.0.2.{number}"),
            container: format!("web{number}"),
            address: format!("10.0.0.{}", number + 1),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(count: u8) -> String {
        let network = Network { name: None, subnets: vec!["10.0.0.0/24".into()], vni: 4096, mtu: 1450 };
        draw(&network, "etcd://192.0.2.254:2379", &places(count))
    }

    #[test]
    fn all_that_was_built_is_in_it() {
        for count in [2, 5, 9] {
            let picture = picture(count);
            for place in places(count) {
                for part in [&*place.host, &*place.vtep, &*place.container, &*place.address] {
                    assert!(picture.contains(part), "no {part} in\n{picture}");
                }
            }
            for part in ["10.0.0.0/24", "VXLAN 4096", "MTU 1450", "etcd://192.0.2.254:2379"] {
                assert!(picture.contains(part), "no {part} in\n{picture}");
            }
        }
    }

    #[test]
    fn boxes_line_up_in_ascii() {
        let picture = picture(2);
        assert!(picture.is_ascii() && picture.lines().all(|line| !line.ends_with(' ')), "{picture}");
        let framed: Vec<usize> =
            picture.lines().filter(|line| line.starts_with(['+', '|', '='])).map(str::len).collect();
        assert!(framed.windows(2).all(|pair| pair[0] == pair[1]), "{framed:?}\n{picture}");
    }
}
