//! The directory of a managed plugin.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    thread,
};

use anyhow::{Context, Result, ensure};
use netns_harness::Lab;

/// Names the directory that `make plugin` has built.
const BUILT: &str = "RS_OVERLAY_PLUGIN";

/// What `docker plugin create` takes: what `make plugin` has built, or else this build's program with the libraries that
/// it needs, which takes no compiler.
pub(crate) struct PluginDirectory(tempfile::TempDir);

impl PluginDirectory {
    /// A directory of its own for each call, so that a test can change it.
    pub(crate) fn new() -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let rootfs = directory.path().join("rootfs");
        fs::create_dir(&rootfs)?;
        let project = Path::new(env!("CARGO_MANIFEST_DIR"));
        fs::copy(project.join("plugin-config.json"), directory.path().join("config.json"))?;
        if let Some(built) = std::env::var_os(BUILT) {
            let built = project.join(built);
            let program = built.join("rootfs/rs-overlay");
            fs::copy(&program, rootfs.join("rs-overlay")).with_context(|| program.display().to_string())?;
        } else {
            dynamic(&rootfs)?;
        }
        Ok(Self(directory))
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }
}

/// Gives every engine of the lab the plugin, all at once.
pub(crate) fn install(lab: &Lab) {
    let directory = PluginDirectory::new().unwrap();
    thread::scope(|scope| {
        for host in lab.hosts() {
            scope.spawn(|| host.plugin_install("rs-overlay", directory.path(), &[]).unwrap());
        }
    });
}

fn dynamic(rootfs: &Path) -> Result<()> {
    let program = env!("CARGO_BIN_EXE_rs-overlay");
    let target = rootfs.join("rs-overlay");
    text(Command::new("strip").arg("-o").arg(&target).arg(program))?;
    // Lines like `libm.so.6 => /lib/x86_64-linux-gnu/libm.so.6 (0x…)`, and the loader without an arrow.
    for line in text(Command::new("ldd").arg(program))?.lines() {
        let path = line.split_whitespace().find(|word| word.starts_with('/'));
        let Some(path) = path.map(PathBuf::from) else { continue };
        let at = rootfs.join(path.strip_prefix("/")?);
        fs::create_dir_all(at.parent().context("a library at the root")?)?;
        fs::copy(&path, at)?;
    }
    Ok(())
}

fn text(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("{command:?}"))?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}
