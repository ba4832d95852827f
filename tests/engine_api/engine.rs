//! One real dockerd in network and mount namespaces of its own, gone when dropped.

use std::{
    fs,
    io::Write,
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

/// Where another engine than the installed one lies: directories for `PATH`.
const PATH_VARIABLE: &str = "RS_OVERLAY_TEST_ENGINE_PATH";

/// Makes the namespaces' `/run` and `/sys` their own, and holds them until its standard input closes.
const HOLD: &str = "set -e
mkdir -p $DIR/cgroup; mount --rbind /sys/fs/cgroup $DIR/cgroup
mount -t sysfs sysfs /sys; mount --rbind $DIR/cgroup /sys/fs/cgroup
mount -t tmpfs tmpfs /run; ip link set lo up
echo ready >$DIR/ready; exec cat";

/// A dockerd; the test thread that made it must outlive it.
pub(crate) struct Engine {
    dir: tempfile::TempDir,
    holder: Child,
    dockerd: Option<Child>,
}

impl Engine {
    /// Starts one, with an image `bb` that holds busybox.
    pub(crate) fn start() -> Self {
        let dir = tempfile::Builder::new().prefix("engine-api-").tempdir_in("/var/tmp").unwrap();
        let holder = Command::new("unshare")
            .args(["--mount", "--net", "--uts", "--propagation", "private", "bash", "-c", HOLD])
            .env("DIR", dir.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let mut engine = Self { dir, holder, dockerd: None };
        let ready = engine.dir.path().join("ready");
        wait_until("the namespaces of an engine", || {
            ready.exists().then_some(()).ok_or_else(|| "not made".to_owned())
        });
        engine.power_on();
        engine.import_image();
        engine
    }

    /// The engine's socket, seen from here.
    pub(crate) fn socket(&self) -> PathBuf {
        format!("/proc/{}/root/run/docker.sock", self.holder.id()).into()
    }

    /// Starts dockerd and waits until it answers.
    pub(crate) fn power_on(&mut self) {
        let log = fs::File::options().create(true).append(true).open(self.dir.path().join("log")).unwrap();
        let mut command = self.inside("setpriv");
        command
            .args(["--pdeathsig", "TERM", "dockerd", "--exec-opt", "native.cgroupdriver=cgroupfs"])
            .args(["--data-root".as_ref(), self.dir.path().join("data").as_os_str()])
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        self.dockerd = Some(command.spawn().unwrap());
        wait_until("dockerd", || {
            let answer = self.try_docker(&["version"]).map(drop);
            answer.map_err(|error| format!("{error}\n{}", self.log_tail()))
        });
    }

    /// Ends dockerd with a signal and waits for its end.
    pub(crate) fn power_off(&mut self, signal: &str) {
        let Some(mut dockerd) = self.dockerd.take() else { return };
        let _ = Command::new("kill").args([signal, &dockerd.id().to_string()]).status();
        let begun = Instant::now();
        while dockerd.try_wait().unwrap().is_none() {
            if begun.elapsed() > Duration::from_secs(30) {
                let _ = dockerd.kill();
            }
            sleep(Duration::from_millis(20));
        }
        // Its containerd dies with it. Where init is slow to reap that, the next dockerd takes the dead
        // process for a live one, by this file.
        let _ = self.inside("rm").args(["-f", "/run/docker/containerd/containerd.pid"]).status();
    }

    /// Runs a docker command and answers what it prints.
    pub(crate) fn docker(&self, arguments: &[&str]) -> String {
        self.try_docker(arguments).unwrap_or_else(|error| panic!("docker {arguments:?}: {error}"))
    }

    fn try_docker(&self, arguments: &[&str]) -> Result<String, String> {
        let output = self.inside("timeout").args(["60", "docker"]).args(arguments).output().unwrap();
        if output.status.success() {
            Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        }
    }

    fn log_tail(&self) -> String {
        let log = fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(10)..].join("\n")
    }

    fn inside(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["-t", &self.holder.id().to_string(), "-m", "-n", "-u", program]).stdin(Stdio::null());
        if let Ok(first) = std::env::var(PATH_VARIABLE) {
            let rest = std::env::var("PATH").unwrap_or_default();
            command.env("PATH", format!("{first}:{rest}"));
        }
        command
    }

    fn import_image(&self) {
        let bin = self.dir.path().join("image/bin");
        fs::create_dir_all(&bin).unwrap();
        fs::copy("/bin/busybox", bin.join("busybox")).unwrap();
        std::os::unix::fs::symlink("busybox", bin.join("sleep")).unwrap();
        let tar =
            Command::new("tar").arg("-C").arg(bin.parent().unwrap()).args(["-c", "."]).output().unwrap();
        let mut import =
            self.inside("docker").args(["import", "-", "bb"]).stdin(Stdio::piped()).spawn().unwrap();
        import.stdin.take().unwrap().write_all(&tar.stdout).unwrap();
        assert!(import.wait().unwrap().success());
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if self.dockerd.is_some() {
            let left = self.try_docker(&["ps", "-aq"]).unwrap_or_default();
            for container in left.split_whitespace() {
                let _ = self.try_docker(&["rm", "-f", container]);
            }
        }
        self.power_off("-TERM");
        drop(self.holder.stdin.take());
        let _ = self.holder.wait();
    }
}

fn wait_until(what: &str, mut done: impl FnMut() -> Result<(), String>) {
    let begun = Instant::now();
    loop {
        match done() {
            Ok(()) => return,
            Err(last) if begun.elapsed() > Duration::from_secs(60) => panic!("{what}: {last}"),
            Err(_) => sleep(Duration::from_millis(50)),
        }
    }
}
