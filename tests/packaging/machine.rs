//! A clean Debian that boots with systemd as its first process, in namespaces and with a network of its own.
//! It ends with the value, however the test ends, and leaves nothing behind.

use std::{
    fs,
    io::{Read, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::Duration,
};

use netns_harness::{parts, wait_until};
use tempfile::TempDir;

/// Longest wait for something that takes a moment on a machine that is not busy.
const PATIENCE: Duration = Duration::from_mins(1);

/// What lets the first process find its way: the whole environment of a command.
const PATH: &str = "PATH=/usr/sbin:/usr/bin:/sbin:/bin";

/// Puts a layer over the clean root (`$1`) in `$2`, with the directory `$3` at /packages. The mounts end with
/// the mount namespace.
const LAYER: &str = r#"
    mount -t tmpfs none "$2" && mkdir "$2/upper" "$2/work" "$2/root" &&
    mount -t overlay overlay -o "lowerdir=$1,upperdir=$2/upper,workdir=$2/work" "$2/root" &&
    mkdir "$2/root/packages" && mount --bind "$3" "$2/root/packages" &&
"#;

/// Takes away the control groups of a machine that has ended; those in use stay by themselves.
const NO_GROUPS: &str = "
    sed -n 's/^[0-9]*:name=systemd://p; s/^0:://p' /proc/self/cgroup | while read -r path; do
        for base in /sys/fs/cgroup/systemd /sys/fs/cgroup/unified /sys/fs/cgroup; do
            find \"$base$path/payload\" \"$base$path/supervisor\" -depth -type d -exec rmdir {} \\;
        done
    done 2>/dev/null";

/// A machine that runs.
pub(crate) struct Machine {
    process: Child,
    init: u32,
    directory: TempDir,
}

/// What a command said, and how it ended.
pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    pub(crate) text: String,
}

/// A shell that ends with this thread, in a mount namespace whose mounts nobody else sees.
fn apart() -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig=KILL", "unshare", "--mount", "--propagation=private", "sh", "-c"]);
    command.stdin(Stdio::null());
    command
}

/// Runs a script in a clean Debian without systemd as its first process; `packages` are at /packages.
pub(crate) fn in_clean_root(packages: &Path, script: &str) -> Said {
    let directory = TempDir::new().unwrap();
    let inside = format!(
        r#"{LAYER} mount -t proc none "$2/root/proc" && exec chroot "$2/root" env -i {PATH} sh -c "$4""#
    );
    let output = apart()
        .args([&inside, "sh"])
        .args([&parts::clean_root().unwrap(), directory.path(), packages])
        .arg(format!("exec 2>&1; {script}"))
        .output()
        .unwrap();
    said(&output)
}

impl Machine {
    /// Boots one with a network behind `eth0`, at 192.0.2.1, and `packages` at /packages.
    pub(crate) fn boot(packages: &Path) -> Self {
        let directory = TempDir::new().unwrap();
        let inside = format!(
            r#"{LAYER} exec systemd-nspawn --quiet --directory="$2/root" --bind-ro="$3:/packages" \
                --private-network --system-call-filter=bpf --register=no --keep-unit --console=pipe --boot >"$2/console" 2>&1"#
        );
        let process = apart()
            .args([&inside, "sh"])
            .args([&parts::clean_root().unwrap(), directory.path(), packages])
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let mut machine = Self { process, init: 0, directory };
        let pid = machine.process.id();
        let booted = wait_until("the machine's start", PATIENCE, || {
            machine.init = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?.trim().parse()?;
            let state = machine.run("systemctl is-system-running");
            anyhow::ensure!(["running", "degraded"].contains(&state.text.trim()), "{}", state.text);
            Ok(true)
        });
        booted.unwrap_or_else(|error| panic!("{error:#}\n{}", machine.console()));
        machine.good(
            "ip link set lo up && ip link add eth0 type veth peer name wire && ip link set wire up &&
             ip addr add 192.0.2.1/24 dev eth0 && ip link set eth0 up && ip route add default via 192.0.2.254",
        );
        machine
    }

    /// Runs a script.
    pub(crate) fn run(&self, script: &str) -> Said {
        let output = Command::new("nsenter")
            .args(["-t", &self.init.to_string(), "-m", "-u", "-i", "-n", "-p", "-C", "-r", "-w"])
            .args(["env", "-i", PATH, "TERM=dumb", "sh", "-c", &format!("exec 2>&1; {script}")])
            .stdin(Stdio::null())
            .output()
            .unwrap();
        said(&output)
    }

    /// Runs a script that has to succeed.
    #[track_caller]
    pub(crate) fn good(&self, script: &str) -> String {
        let said = self.run(script);
        assert_eq!(said.code, Some(0), "{script}:\n{}\n{}", said.text, self.journal());
        said.text.trim().to_owned()
    }

    /// Waits until a script succeeds.
    #[track_caller]
    pub(crate) fn until(&self, what: &str, script: &str) {
        let done = wait_until(what, PATIENCE, || {
            let said = self.run(script);
            anyhow::ensure!(said.code == Some(0), "{}", said.text);
            Ok(true)
        });
        done.unwrap_or_else(|error| panic!("{error:#}\n{}", self.journal()));
    }

    /// A file as the machine has it.
    pub(crate) fn path(&self, path: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{path}", self.init))
    }

    /// One call of an engine's, which has to be answered without an error.
    #[track_caller]
    pub(crate) fn call(&self, method: &str, body: &serde_json::Value) {
        let body = body.to_string();
        let mut socket = UnixStream::connect(self.path("/run/docker/plugins/rs-overlay.sock")).unwrap();
        let head = format!(
            "POST /{method} HTTP/1.1\r\nHost: plugin\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.write_all(head.as_bytes()).unwrap();
        socket.write_all(body.as_bytes()).unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{method}: {answer}\n{}", self.journal());
    }

    /// What the service has logged.
    pub(crate) fn journal(&self) -> String {
        self.run("journalctl --no-pager -u rs-overlay -u docker | tail -n 60").text
    }

    fn console(&self) -> String {
        let mount = format!("/proc/{}/root{}/console", self.process.id(), self.directory.path().display());
        fs::read_to_string(mount).unwrap_or_else(|error| format!("no console: {error}"))
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // All others end with the first process, which outlives the program that made it.
        if self.init > 0 {
            let _ = Command::new("kill").args(["-9", &self.init.to_string()]).status();
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = Command::new("sh").args(["-c", NO_GROUPS]).status();
    }
}

fn said(output: &Output) -> Said {
    let text = [&output.stdout[..], &output.stderr].concat();
    Said { code: output.status.code(), text: String::from_utf8_lossy(&text).into_owned() }
}
