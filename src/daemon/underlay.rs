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

    /// The address as it should be now, and what is wrong with it.
    async fn address(
        &self,
        host: &Host,
        addresses: &BTreeSet<IpAddr>,
    ) -> Result<(IpAddr, Vec<String>), DataplaneError> {
        let candidates = match &self.advertise {
            Some(Advertise::Address(ip)) => vec![*ip],
            Some(Advertise::Interface(name)) => host.interface_address(name).await?,
            None => host.default_source().await?.into_iter().collect(),
        };
        let old = self.last.vtep;
        Ok(choose(self.advertise.as_ref(), old, addresses, &candidates))
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

/// The address to take where `candidates` are what the setting leads to now, and `addresses` what the host has.
/// An address that is still good stays; whatever happens, its family does, since all hosts need the same.
fn choose(
    advertise: Option<&Advertise>,
    old: IpAddr,
    addresses: &BTreeSet<IpAddr>,
    candidates: &[IpAddr],
) -> (IpAddr, Vec<String>) {
    let there = addresses.contains(&old).then_some(old);
    let alike = candidates.iter().copied().filter(|ip| ip.is_ipv4() == old.is_ipv4());
    let mut usable = alike.filter(|ip| addresses.contains(ip));
    let (found, lacks) = match advertise {
        Some(Advertise::Address(_)) => {
            (usable.next(), "bring it back, or give another --cluster-advertise".to_owned())
        }
        Some(Advertise::Interface(name)) => {
            let stays = there.filter(|old| candidates.contains(old));
            (stays.or_else(|| usable.next()), format!("interface {name} has no other address of that family"))
        }
        None => (
            usable.next().or(there),
            "there is no default route of that family to take another from".to_owned(),
        ),
    };
    let trouble = || {
        format!(
            "this host no longer has its underlay address {old}: other hosts do not reach its containers, and nothing is torn down; {lacks}"
        )
    };
    (found.unwrap_or(old), if found.is_none() { vec![trouble()] } else { Vec::new() })
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

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(last: u8) -> IpAddr {
        [192, 0, 2, last].into()
    }

    /// What becomes of 192.0.2.1 where the host has `has` and the setting leads to `leads`.
    fn chosen(advertise: Option<&Advertise>, has: &[IpAddr], leads: &[IpAddr]) -> (IpAddr, bool) {
        let (ip, troubles) = choose(advertise, ip(1), &has.iter().copied().collect(), leads);
        (ip, troubles.is_empty())
    }

    #[test]
    fn an_interface_gives_another_address_when_it_has_lost_the_one_and_no_sooner() {
        let eth0 = Advertise::Interface("eth0".into());
        let six: IpAddr = "2001:db8::1".parse().unwrap();
        for (has, leads, want) in [
            (&[ip(1), ip(9)][..], &[ip(9), ip(1)][..], (ip(1), true)),
            (&[ip(9)], &[ip(9)], (ip(9), true)),
            // It has it on another interface.
            (&[ip(1), ip(9)], &[ip(9)], (ip(9), true)),
            (&[six], &[six], (ip(1), false)),
            (&[], &[], (ip(1), false)),
        ] {
            assert_eq!(chosen(Some(&eth0), has, leads), want, "{has:?} {leads:?}");
        }
    }

    #[test]
    fn the_default_route_is_followed_and_an_address_by_hand_is_kept() {
        for (has, leads, want) in [
            (&[ip(1), ip(9)][..], &[ip(9)][..], (ip(9), true)),
            (&[ip(1), ip(9)], &[], (ip(1), true)),
            (&[ip(9)], &[], (ip(1), false)),
        ] {
            assert_eq!(chosen(None, has, leads), want, "{has:?} {leads:?}");
        }
        let fixed = Advertise::Address(ip(1));
        assert_eq!(chosen(Some(&fixed), &[ip(1), ip(9)], &[ip(1)]), (ip(1), true));
        assert_eq!(chosen(Some(&fixed), &[ip(9)], &[ip(1)]), (ip(1), false));
    }
}
