//! Errors that reach the person who typed `docker run` or `docker network create`: one sentence that
//! says what failed, on what, and what to do.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::{
    ipam::Overlap,
    local::LocalError,
    model::{EndpointId, NetworkId, Vni},
    store::StoreError,
};

/// Why a call of Docker's failed.
#[derive(Debug, thiserror::Error)]
pub enum DriverError {
    /// The store is needed and does not help.
    #[error("rs-overlay: {0}; running containers are not affected, try again when the store is back")]
    Store(#[from] StoreError),
    /// The store is needed and does not help; something else can be done.
    #[error("rs-overlay: {what} needs the cluster store: {cause}; {instead}")]
    NeedsStore {
        /// What cannot be done, as the beginning of a sentence.
        what: String,
        /// What is the matter with the store.
        cause: StoreError,
        /// What can be done.
        instead: String,
    },
    /// The store was emptied or set back, and does not have all that is in use yet.
    #[error(
        "rs-overlay: the cluster store has lost its data and the hosts are filling it again; new networks and addresses wait for that, try again in {seconds} s; running containers are not affected"
    )]
    Refilling {
        /// When to try again.
        seconds: u64,
    },
    /// The state directory is in trouble.
    #[error("rs-overlay: {0}")]
    Local(#[from] LocalError),
    /// A call for a network that nobody knows.
    #[error("rs-overlay: network {} is not known on this host; if it is listed by 'docker network ls', remove it and create it again", .0.short())]
    UnknownNetwork(NetworkId),
    /// A join without a create.
    #[error("rs-overlay: endpoint {} is not known on this host; start the container again", .0.short())]
    UnknownEndpoint(EndpointId),
    /// Something in the request is not what it should be.
    #[error("rs-overlay: {what} {value:?} is not {wanted}")]
    Invalid {
        /// The thing.
        what: &'static str,
        /// What it was.
        value: String,
        /// What it should be.
        wanted: String,
    },
    /// A network option that the driver does not have.
    #[error("rs-overlay: unknown option {option:?}; known options are {known}")]
    UnknownOption {
        /// The option.
        option: String,
        /// All known ones.
        known: String,
    },
    /// The subnet cannot be used.
    #[error("rs-overlay: subnet {cidr} overlaps {overlap}; {advice}")]
    Overlap {
        /// The subnet.
        cidr: IpNet,
        /// What it overlaps.
        overlap: Overlap,
        /// What to do.
        advice: String,
    },
    /// No subnet is left.
    #[error(
        "rs-overlay: every subnet of the address pools is taken; name one with --subnet, or add a --default-addr-pool to the daemon"
    )]
    NoSubnet,
    /// Packets of that size would be lost without a sign.
    #[error("rs-overlay: MTU {mtu} does not fit: the underlay's {underlay} bytes leave at most {most}")]
    MtuTooLarge {
        /// What the user wants.
        mtu: u32,
        /// What the underlay carries.
        underlay: u32,
        /// What it leaves for an inner packet.
        most: u32,
    },
    /// A VNI is in use.
    #[error(
        "rs-overlay: VNI {vni} is held by network {holder}; choose another with -o vni=, or leave the choice to the driver"
    )]
    VniTaken {
        /// The VNI.
        vni: Vni,
        /// The network.
        holder: String,
    },
    /// A VNI is another program's.
    #[error(
        "rs-overlay: VNI {vni} on UDP port {port} is held by VXLAN device {device} on host {host}, which is another program's; choose another with -o vni=, or leave the choice to the driver"
    )]
    VniForeign {
        /// The VNI.
        vni: Vni,
        /// The UDP port.
        port: u16,
        /// The device, and where it is.
        device: String,
        /// The host.
        host: String,
    },
    /// No VNI is left.
    #[error("rs-overlay: all VNIs are taken; remove networks that are not needed")]
    NoVni,
    /// An address is in use.
    #[error("rs-overlay: address {ip} of network {network} is held by {holder}; {advice}")]
    AddressTaken {
        /// The address.
        ip: IpAddr,
        /// The network.
        network: String,
        /// Who has it, and where.
        holder: String,
        /// What to do.
        advice: String,
    },
    /// An address that no container may have.
    #[error("rs-overlay: address {ip} cannot be used in subnet {cidr}: {why}")]
    AddressUnusable {
        /// The address.
        ip: IpAddr,
        /// The subnet.
        cidr: IpNet,
        /// Why.
        why: &'static str,
    },
    /// No address is left.
    #[error(
        "rs-overlay: subnet {cidr} of network {network} is full ({claimed} addresses are claimed); remove containers, or create the network with a larger --subnet"
    )]
    Full {
        /// The subnet.
        cidr: IpNet,
        /// The network.
        network: String,
        /// How many are claimed.
        claimed: usize,
    },
    /// A pool that nobody knows, or that is being removed.
    #[error("rs-overlay: subnet {cidr} {why}; create its network again")]
    PoolGone {
        /// The subnet.
        cidr: IpNet,
        /// What is the matter with it.
        why: &'static str,
    },
    /// The network to join does not exist.
    #[error(
        "rs-overlay: there is no network {name:?} to join in the cluster; 'rs-overlay network ls' lists them"
    )]
    NoSuchNetwork {
        /// Id or name as given.
        name: String,
    },
    /// The network cannot be created as asked, because it exists otherwise.
    #[error("rs-overlay: network {network} {conflict}")]
    Conflict {
        /// The network.
        network: String,
        /// What is in the way, and what to do.
        conflict: String,
    },
    /// The network is about to be replaced by the cluster's one of its name.
    #[error(
        "rs-overlay: network {network} exists in the cluster and is just being taken over here; try again in a second"
    )]
    Replaced {
        /// Its name, or the beginning of its id.
        network: String,
    },
    /// The kernel does not do what it should.
    #[error("rs-overlay: the link of endpoint {} was not ready in time{}", .endpoint.short(), .detail.as_deref().map(|d| format!(": {d}")).unwrap_or_default())]
    NotReady {
        /// The endpoint.
        endpoint: EndpointId,
        /// The kernel's last complaint.
        detail: Option<String>,
    },
    /// Too many others wanted the same at the same time.
    #[error("rs-overlay: lost {tries} races for {what} against other hosts; try again")]
    Contended {
        /// What was wanted.
        what: &'static str,
        /// How often.
        tries: u32,
    },
}

impl DriverError {
    /// The same of a network that cannot be made.
    pub(super) fn of_new_network(self) -> Self {
        match self {
            Self::Store(cause) => Self::NeedsStore {
                what: "a new network".to_owned(),
                cause,
                instead: "networks that exist work without it, also for new containers; try again when the store is back".to_owned(),
            },
            other => other,
        }
    }

    pub(super) fn invalid(what: &'static str, value: &str, wanted: &str) -> Self {
        Self::Invalid { what, value: value.to_owned(), wanted: wanted.to_owned() }
    }
}
