//! A child process that ends with its owner.

use std::{
    fs::File,
    net::{Ipv4Addr, TcpListener},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::Mutex,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// A program that can be started again with the same arguments.
pub(crate) struct Process {
    program: PathBuf,
    arguments: Vec<String>,
    log: PathBuf,
    environment: Vec<(&'static str, String)>,
    child: Child,
}

impl Process {
    pub(crate) fn start(program: PathBuf, arguments: Vec<String>, log: PathBuf) -> Self {
        Self::start_with(program, arguments, log, [])
    }

    pub(crate) fn start_with(
        program: PathBuf,
        arguments: Vec<String>,
        log: PathBuf,
        environment: impl IntoIterator<Item = (&'static str, String)>,
    ) -> Self {
        let environment: Vec<_> = environment.into_iter().collect();
        let child = spawn(&program, &arguments, &log, &environment);
        Self { program, arguments, log, environment, child }
    }

    /// `kill -9`, and waits for its end.
    pub(crate) fn kill(&mut self) {
        // An error means that it has ended already, which `wait` then tells as well.
        let _ = self.child.kill();
        self.child.wait().unwrap();
    }

    /// Starts it again.
    pub(crate) fn revive(&mut self) {
        self.child = spawn(&self.program, &self.arguments, &self.log, &self.environment);
    }

    /// `SIGSTOP`: alive, and answers nothing.
    pub(crate) fn freeze(&self) {
        kill(self.pid(), Signal::SIGSTOP).unwrap();
    }

    /// `SIGCONT`.
    pub(crate) fn thaw(&self) {
        kill(self.pid(), Signal::SIGCONT).unwrap();
    }

    /// Takes its limit on file sizes away.
    pub(crate) fn unlimit(&self) {
        let pid = self.child.id().to_string();
        let done = Command::new("prlimit").args(["--pid", &pid, "--fsize=unlimited"]).status().unwrap();
        assert!(done.success(), "prlimit: {done}");
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).unwrap())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = std::fs::read_to_string(&self.log).unwrap_or_default();
            let last: Vec<_> = log.lines().rev().take(15).collect();
            eprintln!("last words of {}:", self.program.display());
            last.iter().rev().for_each(|line| eprintln!("  {line}"));
        }
    }
}

fn spawn(program: &PathBuf, arguments: &[String], log: &PathBuf, env: &[(&'static str, String)]) -> Child {
    let log = File::options().create(true).append(true).open(log).unwrap();
    Command::new(program)
        .args(arguments)
        .envs(env.iter().map(|(name, value)| (*name, value)))
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap_or_else(|error| panic!("cannot start {}: {error}", program.display()))
}

/// A TCP port of loopback that nobody listens on, and that no other test of this process got.
pub(crate) fn free_port() -> u16 {
    static GIVEN: Mutex<Vec<u16>> = Mutex::new(Vec::new());
    let mut given = GIVEN.lock().unwrap();
    for _ in 0..1000 {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        if !given.contains(&port) {
            given.push(port);
            return port;
        }
    }
    panic!("no free port in 1000 attempts");
}

/// The path of a program. One that is missing fails the test, unless the user allows to skip.
pub(crate) fn missing(part: anyhow::Result<PathBuf>) -> Option<PathBuf> {
    match part {
        Ok(path) => Some(path),
        Err(error) if std::env::var_os("ALLOW_SKIP").is_some_and(|value| value == "1") => {
            eprintln!("SKIPPED: {error:#}");
            None
        }
        Err(error) => panic!("{error:#} (or set ALLOW_SKIP=1 to leave this test out)"),
    }
}
