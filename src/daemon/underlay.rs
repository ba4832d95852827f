//! This host's underlay: its address, what its routes carry, and what is wrong with either. All of it is read
//! again whenever the host changes.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use tracing::{info, warn};

use crate::{
    clock,
    config::{Advertise, ConfigError},
    dataplane::{DataplaneError, connections, host::Host},
    model::{Before, Snapshot, Underlay},
};

/// What an Ethernet carries, for a host whose interface tells nothing.
const USUAL_MTU: u32 = 1500;

/// The underlay address at the start: the one the user named, the first of the interface the user named, or
/// the source address of the default route.
pub(super) async fn first_address(advertise: Option<&Advertise>, host: &Host) -> anyhow::Result<IpAddr> {
    let flag = "--cluster-advertise";
    match advertise {
        Some(Advertise::Address(ip)) if host.has_address(*ip).await? => Ok(*ip),
        Some(Advertise::Address(ip)) => Err(ConfigError::value(
            flag,
            ip.to_string(),
            "is no address of this host; give one that is, or an interface",
        )
        .into()),
        Some(Advertise::Interface(name)) => {
            host.interface_address(name).await?.into_iter().next().ok_or_else(|| {
                let problem = "there is no such interface with an address; 'ip address' lists them";
                ConfigError::value(flag, name, problem).into()
            })
        }
        None => host.default_source().await?.ok_or_else(|| {
            ConfigError::place(
                flag,
                "this host has no default route to take the address from; give an address or an interface",
            )
            .into()
        }),
    }
}

/// Follows the underlay.
pub(super) struct UnderlayFinder {
    advertise: Option<Advertise>,
    last: Underlay,
    /// The host's addresses at the last look.
    addresses: BTreeSet<IpAddr>,
}

impl UnderlayFinder {
    /// Begins with the address that was chosen at the start.
    pub(super) fn new(advertise: Option<Advertise>, vtep: IpAddr) -> Self {
        Self { advertise, last: Underlay::new(vtep, USUAL_MTU), addresses: BTreeSet::new() }
    }

    /// Looks once, tells people what has changed, and ends connections that come from nowhere now.
    pub(super) async fn find(
        &mut self,
        host: &Host,
        snapshot: &Snapshot,
    ) -> Result<Underlay, DataplaneError> {
        let addresses = host.addresses().await?;
        let first = self.addresses.is_empty();
        let gone: BTreeSet<_> = self.addresses.difference(&addresses).copied().collect();
        let (vtep, mut troubles) = self.address(host, &addresses).await?;
        let mtu = self.mtu(host, vtep, snapshot, &mut troubles).await?;
        let mut now =
            Underlay { vtep, mtu, present: addresses.contains(&vtep), troubles, before: self.last.before };
        if !first && (now.vtep, now.mtu) != (self.last.vtep, self.last.mtu) {
            let Underlay { vtep, mtu, .. } = self.last;
            now.before = Some(Before { vtep, mtu, until: clock::unix_seconds() });
            tell(&self.last, &now);
        }
        for trouble in now.troubles.iter().filter(|trouble| !self.last.troubles.contains(trouble)) {
            warn!("{trouble}");
        }
        let closed = connections::close_from(&gone);
        if closed > 0 {
            info!(closed, "connections from an address that this host no longer has are made anew");
        }
        self.addresses = addresses;
        self.last = now.clone();
        Ok(now)
    }

    /// The address as it should be now. Whatever happens, its family stays: all hosts need the same.
    async fn address(
        &self,
        host: &Host,
        addresses: &BTreeSet<IpAddr>,
    ) -> Result<(IpAddr, Vec<String>), DataplaneError> {
        let (old, there) = (self.last.vtep, addresses.contains(&self.last.vtep));
        let alike = |ip: &IpAddr| ip.is_ipv4() == old.is_ipv4();
        let (found, lacks) = match &self.advertise {
            Some(Advertise::Address(ip)) => {
                (there.then_some(*ip), "bring it back, or give another --cluster-advertise".to_owned())
            }
            Some(Advertise::Interface(name)) => {
                let own = host.interface_address(name).await?;
                let stays = own.contains(&old).then_some(old);
                let lacks = format!("interface {name} has no other address of that family");
                (stays.or_else(|| own.into_iter().find(alike)), lacks)
            }
            None => {
                let source = host.default_source().await?.filter(alike);
                let lacks = "there is no default route of that family to take another from".to_owned();
                (source.or_else(|| there.then_some(old)), lacks)
            }
        };
        Ok(match found {
            Some(ip) => (ip, Vec::new()),
            None => {
                let trouble = format!(
                    "this host no longer has its underlay address {old}: other hosts do not reach its containers, and nothing is torn down; {lacks}"
                );
                (old, vec![trouble])
            }
        })
    }

    async fn mtu(
        &self,
        host: &Host,
        vtep: IpAddr,
        snapshot: &Snapshot,
        troubles: &mut Vec<String>,
    ) -> Result<u32, DataplaneError> {
        // While the address is away, nothing can be known of the ways from it.
        let Some(own) = host.link_mtu_of(vtep).await? else { return Ok(self.last.mtu) };
        let peers = peers(snapshot, vtep);
        let wanted: Vec<_> = peers.keys().copied().collect();
        let paths = host.paths(&wanted, vtep).await?;
        // No route to a peer says nothing about the size of packets.
        let unreached = peers.iter().filter(|(peer, _)| !paths.contains_key(peer));
        troubles.extend(unreached.map(|(peer, name)| {
            format!("no route leads from {vtep} to host {name} at {peer}: containers here and there do not reach each other")
        }));
        Ok(paths.into_values().chain([own]).min().unwrap_or(own))
    }
}

/// All hosts that may have containers, by their address, with their names.
fn peers(snapshot: &Snapshot, vtep: IpAddr) -> BTreeMap<IpAddr, &str> {
    let live = snapshot.nodes.values().map(|node| (node.vtep, node.hostname.as_str()));
    let suspects = snapshot.suspects().map(|host| (host.vtep, host.hostname.as_str()));
    let others = live.chain(suspects);
    others.filter(|(peer, _)| *peer != vtep && peer.is_ipv4() == vtep.is_ipv4()).collect()
}

fn tell(old: &Underlay, new: &Underlay) {
    if old.vtep != new.vtep {
        warn!(from = %old.vtep, to = %new.vtep, "the underlay address of this host has changed; its tunnels move");
    }
    if old.mtu != new.mtu {
        warn!(from = old.mtu, to = new.mtu, "the underlay carries packets of another size now");
    }
}
