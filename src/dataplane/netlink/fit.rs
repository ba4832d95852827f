//! The MTU of a container's end, inside of the container.

use std::{path::Path, sync::Arc};

use netlink_packet_route::link::InfoKind;

use super::{Kernel, error::Failure, link_messages::set_mtu, socket::Channel};
use crate::{
    dataplane::{DataplaneError, namespace::Namespace},
    model::EndpointId,
};

impl Kernel {
    /// Changes nothing but the MTU. TCP connections follow with their next segment, since the kernel asks the
    /// device for it each time. `false`: the end is not inside (yet).
    pub(super) async fn fit_end(
        &self,
        endpoint: &EndpointId,
        sandbox: &Path,
        mtu: u32,
    ) -> Result<bool, DataplaneError> {
        let what = format!("MTU {mtu} of endpoint {} in its container", endpoint.short());
        let during = |failure: Failure| failure.during(&what);
        let namespace = Namespace::open(sandbox).map_err(|error| DataplaneError::Refused {
            what: format!("{what}, sandbox {}", sandbox.display()),
            detail: error.to_string(),
        })?;
        let inside = Channel::new(Arc::new(namespace));
        let links = inside.links().await.map_err(during)?;
        // The alias comes along when an engine moves the link and renames it.
        let is_end = |alias: &crate::dataplane::names::Alias| alias.endpoint.as_ref() == Some(endpoint);
        let mut ends = links.iter().filter(|link| link.is(&InfoKind::Veth));
        let Some(end) = ends.find(|link| link.alias.as_ref().is_some_and(is_end)) else { return Ok(false) };
        if end.mtu != mtu {
            inside.call(set_mtu(&end.name, mtu)).await.map_err(during)?;
        }
        Ok(true)
    }
}
