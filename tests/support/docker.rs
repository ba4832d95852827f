//! What an engine does for one command of a person's, in the fewest calls.

#![allow(dead_code, reason = "each test uses the part it needs")]

use ipnet::IpNet;
use serde_json::{Value, json};

use super::host::{Answer, Host};

/// The IPAM option that marks a request for a gateway.
pub(crate) const GATEWAY: (&str, &str) = ("RequestAddressType", "com.docker.network.gateway");

/// An id as engines draw them.
pub(crate) fn id(number: usize) -> String {
    format!("{number:064x}")
}

/// A network whose IPAM is ours.
pub(crate) struct Net {
    pub(crate) id: String,
    pub(crate) pool: String,
    pub(crate) cidr: IpNet,
}

impl Net {
    /// `docker network create -d rs-overlay --ipam-driver rs-overlay --subnet <subnet>`, with a gateway of
    /// the driver's choice.
    pub(crate) async fn create(host: &Host, number: usize, subnet: &str) -> Self {
        Self::create_with(host, number, &json!({"Pool": subnet}), &[], &json!({})).await.unwrap()
    }

    /// The same with more to say; an error of any call is answered after the engine's clean-up.
    pub(crate) async fn create_with(
        host: &Host,
        number: usize,
        pool: &Value,
        aux: &[&str],
        options: &Value,
    ) -> Result<Self, String> {
        let mut request = json!({"AddressSpace": "rs-overlay-local", "Options": {}});
        request.as_object_mut().unwrap().extend(pool.as_object().unwrap().clone());
        let got = result(host.call("IpamDriver.RequestPool", &request).await)?;
        let net = Self {
            id: id(number),
            pool: got["PoolID"].as_str().unwrap().to_owned(),
            cidr: got["Pool"].as_str().unwrap().parse().unwrap(),
        };
        let gateway = result(net.request(host, "", true).await)?;
        let gateway = gateway["Address"].as_str().unwrap().to_owned();
        let mut aux_addresses = serde_json::Map::new();
        for ip in aux {
            let got = result(net.request(host, ip, false).await)?;
            aux_addresses.insert((*ip).to_owned(), got["Address"].clone());
        }
        let body = net.body(&gateway, &aux_addresses, options);
        if let Err(text) = result(host.call("NetworkDriver.CreateNetwork", &body).await) {
            let ip = gateway.split('/').next().unwrap().to_owned();
            net.release(host, &ip).await;
            host.ok("IpamDriver.ReleasePool", &json!({"PoolID": net.pool})).await;
            return Err(text);
        }
        Ok(net)
    }

    fn body(&self, gateway: &str, aux: &serde_json::Map<String, Value>, options: &Value) -> Value {
        json!({
            "NetworkID": self.id,
            "Options": {"com.docker.network.generic": options},
            "IPv4Data": [{
                "AddressSpace": "rs-overlay-local",
                "Pool": self.cidr.to_string(),
                "Gateway": gateway,
                "AuxAddresses": aux,
            }],
            "IPv6Data": [],
        })
    }

    /// Attaches the network on another host, which knows it by another Docker id.
    pub(crate) async fn attach(&self, host: &Host, number: usize) -> Self {
        let pool = json!({"Pool": self.cidr.to_string(), "Options": {"rs-overlay.network": self.id}});
        Self::create_with(host, number, &pool, &[], &json!({})).await.unwrap()
    }

    /// `RequestAddress`, as it answers.
    pub(crate) async fn request(&self, host: &Host, ip: &str, gateway: bool) -> Answer {
        let mut body = json!({"PoolID": self.pool, "Address": ip, "Options": {}});
        if gateway {
            body["Options"][GATEWAY.0] = GATEWAY.1.into();
        }
        host.call("IpamDriver.RequestAddress", &body).await
    }

    /// An address for a container; empty for any.
    pub(crate) async fn take(&self, host: &Host, ip: &str) -> Result<String, String> {
        let got = result(self.request(host, ip, false).await)?;
        Ok(got["Address"].as_str().unwrap().split('/').next().unwrap().to_owned())
    }

    /// `ReleaseAddress`.
    pub(crate) async fn release(&self, host: &Host, ip: &str) {
        host.ok("IpamDriver.ReleaseAddress", &json!({"PoolID": self.pool, "Address": ip})).await;
    }

    /// `CreateEndpoint` of endpoint `number` with `ip`.
    pub(crate) async fn endpoint(&self, host: &Host, number: usize, ip: &str) -> Answer {
        endpoint(host, &self.id, number, &format!("{ip}/{}", self.cidr.prefix_len())).await
    }

    /// `Leave` and `DeleteEndpoint`.
    pub(crate) async fn stop(&self, host: &Host, number: usize) {
        let body = json!({"NetworkID": self.id, "EndpointID": id(number)});
        host.ok("NetworkDriver.Leave", &body).await;
        host.ok("NetworkDriver.DeleteEndpoint", &body).await;
    }

    /// `docker network rm`.
    pub(crate) async fn remove(&self, host: &Host) {
        let gateway = self.cidr.hosts().next().unwrap().to_string();
        self.release(host, &gateway).await;
        host.ok("IpamDriver.ReleasePool", &json!({"PoolID": self.pool})).await;
        host.ok("NetworkDriver.DeleteNetwork", &json!({"NetworkID": self.id})).await;
    }
}

/// `CreateEndpoint`.
pub(crate) async fn endpoint(host: &Host, network: &str, number: usize, address: &str) -> Answer {
    let body = json!({
        "NetworkID": network,
        "EndpointID": id(number),
        "Interface": {"Address": address, "AddressIPv6": "", "MacAddress": ""},
        "Options": {},
    });
    host.call("NetworkDriver.CreateEndpoint", &body).await
}

/// `docker network create -d rs-overlay`, where the engine's own IPAM chose `subnet`.
pub(crate) fn engine_network(number: usize, subnet: &str, gateway: &str, options: &Value) -> Value {
    json!({
        "NetworkID": id(number),
        "Options": {"com.docker.network.generic": options},
        "IPv4Data": [{"AddressSpace": "LocalDefault", "Pool": subnet, "Gateway": gateway}],
        "IPv6Data": [],
    })
}

/// The body of a success or the text of a failure.
pub(crate) fn result(answer: Answer) -> Result<Value, String> {
    if answer.status == 200 { Ok(answer.success("call")) } else { Err(answer.failure("call")) }
}
