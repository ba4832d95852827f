//! Take a lab down from what its directory records, by whatever process.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::files;
use crate::namespaces::end_recorded;
use crate::shape::{RECORD, Shape, base_directory, cgroup, check_name};
use crate::wait::wait_in_teardown;

/// Environment variable that names a directory where the logs of every lab are kept after its end.
pub const KEEP_LOGS_ENV: &str = "NETNS_HARNESS_KEEP_LOGS";

const CGROUPS: &str = "/sys/fs/cgroup";

/// End all processes of the lab `name` and remove its directory and cgroups; fine when there is none.
///
/// Mounts and links need no work: the kernel drops them with the namespaces.
pub(super) fn down(name: &str) -> Result<()> {
    check_name(name)?;
    let directory = base_directory().join(name);
    if directory.exists() {
        for entry in fs::read_dir(&directory)?.flatten() {
            let part = entry.path();
            if part.is_dir() {
                end_recorded(&part).with_context(|| format!("cannot end what {} records", part.display()))?;
            }
        }
        keep_logs(name, &directory)?;
        let plugins = plugins(&directory);
        remove_directory(&directory)?;
        // An engine puts its managed plugins beside its containers, wherever it was told to put those.
        plugins.iter().try_for_each(|id| remove_cgroups(id))?;
    }
    remove_cgroups(&cgroup(name))
}

/// Take down every lab whose process died without doing so, and refuse if the one called `name` is in use.
pub(super) fn reap_stale(name: &str) -> Result<()> {
    let Ok(entries) = fs::read_dir(base_directory()) else { return Ok(()) };
    for entry in entries.flatten() {
        let found = entry.file_name().to_string_lossy().into_owned();
        let shape: Option<Shape> = files::read_json(&entry.path().join(RECORD)).ok();
        let stale = shape.as_ref().is_some_and(|shape| shape.owner.is_some_and(|owner| !owner.alive()));
        if stale {
            let downed = down(&found);
            // Several processes may come upon the same one: only the name that is wanted has to be free.
            if found == name {
                downed?;
            }
        } else if found == name {
            match shape.and_then(|shape| shape.owner) {
                Some(owner) => bail!("lab {name} is in use by process {}", owner.pid),
                None => bail!("lab {name} exists: take it down with `netns-harness down --name {name}`"),
            }
        }
    }
    Ok(())
}

/// Copy all logs to the directory that the environment names, if it names one.
fn keep_logs(name: &str, directory: &Path) -> Result<()> {
    let Some(keep) = env::var_os(KEEP_LOGS_ENV) else { return Ok(()) };
    let keep = Path::new(&keep).join(name);
    fs::create_dir_all(&keep).with_context(|| format!("cannot create {}", keep.display()))?;
    for part in fs::read_dir(directory)?.flatten() {
        for file in fs::read_dir(part.path()).into_iter().flatten().flatten() {
            if file.path().extension().is_some_and(|extension| extension == "log") {
                let kept = format!("{}-{}", part.file_name().display(), file.file_name().display());
                fs::copy(file.path(), keep.join(kept))?;
            }
        }
    }
    Ok(())
}

fn remove_directory(directory: &Path) -> Result<()> {
    // A mount of a dying namespace may hold a directory for another moment.
    wait_in_teardown(&format!("the removal of {}", directory.display()), Duration::from_secs(30), || {
        match fs::remove_dir_all(directory) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
            _ => Ok(true),
        }
    })
}

/// Ids of the managed plugins that the lab's engines have.
fn plugins(directory: &Path) -> Vec<String> {
    let list = |path: &Path| fs::read_dir(path).into_iter().flatten().flatten();
    let parts = list(directory).map(|part| part.path().join("disk/docker/plugins"));
    let names = parts.flat_map(|plugins| list(&plugins).collect::<Vec<_>>()).map(|entry| entry.file_name());
    let names = names.map(|name| name.to_string_lossy().into_owned());
    names.filter(|name| name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit())).collect()
}

/// Remove the lab's cgroup from the unified tree, or from each hierarchy of the older kind.
fn remove_cgroups(name: &str) -> Result<()> {
    let mut roots = vec![PathBuf::from(CGROUPS)];
    roots.extend(fs::read_dir(CGROUPS).into_iter().flatten().flatten().map(|entry| entry.path()));
    for root in roots {
        let cgroup = root.join(name);
        if cgroup.is_dir() {
            wait_in_teardown(
                &format!("the removal of {}", cgroup.display()),
                Duration::from_secs(30),
                || remove_tree(&cgroup).map(|()| true),
            )?;
        }
    }
    Ok(())
}

/// Cgroups are removed from the leaves up; the files in them are not, and go with them.
fn remove_tree(cgroup: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(cgroup)?.flatten() {
        if entry.file_type()?.is_dir() {
            remove_tree(&entry.path())?;
        }
    }
    match fs::remove_dir(cgroup) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
