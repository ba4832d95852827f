//! What people are told of packet sizes.

use crate::{
    admin::{UnderlayBefore, UnderlayStatus},
    local::Local,
    model::{Network, Snapshot, Underlay},
    plan::{carried_by_all, effective_mtu, inner_mtu},
    reconcile::Applied,
};

/// An underlay, for `status`.
pub(super) fn status(underlay: &Underlay) -> UnderlayStatus {
    let before = underlay.before.map(|old| UnderlayBefore { vtep: old.vtep, mtu: old.mtu, until: old.until });
    UnderlayStatus { mtu: underlay.mtu, before }
}

/// Why a network's MTU is less than its user has asked for, or than some hosts carry.
pub(super) fn explanation(snapshot: &Snapshot, network: &Network, underlay: &Underlay) -> Option<String> {
    let mtu = effective_mtu(snapshot, network, underlay.vtep, underlay.mtu);
    let asked = network.mtu.filter(|asked| *asked > mtu);
    if asked.is_none() && network.mtu == Some(mtu) {
        return None;
    }
    let carried = |node: &crate::model::Node| inner_mtu(node.vtep, node.underlay_mtu);
    let all = carried_by_all(snapshot, underlay.vtep, underlay.mtu);
    let least = snapshot.nodes.values().min_by_key(|node| (carried(node), &node.hostname))?;
    let most = snapshot.nodes.values().map(|node| node.underlay_mtu).max()?;
    let narrow = format!("the underlay of host {} carries {} bytes", least.hostname, least.underlay_mtu);
    let asked = asked.map(|asked| format!("{asked} was asked for, and ")).unwrap_or_default();
    if all > mtu {
        let missing: Vec<_> = snapshot.suspects().map(|host| host.hostname.as_str()).collect();
        let until = if missing.is_empty() {
            "it is raised in a moment".to_owned()
        } else {
            format!("it stays until {} can say so as well", missing.join(", "))
        };
        return Some(format!("{asked}all live hosts carry {all} now; {until}"));
    }
    if !asked.is_empty() || most > least.underlay_mtu {
        return Some(format!("{asked}{narrow}, the widest {most}"));
    }
    None
}

/// Containers that do not have their network's MTU, and networks whose users have asked for more than there is.
pub(super) fn problems(snapshot: &Snapshot, local: &Local, applied: &Applied) -> Vec<String> {
    let unfit = applied.unfit.iter().map(|(id, complaint)| {
        let name = local.read(|data| data.endpoints.get(id).and_then(|e| e.container.clone()));
        let name = name.unwrap_or_else(|| id.short().to_owned());
        format!("container {name} may lose large packets: {complaint}; restart it")
    });
    let here: Vec<_> = local.read(|data| data.networks_in_use().into_iter().collect());
    let narrow = here.iter().filter_map(|id| {
        let network = snapshot.networks.get(id)?;
        let (asked, carried) = (network.mtu?, network.carried?);
        (asked > carried).then(|| {
            format!(
                "network {} has MTU {carried} instead of the {asked} that was asked for: {}",
                network.title(),
                narrowest(snapshot).unwrap_or_else(|| "an underlay carries no more".to_owned())
            )
        })
    });
    unfit.chain(narrow).collect()
}

fn narrowest(snapshot: &Snapshot) -> Option<String> {
    let least =
        snapshot.nodes.values().min_by_key(|node| (inner_mtu(node.vtep, node.underlay_mtu), &node.id))?;
    Some(format!("the underlay of host {} carries {} bytes", least.hostname, least.underlay_mtu))
}
