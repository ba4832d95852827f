//! Tables like Docker's own: no borders, upper-case heads, three blanks between columns.

mod text;

use crate::admin::{
    DataPathStatus, GcReport, NameRow, NetworkRow, NodeRow, RepairRow, StatusReport, UnderlayStatus,
    VerifyReport,
};
use anyhow::bail;
use text::{ago, list, short, some, span};
pub(super) use text::{grid, pairs};

/// `network ls`.
pub(super) fn networks(rows: &[NetworkRow]) -> String {
    let heads = [
        "NETWORK ID",
        "NAME",
        "SUBNET",
        "GATEWAY",
        "VNI",
        "MTU",
        "HOSTS",
        "USED ON",
        "REMOVED ON",
        "ENDPOINTS",
        "FLAGS",
    ];
    grid(
        &heads,
        rows.iter().map(|row| {
            vec![
                short(&row.id).to_owned(),
                row.name.clone().unwrap_or_else(|| "-".to_owned()),
                list(&row.subnets),
                list(&row.gateways),
                row.vni.to_string(),
                row.mtu.to_string(),
                some(&row.present),
                some(&row.hosts),
                some(&row.departed),
                row.endpoints.to_string(),
                flags(row),
            ]
        }),
    )
}

/// `name lookup`.
pub(super) fn names(rows: &[NameRow], explain: bool, now: u64) -> String {
    let heads = ["ADDRESSES", "CONTAINER", "HOST", "NETWORK", "SINCE", "RECORD", "REVISION"];
    let shown = if explain { heads.len() } else { 5 };
    grid(
        &heads[..shown],
        rows.iter().map(|row| {
            let mut cells = vec![
                list(&row.addresses),
                row.container.clone().unwrap_or_else(|| "-".to_owned()),
                row.host.clone(),
                row.network.clone(),
                ago(row.since, now),
                row.record.clone(),
                row.revision.map_or_else(|| "-".to_owned(), |revision| revision.to_string()),
            ];
            cells.truncate(shown);
            cells
        }),
    )
}

/// `node ls`.
pub(super) fn nodes(rows: &[NodeRow], now: u64) -> String {
    let heads = [
        "NODE ID",
        "HOSTNAME",
        "STATE",
        "MODE",
        "VTEP",
        "ENGINE",
        "DAEMON",
        "SINCE",
        "LAST SEEN",
        "NETS",
        "ENDPOINTS",
    ];
    grid(
        &heads,
        rows.iter().map(|row| {
            let when = |time: u64| if time == 0 { "-".to_owned() } else { ago(time, now) };
            // Packagers write much behind their `+`.
            let engine = row.engine.as_deref().and_then(|engine| engine.split('+').next());
            vec![
                short(&row.id).to_owned(),
                row.hostname.clone(),
                row.state.clone(),
                row.mode.clone().unwrap_or_else(|| "-".to_owned()),
                row.vtep.to_string(),
                engine.unwrap_or("-").to_owned(),
                row.daemon.clone(),
                when(row.since),
                if row.state == "alive" { "now".to_owned() } else { when(row.last_seen) },
                row.networks.to_string(),
                row.endpoints.to_string(),
            ]
        }),
    )
}

/// `network inspect`.
pub(super) fn network(row: &NetworkRow) -> String {
    let mut lines = vec![
        ("Network ID", row.id.clone()),
        ("Name", row.name.clone().unwrap_or_else(|| "not known yet".to_owned())),
        ("Subnets", list(&row.subnets)),
        ("Gateways", list(&row.gateways)),
        ("VNI", row.vni.to_string()),
        (
            "MTU",
            row.mtu_because
                .as_ref()
                .map_or_else(|| row.mtu.to_string(), |why| format!("{} ({why})", row.mtu)),
        ),
        ("Hosts", list(&row.present)),
        ("Used on", list(&row.hosts)),
        ("Removed on", list(&row.departed)),
        ("Missing on", list(&row.missing)),
        ("Endpoints", row.endpoints.to_string()),
        ("Flags", flags(row)),
    ];
    if !row.unable.is_empty() {
        lines.insert(10, ("Impossible on", list(&row.unable)));
    }
    pairs(&lines)
}

/// `status`.
pub(super) fn status(status: &StatusReport, now: u64) -> String {
    let store = &status.store;
    let connection = if store.connected { "connected" } else { "NOT connected" };
    let driver = match &status.engine.plugin {
        Some(id) => format!("{}, managed plugin {}", status.engine.driver, id.get(..12).unwrap_or(id)),
        None => status.engine.driver.clone(),
    };
    let engine = match (&status.engine.version, status.engine.reachable) {
        (Some(version), true) => version.clone(),
        (None, true) => "reachable".to_owned(),
        (Some(version), false) => format!("NOT reachable (was {version})"),
        (None, false) => "NOT reachable".to_owned(),
    };
    let reconcile = match &status.reconcile {
        None => "not yet".to_owned(),
        Some(last) if last.failed > 0 => {
            format!("{}, {} steps, {} FAILED", ago(last.at, now), last.steps, last.failed)
        }
        Some(last) => format!("{}, {} steps", ago(last.at, now), last.steps),
    };
    let mut lines = vec![
        ("Daemon", status.version.clone()),
        ("Node ID", status.node.clone()),
        ("Hostname", status.hostname.clone()),
        ("VTEP", status.vtep.map_or_else(|| "not known yet".to_owned(), |vtep| vtep.to_string())),
        (
            "Underlay",
            status.underlay.as_ref().map_or_else(|| "not known yet".to_owned(), |way| underlay(way, now)),
        ),
        ("Data path", status.data_path.as_ref().map_or_else(|| "not known".to_owned(), data_path)),
        ("Forged frames", status.data_path.as_ref().map_or_else(|| "not known".to_owned(), forged)),
        ("Mode", status.mode_because.clone()),
        ("Scope", status.scope.clone()),
        ("Store", format!("{} {}, {connection} for {}", store.kind, store.url, span(store.since, now))),
        ("Engine", engine),
        ("Driver", driver),
        ("Networks here", status.networks.to_string()),
        ("Endpoints here", status.endpoints.to_string()),
        ("Last reconcile", reconcile),
    ];
    for (index, repair) in repairs(&status.repairs, now).into_iter().enumerate() {
        lines.push((if index == 0 { "Repairs" } else { "" }, repair));
    }
    for (index, network) in status.elsewhere.iter().enumerate() {
        lines.push((if index == 0 { "Elsewhere" } else { "" }, network.clone()));
    }
    if status.problems.is_empty() {
        lines.push(("Problems", "none".to_owned()));
    }
    for (index, problem) in status.problems.iter().enumerate() {
        lines.push((if index == 0 { "Problems" } else { "" }, problem.clone()));
    }
    pairs(&lines)
}

fn underlay(way: &UnderlayStatus, now: u64) -> String {
    let now_carries = format!("packets of {} bytes", way.mtu);
    match &way.before {
        None => now_carries,
        Some(before) => format!(
            "{now_carries}; {} with {} bytes until {}",
            before.vtep,
            before.mtu,
            ago(before.until, now)
        ),
    }
}

fn data_path(path: &DataPathStatus) -> String {
    format!("{} ({})", if path.fast { "fast path" } else { "bridge" }, path.because)
}

fn forged(path: &DataPathStatus) -> String {
    match &path.trouble {
        Some(trouble) => format!("not known: {trouble}"),
        None if (path.forged_macs, path.forged_addresses) == (0, 0) => "none".to_owned(),
        None => format!("{} by MAC, {} by address, dropped", path.forged_macs, path.forged_addresses),
    }
}

/// `verify`.
pub(super) fn verify(report: &VerifyReport) -> String {
    let things = |(thing, number): (&String, &u32)| match number {
        1 => format!("1 {}", thing.strip_suffix('s').unwrap_or(thing)),
        _ => format!("{number} {thing}"),
    };
    let compared: Vec<_> = report.compared.iter().map(things).collect();
    let compared = format!("compared {}", compared.join(", "));
    if report.differences.is_empty() {
        return format!("{compared}: no difference");
    }
    let rows = report
        .differences
        .iter()
        .map(|row| vec![row.area.clone(), row.object.clone(), row.expected.clone(), row.found.clone()]);
    let number = report.differences.len();
    let end = if number == 1 { "1 difference".to_owned() } else { format!("{number} differences") };
    format!("{}\n{compared}: {end}", grid(&["AREA", "OBJECT", "EXPECTED", "FOUND"], rows))
}

/// `gc`.
pub(super) fn gc(report: &GcReport) -> String {
    if report.rows.is_empty() {
        return "nothing was left behind".to_owned();
    }
    let rows = report.rows.iter();
    let rows =
        rows.map(|row| vec![row.kind.clone(), row.object.clone(), row.why.clone(), row.outcome.clone()]);
    grid(&["KIND", "OBJECT", "WHY", "OUTCOME"], rows)
}

fn repairs(rows: &[RepairRow], now: u64) -> Vec<String> {
    let line = |row: &RepairRow| {
        let at = if row.last_at > 0 { format!(" {}", ago(row.last_at, now)) } else { String::new() };
        format!("{} x {}, last{at}: {}", row.count, row.thing, row.last)
    };
    if rows.is_empty() { vec!["none".to_owned()] } else { rows.iter().map(line).collect() }
}

/// The network that `text` names: by name, by id, or by the beginning of just one id.
pub(super) fn find_network<'a>(rows: &'a [NetworkRow], text: &str) -> anyhow::Result<&'a NetworkRow> {
    if let Some(row) = rows.iter().find(|row| row.name.as_deref() == Some(text) || row.id == text) {
        return Ok(row);
    }
    let mut begins = rows.iter().filter(|row| !text.is_empty() && row.id.starts_with(text));
    match (begins.next(), begins.next()) {
        (Some(row), None) => Ok(row),
        (Some(_), Some(_)) => bail!("more than one network's id begins with {text:?}; give more of it"),
        (None, _) => bail!("no network {text:?} in the cluster; `rs-overlay network ls` lists them all"),
    }
}

fn flags(row: &NetworkRow) -> String {
    let six_alone = !row.subnets.is_empty() && row.subnets.iter().all(|subnet| subnet.addr().is_ipv6());
    let six = if six_alone { "ipv6 only" } else { "ipv6" };
    let all = [
        ("internal", row.internal),
        (six, row.ipv6 || six_alone),
        ("attachable", row.attachable),
        ("flood", row.flood),
    ];
    let set: Vec<&str> = all.into_iter().filter_map(|(name, set)| set.then_some(name)).collect();
    list(&set)
}

#[cfg(test)]
mod tests;
