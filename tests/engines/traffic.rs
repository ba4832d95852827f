//! Traffic between containers.

use std::{net::IpAddr, thread, time::Duration};

use netns_harness::{Host, wait_until};

use super::SOON;

/// Waits until `ip` answers the container's pings.
#[track_caller]
pub(crate) fn ping(host: &Host, container: &str, ip: IpAddr) {
    let at = format!("an answer of {ip} to {container} on {}", host.name());
    let answered = wait_until(&at, SOON, || pings(host, container, ip));
    answered.unwrap_or_else(|error| panic!("{error:#}\n{}", host.daemon_log()));
}

/// Whether `ip` answers one ping within a second.
pub(crate) fn pings(host: &Host, container: &str, ip: IpAddr) -> anyhow::Result<bool> {
    let program = if ip.is_ipv4() { "ping" } else { "ping6" };
    let output = host.docker_output(&["exec", container, program, "-c", "1", "-W", "1", &ip.to_string()])?;
    anyhow::ensure!(output.status.success(), "{}{}", output.stdout, output.stderr);
    Ok(true)
}

/// Twenty pings a second while `disturb` runs and a while before and after; the answer is how many of
/// `count` were lost.
pub(crate) fn steady_ping(
    host: &Host,
    container: &str,
    ip: IpAddr,
    count: u32,
    disturb: impl FnOnce(),
) -> u32 {
    let (count, target) = (count.to_string(), ip.to_string());
    let said = thread::scope(|scope| {
        let pinging = scope.spawn(|| {
            // A ping that runs for its time and is not answered ends with an error: its numbers count.
            let argv = ["ping", "-i", "0.05", "-W", "5", "-c", &count, "-q", &target];
            host.container_netns(container, &[&["sh", "-c", "\"$@\" || true", "sh"], &argv[..]].concat())
        });
        thread::sleep(Duration::from_millis(500));
        disturb();
        pinging.join().unwrap()
    });
    let said = said.unwrap();
    let summary =
        said.lines().find(|line| line.contains("packets transmitted")).unwrap_or_else(|| panic!("{said}"));
    let mut numbers =
        summary.split(|c: char| !c.is_ascii_digit()).filter_map(|word| word.parse::<u32>().ok());
    let (sent, received) = (numbers.next().unwrap(), numbers.next().unwrap());
    assert_eq!(sent.to_string(), count, "{summary}");
    eprintln!("{summary}");
    sent - received
}

/// Sends 100 MB of random bytes over TCP from one container to another and compares the checksums.
pub(crate) fn transfer(from: (&Host, &str), to: (&Host, &str), ip: IpAddr) {
    // Busybox's `nc` ends when its standard input does, so the receiver's is kept open.
    let swallow =
        "rm -f /tmp/open; busybox mkfifo /tmp/open; exec 3<>/tmp/open; nc -l -p 5000 <&3 | busybox sha1sum";
    let feed = format!(
        "dd if=/dev/urandom of=/tmp/data bs=1048576 count=100 2>/dev/null && busybox sha1sum </tmp/data &&
        for i in $(seq 100); do nc -w 5 {ip} 5000 </tmp/data && exit; sleep 0.1; done; exit 1"
    );
    let limit = Duration::from_mins(2);
    let shell = |host: &Host, name: &str, script: &str| {
        host.run(&["docker", "exec", name, "sh", "-c", script]).limit(limit).text()
    };
    let (sent, received) = thread::scope(|scope| {
        let receiving = scope.spawn(|| shell(to.0, to.1, swallow));
        (shell(from.0, from.1, &feed), receiving.join().unwrap())
    });
    let (sent, received) = (sent.unwrap(), received.unwrap());
    assert_eq!(sent, received, "checksums of 100 MB from {} to {}", from.1, to.1);
    assert!(sent.len() >= 40, "no checksum: {sent}");
}
