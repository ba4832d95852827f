//! The Debian package in a clean Debian: installed, run, upgraded, removed and purged.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::json;
use tempfile::TempDir;

use super::{
    machine::{Machine, in_clean_root},
    unit,
};

/// The packages' version, and a later one.
const VERSIONS: [&str; 2] = ["0.1.0~test", "0.1.1~test"];

/// An engine that notes whether it found its driver.
const ENGINE: &str = "[Unit]
After=network-online.target
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh -c 'test -S /run/docker/plugins/rs-overlay.sock && echo found >/run/driver || echo missed >/run/driver'
[Install]
WantedBy=multi-user.target
";

/// Our namespace: which one it is, and the links in it.
const INSIDE: &str = "stat -c %i /run/docker/rs-overlay/netns/overlay &&
    nsenter --net=/run/docker/rs-overlay/netns/overlay ip -o link | cut -d: -f1,2 | sort -n";

fn allowed() -> bool {
    if nix::unistd::geteuid().is_root() {
        return true;
    }
    assert!(std::env::var("ALLOW_SKIP").is_ok_and(|value| value == "1"), "needs root, or ALLOW_SKIP=1");
    eprintln!("skipped: needs root");
    false
}

/// Builds the package of the binary under test in two versions.
fn packages(directory: &Path) -> Vec<PathBuf> {
    let build = |version| {
        let output = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/build-deb"))
            .args([Path::new(env!("CARGO_BIN_EXE_rs-overlay")), directory])
            .envs([("VERSION", version), ("STRIP", "1"), ("FAST", "1")])
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        PathBuf::from(String::from_utf8(output.stdout).unwrap().trim())
    };
    VERSIONS.map(build).to_vec()
}

/// The package's place inside.
fn inside(package: &Path) -> String {
    format!("/packages/{}", package.file_name().unwrap().to_str().unwrap())
}

#[test]
fn the_package_installs_and_goes_where_no_systemd_runs() {
    if !allowed() {
        return;
    }
    let directory = TempDir::new().unwrap();
    let packages = packages(directory.path());
    let (first, second) = (inside(&packages[0]), inside(&packages[1]));
    let said = in_clean_root(
        directory.path(),
        &format!(
            "set -ex
            dpkg -i {first}
            rs-overlay version
            test -e /etc/systemd/system/docker.service.wants/rs-overlay.service
            test -s /usr/share/bash-completion/completions/rs-overlay -a -s /usr/share/man/man8/rs-overlay.8.gz ||
                test -s /usr/share/bash-completion/completions/rs-overlay
            echo '# mine' >>/etc/rs-overlay/config.toml
            dpkg -i {second}
            tail -n 1 /etc/rs-overlay/config.toml
            mkdir -p /var/lib/rs-overlay/claims
            dpkg --remove rs-overlay
            test -e /etc/rs-overlay/config.toml -a -d /var/lib/rs-overlay/claims -a ! -e /usr/bin/rs-overlay
            dpkg --purge rs-overlay
            ls -d /etc/rs-overlay /etc/default/rs-overlay /var/lib/rs-overlay && exit 1
            find /etc/systemd /var/lib/systemd -name '*rs-overlay*' | grep . && exit 1
            echo all is gone"
        ),
    );
    assert_eq!(said.code, Some(0), "{}", said.text);
    for part in ["Client: 0.", "does not run", "\n# mine\n", "all is gone"] {
        assert!(said.text.contains(part), "{part:?} is not in {}", said.text);
    }
}

#[test]
fn the_service_runs_restarts_and_is_upgraded_without_touching_a_link() {
    if !allowed() {
        return;
    }
    let directory = TempDir::new().unwrap();
    let packages = packages(directory.path());
    let machine = Machine::boot(directory.path());
    std::fs::write(machine.path("/etc/systemd/system/docker.service"), ENGINE).unwrap();

    machine.good(&format!("dpkg -i {}", inside(&packages[0])));
    machine.good("systemctl is-active rs-overlay && systemctl is-enabled rs-overlay");
    sandboxed_as_the_unit_says(&machine);
    is_ready_soon(&machine);
    let checked = machine.good("rs-overlay config check --service");
    assert!(checked.contains("no problem") && checked.contains("serves /run/docker"), "{checked}");
    assert!(machine.good("rs-overlay version").contains("Daemon: 0."));
    // The service can do what root can who is not confined.
    let able = checked.contains("takes the programs of the fast path");
    assert_eq!(
        able,
        !machine.journal().contains("packets go by the bridges"),
        "{checked}\n{}",
        machine.journal()
    );

    let before = a_container(&machine);
    machine.good("systemctl restart rs-overlay");
    assert_eq!(machine.good(INSIDE), before, "after a restart");
    machine.good("kill -9 $(systemctl show -P MainPID rs-overlay)");
    machine.until("the return of the daemon", "systemctl is-active rs-overlay && rs-overlay status");
    assert_eq!(machine.good(INSIDE), before, "after a kill");
    machine.good("systemctl stop rs-overlay && test ! -e /run/docker/plugins/rs-overlay.sock");
    assert_eq!(machine.good(INSIDE), before, "after a stop");
    machine.good("systemctl start docker && systemctl is-active rs-overlay && grep found /run/driver");

    let pid = machine.good("systemctl show -P MainPID rs-overlay");
    machine.good(&format!("dpkg -i {} && systemctl is-active rs-overlay", inside(&packages[1])));
    assert_ne!(machine.good("systemctl show -P MainPID rs-overlay"), pid, "the old daemon still runs");
    assert_eq!(machine.good(INSIDE), before, "after an upgrade");
    assert!(!machine.journal().contains("not permitted"), "{}", machine.journal());

    wrong_settings_are_told_and_stop_no_engine(&machine);

    machine.good("dpkg --remove rs-overlay");
    assert_eq!(machine.good(INSIDE), before, "after the package's removal");
    machine.good("dpkg --purge rs-overlay && test ! -e /run/docker/rs-overlay -a ! -e /var/lib/rs-overlay");
    assert_eq!(machine.good("ip route show proto 82"), "");
}

/// A network with a container, as an engine asks for them; what our namespace holds with it.
fn a_container(machine: &Machine) -> String {
    let (network, endpoint) = ("a".repeat(64), "b".repeat(64));
    let pool = json!({ "AddressSpace": "LocalDefault", "Pool": "10.9.0.0/24", "Gateway": "10.9.0.1/24" });
    let network_options = json!({ "com.docker.network.generic": {} });
    machine.until("a store that is ready", "rs-overlay status | grep -q ', connected'");
    machine.call(
        "NetworkDriver.CreateNetwork",
        &json!({ "NetworkID": network, "Options": network_options, "IPv4Data": [pool], "IPv6Data": [] }),
    );
    let interface = json!({ "Address": "10.9.0.2/24", "AddressIPv6": "", "MacAddress": "" });
    machine.call(
        "NetworkDriver.CreateEndpoint",
        &json!({ "NetworkID": network, "EndpointID": endpoint, "Interface": interface, "Options": {} }),
    );
    machine.until("the container's link", &format!("test $( ({INSIDE}) | wc -l) -ge 6"));
    machine.good(INSIDE)
}

/// What the kernel says of the process is what the unit says of the service.
fn sandboxed_as_the_unit_says(machine: &Machine) {
    let verified = machine.good("systemd-analyze verify --man=no rs-overlay.service");
    for line in verified.lines() {
        // Keys of later releases, which earlier ones pass over.
        assert!(line.contains("RestartSteps") || line.contains("RestartMaxDelaySec"), "{verified}");
    }
    machine.good("systemd-analyze security --offline=true --threshold=50 rs-overlay.service");
    let of_process = "/proc/$(systemctl show -P MainPID rs-overlay)";
    let status = machine.good(&format!("cat {of_process}/status"));
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(&format!("{name}:")));
        line.unwrap_or_default().trim().to_owned()
    };
    let kept = machine.good(&format!("cat {of_process}/status | sed -n 's/^CapBnd:.//p'"));
    let mask = unit::capabilities().iter().fold(0_u64, |mask, name| mask | 1 << number(name));
    assert_eq!(u64::from_str_radix(&kept, 16), Ok(mask), "{kept}");
    assert_eq!((field("CapEff"), field("NoNewPrivs"), field("Seccomp")), (kept, "1".into(), "2".into()));
    machine.good(&format!("test $(readlink {of_process}/ns/mnt) = $(readlink /proc/1/ns/mnt)"));
}

/// Of linux/capability.h.
fn number(capability: &str) -> u32 {
    match capability {
        "net_admin" => 12,
        "net_raw" => 13,
        "sys_ptrace" => 19,
        "sys_admin" => 21,
        other => panic!("{other} is new in the unit: give its number here"),
    }
}

/// From the start of the process to the socket that is served: 20 to 80 ms, also of a build that is not
/// optimised. The bound is for a machine that does a lot besides.
fn is_ready_soon(machine: &Machine) {
    let moment = |name: &str| -> u64 {
        machine.good(&format!("systemctl show -P {name}TimestampMonotonic rs-overlay")).parse().unwrap()
    };
    let took = moment("ActiveEnter") - moment("ExecMainStart");
    eprintln!("ready {} ms after its start", took / 1_000);
    assert!(took < 2_000_000, "ready only {took} µs after its start");
}

fn wrong_settings_are_told_and_stop_no_engine(machine: &Machine) {
    machine.good("systemctl stop docker && echo RS_OVERLAY_SCOPE=wide >>/etc/default/rs-overlay");
    assert_ne!(machine.run("systemctl restart rs-overlay").code, Some(0));
    assert!(machine.journal().contains("RS_OVERLAY_SCOPE \"wide\": no such scope"), "{}", machine.journal());
    let checked = machine.run("rs-overlay config check --service");
    assert_eq!(checked.code, Some(1), "{}", checked.text);
    assert!(checked.text.contains("PROBLEM   RS_OVERLAY_SCOPE \"wide\""), "{}", checked.text);
    let plain = machine.good("rs-overlay config check");
    assert!(plain.contains("--service checks with those"), "{plain}");
    machine.good("systemctl start docker && grep missed /run/driver");
    machine.good("sed -i '/SCOPE=wide/d' /etc/default/rs-overlay");
    machine.until("another try", "systemctl is-active rs-overlay && rs-overlay status");
}
