//! Segments: a bridge and its VXLAN device.

use netlink_packet_route::link::InfoKind;
use nix::errno::Errno;

use super::{
    Kernel,
    error::Failure,
    link_messages::{bridge_messages, create_bridge, create_vxlan, set_mtu, vxlan_messages},
    links::Link,
};
use crate::{
    dataplane::{
        DataplaneError,
        host::foreign::{moved_vxlans, port_holder},
        names::{Alias, Named, bridge_link, parse_link, vxlan_link},
    },
    model::{NetworkId, Vni},
    plan::Vxlan,
};

impl Kernel {
    /// What is there and right is kept; what is wrong is repaired, a VXLAN device by making it anew.
    pub(super) async fn add_segment(
        &self,
        vni: Vni,
        network: &NetworkId,
        vxlan: &Vxlan,
    ) -> Result<(), DataplaneError> {
        if *network == NetworkId::of_probes() {
            return self.make_probe(vxlan).await;
        }
        let what = format!("segment {vni} of network {}", network.short());
        for name in [bridge_link(vni), vxlan_link(vni)] {
            let found = self.inside.link(&name).await.map_err(|failure| failure.during(&what))?;
            let other = found.and_then(|link| link.alias).and_then(|alias| alias.network);
            if let Some(other) = other.filter(|other| other != network) {
                return Err(DataplaneError::Taken {
                    what,
                    holder: format!("network {}", other.short()),
                    remedy: "delete that network, or give one of them another VNI".into(),
                });
            }
        }
        let bridge = self.ensure_bridge(vni, network, vxlan.mtu, &what).await?;
        let found = self.inside.link(&vxlan_link(vni)).await.map_err(|failure| failure.during(&what))?;
        let right = found.and_then(|link| link.good_vxlan(vni, bridge.index));
        if right == Some(*vxlan) {
            return Ok(());
        }
        self.make_vxlan(vni, network, vxlan, &bridge, &what).await
    }

    /// The bridge is repaired as well. Only the links' aliases know the network.
    pub(super) async fn replace_vxlan(&self, vni: Vni, vxlan: &Vxlan) -> Result<(), DataplaneError> {
        let what = format!("segment {vni}");
        if self.is_probe(vni).await.map_err(|failure| failure.during(&what))? {
            return self.make_probe(vxlan).await;
        }
        let mut network = None;
        for link in self.inside.links().await.map_err(|failure| failure.during(&what))? {
            let Some(alias) = link.alias else { continue };
            let named = parse_link(&link.name);
            if named == Some(Named::Bridge(vni)) || named == Some(Named::Vxlan(vni)) || alias.vni == Some(vni)
            {
                network = network.or(alias.network);
            }
        }
        let Some(network) = network else {
            let detail = "no link of it is left; the next round makes it anew".into();
            return Err(DataplaneError::Refused { what, detail });
        };
        let bridge = self.ensure_bridge(vni, &network, vxlan.mtu, &what).await?;
        self.make_vxlan(vni, &network, vxlan, &bridge, &what).await
    }

    pub(super) async fn set_mtu(&self, vni: Vni, mtu: u32) -> Result<(), DataplaneError> {
        let during = |failure: Failure| failure.during(format!("MTU {mtu} of segment {vni}"));
        let mut requests = vec![set_mtu(&vxlan_link(vni), mtu)];
        if !self.is_probe(vni).await.map_err(during)? {
            requests.push(set_mtu(&bridge_link(vni), mtu));
        }
        self.inside.all(requests).await.map_err(during)
    }

    /// The probe segment has no bridge. A network that got its VNI from a release that did not reserve it
    /// has one.
    async fn is_probe(&self, vni: Vni) -> Result<bool, Failure> {
        Ok(vni == Vni::PROBE && self.inside.link(&bridge_link(vni)).await?.is_none())
    }

    pub(super) async fn delete_segment(&self, vni: Vni) -> Result<(), DataplaneError> {
        let what = format!("segment {vni}");
        self.forget_paths(vni).map_err(|detail| DataplaneError::Refused { what: what.clone(), detail })?;
        let links = self.inside.links().await.map_err(|failure| failure.during(&what))?;
        let bridge = links.iter().find(|link| is_bridge(link, vni)).map(|link| link.index);
        for link in &links {
            // A port without an alias was never finished; no step will ever name it.
            let unfinished = parse_link(&link.name) == Some(Named::Port)
                && !link.labelled
                && link.is(&InfoKind::Veth)
                && link.controller.is_some()
                && link.controller == bridge;
            if unfinished || is_vxlan(link, vni) || is_bridge(link, vni) {
                let deleted = self.inside.delete_link(link.index).await;
                deleted.map_err(|failure| failure.during(format!("{what}, link {}", link.name)))?;
            }
        }
        Ok(())
    }

    async fn ensure_bridge(
        &self,
        vni: Vni,
        network: &NetworkId,
        mtu: u32,
        what: &str,
    ) -> Result<Link, DataplaneError> {
        let name = bridge_link(vni);
        if self.inside.link(&name).await.map_err(|failure| failure.during(what))?.is_none() {
            let made = self.inside.call(create_bridge(&name, vni, mtu)).await;
            made.map_err(|failure| failure.during(format!("{what}, bridge {name}")))?;
        }
        let bridge = self.inside.link(&name).await.map_err(|failure| failure.during(what))?;
        let Some(bridge) = bridge.filter(|link| is_bridge(link, vni)) else {
            return Err(self.foreign(what, &name, "bridge"));
        };
        if !bridge.is_good_bridge(vni) || bridge.mtu != mtu {
            let messages = bridge_messages(&bridge, vni, &Alias::of_segment(network), mtu);
            let repaired = self.inside.all(messages).await;
            repaired.map_err(|failure| failure.during(format!("{what}, bridge {name}")))?;
        }
        Ok(bridge)
    }

    async fn make_vxlan(
        &self,
        vni: Vni,
        network: &NetworkId,
        vxlan: &Vxlan,
        bridge: &Link,
        what: &str,
    ) -> Result<(), DataplaneError> {
        let name = vxlan_link(vni);
        let during = |failure: Failure| failure.during(format!("{what}, VXLAN device {name}"));
        if let Some(old) = self.inside.link(&name).await.map_err(during)? {
            if !is_vxlan(&old, vni) {
                return Err(self.foreign(what, &name, "VXLAN device"));
            }
            let closed = self.close_path(vni);
            closed.map_err(|detail| DataplaneError::Refused { what: what.to_owned(), detail })?;
            self.inside.delete_link(old.index).await.map_err(during)?;
        }
        match self.host.call(create_vxlan(&name, vni, vxlan, self.inside.namespace())).await {
            Err(failure) if failure.errno() == Some(Errno::EEXIST) => {
                return Err(self.vni_taken(vni, vxlan, what).await);
            }
            other => other.map_err(during)?,
        }
        let Some(made) = self.inside.link(&name).await.map_err(during)? else {
            let detail = "it vanished as soon as it was made".into();
            return Err(DataplaneError::Refused { what: format!("{what}, VXLAN device {name}"), detail });
        };
        let messages = vxlan_messages(made.index, bridge.index, &Alias::of_segment(network), vxlan);
        match self.inside.all(messages).await {
            // Bringing the device up opens the UDP socket.
            Err(failure) if failure.errno() == Some(Errno::EADDRINUSE) => {
                Err(self.port_taken(vxlan.port, what).await)
            }
            other => other.map_err(during),
        }
    }

    /// The kernel allows one device for each pair of VNI and port among those created in one namespace,
    /// wherever they have gone since.
    pub(super) async fn vni_taken(&self, vni: Vni, vxlan: &Vxlan, what: &str) -> DataplaneError {
        let here = self.host.links().await.unwrap_or_default();
        let here = here.iter().find(|link| link.vxlan_key() == Some((vni.get(), vxlan.port)));
        let (holder, remedy) = if let Some(link) = here {
            (
                format!("VXLAN device {} of this host", link.name),
                format!("delete it (`ip link delete {}`), or give the network another VNI", link.name),
            )
        } else {
            let moved = moved_vxlans().await;
            let moved = moved.into_iter().find(|dev| (dev.vni, dev.port) == (vni.get(), vxlan.port));
            let device = moved.map_or("in another network namespace of this host".into(), |dev| dev.dev);
            (
                format!("a VXLAN device of another program, {device},"),
                "delete it (Docker's own overlay networks have such devices), or give the network another VNI"
                    .into(),
            )
        };
        DataplaneError::Taken {
            what: format!("{what}: VNI {vni} on UDP port {}", vxlan.port),
            holder,
            remedy,
        }
    }

    /// A device of another kind on the same port has a socket of its own, as any program's.
    pub(super) async fn port_taken(&self, port: u16, what: &str) -> DataplaneError {
        let links = self.host.links().await.unwrap_or_default();
        let device = links.iter().find(|link| link.vxlan_key().is_some_and(|(_, held)| held == port));
        let holder = if let Some(link) = device {
            Some(format!("VXLAN device {} of this host", link.name))
        } else {
            let host = self.host.namespace().clone();
            tokio::task::spawn_blocking(move || port_holder(&host, port)).await.ok().flatten()
        };
        DataplaneError::Taken {
            what: format!("{what}: UDP port {port}"),
            holder: holder
                .unwrap_or_else(|| format!("another program's socket (`ss -lunp 'sport = {port}'`)")),
            remedy: "stop it, or use another --vxlan-port on all hosts".into(),
        }
    }

    pub(super) fn foreign(&self, what: &str, name: &str, wanted: &str) -> DataplaneError {
        DataplaneError::Taken {
            what: format!("{what}: the name of its {wanted}"),
            holder: format!("link {name} in {}, which is not ours,", self.namespace().display()),
            remedy: "delete or rename that link".into(),
        }
    }
}

fn is_bridge(link: &Link, vni: Vni) -> bool {
    parse_link(&link.name) == Some(Named::Bridge(vni)) && link.is(&InfoKind::Bridge)
}

fn is_vxlan(link: &Link, vni: Vni) -> bool {
    parse_link(&link.name) == Some(Named::Vxlan(vni)) && link.is(&InfoKind::Vxlan)
}
