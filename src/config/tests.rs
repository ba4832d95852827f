//! Settings from all their sources together.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

fn resolved(flags: Flags, env: &[(&str, &str)], file: &str) -> Result<DaemonConfig, String> {
    let env: BTreeMap<String, String> = env.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    resolve(flags, |name| env.get(name).cloned(), Some(file), "machine").map_err(|err| err.to_string())
}

/// Flags with one setting made.
fn flag(setting: &str, value: &str) -> Flags {
    let mut flags = Flags::default();
    let value = value.to_owned();
    match setting {
        "cluster-store" => flags.cluster_store = Some(value),
        "cluster-advertise" => flags.cluster_advertise = Some(value),
        "cluster-store-opt" => flags.cluster_store_opt = vec![value],
        "state-dir" => flags.state_dir = Some(value),
        "socket" => flags.socket = Some(value),
        "docker-host" => flags.docker_host = Some(value),
        "scope" => flags.scope = Some(value),
        "fast-path" => flags.fast_path = Some(value),
        "vxlan-port" => flags.vxlan_port = Some(value),
        "default-addr-pool" => flags.default_addr_pool = vec![value],
        "hostname" => flags.hostname = Some(value),
        "log-level" => flags.log_level = Some(value),
        "log-format" => flags.log_format = Some(value),
        other => panic!("no setting {other}"),
    }
    flags
}

/// What a setting came out as.
fn shown(setting: &str, config: &DaemonConfig) -> String {
    let advertise = |advertise: &Advertise| match advertise {
        Advertise::Address(address) => address.to_string(),
        Advertise::Interface(name) => name.clone(),
    };
    match setting {
        "cluster-store" => config.cluster_store.clone(),
        "cluster-advertise" => config.cluster_advertise.as_ref().map(advertise).unwrap_or_default(),
        "cluster-store-opt" => config.store_options.path.clone().unwrap_or_default(),
        "state-dir" => config.state_dir.display().to_string(),
        "socket" => config.socket.display().to_string(),
        "docker-host" => config.docker_host.display().to_string(),
        "scope" => config.scope.as_str().to_owned(),
        "fast-path" => config.fast_path.to_string(),
        "vxlan-port" => config.vxlan_port.to_string(),
        "default-addr-pool" => {
            let pools = config.default_addr_pools.iter().map(|pool| format!("{}:{}", pool.base, pool.size));
            pools.collect::<Vec<_>>().join(" ")
        }
        "hostname" => config.hostname.clone(),
        "log-level" => format!("{:?}", config.log_level),
        "log-format" => format!("{:?}", config.log_format),
        other => panic!("no setting {other}"),
    }
}

/// A setting, three texts, what each comes out as, and the default.
type Case = (&'static str, [(&'static str, &'static str); 3], &'static str);

const CASES: [Case; 13] = [
    (
        "cluster-store",
        [
            ("etcd://h1:2379,h2:2379/p", "etcd://h1:2379,h2:2379/p"),
            ("consul://h:8500", "consul://h:8500"),
            ("unix:///run/s.sock", "unix:///run/s.sock"),
        ],
        "embedded:///var/lib/rs-overlay/store",
    ),
    (
        "cluster-advertise",
        [("192.0.2.1", "192.0.2.1"), ("[2001:db8::1]:2376", "2001:db8::1"), ("eth0:2376", "eth0")],
        "",
    ),
    ("cluster-store-opt", [("kv.path=a", "a"), ("kv.path=/b/c/", "b/c"), ("kv.path=d", "d")], ""),
    ("state-dir", [("/a", "/a"), ("/b", "/b"), ("/c", "/c")], "/var/lib/rs-overlay"),
    ("socket", [("/a.sock", "/a.sock"), ("/b.sock", "/b.sock"), ("/c.sock", "/c.sock")], DEFAULT_SOCKET),
    (
        "docker-host",
        [("unix:///a.sock", "/a.sock"), ("/b.sock", "/b.sock"), ("unix:///c.sock", "/c.sock")],
        DEFAULT_DOCKER_HOST,
    ),
    ("scope", [("global", "global"), ("local", "local"), ("global", "global")], "auto"),
    ("fast-path", [("on", "on"), ("off", "off"), ("on", "on")], "auto"),
    ("vxlan-port", [("1", "1"), ("8472", "8472"), ("65535", "65535")], "4789"),
    (
        "default-addr-pool",
        [
            ("base=10.1.0.0/16,size=24", "10.1.0.0/16:24"),
            ("base=2001:db8::/48,size=64", "2001:db8::/48:64"),
            ("base=172.30.0.0/16,size=26", "172.30.0.0/16:26"),
        ],
        "10.0.0.0/8:24",
    ),
    ("hostname", [("a", "a"), ("b.example", "b.example"), ("c-1", "c-1")], "machine"),
    ("log-level", [("trace", "Trace"), ("debug", "Debug"), ("error", "Error")], "Info"),
    ("log-format", [("json", "Json"), ("text", "Text"), ("json", "Json")], "Text"),
];

#[test]
fn every_setting_takes_the_flag_before_the_variable_before_the_file_before_the_default() {
    assert_eq!(CASES.map(|(setting, _, _)| setting), SETTINGS);
    for (setting, [by_flag, by_env, by_file], default) in CASES {
        let env_name = env_name(setting);
        let file = if setting == "vxlan-port" {
            format!("{setting} = {}", by_file.0)
        } else {
            format!("{setting} = {:?}", by_file.0)
        };
        for sources in 0..8_u8 {
            let (with_flag, with_env, with_file) = (sources & 1 != 0, sources & 2 != 0, sources & 4 != 0);
            let flags = if with_flag { flag(setting, by_flag.0) } else { Flags::default() };
            let env =
                if with_env { vec![(env_name.as_str(), by_env.0)] } else { vec![(env_name.as_str(), "")] };
            let config = resolved(flags, &env, if with_file { &file } else { "" });
            let want = match (with_flag, with_env, with_file) {
                (true, _, _) => by_flag.1,
                (false, true, _) => by_env.1,
                (false, false, true) => by_file.1,
                (false, false, false) => default,
            };
            assert_eq!(
                config.map(|config| shown(setting, &config)).as_deref(),
                Ok(want),
                "{setting}, {sources:03b}"
            );
        }
    }
}

#[test]
fn the_default_store_follows_the_state_directory() {
    let config = resolved(flag("state-dir", "/srv/x"), &[], "").unwrap();
    assert_eq!(config.cluster_store, "embedded:///srv/x/store");
}

#[test]
fn lists_in_the_environment_are_split_at_blanks_and_semicolons_only() {
    let env = [
        (
            "RS_OVERLAY_DEFAULT_ADDR_POOL",
            "base=10.1.0.0/16,size=24; base=10.2.0.0/16,size=25\nbase=2001:db8::/48,size=64 ;",
        ),
        ("RS_OVERLAY_CLUSTER_STORE_OPT", "kv.cacertfile=/ca.pem;kv.certfile=/c.pem kv.keyfile=/k.pem"),
    ];
    let config =
        resolved(Flags::default(), &env, "default-addr-pool = ['base=172.30.0.0/16,size=24']").unwrap();
    assert_eq!(shown("default-addr-pool", &config), "10.1.0.0/16:24 10.2.0.0/16:25 2001:db8::/48:64");
    assert_eq!(config.store_options.ca_cert_file, Some("/ca.pem".into()));
    assert_eq!(config.store_options.cert_file, Some("/c.pem".into()));
    assert_eq!(config.store_options.key_file, Some("/k.pem".into()));
}

/// A wrong value of each setting, and what the message says is right.
const WRONG: [(&str, &str, &str); 27] = [
    ("cluster-store", "zk://h:2181", "etcd://"),
    ("cluster-store", "h:2379", "etcd://"),
    ("cluster-store", "consul://a,b", "consul://"),
    ("cluster-store", "embedded://store", "embedded:///"),
    ("cluster-advertise", "192.0.2.300", "give for example 192.0.2.1"),
    ("cluster-advertise", "127.0.0.1", "unicast addresses"),
    ("cluster-advertise", "eth0:99999", "eth0:2376"),
    ("cluster-store-opt", "kv.cacert=/x", "kv.cacertfile"),
    ("cluster-store-opt", "colour=blue", "known are kv.cacertfile, kv.certfile"),
    ("cluster-store-opt", "kv.path", "KEY=VALUE"),
    ("cluster-store-opt", "kv.path=", "=VALUE"),
    ("cluster-store-opt", "kv.path=/", "kv.path"),
    ("state-dir", "var/lib", "give one that begins with /"),
    ("socket", "rs-overlay.sock", "give one that begins with /"),
    ("socket", "/run/docker/plugins/", "a directory"),
    ("docker-host", "tcp://192.0.2.1:2375", "unix:///var/run/docker.sock"),
    ("docker-host", "docker.sock", "unix:///var/run/docker.sock"),
    ("scope", "swarm", "give auto, local or global"),
    ("fast-path", "yes", "give auto, on or off"),
    ("vxlan-port", "0", "give a number from 1 to 65535"),
    ("vxlan-port", "65536", "give a number from 1 to 65535"),
    ("vxlan-port", "+4789", "give a number from 1 to 65535"),
    ("default-addr-pool", "base=10.0.0.0/8,size=4", "have a size of 8 to 31"),
    ("default-addr-pool", "10.0.0.0/8", "base=10.0.0.0/8,size=24"),
    ("hostname", "a_b/c", "give 1 to 253 letters"),
    ("log-level", "loud", "give trace, debug, info, warn or error"),
    ("log-format", "xml", "give text or json"),
];

#[test]
fn a_wrong_value_is_told_with_its_place_and_what_is_right_whatever_the_source() {
    for (setting, value, right) in WRONG {
        // Blanks separate elements of a list there, so a variable holds just these values.
        let by_env = resolved(Flags::default(), &[(&env_name(setting), value)], "");
        let by_file = resolved(Flags::default(), &[], &format!("{setting} = {value:?}"));
        let by_flag = resolved(flag(setting, value), &[], "");
        for (place, result) in [
            (format!("--{setting}"), by_flag),
            (env_name(setting), by_env),
            (format!("configuration file, key {setting}"), by_file),
        ] {
            let message = result.expect_err(&format!("{setting} = {value:?} was accepted"));
            // What is no option is not repeated: it may be a secret.
            let value = match value.split_once('=') {
                Some((key @ ("kv.cacert" | "colour"), _)) => format!("{key}=***"),
                _ => value.to_owned(),
            };
            assert!(message.starts_with(&format!("{place} {value:?}: ")), "{message}");
            assert!(message.contains(right), "{message}");
            assert!(!message.contains('\n'), "{message}");
        }
    }
}

#[test]
fn a_weaker_source_is_not_even_looked_at_unless_it_is_the_file() {
    assert!(resolved(flag("scope", "local"), &[("RS_OVERLAY_SCOPE", "nonsense")], "").is_ok());
    assert!(resolved(flag("scope", "local"), &[], "scop = 'local'").is_err());
}

#[test]
fn store_options_that_need_each_other_come_together() {
    for (text, right) in [
        ("kv.certfile=/c", "kv.keyfile"),
        ("kv.keyfile=/k", "kv.certfile"),
        ("kv.username=joe", "kv.passwordfile"),
        ("kv.path=a kv.path=b", "kv.path is given twice"),
    ] {
        let message = resolved(Flags::default(), &[("RS_OVERLAY_CLUSTER_STORE_OPT", text)], "").unwrap_err();
        assert!(message.contains(right), "{message}");
    }
}

#[test]
fn a_machine_without_a_usable_name_needs_the_flag() {
    let none = |_: &str| None;
    let message = resolve(Flags::default(), none, None, "(none)").unwrap_err().to_string();
    assert!(message.contains("give --hostname"), "{message}");
    assert!(resolve(flag("hostname", "a"), none, None, "(none)").is_ok());
}

#[test]
fn a_password_in_a_url_is_refused_and_not_repeated() {
    let message = resolved(flag("cluster-store", "etcd://joe:geheim@h1:2379"), &[], "").unwrap_err();
    assert!(message.starts_with("--cluster-store ") && !message.contains("geheim"), "{message}");
}

fn surveyed(flags: Flags, env: &[(&str, &str)], file: &str) -> Survey {
    let env: BTreeMap<String, String> = env.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    resolve_all(flags, &|name| env.get(name).cloned(), Some(file), "machine", Vec::new())
}

#[test]
fn a_survey_tells_every_setting_with_its_value_and_where_it_stands() {
    let env = [("RS_OVERLAY_SCOPE", "global"), ("RS_OVERLAY_CLUSTER_STORE_OPT", "kv.path=a;kv.tokenfile=/t")];
    let survey = surveyed(flag("vxlan-port", "8472"), &env, "scope = 'local'\nhostname = 'a'");
    let names: Vec<_> = survey.settings.iter().map(|setting| setting.name).collect();
    assert_eq!(names, SETTINGS);
    let row = |name: &str| {
        let row = survey.settings.iter().find(|setting| setting.name == name).unwrap();
        (row.value.as_str(), row.source, row.place.as_str())
    };
    assert_eq!(row("vxlan-port"), ("8472", Source::Flag, "--vxlan-port"));
    assert_eq!(row("scope"), ("global", Source::Environment, "RS_OVERLAY_SCOPE"));
    assert_eq!(row("hostname"), ("a", Source::File, "configuration file, key hostname"));
    assert_eq!(row("cluster-store-opt").0, "kv.path=a kv.tokenfile=/t");
    let defaults = Flags::default();
    for setting in surveyed(defaults, &[], "").settings {
        let empty = ["cluster-advertise", "cluster-store-opt"].contains(&setting.name);
        assert_eq!((setting.source, setting.place.as_str()), (Source::Default, "default"), "{setting:?}");
        assert_eq!(setting.value.is_empty(), empty, "{setting:?}");
        if !empty {
            // A default is shown as it would be given.
            let given = surveyed(flag(setting.name, &setting.value), &[], "");
            assert_eq!(given.outcome, surveyed(Flags::default(), &[], "").outcome, "{setting:?}");
        }
    }
}

#[test]
fn a_survey_tells_everything_that_is_wrong_and_no_secret() {
    let env = [
        ("RS_OVERLAY_CLUSTER_STORE_OPT", "kv.password=geheim"),
        ("RS_OVERLAY_CLUSTER_STORE", "etcd://joe:geheim@h1"),
        ("RS_OVERLAY_HOSTNAME", "a/b"),
    ];
    let survey = surveyed(flag("scope", "wide"), &env, "scop = 'x'\nlog-level = 'loud'");
    let told = format!("{survey:?}");
    assert!(!told.contains("geheim"), "{told}");
    let errors = survey.outcome.unwrap_err();
    assert_eq!(errors.len(), 6, "{errors:?}");
}

proptest! {
    #[test]
    fn no_text_makes_the_parsers_panic(setting in 0..SETTINGS.len(), text in "\\PC{0,40}|[a-z0-9=:/.,\\[\\]%-]{0,40}") {
        let setting = SETTINGS[setting];
        let _ = resolved(flag(setting, &text), &[], "");
        let _ = resolved(Flags::default(), &[(&env_name(setting), &text)], "");
        if let Err(message) = resolved(Flags::default(), &[], &format!("{setting} = {text}")) {
            prop_assert!(!message.contains('\n'));
        }
        let _ = resolved(Flags::default(), &[], &text);
    }

    #[test]
    fn every_pool_that_is_accepted_can_be_cut(base in any::<u32>(), prefix in 0_u8..=32, size in any::<u8>()) {
        let text = format!("base={}/{prefix},size={size}", std::net::Ipv4Addr::from(base));
        if let Ok(pool) = text.parse::<AddrPool>() {
            prop_assert!(pool.size >= pool.base.prefix_len() && pool.size < 32);
            prop_assert_eq!(pool.base, pool.base.trunc());
        }
    }
}
