//! The options that `docker network create -o` takes.

use std::collections::BTreeMap;

use super::DriverError;
use crate::model::{FLOOD_OPTION, SOURCE_CHECK_OPTION, Vni};

/// MTU of the containers' interfaces, as the bridge driver has it.
const MTU: &str = "com.docker.network.driver.mtu";
/// Docker's overlay option for the VNI.
const VNI_LIST: &str = "com.docker.network.driver.overlay.vxlanid_list";
/// Our short form.
const VNI: &str = "vni";

/// All options, for messages.
pub const KNOWN_OPTIONS: [&str; 5] = [MTU, VNI_LIST, VNI, FLOOD_OPTION, SOURCE_CHECK_OPTION];

/// What the options say.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NetworkOptions {
    /// MTU inside the network, in bytes of an IP packet.
    pub mtu: Option<u32>,
    /// The VNI to use.
    pub vni: Option<Vni>,
    /// Whether broadcast and multicast leave a host.
    pub flood: Option<bool>,
    /// Whether containers may send from their own addresses alone.
    pub source_check: Option<bool>,
}

impl NetworkOptions {
    /// Reads the user's options; anything unknown or wrong is refused, since this is the only moment at
    /// which the user sees a text.
    pub fn parse(options: &BTreeMap<String, String>) -> Result<Self, DriverError> {
        let mut parsed = Self::default();
        for (key, value) in options {
            match key.as_str() {
                MTU => parsed.mtu = Some(parse_mtu(value)?),
                VNI | VNI_LIST => {
                    let vni = parse_vni(value)?;
                    if parsed.vni.is_some_and(|other| other != vni) {
                        return Err(DriverError::invalid("VNI", value, "the same in both of its options"));
                    }
                    parsed.vni = Some(vni);
                }
                FLOOD_OPTION => {
                    let wanted = "`on` (broadcast and multicast reach all hosts) or `off`";
                    parsed.flood = Some(parse_switch(FLOOD_OPTION, value, wanted)?);
                }
                SOURCE_CHECK_OPTION => {
                    let wanted = "`on` (containers send from their own addresses) or `off` (from any)";
                    parsed.source_check = Some(parse_switch(SOURCE_CHECK_OPTION, value, wanted)?);
                }
                _ => {
                    let known = KNOWN_OPTIONS.join(", ");
                    return Err(DriverError::UnknownOption { option: key.clone(), known });
                }
            }
        }
        Ok(parsed)
    }
}

fn parse_mtu(value: &str) -> Result<u32, DriverError> {
    // 68 is the smallest MTU of IPv4 (RFC 791), 65535 the largest packet.
    let wanted = "a number of bytes from 68 to 65535";
    let number = value.trim().parse().ok().filter(|mtu| (68..=65535).contains(mtu));
    number.ok_or_else(|| DriverError::invalid("MTU", value, wanted))
}

fn parse_switch(option: &'static str, value: &str, wanted: &'static str) -> Result<bool, DriverError> {
    match value {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err(DriverError::invalid(option, value, wanted)),
    }
}

fn parse_vni(value: &str) -> Result<Vni, DriverError> {
    // Docker's overlay takes one VNI per subnet; here all subnets of a network share one segment.
    value.parse().ok().filter(|vni| *vni != Vni::PROBE).ok_or_else(|| {
        DriverError::invalid(
            "VNI",
            value,
            "one number from 1 to 16777214 (all subnets of a network share one; hosts ask for each other on 16777215)",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(pairs: &[(&str, &str)]) -> Result<NetworkOptions, DriverError> {
        NetworkOptions::parse(&pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect())
    }

    #[test]
    fn takes_the_known_ones() {
        let got = parse(&[(MTU, "1400"), (VNI_LIST, "5000"), (VNI, "5000")]).unwrap();
        assert_eq!(parse(&[("flood", "on")]).unwrap().flood, Some(true));
        assert_eq!(parse(&[("flood", "off")]).unwrap().flood, Some(false));
        assert_eq!(parse(&[("source-check", "off")]).unwrap().source_check, Some(false));
        assert_eq!(
            got,
            NetworkOptions { mtu: Some(1400), vni: Vni::new(5000).ok(), flood: None, source_check: None }
        );
    }

    #[test]
    fn refuses_the_rest_with_the_list() {
        let text = parse(&[("color", "red")]).unwrap_err().to_string();
        assert!(text.contains("color") && KNOWN_OPTIONS.iter().all(|known| text.contains(known)), "{text}");
        for (key, value) in [
            ("flood", "yes"),
            ("source-check", "0"),
            (MTU, "67"),
            (MTU, "big"),
            (VNI, "0"),
            (VNI, "16777216"),
            (VNI_LIST, "1,2"),
            (VNI, ""),
        ] {
            assert!(parse(&[(key, value)]).unwrap_err().to_string().contains(value), "{key}={value}");
        }
        assert!(parse(&[(VNI, "7"), (VNI_LIST, "8")]).is_err());
    }
}
