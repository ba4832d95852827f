//! `--default-addr-pool`: where subnets come from when a user gives none.

use std::{fmt, net::Ipv4Addr, str::FromStr};

use ipnet::{IpNet, Ipv4Net};

pub use crate::ipam::AddrPool;

impl AddrPool {
    /// What holds when the user says nothing: 65,536 subnets of 254 addresses.
    pub fn standard() -> Self {
        Self { base: IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(10, 0, 0, 0), 8)), size: 24 }
    }
}

impl fmt::Display for AddrPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "base={},size={}", self.base, self.size)
    }
}

impl FromStr for AddrPool {
    type Err = String;

    /// Reads dockerd's notation, `base=10.0.0.0/8,size=24`, in either order.
    fn from_str(text: &str) -> Result<Self, String> {
        let (mut base, mut size) = (None, None);
        for field in text.split(',') {
            let slot = match field.split_once('=') {
                Some(("base", value)) => base.replace(value),
                Some(("size", value)) => size.replace(value),
                _ => return Err(wrong()),
            };
            if slot.is_some() {
                return Err(wrong());
            }
        }
        let (Some(base), Some(size)) = (base, size) else { return Err(wrong()) };
        let base =
            base.parse::<IpNet>().map_err(|_| format!("base {base:?} is no network; {}", wrong()))?.trunc();
        let size =
            size.parse::<u8>().map_err(|_| format!("size {size:?} is no prefix length; {}", wrong()))?;
        check(base, size)?;
        Ok(Self { base, size })
    }
}

fn check(base: IpNet, size: u8) -> Result<(), String> {
    let longest = base.max_prefix_len() - 1;
    if !(base.prefix_len()..=longest).contains(&size) {
        return Err(format!("subnets of {base} have a size of {} to {longest}", base.prefix_len()));
    }
    let first = base.network();
    if first.is_multicast() || first.is_loopback() {
        return Err(format!("no container can have an address in {base}; {}", wrong()));
    }
    Ok(())
}

fn wrong() -> String {
    "give base and size, for example base=10.0.0.0/8,size=24".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dockerds_notation_is_read_for_both_families() {
        let pool = |base: &str, size| AddrPool { base: base.parse().unwrap(), size };
        for (text, want) in [
            ("base=10.0.0.0/8,size=24", AddrPool::standard()),
            ("size=64,base=2001:db8::/48", pool("2001:db8::/48", 64)),
            ("base=172.30.0.0/16,size=16", pool("172.30.0.0/16", 16)),
            ("base=172.30.1.1/16,size=24", pool("172.30.0.0/16", 24)),
            ("base=0.0.0.0/0,size=31", pool("0.0.0.0/0", 31)),
        ] {
            assert_eq!(text.parse::<AddrPool>(), Ok(want), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_cut_is_refused() {
        for bad in [
            "",
            "10.0.0.0/8",
            "base=10.0.0.0/8",
            "size=24",
            "base=10.0.0.0/8,size=7",
            "base=10.0.0.0/8,size=32",
            "base=2001:db8::/48,size=128",
            "base=10.0.0.0/8,size=-1",
            "base=10.0.0.0/8,size=24,size=25",
            "base=10.0.0.0/8,size=24,colour=blue",
            "base=10.0.0.0,size=24",
            "base=224.0.0.0/8,size=24",
            "base=127.0.0.0/8,size=24",
            "base=10.0.0.0/8, size=24",
        ] {
            assert!(bad.parse::<AddrPool>().is_err(), "{bad:?}");
        }
    }
}
