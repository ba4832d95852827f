//! The files around the program say what the program does.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a helper that fails is a test that fails")]

mod packaging {
    pub(crate) mod installed;
    pub(crate) mod machine;
    pub(crate) mod texts;
    pub(crate) mod unit;

    pub(crate) use super::file;
}

use std::path::{Path, PathBuf};

use rs_overlay::{
    config::{Flags, SETTINGS, env_name, resolve},
    dataplane::netlink::DEFAULT_NAMESPACE,
};
use serde_json::Value;

fn file(name: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap()
}

#[test]
fn a_managed_plugin_can_be_set_up_in_every_way_that_does_not_move_its_own_places() {
    let config: Value = serde_json::from_str(&file("plugin-config.json")).unwrap();
    let entries = config["env"].as_array().unwrap();
    let names: Vec<&str> = entries.iter().map(|entry| entry["name"].as_str().unwrap()).collect();
    let fixed = ["socket", "state-dir"];
    let wanted: Vec<String> =
        SETTINGS.into_iter().filter(|name| !fixed.contains(name)).map(env_name).collect();
    let mut sorted = (names, wanted);
    sorted.0.sort_unstable();
    sorted.1.sort_unstable();
    assert_eq!(sorted.0, sorted.1);
    for entry in entries {
        assert_eq!(entry["settable"], serde_json::json!(["value"]), "{entry}");
    }
}

#[test]
fn a_managed_plugin_with_nothing_set_has_the_daemons_defaults_at_the_plugins_places() {
    let config: Value = serde_json::from_str(&file("plugin-config.json")).unwrap();
    let env = |name: &str| {
        let entries = config["env"].as_array()?;
        let entry = entries.iter().find(|entry| entry["name"] == name)?;
        entry["value"].as_str().map(str::to_owned)
    };
    let daemon = resolve(Flags::default(), env, None, "machine").unwrap();
    assert_eq!(daemon.state_dir, PathBuf::from(config["propagatedmount"].as_str().unwrap()));
    assert_eq!(daemon.socket.file_name().unwrap(), config["interface"]["socket"].as_str().unwrap());
    let mounts = config["mounts"].as_array().unwrap();
    let mounted =
        |path: &Path| mounts.iter().any(|mount| path.starts_with(mount["destination"].as_str().unwrap()));
    assert!(mounted(&daemon.docker_host));
    assert!(mounted(Path::new(DEFAULT_NAMESPACE)), "the overlay namespace would die with the plugin");
}

#[test]
fn the_readme_names_every_flag() {
    let readme = file("README.md");
    for setting in SETTINGS.into_iter().chain(["config"]) {
        assert!(readme.contains(&format!("`--{setting}")), "README.md does not name --{setting}");
    }
}
