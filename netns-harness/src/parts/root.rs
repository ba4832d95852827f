//! A clean root file system of this machine's own Debian, to install packages into.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use super::{archive, cached, installed};
use crate::command::Run;

/// Debian's keys; debootstrap checks the archive's signature with them.
const KEYS: &str = "--keyring=/usr/share/keyrings/debian-archive-keyring.gpg";

/// The directory of a minimal Debian, of the release that this machine runs, with `systemd` installed. Whoever
/// uses it puts an overlay on top: it belongs to the cache.
pub fn clean_root() -> Result<PathBuf> {
    let suite = codename()?;
    cached(&format!("root-{suite}"), |root| fill(&suite, root))
}

fn fill(suite: &str, root: &Path) -> Result<()> {
    let debootstrap = installed("debootstrap", "debootstrap")?;
    Run::new(&debootstrap.to_string_lossy())
        .args(["--variant=minbase", "--include=systemd,systemd-sysv,iproute2", KEYS, suite])
        .args([root.as_os_str()])
        .args([archive::mirror()?])
        .limit(Duration::from_mins(10))
        .text()
        .context("debootstrap failed")?;
    // Nothing is installed from there any more.
    fs::remove_dir_all(root.join("var/cache/apt/archives"))?;
    Ok(())
}

/// Name of the release, such as `bookworm`.
fn codename() -> Result<String> {
    let text = fs::read_to_string("/etc/os-release").context("cannot read /etc/os-release")?;
    let line = text.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME="));
    line.map(|name| name.trim_matches('"').to_owned()).context("this machine is no release of Debian")
}
