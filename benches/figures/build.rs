//! The binary: its size, how soon it serves, and how long it takes to build.

use std::{
    fs,
    io::{Read, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use netns_harness::{Host, Run, Signal, StoreKind, interrupt};

use crate::{
    Context,
    figure::{Better::Lower, Figure, OURS, Series},
    stage,
};

/// Where engines look for the driver.
const SOCKET: &str = "/run/docker/plugins/rs-overlay.sock";
/// How often the socket is tried.
const LOOK: Duration = Duration::from_micros(200);
/// Longest wait for it.
const PATIENCE: Duration = Duration::from_mins(1);
/// What people install.
const DIST: &str = "Size of the binary, dist profile, static";
/// Longest build.
const BUILD: Duration = Duration::from_hours(1);

pub(crate) fn run(context: &Context) -> Result<Vec<Figure>> {
    let mut figures = vec![size("binary-size", "Size of the binary, release profile", &context.daemon)?];
    figures.push(served(context)?);
    if context.cold_build {
        figures.extend(built(context)?);
    } else if let Some(path) =
        Some(PathBuf::from("target/static/dist/rs-overlay")).filter(|path| path.is_file())
    {
        figures.push(size("binary-size-dist", DIST, &path)?);
    }
    Ok(figures)
}

fn figure(key: &'static str, title: &str, unit: &'static str, samples: Vec<f64>, note: &str) -> Figure {
    let note = (!note.is_empty()).then(|| note.to_owned());
    Figure {
        key,
        title: title.to_owned(),
        unit,
        better: Lower,
        series: vec![Series::new(OURS, samples)],
        note,
    }
}

#[allow(clippy::cast_precision_loss, reason = "some megabytes")]
fn size(key: &'static str, title: &str, path: &Path) -> Result<Figure> {
    let bytes = fs::metadata(path).with_context(|| format!("no binary at {}", path.display()))?.len();
    Ok(figure(key, title, "MB", vec![bytes as f64 / 1e6], ""))
}

/// From the daemon's start to its first answer as a plugin.
fn served(context: &Context) -> Result<Figure> {
    let lab = stage::lab(&context.daemon, 1, StoreKind::Etcd).build()?;
    let starts = context.rounds(20, 8);
    let times = (0..starts).map(|start| {
        ensure!(!interrupt::interrupted(), "interrupted");
        context.progress.step(&format!("start {} of {starts} of the daemon", start + 1));
        started(lab.host(1))
    });
    let times = times.collect::<Result<Vec<_>>>();
    lab.finish()?;
    let note = "from the start of the process to the first answer to Plugin.Activate, with etcd as the store and a \
                running engine; entering the host's namespaces is in it, 2 to 3 ms";
    Ok(figure("socket-ready", "Until the plugin socket answers", "ms", times?, note))
}

fn started(host: &Host) -> Result<f64> {
    host.daemon_kill(Signal::SIGTERM)?;
    let socket = host.path(SOCKET)?;
    thread::scope(|scope| {
        let begun = Instant::now();
        let answers = scope.spawn(move || {
            while activate(&socket).is_err() {
                ensure!(begun.elapsed() < PATIENCE, "the daemon does not answer on {SOCKET}");
                ensure!(!interrupt::interrupted(), "interrupted");
                thread::sleep(LOOK);
            }
            Ok(begun.elapsed().as_secs_f64() * 1e3)
        });
        host.daemon_start()?;
        answers.join().map_err(|_| anyhow!("the thread that asks the daemon died"))?
    })
}

fn activate(socket: &Path) -> Result<()> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(Duration::from_secs(1)))?;
    stream.write_all(b"POST /Plugin.Activate HTTP/1.0\r\nHost: plugin\r\nContent-Length: 0\r\n\r\n")?;
    let mut answer = String::new();
    stream.take(4096).read_to_string(&mut answer)?;
    if answer.contains("NetworkDriver") { Ok(()) } else { bail!("it says {answer:?}") }
}

/// A build from nothing of what is measured, and of what is released.
fn built(context: &Context) -> Result<Vec<Figure>> {
    let directory = tempfile::tempdir()?;
    let build = |profile: &str, more: &[&str]| -> Result<(f64, PathBuf)> {
        context.progress.step(&format!("a build from nothing, profile {profile}"));
        let mut command = Command::new(env!("CARGO"));
        command.current_dir(env!("CARGO_MANIFEST_DIR")).env("CARGO_TARGET_DIR", directory.path());
        command
            .args(["rustc", "--locked", "--quiet", "--bin", "rs-overlay", "--profile", profile])
            .args(more);
        let begun = Instant::now();
        Run::from_command(command).limit(BUILD).text()?;
        Ok((begun.elapsed().as_secs_f64(), directory.path().join(profile).join("rs-overlay")))
    };
    let (release, _) = build("release", &[])?;
    let (dist, binary) = build("dist", &["--", "-C", "target-feature=+crt-static", "-C", "strip=symbols"])?;
    let note = "cargo build of all dependencies and the daemon, downloads not counted";
    Ok(vec![
        figure("build-release", "Build from nothing, release profile", "s", vec![release], note),
        figure(
            "build-dist",
            "Build from nothing, dist profile",
            "s",
            vec![dist],
            "static, small, slower to build",
        ),
        size("binary-size-dist", DIST, &binary)?,
    ])
}
