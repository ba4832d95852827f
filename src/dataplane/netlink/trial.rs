//! Tries out what this kernel can do, where nobody sees it.

use std::{
    net::IpAddr,
    sync::{Arc, Mutex},
};

use super::{Channel, Kernel};
use crate::{
    dataplane::{Dataplane as _, DataplaneError, namespace::Namespace, sources::SourceRules},
    model::{EndpointId, MacAddr, NetworkId, Vni},
    plan::{Op, Overlay, Port, Sources, Vxlan},
};

/// Any network's MTU.
const MTU: u32 = 1400;

impl Kernel {
    /// Makes a segment with a container's link in namespaces of its own, which end with the trial. Takes some
    /// milliseconds.
    pub async fn try_out(vtep: IpAddr, port: u16) -> Result<(), DataplaneError> {
        let refused =
            |detail: String| DataplaneError::Refused { what: "trying out the kernel".into(), detail };
        let fresh = || {
            let made = Namespace::run_in_new(Namespace::current).and_then(|made| made);
            made.map(|namespace| Channel::new(Arc::new(namespace)))
                .map_err(|error| refused(error.to_string()))
        };
        let kernel = Self {
            inside: fresh()?,
            host: fresh()?,
            adopted: false,
            sources: Mutex::new(SourceRules::imagined()),
            lock: None,
            listeners: Mutex::default(),
        };
        kernel.prepare().await?;
        let vni = Vni::new(4096).map_err(|error| refused(error.to_string()))?;
        let network = NetworkId::new("0".repeat(64)).map_err(|error| refused(error.to_string()))?;
        let endpoint = EndpointId::new("0".repeat(64)).map_err(|error| refused(error.to_string()))?;
        let link = Port { mac: MacAddr::of_bridge(vni), mtu: MTU, sources: Sources::Any, fast: false };
        let ops = [
            Op::AddSegment { vni, network, vxlan: Vxlan { local: vtep, port, mtu: MTU, flood: false } },
            Op::AddPort { vni, endpoint, port: link },
        ];
        kernel.apply(&ops).await.into_iter().collect::<Result<(), _>>()?;
        match kernel.observe().await? {
            Overlay { segments, .. } if segments.contains_key(&vni) => Ok(()),
            _ => Err(refused("what was made is not there".to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn this_kernel_will_do() {
        if nix::unistd::geteuid().is_root() {
            Kernel::try_out("192.0.2.1".parse().unwrap(), 4789).await.unwrap();
            Kernel::try_out("2001:db8::1".parse().unwrap(), 4789).await.unwrap();
        }
    }
}
