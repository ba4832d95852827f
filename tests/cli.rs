//! The real binary: exit statuses, one-line messages, and the commands that ask a daemon.

#![allow(clippy::unwrap_used, reason = "a helper that fails is a test that fails")]

use std::{
    io::{Read, Write},
    os::unix::net::UnixListener,
    path::Path,
    process::{Command, Output, Stdio},
};

use tempfile::TempDir;

/// The binary with an environment that holds no setting.
fn rs_overlay(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rs-overlay"));
    command.args(arguments).stdin(Stdio::null()).env_clear();
    command
}

/// `rs-overlay daemon` that, were its settings accepted after all, would fail to find its place in `dir`
/// and touch nothing of this machine. `setting` is the one that the test makes.
fn fenced_daemon(dir: &Path, setting: &str, arguments: &[&str]) -> Command {
    let mut command = rs_overlay(&["daemon"]);
    for place in ["state-dir", "socket", "docker-host"] {
        if place != setting {
            command.arg(format!("--{place}={}", dir.join("absent").join(place).display()));
        }
    }
    command.args(arguments);
    command
}

fn run(arguments: &[&str]) -> Output {
    rs_overlay(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Asserts that wrong usage is told in one line that holds all of `parts`, and returns the line.
fn refused(output: &Output, parts: &[&str]) -> String {
    let line = text(&output.stderr);
    assert_eq!(output.status.code(), Some(64), "{line}");
    assert_eq!(line.matches('\n').count(), 1, "{line}");
    assert!(line.starts_with("rs-overlay: ") && output.stdout.is_empty(), "{line}");
    for part in parts {
        assert!(line.contains(part), "{part:?} is not in {line}");
    }
    line
}

/// A socket that answers each of `answers` to one connection and hands back the requests.
fn daemon(socket: &Path, answers: Vec<String>) -> std::thread::JoinHandle<Vec<String>> {
    let listener = UnixListener::bind(socket).unwrap();
    std::thread::spawn(move || {
        let mut requests = Vec::new();
        for answer in answers {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = Vec::new();
            let mut byte = [0];
            while !request.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap() == 1 {
                request.push(byte[0]);
            }
            requests.push(text(&request));
            stream.write_all(answer.as_bytes()).unwrap();
        }
        requests
    })
}

fn ok(json: &str) -> String {
    format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{json}",
        json.len()
    )
}

const NETWORKS: &str = r#"[
  {"id":"zz11","name":"web","subnets":["10.0.1.0/24"],"gateways":["10.0.1.1"],"vni":4097,"mtu":1450,
   "hosts":["a","b"],"endpoints":3,"internal":false,"ipv6":false,"attachable":true,"later":"field"},
  {"id":"aa22","name":null,"subnets":[],"gateways":[],"vni":4098,"mtu":1450,
   "hosts":[],"endpoints":0,"internal":true,"ipv6":false,"attachable":false}]"#;
const NODES: &str = r#"[{"id":"n1","hostname":"a","vtep":"192.0.2.1","engine":"20.10.24","daemon":"0.1.0",
   "scope":"global","mode":"classic","networks":1,"endpoints":2,"since":0}]"#;
const NAMES: &str = r#"{"searched":["blue","red"],"holders":[{"addresses":["10.0.1.2","fd00::2"],"container":"web1",
   "host":"a","network":"blue","since":0,"record":"v1/endpoints/zz11/e1","revision":42}]}"#;
const STATUS: &str = r#"{"version":"9.8.7","node":"n1","hostname":"a","vtep":null,"scope":"local",
   "store":{"kind":"etcd","url":"etcd://h1","connected":true,"since":0},
   "engine":{"reachable":false,"version":null},"networks":1,"endpoints":2,"reconcile":null,
   "problems":["The engine does not answer."]}"#;

#[test]
fn wrong_values_end_with_64_and_touch_nothing() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("config.toml");
    for (setting, value) in [
        ("cluster-store", "zk://h:2181"),
        ("cluster-advertise", "127.0.0.1"),
        ("cluster-store-opt", "kv.colour=blue"),
        ("state-dir", "relative"),
        ("socket", "relative.sock"),
        ("docker-host", "tcp://192.0.2.1:2375"),
        ("scope", "swarm"),
        ("vxlan-port", "-1"),
        ("default-addr-pool", "base=10.0.0.0/8,size=4"),
        ("fast-path", "yes"),
        ("hostname", "a/b"),
        ("log-level", "loud"),
        ("log-format", "xml"),
    ] {
        let flag = format!("--{setting}={value}");
        let output = fenced_daemon(dir.path(), setting, &[&flag]).output().unwrap();
        let value = if setting == "cluster-store-opt" { "kv.colour=***" } else { value };
        refused(&output, &[&format!("--{setting} {value:?}: ")]);

        let variable = format!("RS_OVERLAY_{}", setting.replace('-', "_").to_uppercase());
        let output = fenced_daemon(dir.path(), setting, &[]).env(&variable, value).output().unwrap();
        refused(&output, &[&format!("{variable} {value:?}: ")]);

        std::fs::write(&file, format!("{setting} = {value:?}\n")).unwrap();
        let config = ["--config", file.to_str().unwrap()];
        let output = fenced_daemon(dir.path(), setting, &config).output().unwrap();
        refused(&output, &[&format!("configuration file, key {setting} {value:?}: ")]);
    }
    assert!(!dir.path().join("absent").exists());
}

#[test]
fn a_configuration_file_that_cannot_be_read_or_understood_is_refused() {
    let dir = TempDir::new().unwrap();
    let missing = dir.path().join("missing.toml");
    let missing = missing.to_str().unwrap();
    let output = fenced_daemon(dir.path(), "config", &["--config", missing]).output().unwrap();
    refused(&output, &["--config", missing, "No such file"]);
    let output = fenced_daemon(dir.path(), "config", &[]).env("RS_OVERLAY_CONFIG", missing).output().unwrap();
    refused(&output, &["RS_OVERLAY_CONFIG", missing]);

    let file = dir.path().join("config.toml");
    for (content, part) in [("cluster-stor = 'x'", "did you mean cluster-store?"), ("\n= 1", "line 2")] {
        std::fs::write(&file, content).unwrap();
        let config = ["--config", file.to_str().unwrap()];
        refused(&fenced_daemon(dir.path(), "config", &config).output().unwrap(), &[part]);
    }
}

#[test]
fn a_variable_that_is_no_text_is_refused() {
    use std::os::unix::ffi::OsStrExt;
    let raw = std::ffi::OsStr::from_bytes(b"\xff");
    let dir = TempDir::new().unwrap();
    let output = fenced_daemon(dir.path(), "hostname", &[]).env("RS_OVERLAY_HOSTNAME", raw).output().unwrap();
    refused(&output, &["RS_OVERLAY_HOSTNAME", "is not UTF-8"]);
}

#[test]
fn config_check_shows_where_settings_come_from_and_no_secret() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("config.toml");
    std::fs::write(&file, "log-level = 'debug'\nscope = 'local'\n").unwrap();
    let place = |name: &str| dir.path().join(name).display().to_string();
    let check = |more: &[&str]| {
        let mut command = rs_overlay(&["config", "check", "--cluster-advertise", "no-such-link"]);
        command.args(["--config", file.to_str().unwrap(), "--state-dir", &place("state")]);
        command.args(["--socket", &place("p.sock"), "--docker-host", &place("d.sock")]).args(more);
        command.env("RS_OVERLAY_SCOPE", "global").env("RS_OVERLAY_VXLAN_PROT", "1").output().unwrap()
    };
    let output = check(&[]);
    let table = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{table}");
    for part in [
        "log-level           debug".to_owned(),
        file.display().to_string(),
        "RS_OVERLAY_SCOPE".to_owned(),
        "PROBLEM   --cluster-advertise \"no-such-link\": there is no such interface".to_owned(),
        "variable RS_OVERLAY_VXLAN_PROT is no setting and has no effect; did you mean RS_OVERLAY_VXLAN_PORT?"
            .to_owned(),
        format!("there is no engine at {}", place("d.sock")),
        format!("{} will be made", place("state")),
    ] {
        assert!(table.contains(&part), "{part:?} is not in {table}");
    }
    assert!(!dir.path().join("state").exists(), "a check makes nothing");

    let output = check(&["--format", "json"]);
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((output.status.code(), &json["usable"]), (Some(1), &serde_json::json!(false)));
    let scope = json["settings"].as_array().unwrap().iter().find(|row| row["name"] == "scope").unwrap();
    let wanted = serde_json::json!({
        "name": "scope", "value": "global", "source": "environment", "place": "RS_OVERLAY_SCOPE",
    });
    assert_eq!(scope, &wanted);

    let output = check(&["--cluster-store-opt=kv.password=geheim", "--cluster-store=etcd://joe:geheim@h"]);
    let table = text(&[output.stdout, output.stderr].concat());
    assert_eq!(output.status.code(), Some(1), "{table}");
    assert!(table.contains("kv.password=***") && !table.contains("geheim"), "{table}");
    assert!(table.contains("2 problems"), "{table}");
}

#[test]
fn wrong_usage_is_one_line_too() {
    for (arguments, part) in [
        (&[][..], "subcommand"),
        (&["daemom"], "daemon"),
        (&["daemon", "--cluster-stor", "x"], "--cluster-store"),
        (&["daemon", "--scope"], "--scope"),
        (&["daemon", "--scope", "local", "--scope", "global"], "cannot be used multiple times"),
        (&["daemon", "extra"], "extra"),
        (&["network"], "subcommand"),
        (&["network", "inspect"], "<NAME>"),
        (&["status", "--format", "xml"], "table, json"),
        (&["status", "one\ntwo"], "one"),
    ] {
        refused(&run(arguments), &[part, "; see rs-overlay --help"]);
    }
}

#[test]
fn help_and_version_go_to_standard_output() {
    for arguments in
        [&["--help"][..], &["-h"], &["daemon", "--help"], &["network", "ls", "--help"], &["--version"]]
    {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}");
        assert!(!output.stdout.is_empty() && output.stderr.is_empty(), "{arguments:?}");
    }
    assert_eq!(text(&run(&["--version"]).stdout), format!("rs-overlay {}\n", env!("CARGO_PKG_VERSION")));
    let top = text(&run(&["--help"]).stdout);
    for part in
        ["daemon", "status", "network", "node", "version", "Exit status: 0 done, 1 failed, 64 wrong usage."]
    {
        assert!(top.contains(part), "{part} is not in {top}");
    }
    let daemon = text(&run(&["daemon", "--help"]).stdout);
    for part in ["--cluster-store <URL>", "[default: auto]", "RS_OVERLAY_CLUSTER_STORE", "semicolons"] {
        assert!(daemon.contains(part), "{part} is not in {daemon}");
    }
}

#[test]
fn networks_nodes_and_status_are_shown_as_tables_and_as_json() {
    let dir = TempDir::new().unwrap();
    for (index, (arguments, path, answer, parts)) in [
        (
            &["network", "ls"][..],
            "networks",
            NETWORKS,
            &["NETWORK ID   NAME", "zz11         web", "internal"][..],
        ),
        (&["network", "inspect", "web"], "networks", NETWORKS, &["Name:       web", "Used on:    a, b"]),
        (&["node", "ls"], "nodes", NODES, &["n1        a          alive   classic   192.0.2.1   20.10.24"]),
        (
            &["name", "lookup", "web"],
            "names?explain=false&name=web",
            NAMES,
            &["10.0.1.2, fd00::2   web1        a      blue"],
        ),
        (
            &["name", "lookup", "a b", "--from", "c&d", "--explain"],
            "names?explain=true&from=c%26d&name=a+b",
            NAMES,
            &["searched networks blue, red", "v1/endpoints/zz11/e1", "42"],
        ),
        (&["status"], "status", STATUS, &["NOT reachable", "The engine does not answer."]),
        (&["version"], "status", STATUS, &["Daemon: 9.8.7"]),
    ]
    .into_iter()
    .enumerate()
    {
        let socket = dir.path().join(format!("{index}.sock"));
        let served = daemon(&socket, vec![ok(answer), ok(answer)]);
        let table = rs_overlay(arguments).env("RS_OVERLAY_SOCKET", &socket).output().unwrap();
        let mut arguments = arguments.to_vec();
        arguments.extend(["--format", "json", "--socket", socket.to_str().unwrap()]);
        let json = run(&arguments);
        let requests = served.join().unwrap();

        assert_eq!(table.status.code(), Some(0), "{}", text(&table.stderr));
        for part in parts {
            assert!(text(&table.stdout).contains(part), "{part} is not in {}", text(&table.stdout));
        }
        serde_json::from_slice::<serde_json::Value>(&json.stdout).unwrap();
        for request in requests {
            assert!(request.starts_with(&format!("GET /rs-overlay/v1/{path} HTTP/1.1\r\n")), "{request}");
        }
    }
}

#[test]
fn a_name_that_nobody_answers_to_is_a_failure() {
    let dir = TempDir::new().unwrap();
    let socket = dir.path().join("a.sock");
    let refusal = r#"{"Err":"no container x here"}"#;
    let refusal = format!(
        "HTTP/1.1 409 Conflict\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{refusal}",
        refusal.len()
    );
    let nobody = ok(r#"{"searched":["blue"],"holders":[]}"#);
    let served = daemon(&socket, vec![nobody.clone(), nobody, refusal]);
    let arguments = ["name", "lookup", "web", "--socket", socket.to_str().unwrap()];
    for (more, line) in [
        (&[][..], "rs-overlay: nobody answers to web in network blue\n"),
        (&["--format", "json"], "rs-overlay: nobody answers to web in network blue\n"),
        (&["--from", "x"], "rs-overlay: no container x here\n"),
    ] {
        let output = run(&[&arguments[..], more].concat());
        assert_eq!((output.status.code(), text(&output.stderr).as_str()), (Some(1), line));
        assert!(output.stdout.is_empty());
    }
    served.join().unwrap();
}

#[test]
fn without_a_daemon_the_message_says_what_to_do() {
    let dir = TempDir::new().unwrap();
    let socket = dir.path().join("none.sock");
    let socket = socket.to_str().unwrap();
    for arguments in [&["status"][..], &["network", "ls"], &["network", "inspect", "x"], &["node", "ls"]] {
        let output = run(&[arguments, &["--socket", socket]].concat());
        let line = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{line}");
        assert_eq!(line.matches('\n').count(), 1, "{line}");
        assert!(line.contains(socket) && line.contains("start it with `rs-overlay daemon`"), "{line}");
    }
    let output = run(&["version", "--socket", socket]);
    assert_eq!(output.status.code(), Some(0));
    assert!(text(&output.stdout).contains("does not run"));
}

#[test]
fn a_daemon_that_hangs_is_given_up() {
    let dir = TempDir::new().unwrap();
    let socket = dir.path().join("silent.sock");
    let _silent = UnixListener::bind(&socket).unwrap();
    let output = run(&["status", "--socket", socket.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("does not answer within 5 s"), "{}", text(&output.stderr));
}

#[test]
fn another_program_behind_the_socket_is_recognised() {
    let dir = TempDir::new().unwrap();
    let socket = dir.path().join("other.sock");
    let answers = vec!["HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_owned(), ok("{}")];
    let served = daemon(&socket, answers);
    for part in ["404", "update both"] {
        let output = run(&["status", "--socket", socket.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(1));
        assert!(text(&output.stderr).contains(part), "{}", text(&output.stderr));
    }
    served.join().unwrap();
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let mut child =
        rs_overlay(&["daemon", "--help"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), String::new()));
}
