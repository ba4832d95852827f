//! The unit's text: what must be in it, and what must not.

use super::file;

/// Options that give a service a mount namespace of its own (systemd.exec(5)). Nothing that is mounted there
/// reaches the host: neither the pin of our network namespace nor a sandbox's.
const PRIVATE_MOUNTS: [&str; 28] = [
    "BindPaths",
    "BindReadOnlyPaths",
    "DynamicUser",
    "ExecPaths",
    "ExtensionDirectories",
    "ExtensionImages",
    "InaccessiblePaths",
    "LogNamespace",
    "MountAPIVFS",
    "MountFlags",
    "MountImages",
    "NoExecPaths",
    "PrivateDevices",
    "PrivateIPC",
    "PrivateMounts",
    "PrivateTmp",
    "PrivateUsers",
    "ProcSubset",
    "ProtectControlGroups",
    "ProtectHome",
    "ProtectKernelLogs",
    "ProtectKernelModules",
    "ProtectKernelTunables",
    "ProtectProc",
    "ProtectSystem",
    "ReadOnlyPaths",
    "ReadWritePaths",
    "RootDirectory",
];

/// Keys and values, in their order.
pub(crate) fn settings() -> Vec<(String, String)> {
    let unit = file("packaging/rs-overlay.service");
    let lines = unit.lines().filter(|line| !line.starts_with(['#', '[']) && !line.is_empty());
    lines
        .map(|line| {
            let (key, value) = line.split_once('=').unwrap();
            (key.to_owned(), value.to_owned())
        })
        .collect()
}

/// Values of all lines with that key.
pub(crate) fn values(key: &str) -> Vec<String> {
    settings().into_iter().filter(|(found, _)| found == key).map(|(_, value)| value).collect()
}

/// The capabilities that the service keeps, as setpriv(1) names them.
pub(crate) fn capabilities() -> Vec<String> {
    let kept = values("CapabilityBoundingSet").join(" ");
    kept.split_whitespace().map(|name| name.trim_start_matches("CAP_").to_lowercase()).collect()
}

#[test]
fn the_service_has_the_mounts_of_the_host() {
    for (key, _) in settings() {
        assert!(!PRIVATE_MOUNTS.contains(&key.as_str()), "{key}= hides the service's mounts from the host");
    }
    // What systemd makes for the service it takes away with it.
    assert_eq!(values("RuntimeDirectory"), [""; 0]);
}

#[test]
fn the_service_and_the_managed_plugin_may_load_programs() {
    assert!(values("SystemCallFilter").join(" ").split(' ').any(|call| call == "bpf"));
    let config: serde_json::Value = serde_json::from_str(&file("plugin-config.json")).unwrap();
    for capability in ["sys_admin", "net_admin"] {
        assert!(capabilities().contains(&capability.to_owned()), "{capability}");
        let name = format!("CAP_{}", capability.to_uppercase());
        let kept = config["linux"]["capabilities"].as_array().unwrap();
        assert!(kept.contains(&serde_json::Value::from(name.as_str())), "{name}");
    }
}

#[test]
fn an_engine_that_is_started_starts_its_driver_first_and_needs_it_not() {
    assert_eq!(values("Before"), ["docker.service"]);
    assert!(values("WantedBy").contains(&"docker.service".to_owned()));
    for key in ["RequiredBy", "BoundBy", "UpheldBy", "Requires", "BindsTo", "PartOf"] {
        assert_eq!(values(key), [""; 0], "{key}");
    }
    assert_eq!(values("Type"), ["notify"]);
}
