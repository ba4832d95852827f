//! A host that reaches everybody but the store.

use std::net::IpAddr;

use anyhow::{Context, Result, bail};

use super::Host;
use crate::command::Run;

/// The table that drops what goes to and comes from the store's server.
const TABLE: &str = "inet netns_harness_store";

impl Host {
    /// Drop all packets between this host and the store's server, in both directions and without an answer; `false`
    /// heals it. Connections stay open until one side gives up. Fine when it is already so.
    pub fn cut_store(&self, cut: bool) -> Result<()> {
        let Some(port) = self.shape.store_port() else {
            bail!("this lab's store ({}) has no server to be cut from", self.shape.store);
        };
        let address = self.shape.store_address();
        let family = match address {
            IpAddr::V4(_) => "ip",
            IpAddr::V6(_) => "ip6",
        };
        // Declared first, so that there is something to delete.
        let clear = format!("table {TABLE} {{}}\ndelete table {TABLE}\n");
        let drop_both = format!(
            "table {TABLE} {{
                chain out {{
                    type filter hook output priority -300
                    {family} daddr {address} tcp dport {port} drop
                }}
                chain in {{
                    type filter hook input priority -300
                    {family} saddr {address} tcp sport {port} drop
                }}
            }}\n"
        );
        let rules = if cut { clear + &drop_both } else { clear };
        let init = self.namespaces.on()?.pid.to_string();
        Run::new("nsenter")
            .args(["-t", &init, "-n", "nft", "-f", "-"])
            .input(rules)
            .text()
            .with_context(|| format!("cannot cut {} from the store or heal it", self.name()))
            .map(drop)
    }
}
