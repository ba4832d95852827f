//! Ports: the veth pair of a container.

use netlink_packet_route::link::InfoKind;
use nix::errno::Errno;

use super::{
    Kernel,
    error::Failure,
    fdb::{Rows, delete_local, gone_is_fine, set_local},
    link_messages::{container_messages, create_veth, port_messages},
    links::Link,
};
use crate::{
    dataplane::{
        DataplaneError,
        names::{Alias, bridge_link, container_link, host_link},
    },
    model::{EndpointId, Vni},
    plan::Port,
};

impl Kernel {
    /// An existing pair is repaired in place: making it anew would take the container's interface away.
    pub(super) async fn add_port(
        &self,
        vni: Vni,
        endpoint: &EndpointId,
        port: Port,
    ) -> Result<(), DataplaneError> {
        let what = format!("port of endpoint {} in segment {vni}", endpoint.short());
        let during = |failure: Failure| failure.during(&what);
        let Some(bridge) = self.inside.link(&bridge_link(vni)).await.map_err(during)? else {
            let detail = format!("its bridge {} is missing", bridge_link(vni));
            return Err(DataplaneError::Refused { what, detail });
        };
        let network = bridge.alias.and_then(|alias| alias.network);
        let alias = Alias::of_port(vni, endpoint, network.as_ref());
        let name = host_link(endpoint);
        let mut link = self.inside.link(&name).await.map_err(during)?;
        let new = link.is_none();
        if new {
            self.make_pair(bridge.index, endpoint, port, &what).await?;
            link = self.inside.link(&name).await.map_err(during)?;
        }
        let Some(link) = link else {
            return Err(DataplaneError::Refused {
                what,
                detail: "it vanished as soon as it was made".into(),
            });
        };
        if !may_be(&link, endpoint) {
            return Err(self.foreign(&what, &name, "link"));
        }
        // The container's end first: while it waits here it must be found again after a crash.
        if let Some(end) = self.host.link(&container_link(endpoint)).await.map_err(during)?
            && end.is(&InfoKind::Veth)
            && (link.peer, end.peer) == (Some(end.index), Some(link.index))
        {
            self.host.all(container_messages(&end, port, &alias)).await.map_err(during)?;
        }
        self.inside.all(port_messages(&link, bridge.index, &alias, port.mtu)).await.map_err(during)?;
        // A new port has no rows yet.
        let rows =
            if new { Rows::default() } else { self.inside.fdb_of(link.index).await.map_err(during)? };
        for mac in rows.bridge.into_keys().filter(|mac| *mac != port.mac) {
            gone_is_fine(self.inside.call(delete_local(link.index, mac)).await).map_err(during)?;
        }
        self.inside.call(set_local(link.index, port.mac)).await.map_err(during)?;
        self.guard(&name, port).map_err(|error| refused(&what, &error))?;
        self.set_port_path(vni, link.index, port).await
    }

    /// The other end goes with it, in whatever namespace it is.
    pub(super) async fn delete_port(&self, vni: Vni, endpoint: &EndpointId) -> Result<(), DataplaneError> {
        let what = format!("port of endpoint {}", endpoint.short());
        let name = host_link(endpoint);
        match self.inside.link(&name).await.map_err(|failure| failure.during(&what))? {
            Some(link) if may_be(&link, endpoint) && in_segment(&link, vni) => {
                let refused = |detail| DataplaneError::Refused { what: what.clone(), detail };
                self.forget_port_path(link.index).map_err(refused)?;
                self.inside.delete_link(link.index).await.map_err(|failure| failure.during(&what))?;
                // To detach a program from a link that is there takes the kernel some milliseconds.
                self.drop_port_path(link.index).map_err(refused)?;
            }
            // It has another owner by now.
            Some(_) => return Ok(()),
            None => {}
        }
        self.unguard(&name).map_err(|error| refused(&what, &error))
    }

    async fn make_pair(
        &self,
        bridge: u32,
        endpoint: &EndpointId,
        port: Port,
        what: &str,
    ) -> Result<(), DataplaneError> {
        let (name, peer) = (host_link(endpoint), container_link(endpoint));
        let request = create_veth(&name, bridge, &peer, port, self.host.namespace());
        match self.inside.call(request.clone()).await {
            Err(failure) if failure.errno() == Some(Errno::EEXIST) => {}
            other => return other.map_err(|failure| failure.during(what)),
        }
        let holder = self.host.link(&peer).await.map_err(|failure| failure.during(what))?;
        match holder {
            // The other end of this one is in a namespace of ours that has lost its pin.
            Some(link) if link.alias.as_ref().and_then(|alias| alias.endpoint.as_ref()) == Some(endpoint) => {
                self.host.delete_link(link.index).await.map_err(|failure| failure.during(what))?;
                self.inside.call(request).await.map_err(|failure| failure.during(what))
            }
            Some(_) => Err(DataplaneError::Taken {
                what: format!("{what}: the name of the container's link"),
                holder: format!("link {peer} of this host, which is not ours,"),
                remedy: format!("delete or rename it (`ip link delete {peer}`)"),
            }),
            None => self.inside.call(request).await.map_err(|failure| failure.during(what)),
        }
    }
}

fn refused(what: &str, error: &impl ToString) -> DataplaneError {
    DataplaneError::Refused { what: format!("source rules of {what}"), detail: error.to_string() }
}

/// A link with the name of this endpoint's port that carries its alias, or none yet.
fn may_be(link: &Link, endpoint: &EndpointId) -> bool {
    link.is(&InfoKind::Veth)
        && match &link.alias {
            Some(alias) => alias.endpoint.as_ref() == Some(endpoint),
            None => !link.labelled,
        }
}

/// It has not been given to another segment meanwhile.
fn in_segment(link: &Link, vni: Vni) -> bool {
    link.alias.as_ref().and_then(|alias| alias.vni).is_none_or(|found| found == vni)
}
