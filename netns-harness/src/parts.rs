//! The programs that a lab is made of: engines, store servers, and the image its containers run.
//!
//! What Debian 12 has is taken from this machine; other versions come from Debian's other suites, once, into a
//! cache: `/var/cache/rs-overlay-harness`, or the directory named by `NETNS_HARNESS_CACHE`.

mod archive;
mod image;
mod index;
mod root;

use std::env;
use std::ffi::OsString;
use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use crate::command::Run;
use crate::kinds::EngineVersion;

pub use root::clean_root;

/// Environment variable that moves the cache of downloaded parts.
pub const CACHE_ENV: &str = "NETNS_HARNESS_CACHE";

const SYSTEM_PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";

/// Where to find one engine's programs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineParts {
    /// Value for `PATH` under which `dockerd`, `docker` and `containerd` are those of this engine.
    pub path_env: OsString,
    /// Directory of the engine's command line plugins (compose), if it brings any.
    pub cli_plugins: Option<PathBuf>,
}

/// The engine of this version, downloaded at the first use.
pub fn engine(version: EngineVersion) -> Result<EngineParts> {
    let (suites, packages, prefix): (&[&str], &[&str], &str) = match version {
        EngineVersion::V20_10_24 => return installed_engine(version),
        EngineVersion::V20_10_5 => (&["bullseye"], &["docker.io", "containerd", "tini"], "20.10.5"),
        EngineVersion::V26_1 => {
            (&["trixie"], &["docker.io", "docker-cli", "containerd", "tini", "docker-compose"], "26.1")
        }
        // The unstable branch moves on; what it leaves stays a while in the one that is next to be released.
        EngineVersion::V28_5 => {
            (&["sid", "forky"], &["docker.io", "docker-cli", "containerd", "tini", "docker-compose"], "28.5")
        }
    };
    let root = cached(&format!("engine-{version}"), |root| {
        let suite = archive::suite_with(&cache()?, suites, "docker.io", prefix)?;
        suite.unpack(packages, root)?;
        // Debian 12's runc serves all of them: it is what fits this machine's libraries and kernel set-up.
        for stale in ["usr/bin/runc", "usr/sbin/runc"] {
            remove_file(&root.join(stale))?;
        }
        fs::create_dir_all(root.join("usr/sbin"))?;
        symlink(installed("runc", "runc")?, root.join("usr/sbin/runc")).context("cannot link runc")
    })?;
    let mut path_env = OsString::new();
    for directory in ["usr/sbin", "usr/bin"] {
        path_env.push(root.join(directory));
        path_env.push(":");
    }
    path_env.push(SYSTEM_PATH);
    let plugins = root.join("usr/libexec/docker/cli-plugins");
    Ok(EngineParts { path_env, cli_plugins: plugins.is_dir().then_some(plugins) })
}

/// The etcd server, from Debian's package `etcd-server` installed on this machine.
pub fn etcd_binary() -> Result<PathBuf> {
    installed("etcd", "etcd-server")
}

/// The consul server of Debian 11, downloaded at the first use.
pub fn consul_binary() -> Result<PathBuf> {
    let root = cached("consul", |root| {
        archive::suite_with(&cache()?, &["bullseye"], "consul", "1.")?.unpack(&["consul"], root)
    })?;
    Ok(root.join("usr/bin/consul"))
}

/// A tarball for `docker import`: a root file system with busybox and links for its programs.
pub fn image() -> Result<PathBuf> {
    let root = cached("image", |root| {
        image::write(&installed("busybox", "busybox-static")?, &root.join("image.tar"))
    })?;
    Ok(root.join("image.tar"))
}

/// Path of a program of this machine, or one line that names the package to install.
pub fn installed(program: &str, package: &str) -> Result<PathBuf> {
    SYSTEM_PATH
        .split(':')
        .map(|directory| Path::new(directory).join(program))
        .find(|path| path.is_file())
        .with_context(|| format!("`{program}` is missing: run `apt-get install {package}`"))
}

fn installed_engine(version: EngineVersion) -> Result<EngineParts> {
    let dockerd = installed("dockerd", "docker.io")?;
    let said = Run::new(&dockerd.to_string_lossy()).args(["--version"]).text()?;
    ensure!(
        said.contains(&format!("version {version}")),
        "this machine's docker.io is {said:?}, not {version}: the harness expects Debian 12's package"
    );
    Ok(EngineParts { path_env: SYSTEM_PATH.into(), cli_plugins: None })
}

fn cache() -> Result<PathBuf> {
    let cache =
        env::var_os(CACHE_ENV).map_or_else(|| PathBuf::from("/var/cache/rs-overlay-harness"), PathBuf::from);
    // Programs are run from here with other working directories.
    let cache = std::path::absolute(cache)?;
    fs::create_dir_all(&cache).with_context(|| format!("cannot create the cache {}", cache.display()))?;
    Ok(cache)
}

/// The cache's directory `name`, made by `fill` if it is not there yet. A directory appears whole or not at all,
/// and only one process of this machine fills it.
fn cached(name: &str, fill: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    let cache = cache()?;
    let done = cache.join(name);
    if done.is_dir() {
        return Ok(done);
    }
    let lock = File::create(cache.join(format!("{name}.lock")))?;
    lock.lock().with_context(|| format!("cannot lock {name} in {}", cache.display()))?;
    if done.is_dir() {
        return Ok(done);
    }
    let unfinished = cache.join(format!("{name}.part"));
    if unfinished.exists() {
        fs::remove_dir_all(&unfinished)?;
    }
    fs::create_dir_all(&unfinished)?;
    fill(&unfinished).with_context(|| format!("cannot provide {name}"))?;
    fs::rename(&unfinished, &done)?;
    Ok(done)
}

fn remove_file(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            bail!("cannot remove {}: {error}", path.display())
        }
        _ => Ok(()),
    }
}
