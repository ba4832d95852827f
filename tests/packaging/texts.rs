//! Completions and man pages are what shells and man(1) take.

use std::{
    fs,
    io::Write,
    process::{Command, Stdio},
};

use tempfile::TempDir;

fn rs_overlay(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_rs-overlay")).args(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Feeds `script` to a shell that only reads it.
fn reads(shell: &str, script: &str) {
    let mut child = Command::new(shell)
        .args(["-n", "/dev/stdin"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{shell}: {output:?}");
}

#[test]
fn shells_take_the_completions() {
    for shell in ["bash", "zsh", "fish"] {
        let script = rs_overlay(&["completions", shell]);
        for word in ["cluster-advertise", "lookup", "config"] {
            assert!(script.contains(word), "{shell} does not complete {word}");
        }
        assert!(!script.contains("man-pages"), "{shell} completes what is hidden");
        // Not every machine has all three.
        if Command::new(shell).arg("--version").output().is_ok() {
            reads(shell, &script);
        }
    }
}

#[test]
fn bash_completes_a_flag() {
    let script = rs_overlay(&["completions", "bash"]);
    let function = script.split("complete -F ").nth(1).and_then(|rest| rest.split(' ').next()).unwrap();
    let script = format!(
        "{script}\nCOMP_WORDS=(rs-overlay daemon --cluster-a); COMP_CWORD=2\n\
         {function} rs-overlay --cluster-a daemon\necho \"${{COMPREPLY[@]}}\""
    );
    let output = Command::new("bash").args(["-c", &script]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "--cluster-advertise", "{output:?}");
}

#[test]
fn every_command_has_a_page_without_errors() {
    let dir = TempDir::new().unwrap();
    rs_overlay(&["man-pages", dir.path().to_str().unwrap(), "2026-01-31"]);
    let mut names = Vec::new();
    for entry in fs::read_dir(dir.path()).unwrap() {
        let path = entry.unwrap().path();
        let lint = Command::new("mandoc").args(["-T", "lint", "-W", "error"]).arg(&path).output().unwrap();
        assert!(lint.status.success() && lint.stdout.is_empty(), "{}", String::from_utf8_lossy(&lint.stdout));
        names.push(path.file_name().unwrap().to_str().unwrap().to_owned());
    }
    for command in ["", "-daemon", "-config-check", "-network-create", "-name-lookup", "-node-ls", "-verify"]
    {
        assert!(names.contains(&format!("rs-overlay{command}.8")), "{command} has no page: {names:?}");
    }
    assert!(!names.contains(&"rs-overlay-man-pages.8".to_owned()));

    let shown = |page: &str| {
        let output =
            Command::new("mandoc").args(["-T", "ascii"]).arg(dir.path().join(page)).output().unwrap();
        // Bold and underlined letters are typed over.
        let mut text = String::new();
        for letter in String::from_utf8_lossy(&output.stdout).chars() {
            if letter == '\u{8}' {
                let _ = text.pop();
            } else {
                text.push(letter);
            }
        }
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let daemon = shown("rs-overlay-daemon.8");
    for part in [
        "rs-overlay-daemon - Run the daemon",
        "--cluster-store <URL>",
        "ENVIRONMENT Every flag",
        "RS_OVERLAY_CLUSTER_STORE",
        "FILES /etc/rs-overlay/config.toml",
        "/var/lib/rs-overlay",
        "EXAMPLES rs-overlay daemon --cluster-store etcd://",
        "SEE ALSO rs-overlay(8),",
        "64 wrong usage",
        "2026-01-31",
    ] {
        assert!(daemon.contains(part), "{part:?} is not in {daemon}");
    }
    assert!(shown("rs-overlay.8").contains("COMMANDS daemon Run the daemon"));
    assert!(shown("rs-overlay-verify.8").contains("2 it cannot be told"));
}
