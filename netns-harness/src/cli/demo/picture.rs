//! A picture of the demo's hosts, in ASCII so that every terminal can show it.

use super::project::{NETWORK, Network, Replica};

/// Columns inside a host's box.
const INNER: usize = 34;

/// Boxes side by side on a terminal of 80 columns.
const PER_ROW: usize = 2;

const GAP: &str = "   ";

/// One host and what it has.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) host: String,
    pub(super) engine: String,
    pub(super) compose: String,
    pub(super) vtep: String,
    pub(super) replicas: Vec<Replica>,
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

/// The containers side by side, each in a column of its own, on one bridge.
fn host_box(place: &Place, vni: u32) -> Vec<String> {
    let edge = |text: &str| format!("+{text:-^INNER$}+");
    let line = |text: &str| format!("|{text:^INNER$}|");
    let column = INNER / place.replicas.len().max(1);
    let columns = |text: &dyn Fn(&Replica) -> String| -> String {
        let cells: Vec<String> = place.replicas.iter().map(|one| format!("{:^column$}", text(one))).collect();
        cells.concat()
    };
    let bridge = format!("+{:-^width$}+", " bridge ", width = (INNER - column).saturating_sub(1));
    vec![
        edge(&format!(" {}, Docker {} ", place.host, place.engine)),
        line(&columns(&|one| one.name.clone())),
        line(&columns(&|one| one.address.to_string())),
        line(&columns(&|_| "     | veth".to_owned())),
        line(&bridge),
        line("|"),
        line(&format!("VXLAN {vni}")),
        edge(&format!(" VTEP {} ", place.vtep)),
        format!(" {:^INNER$} ", "|"),
    ]
}

/// Hosts as a demo of this size has them, with one replica of each service.
#[cfg(test)]
pub(super) fn places(count: u8) -> Vec<Place> {
    let of = |host: &str| -> Vec<Replica> {
        super::project::examples(1).into_iter().filter(|one| one.host == host).collect()
    };
    (1..=count)
        .map(|number| Place {
            host: format!("host{number}"),
            engine: if number % 2 == 0 { "28.5" } else { "20.10.24" }.to_owned(),
            compose: if number % 2 == 0 { "2.40.3" } else { "1.29.2" }.to_owned(),
            vtep: format!("192.0.2.{number}"),
            replicas: of(if number % 2 == 0 { "host2" } else { "host1" }),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(count: u8) -> String {
        draw(&super::super::project::example_network(), "etcd://192.0.2.254:2379", &places(count))
    }

    #[test]
    fn all_that_was_built_is_in_it() {
        for count in [2, 5, 9] {
            let picture = picture(count);
            for place in places(count) {
                assert!(picture.contains(&place.host) && picture.contains(&place.vtep), "{picture}");
                for one in place.replicas {
                    assert!(picture.contains(&one.name), "no {one:?} in\n{picture}");
                    assert!(picture.contains(&one.address.to_string()), "no {one:?} in\n{picture}");
                }
            }
            for part in ["172.18.0.0/16", "VXLAN 4096", "MTU 1450", "etcd://192.0.2.254:2379"] {
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
        assert!(framed[0] < 80, "{picture}");
    }
}
