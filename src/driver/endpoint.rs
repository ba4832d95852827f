//! Endpoints: `CreateEndpoint` and `DeleteEndpoint`.

mod choice;

use std::net::IpAddr;

use tracing::info;

use super::{Driver, DriverError};
use crate::{
    clock,
    local::{Binding, LocalEndpoint},
    model::{EndpointId, IpamMode, MacAddr, Mode, NetworkId},
    plan::effective_mtu,
    watched::Watched,
};

/// `CreateEndpoint`, in our terms.
#[derive(Debug, Clone)]
pub struct NewEndpoint {
    /// Docker's id of the network.
    pub docker_network: NetworkId,
    /// The engine's id.
    pub id: EndpointId,
    /// Addresses that IPAM has chosen, IPv4 first.
    pub addresses: Vec<IpAddr>,
    /// Ethernet address that the user gave.
    pub mac: Option<MacAddr>,
}

impl NewEndpoint {
    /// Reads the texts of the call; an empty text means "not given".
    pub fn parse(
        docker_network: NetworkId,
        id: EndpointId,
        v4: &str,
        v6: &str,
        mac: &str,
    ) -> Result<Self, DriverError> {
        let given = [v4, v6].into_iter().filter(|text| !text.is_empty());
        let addresses = given.map(super::parse_ip).collect::<Result<Vec<_>, _>>()?;
        let wanted = "a unicast MAC address such as 02:42:0a:09:00:02";
        let mac = match mac {
            "" => None,
            text => Some(text.parse().map_err(|_| DriverError::invalid("MAC address", text, wanted))?),
        };
        Ok(Self { docker_network, id, addresses, mac })
    }
}

impl Driver {
    /// Takes an endpoint in and answers its Ethernet address. What the engine's own IPAM chose is claimed
    /// first, and refused if another host holds it; then the kernel side begins, without being waited for.
    pub async fn create_endpoint(&self, new: NewEndpoint) -> Result<MacAddr, DriverError> {
        if let Some(old) = self.local.read(|data| data.endpoints.get(&new.id).cloned())
            && old.docker_network == new.docker_network
            && old.addresses == new.addresses
            && new.mac.is_none_or(|mac| mac == old.mac)
        {
            return Ok(old.mac);
        }
        let binding = self.confirmed(self.binding(&new.docker_network).await?).await?;
        let Some(first) = new.addresses.first() else {
            return Err(DriverError::invalid("endpoint", new.id.short(), "one with an address"));
        };
        // Joined again by one subnet of several: the engine's network is about to be replaced by one that has
        // them all.
        if binding.docker_id != binding.network.id
            && new.addresses.iter().any(|ip| binding.network.subnet_of(*ip).is_none())
        {
            return Err(DriverError::Replaced { network: binding.network.title().to_owned() });
        }
        let mac = new.mac.unwrap_or_else(|| MacAddr::from_ip(*first));
        // Engines that share a network see to it themselves that no address is handed out twice.
        let own = binding.network.mode() == Mode::Plain;
        let claimed = if own && binding.ipam == IpamMode::Engine {
            self.claim_engines_choice(&binding, &new).await?
        } else {
            Vec::new()
        };
        self.supersede(&binding, &new)?;
        if own && binding.ipam == IpamMode::Ours {
            self.enter_in_book(&binding, &new)?;
        }
        let generation = self.generation(&binding, &new.addresses);
        let underlay = self.underlay.now();
        let snapshot = self.snapshot();
        let network = snapshot.networks.get(&binding.network.id).unwrap_or(&binding.network);
        let mtu = effective_mtu(&snapshot, network, underlay.vtep, underlay.mtu);
        self.local.put_endpoint(LocalEndpoint {
            id: new.id.clone(),
            network: binding.network.id.clone(),
            docker_network: new.docker_network,
            mac,
            addresses: new.addresses,
            claimed,
            mtu,
            sandbox: None,
            container: None,
            container_id: None,
            aliases: Vec::new(),
            named_at: std::collections::BTreeMap::new(),
            created_at: clock::unix_seconds(),
            boot_id: self.local.boot().to_owned(),
            generation,
            cut_off: None,
        })?;
        info!(network = binding.network.title(), endpoint = new.id.short(), "endpoint created");
        Ok(mac)
    }

    /// The highest generation of the claims on an endpoint's addresses.
    fn generation(&self, binding: &Binding, addresses: &[IpAddr]) -> u64 {
        let of = |ip: &IpAddr| {
            let subnet = binding.network.subnet_of(*ip)?;
            Some(self.local.read(|data| data.generation_of(&subnet.cidr, *ip)))
        };
        addresses.iter().filter_map(of).max().unwrap_or(0)
    }

    /// After a crash an engine may forget an endpoint without a word and give its address to the next
    /// one: the older endpoint of this host with that address cannot be alive.
    fn supersede(&self, binding: &Binding, new: &NewEndpoint) -> Result<(), DriverError> {
        let old: Vec<_> = self.local.read(|data| {
            let same = |e: &&LocalEndpoint| {
                e.network == binding.network.id
                    && e.id != new.id
                    && e.addresses.iter().any(|ip| new.addresses.contains(ip))
            };
            data.endpoints.values().filter(same).map(|e| e.id.clone()).collect()
        });
        for id in old {
            info!(endpoint = id.short(), "forgetting an endpoint whose address its engine has given away");
            self.local.remove_endpoint(&id)?;
        }
        for ip in &new.addresses {
            if let Some(subnet) = binding.network.subnet_of(*ip) {
                self.local.cancel_release(&subnet.cidr, *ip)?;
            }
        }
        Ok(())
    }

    /// Forgets an endpoint; its link, its record and its claims follow. An unknown one is no error.
    pub fn delete_endpoint(&self, id: &EndpointId) -> Result<(), DriverError> {
        if self.local.remove_endpoint(id)?.is_some() {
            info!(endpoint = id.short(), "endpoint deleted");
        }
        Ok(())
    }
}
