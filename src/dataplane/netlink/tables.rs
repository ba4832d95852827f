//! Reads whole tables of the kernel. It makes the next part of one while it is asked for it, and another thread reads
//! the last part meanwhile.

use std::{io, mem};

use netlink_packet_core::{NLM_F_DUMP, NLM_F_DUMP_INTR, NLMSG_DONE, NLMSG_ERROR, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use nix::errno::Errno;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use super::{
    error::Failure,
    socket::{Channel, Connection, frames, messages, with_connection},
};

/// How often a table that was overtaken by a change is read again.
const ATTEMPTS: usize = 4;
/// Parts that may wait to be read; each has up to 32 KiB.
const AHEAD: usize = 4;

impl Channel {
    /// Reads a whole table.
    pub(crate) async fn dump(
        &self,
        message: RouteNetlinkMessage,
    ) -> Result<Vec<RouteNetlinkMessage>, Failure> {
        self.dump_into(message, Vec::push).await
    }

    /// Reads a whole table, of which `take` keeps what it needs: rows as they come are ten times as large. A table that
    /// has changed meanwhile is read again.
    pub(crate) async fn dump_into<T: Default + Send + 'static>(
        &self,
        message: RouteNetlinkMessage,
        take: fn(&mut T, RouteNetlinkMessage),
    ) -> Result<T, Failure> {
        let mut slot = self.connection.lock().await;
        let mut left = ATTEMPTS;
        loop {
            left -= 1;
            let message = message.clone();
            let ask = async |connection: &mut Connection| connection.dump(message, take).await;
            let table = with_connection(&mut slot, &self.namespace, ask).await??;
            // One that never rests is what was read last; its changes also come as events.
            if table.rested || left == 0 {
                return Ok(table.rows);
            }
        }
    }
}

/// What was read.
struct Table<T> {
    rows: T,
    /// Whether nobody has changed it meanwhile.
    rested: bool,
}

impl Connection {
    async fn dump<T: Default + Send + 'static>(
        &mut self,
        message: RouteNetlinkMessage,
        take: fn(&mut T, RouteNetlinkMessage),
    ) -> io::Result<Result<Table<T>, Failure>> {
        let mut datagram = Vec::new();
        self.write(message, NLM_F_DUMP, &mut datagram);
        self.send(&datagram).await?;
        let (parts, unread) = mpsc::channel(AHEAD);
        let reader = AbortOnDropHandle::new(tokio::spawn(read(unread, self.sequence, take)));
        let mut last = false;
        while !last {
            self.receive().await?;
            last = ends(&self.buffer, self.sequence);
            // What nobody reads any more is asked for to its end, after which the connection is good for the next request.
            let _ = parts.send(mem::take(&mut self.buffer)).await;
        }
        drop(parts);
        Ok(reader.await.unwrap_or(Err(Failure::Silent)))
    }
}

async fn read<T: Default>(
    mut parts: mpsc::Receiver<Vec<u8>>,
    sequence: u32,
    take: fn(&mut T, RouteNetlinkMessage),
) -> Result<Table<T>, Failure> {
    let mut table = Table { rows: T::default(), rested: true };
    while let Some(part) = parts.recv().await {
        for (header, payload) in messages(&part) {
            if header.sequence_number != sequence {
                continue;
            }
            table.rested &= header.flags & NLM_F_DUMP_INTR == 0;
            match payload {
                NetlinkPayload::InnerMessage(message) => take(&mut table.rows, message),
                NetlinkPayload::Error(error) => return Err(Failure::from_message(&error)),
                NetlinkPayload::Done(done) if done.code < 0 => {
                    return Err(Failure::Kernel {
                        errno: Errno::from_raw(done.code.saturating_abs()),
                        text: None,
                    });
                }
                NetlinkPayload::Done(_) => return Ok(table),
                _ => {}
            }
        }
    }
    // The connection was lost, which whoever asked is told.
    Err(Failure::Silent)
}

/// Whether a datagram has the last message of an answer.
fn ends(datagram: &[u8], sequence: u32) -> bool {
    frames(datagram).any(|message| {
        message.sequence_number() == sequence && matches!(message.message_type(), NLMSG_DONE | NLMSG_ERROR)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u16, sequence: u32, payload: usize) -> Vec<u8> {
        let length = 16 + payload;
        let mut bytes = u32::try_from(length).unwrap().to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend([0; 2]);
        bytes.extend(sequence.to_ne_bytes());
        bytes.resize(length.next_multiple_of(4), 0);
        bytes
    }

    #[test]
    fn an_answer_ends_with_its_own_last_message_wherever_in_the_datagram() {
        let row = 28;
        let part = [message(row, 7, 13), message(row, 7, 4)].concat();
        assert!(!ends(&part, 7));
        assert!(ends(&[part.clone(), message(NLMSG_DONE, 7, 4)].concat(), 7));
        assert!(ends(&[part.clone(), message(NLMSG_ERROR, 7, 20), message(row, 7, 0)].concat(), 7));
        // Of a request that nobody waits for any more.
        assert!(!ends(&[part, message(NLMSG_DONE, 6, 4)].concat(), 7));
    }

    #[test]
    fn broken_datagrams_end_nothing() {
        let mut endless = message(NLMSG_DONE, 7, 4);
        endless[0] = 0;
        let cut = &message(NLMSG_DONE, 7, 4)[..15];
        for bytes in [&endless, cut, &[][..], &[0xff; 64]] {
            assert!(!ends(bytes, 7));
        }
    }

    #[tokio::test]
    async fn a_table_whose_end_does_not_come_is_an_error_and_not_a_smaller_table() {
        let (parts, unread) = mpsc::channel(AHEAD);
        parts.send(message(28, 7, 12)).await.unwrap();
        drop(parts);
        let take = |rows: &mut Vec<RouteNetlinkMessage>, row| rows.push(row);
        assert!(matches!(read(unread, 7, take).await, Err(Failure::Silent)));
    }
}
