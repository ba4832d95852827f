//! What one container saw of another.

/// Packets that each container sends to each other one.
pub(super) const PING_COUNT: u32 = 5;

/// One direction between two containers.
#[derive(Clone, Debug)]
pub(super) struct Link {
    pub(super) from: String,
    pub(super) to: String,
    received: u32,
    /// Least, mean and greatest round trip in milliseconds, as `ping` prints them.
    round_trip: Option<String>,
    /// Whether a download came as it was sent; none where there was no download.
    pub(super) tcp: Option<bool>,
}

impl Link {
    /// Read busybox's closing lines: `5 packets transmitted, 5 packets received, 0% packet loss` and
    /// `round-trip min/avg/max = 0.1/0.2/0.3 ms`. Whatever else is there counts as nothing received.
    pub(super) fn of_ping(from: &str, to: &str, said: &str) -> Self {
        let received = said
            .lines()
            .find_map(|line| line.split(", ").find_map(|part| part.strip_suffix(" packets received")))
            .and_then(|number| number.trim().parse().ok())
            .unwrap_or(0);
        let round_trip = said
            .lines()
            .filter(|line| line.starts_with("round-trip"))
            .find_map(|line| Some(line.split_once("= ")?.1.trim_end_matches(" ms").to_owned()));
        Self { from: from.to_owned(), to: to.to_owned(), received, round_trip, tcp: None }
    }

    /// Whether a packet or a byte was lost.
    pub(super) fn failed(&self) -> bool {
        self.received < PING_COUNT || self.tcp == Some(false)
    }

    /// From, to, sent, lost, round trip, download.
    pub(super) fn row(&self) -> [String; 6] {
        let tcp = match self.tcp {
            Some(true) => "same",
            Some(false) => "DIFFERS",
            None => "-",
        };
        [
            self.from.clone(),
            self.to.clone(),
            PING_COUNT.to_string(),
            PING_COUNT.saturating_sub(self.received).to_string(),
            self.round_trip.clone().unwrap_or_else(|| "-".to_owned()),
            tcp.to_owned(),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &str = "PING 10.0.0.3 (10.0.0.3): 56 data bytes\n\
        64 bytes from 10.0.0.3: seq=0 ttl=64 time=0.255 ms\n\n\
        --- 10.0.0.3 ping statistics ---\n\
        5 packets transmitted, 5 packets received, 0% packet loss\n\
        round-trip min/avg/max = 0.150/0.173/0.255 ms\n";

    #[test]
    fn a_whole_ping_is_read() {
        let link = Link::of_ping("a", "b", WHOLE);
        assert!(!link.failed());
        assert_eq!(link.row(), ["a", "b", "5", "0", "0.150/0.173/0.255", "-"]);
    }

    #[test]
    fn a_lost_packet_or_no_answer_or_a_broken_download_is_a_failure() {
        let lost = Link::of_ping("a", "b", &WHOLE.replace("5 packets received", "4 packets received"));
        assert!(lost.failed() && lost.row()[3] == "1");
        let none = Link::of_ping("a", "b", "5 packets transmitted, 0 packets received, 100% packet loss\n");
        assert!(none.failed() && none.row()[3..5] == ["5", "-"]);
        assert!(Link::of_ping("a", "b", "sh: no ping").failed());
        let broken = Link { tcp: Some(false), ..Link::of_ping("a", "b", WHOLE) };
        assert!(broken.failed() && broken.row()[5] == "DIFFERS");
    }
}
