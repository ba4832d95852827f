//! `ls` and `status`: what runs.

use anyhow::Result;
use netns_harness::{Host, Lab};
use serde::Serialize;

use super::{Format, print};

#[derive(Debug, Serialize)]
struct LabRow {
    name: String,
    hosts: usize,
    on: usize,
    store: String,
    family: String,
    /// Whether it lives on its own, rather than as part of a running test.
    detached: bool,
    directory: String,
}

#[derive(Debug, Serialize)]
struct HostRow {
    host: usize,
    power: bool,
    engine: String,
    engine_running: bool,
    daemon_running: bool,
    address: String,
    containers: Vec<String>,
    leftovers: Vec<String>,
}

/// All labs.
pub(super) fn list(format: Format) -> Result<()> {
    let rows: Vec<LabRow> =
        Lab::names().iter().filter_map(|name| Some(LabRow::of(&Lab::attach(name).ok()?))).collect();
    match format {
        Format::Json => json(&rows),
        Format::Table => {
            let head = ["NAME", "HOSTS", "ON", "STORE", "UNDERLAY", "OWNER", "DIRECTORY"];
            let cells = rows.into_iter().map(|row| {
                let owner = if row.detached { "background" } else { "process" };
                let (hosts, on) = (row.hosts.to_string(), row.on.to_string());
                [row.name, hosts, on, row.store, row.family, owner.to_owned(), row.directory]
            });
            print(&table(head, cells))
        }
    }
}

/// One lab's hosts.
pub(super) fn status(name: &str, format: Format) -> Result<()> {
    let lab = Lab::attach(name)?;
    let rows = lab.hosts().iter().map(HostRow::of).collect::<Result<Vec<_>>>()?;
    match format {
        Format::Json => json(&serde_json::json!({
            "name": name, "store": lab.store_kind(), "store_url": lab.store_url(),
            "store_running": lab.store().running(), "hosts": rows,
        })),
        Format::Table => {
            let head = ["HOST", "POWER", "ENGINE", "DOCKERD", "DAEMON", "ADDRESS", "CONTAINERS", "LEFTOVERS"];
            let cells = rows.into_iter().map(|row| {
                let runs = |runs| if runs { "runs" } else { "-" }.to_owned();
                let power = if row.power { "on" } else { "off" }.to_owned();
                let (containers, leftovers) =
                    (row.containers.len().to_string(), row.leftovers.len().to_string());
                let (engine, daemon) = (runs(row.engine_running), runs(row.daemon_running));
                [row.host.to_string(), power, row.engine, engine, daemon, row.address, containers, leftovers]
            });
            print(&table(head, cells))
        }
    }
}

impl LabRow {
    fn of(lab: &Lab) -> Self {
        Self {
            name: lab.name().to_owned(),
            hosts: lab.hosts().len(),
            on: lab.hosts().iter().filter(|host| host.is_on()).count(),
            store: lab.store_kind().to_string(),
            family: lab.family().to_string(),
            detached: lab.is_detached(),
            directory: lab.dir().display().to_string(),
        }
    }
}

impl HostRow {
    fn of(host: &Host) -> Result<Self> {
        let engine_running = host.engine_running();
        let containers = if engine_running {
            host.docker(&["ps", "--format", "{{.Names}}"])?.lines().map(str::to_owned).collect()
        } else {
            Vec::new()
        };
        Ok(Self {
            host: host.number(),
            power: host.is_on(),
            engine: host.engine_version().to_string(),
            engine_running,
            daemon_running: host.daemon_running(),
            address: host.vtep().to_string(),
            containers,
            leftovers: host.leftovers()?,
        })
    }
}

fn json(value: &impl Serialize) -> Result<()> {
    print(&format!("{}\n", serde_json::to_string_pretty(value)?))
}

/// Columns as wide as their longest cell, two spaces apart.
pub(super) fn table<const N: usize>(head: [&str; N], rows: impl IntoIterator<Item = [String; N]>) -> String {
    let mut lines = vec![head.map(str::to_owned)];
    lines.extend(rows);
    let mut widths = [0; N];
    for line in &lines {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = cell.len().max(*width);
        }
    }
    let mut text = String::new();
    for line in lines {
        let cells: Vec<String> =
            line.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_without_trailing_spaces() {
        let text = table(["A", "LONG"], [["wide".to_owned(), "x".to_owned()]]);
        assert_eq!(text, "A     LONG\nwide  x\n");
    }
}
