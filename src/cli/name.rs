//! `name lookup`.

use anyhow::bail;
use clap::Args;

use super::{Ask, client, table};
use crate::admin::{NAMES_PATH, NameQuestion, NameReport};

/// What is looked up.
#[derive(Debug, Args)]
#[group(skip)]
pub(super) struct Lookup {
    /// Name as a container would ask for it, or an address
    name: String,
    /// Name or id of the container that would ask: its networks only
    #[arg(long, value_name = "CONTAINER")]
    from: Option<String>,
    /// Show as well which record of the store answers, and its revision
    #[arg(long)]
    explain: bool,
}

/// Shows who answers; that nobody does is a failure.
pub(super) fn lookup(wanted: &Lookup, ask: &Ask) -> anyhow::Result<()> {
    let question =
        NameQuestion { name: wanted.name.clone(), from: wanted.from.clone(), explain: wanted.explain };
    let report: NameReport = client::ask(&ask.socket(), NAMES_PATH, &question)?;
    if report.holders.is_empty() {
        bail!("nobody answers to {} in {}", wanted.name, places(&report.searched));
    }
    ask.print(&report, || {
        let rows = table::names(&report.holders, wanted.explain, crate::clock::unix_seconds());
        if !wanted.explain {
            return rows;
        }
        let trouble = report.trouble.iter().map(|trouble| format!("revisions are not known: {trouble}\n"));
        format!("searched {}\n{}{rows}", places(&report.searched), trouble.collect::<String>())
    })
}

fn places(searched: &[String]) -> String {
    match searched {
        [] => "any network: this host knows none".to_owned(),
        [one] => format!("network {one}"),
        several => format!("networks {}", several.join(", ")),
    }
}
