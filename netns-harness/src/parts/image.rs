//! The image that test containers run.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use anyhow::{Context, Result};

use crate::command::Run;

/// Programs that tests call by name. Busybox runs under the name of the link that started it.
const PROGRAMS: &[&str] = &[
    "sh",
    "ping",
    "ping6",
    "nslookup",
    "sleep",
    "cat",
    "ip",
    "wget",
    "nc",
    "ls",
    "hostname",
    "httpd",
    "echo",
    "arping",
    "arp",
    "udhcpc",
    "traceroute",
    "true",
    "false",
    "dd",
    "grep",
    "ps",
    "kill",
    "id",
    "env",
    "head",
    "tail",
    "wc",
    "mkdir",
    "rm",
    "touch",
    "date",
    "time",
    "seq",
    "test",
    "awk",
    "sed",
    "ifconfig",
    "route",
];

/// Write the tarball of a root file system made from one static busybox.
pub(super) fn write(busybox: &Path, tarball: &Path) -> Result<()> {
    let directory = tempfile::tempdir().context("cannot make a directory for the image")?;
    let bin = directory.path().join("bin");
    fs::create_dir(&bin)?;
    fs::create_dir(directory.path().join("tmp"))?;
    fs::create_dir(directory.path().join("etc"))?;
    fs::copy(busybox, bin.join("busybox")).with_context(|| format!("cannot copy {}", busybox.display()))?;
    for program in PROGRAMS {
        symlink("busybox", bin.join(program))?;
    }
    Run::new("tar")
        .args(["-C", &directory.path().to_string_lossy(), "-cf", &tarball.to_string_lossy(), "."])
        .text()
        .map(drop)
}
