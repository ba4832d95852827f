//! Packages of any of Debian's suites, from the mirror this machine already uses, checked and unpacked.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::{index, installed};
use crate::command::Run;

/// One suite's index, and where its packages are kept.
pub(super) struct Suite {
    name: String,
    base: String,
    packages: String,
    downloads: PathBuf,
}

/// The first of `suites` whose package `name` has an upstream version that starts with `prefix`.
pub(super) fn suite_with(cache: &Path, suites: &[&str], name: &str, prefix: &str) -> Result<Suite> {
    let mut seen = Vec::new();
    for suite in suites {
        let suite = Suite::load(cache, suite)?;
        match index::find(&suite.packages, name) {
            Ok(package) if index::upstream(&package.version).starts_with(prefix) => return Ok(suite),
            Ok(package) => seen.push(format!("{} has {}", suite.name, package.version)),
            Err(_) => seen.push(format!("{} has none", suite.name)),
        }
    }
    bail!("no Debian suite has {name} {prefix} any more: {}", seen.join(", "))
}

impl Suite {
    /// Unpack these packages under `root`.
    pub(super) fn unpack(&self, packages: &[&str], root: &Path) -> Result<()> {
        for name in packages {
            let package = index::find(&self.packages, name)?;
            let archive = self.downloads.join(format!("{}-{name}.deb", self.name));
            download(&format!("{}/{}", self.base, package.filename), &archive)?;
            check_sha256(&archive, &package.sha256)?;
            let (from, to) = (archive.to_string_lossy(), root.to_string_lossy());
            Run::new("dpkg").args(["-x", &from, &to]).limit(Duration::from_mins(5)).text()?;
            fs::remove_file(&archive)?;
        }
        Ok(())
    }

    fn load(cache: &Path, name: &str) -> Result<Self> {
        let downloads = cache.join("downloads").join(format!("{name}-{}", std::process::id()));
        fs::create_dir_all(&downloads)?;
        let base = mirror()?;
        let architecture = Run::new("dpkg").args(["--print-architecture"]).text()?;
        let path = format!("main/binary-{architecture}/Packages.xz");
        let release = verified_release(&base, name, &downloads)?;
        let compressed = downloads.join("Packages.xz");
        download(&format!("{base}/dists/{name}/{path}"), &compressed)?;
        check_sha256(&compressed, &index::release_sha256(&release, &path)?)?;
        installed("xz", "xz-utils")?;
        let packages = Run::new("xz").args(["-dc", &compressed.to_string_lossy()]).text()?;
        Ok(Self { name: name.to_owned(), base, packages, downloads })
    }
}

impl Drop for Suite {
    fn drop(&mut self) {
        // What is left there is only a half download of ours; the next one starts afresh.
        let _ = fs::remove_dir_all(&self.downloads);
    }
}

/// Base address of the mirror from which this machine's apt takes its main suite.
pub(super) fn mirror() -> Result<String> {
    let targets = Run::new("apt-get")
        .args(["indextargets", "--format", "$(REPO_URI) $(CODENAME)", "Created-By: Packages"])
        .text()
        .context("cannot ask apt for its mirrors")?;
    targets
        .lines()
        .filter_map(|line| line.split_once(' '))
        .find(|(_, codename)| !codename.contains('-'))
        .map(|(base, _)| base.trim_end_matches('/').to_owned())
        .context("apt names no mirror of a main suite: check /etc/apt/sources.list and run `apt-get update`")
}

/// The suite's `Release` file, after its signature was checked against Debian's archive keys.
fn verified_release(base: &str, suite: &str, downloads: &Path) -> Result<String> {
    const KEYS: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
    installed("gpgv", "gpgv")?;
    ensure!(Path::new(KEYS).is_file(), "{KEYS} is missing: run `apt-get install debian-archive-keyring`");
    let signed = downloads.join("InRelease");
    download(&format!("{base}/dists/{suite}/InRelease"), &signed)?;
    Run::new("gpgv")
        .args(["--keyring", KEYS, "--output", "-", &signed.to_string_lossy()])
        .text()
        .with_context(|| format!("the signature on Debian's index of {suite} cannot be verified"))
}

fn download(address: &str, to: &Path) -> Result<()> {
    installed("curl", "curl")?;
    Run::new("curl")
        .args(["--fail", "--silent", "--show-error", "--location"])
        .args(["--connect-timeout", "20", "--max-time", "300"])
        .args(["--retry", "4", "--retry-delay", "2", "--retry-all-errors", "--retry-max-time", "600"])
        .args(["--output", &to.to_string_lossy(), address])
        .limit(Duration::from_mins(15))
        .text()
        .map(drop)
}

fn check_sha256(file: &Path, wanted: &str) -> Result<()> {
    let said = Run::new("sha256sum").args(["--", &file.to_string_lossy()]).text()?;
    let found = said.split_whitespace().next().unwrap_or_default();
    ensure!(
        found == wanted,
        "{} has SHA-256 {found}, the index says {wanted}: download it again",
        file.display()
    );
    Ok(())
}
