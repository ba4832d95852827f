//! `--cluster-advertise`: where other hosts reach this one.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    str::FromStr,
};

/// What the user said about this host's underlay address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Advertise {
    /// Just this address.
    Address(IpAddr),
    /// The first usable address of an interface, by the interface's name.
    Interface(String),
}

impl fmt::Display for Advertise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Interface(name) => f.write_str(name),
        }
    }
}

impl FromStr for Advertise {
    type Err = String;

    /// Takes `ADDR`, `ADDR:PORT`, `[ADDR]:PORT`, `IFACE` and `IFACE:PORT`. dockerd demanded the port for
    /// its own API; it is checked and dropped.
    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(address) = text.parse::<IpAddr>() {
            return usable(address);
        }
        if let Ok(address) = text.parse::<SocketAddr>() {
            port(&address.port().to_string())?;
            return usable(address.ip());
        }
        if let Some(inner) = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            return inner.parse::<IpAddr>().map_err(|_| wrong()).and_then(usable);
        }
        let name = match text.split_once(':') {
            Some((name, digits)) => {
                port(digits)?;
                name
            }
            None => text,
        };
        if is_interface(name) { Ok(Self::Interface(name.to_owned())) } else { Err(wrong()) }
    }
}

fn usable(address: IpAddr) -> Result<Advertise, String> {
    let address = address.to_canonical();
    let link_local = match address {
        IpAddr::V4(v4) => v4.is_broadcast(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    if address.is_unspecified() || address.is_loopback() || address.is_multicast() || link_local {
        return Err(
            "no address at which other hosts can reach this one; give one of its own unicast addresses \
                    or an interface"
                .to_owned(),
        );
    }
    Ok(Advertise::Address(address))
}

fn port(digits: &str) -> Result<(), String> {
    match digits.parse::<u16>() {
        Ok(1..) if digits.bytes().all(|b| b.is_ascii_digit()) => Ok(()),
        _ => Err(wrong()),
    }
}

/// The kernel's own rule for names of links (`dev_valid_name`), in ASCII, less names that can only be a
/// mistyped IPv4 address.
fn is_interface(name: &str) -> bool {
    (1..=15).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'/' | b':' | b'[' | b']' | b'%' | b','))
        && name.bytes().any(|b| !b.is_ascii_digit() && b != b'.')
}

fn wrong() -> String {
    "neither an address nor an interface; give for example 192.0.2.1, [2001:db8::1]:2376, eth0 or eth0:2376"
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_of_dockerds_forms_are_read() {
        let address = |text: &str| Advertise::Address(text.parse().unwrap());
        let interface = |name: &str| Advertise::Interface(name.to_owned());
        for (text, want) in [
            ("192.0.2.1", address("192.0.2.1")),
            ("192.0.2.1:2376", address("192.0.2.1")),
            ("2001:db8::1", address("2001:db8::1")),
            ("[2001:db8::1]", address("2001:db8::1")),
            ("[2001:db8::1]:2376", address("2001:db8::1")),
            ("::ffff:192.0.2.1", address("192.0.2.1")),
            ("eth0", interface("eth0")),
            ("eth0:2376", interface("eth0")),
            ("eth0.100", interface("eth0.100")),
            ("wg-backbone_01", interface("wg-backbone_01")),
        ] {
            assert_eq!(text.parse::<Advertise>(), Ok(want), "{text}");
        }
    }

    #[test]
    fn what_no_host_can_reach_is_refused() {
        for bad in [
            "",
            ":",
            ":2376",
            "0.0.0.0",
            "::",
            "127.0.0.1",
            "[::1]:2376",
            "224.0.0.1",
            "255.255.255.255",
            "fe80::1",
            "fe80::1%eth0",
            "192.0.2.300",
            "192.0.2",
            "192.0.2.1:0",
            "192.0.2.1:65536",
            "eth0:",
            "eth0:x",
            "eth0:+5",
            "eth0:0",
            "..",
            "a/b",
            "eth 0",
            "interface-name-too-long",
            "[eth0]",
            "[192.0.2.1",
            "é",
        ] {
            assert!(bad.parse::<Advertise>().is_err(), "{bad:?}");
        }
    }
}
