//! The endpoints of the engine.

use super::{Binding, Local, LocalData, LocalEndpoint, LocalError, OwnClaim, files};
use crate::model::{ClaimKind, EndpointId, Mode};

impl Local {
    /// Adds or replaces an endpoint.
    pub fn put_endpoint(&self, endpoint: LocalEndpoint) -> Result<(), LocalError> {
        self.change(|data| self.store_endpoint(data, endpoint))
    }

    /// Changes an endpoint that is there; `false` if it is not, or if nothing changed.
    pub fn update_endpoint(
        &self,
        id: &EndpointId,
        change: impl FnOnce(&mut LocalEndpoint),
    ) -> Result<bool, LocalError> {
        let mut data = self.lock();
        let Some(old) = data.endpoints.get(id) else { return Ok(false) };
        let mut new = old.clone();
        change(&mut new);
        if new == *old {
            return Ok(false);
        }
        self.store_endpoint(&mut data, new)?;
        drop(data);
        self.tell();
        Ok(true)
    }

    /// Forgets an endpoint; the addresses that were claimed with it rest in the reserve.
    pub fn remove_endpoint(&self, id: &EndpointId) -> Result<Option<LocalEndpoint>, LocalError> {
        self.change(|data| self.drop_endpoint(data, id))
    }

    /// Forgets all endpoints whose sandbox is gone, in a host that has lost its links: as after a power
    /// cut that no new boot id tells of. Answers how many.
    pub fn forget_lost(&self, alive: impl Fn(&str) -> bool) -> Result<usize, LocalError> {
        self.change(|data| {
            let lost = data.endpoints.values().filter(|e| !e.sandbox.as_deref().is_some_and(&alive));
            let lost: Vec<_> = lost.map(|endpoint| endpoint.id.clone()).collect();
            for endpoint in &lost {
                self.drop_lost(data, endpoint)?;
            }
            Ok(lost.len())
        })
    }

    /// Forgets an endpoint of which its engine will not speak again.
    pub fn remove_lost(&self, id: &EndpointId) -> Result<(), LocalError> {
        self.change(|data| self.drop_lost(data, id))
    }

    /// Forgets what an engine that crashed has left of a container's earlier lives, once it is known that `id` is
    /// its endpoint now: a container is on a network once. Only classic engines need that, which say nothing of
    /// such endpoints after a crash; answers how many there were.
    pub fn remove_former(&self, id: &EndpointId) -> Result<usize, LocalError> {
        let former = self.read(|data| {
            let Some(now) = data.endpoints.get(id) else { return Vec::new() };
            let classic = |b: &Binding| b.network.mode() == Mode::Classic;
            if now.container_id.is_none() || !data.bindings.get(&now.docker_network).is_some_and(classic) {
                return Vec::new();
            }
            let same = |e: &&LocalEndpoint| {
                e.id != *id && e.docker_network == now.docker_network && e.container_id == now.container_id
            };
            data.endpoints.values().filter(same).map(|e| e.id.clone()).collect()
        });
        for endpoint in &former {
            self.remove_lost(endpoint)?;
        }
        Ok(former.len())
    }

    fn store_endpoint(&self, data: &mut LocalData, endpoint: LocalEndpoint) -> Result<(), LocalError> {
        files::write(&self.file("endpoints", endpoint.id.as_str()), &endpoint, false)?;
        data.endpoints.insert(endpoint.id.clone(), endpoint);
        Ok(())
    }

    /// Its addresses first: one that rests too early does no harm, one that is forgotten does.
    pub(super) fn drop_endpoint(
        &self,
        data: &mut LocalData,
        id: &EndpointId,
    ) -> Result<Option<LocalEndpoint>, LocalError> {
        let Some(endpoint) = data.endpoints.get(id).cloned() else { return Ok(None) };
        self.rest_claims_of(data, &endpoint, false)?;
        let given_back = |claim: &&OwnClaim| claim.given_back && endpoint.addresses.contains(&claim.ip);
        let resting: Vec<_> = data.claims.values().filter(given_back).map(OwnClaim::key).collect();
        for (cidr, ip) in resting {
            self.rest_claim(data, &cidr, ip, false)?;
        }
        self.strike_endpoint(data, id)?;
        Ok(Some(endpoint))
    }

    /// Nobody gives back what our own IPAM handed out for it either.
    pub(super) fn drop_lost(&self, data: &mut LocalData, id: &EndpointId) -> Result<(), LocalError> {
        let Some(endpoint) = data.endpoints.get(id).cloned() else { return Ok(()) };
        self.rest_claims_of(data, &endpoint, true)?;
        let network = data.bindings.get(&endpoint.docker_network).map(|binding| binding.network.clone());
        for ip in endpoint.addresses {
            let Some(subnet) = network.as_ref().and_then(|network| network.subnet_of(ip)) else { continue };
            match data.claims.get(&(subnet.cidr, ip)) {
                Some(claim) if claim.kind == ClaimKind::Container => {
                    self.rest_claim(data, &subnet.cidr, ip, true)?;
                }
                Some(_) => {}
                None => self.queue_release(data, &subnet.cidr, ip)?,
            }
        }
        self.strike_endpoint(data, id)
    }

    fn strike_endpoint(&self, data: &mut LocalData, id: &EndpointId) -> Result<(), LocalError> {
        files::remove(&self.file("endpoints", id.as_str()))?;
        data.endpoints.remove(id);
        Ok(())
    }
}
