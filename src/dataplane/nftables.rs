//! Messages to `nf_tables` over netlink: just those that a table of filter rules needs. The numbers are
//! those of `linux/netfilter/nf_tables.h` and `nfnetlink.h`.

mod batch;
mod field;
mod rule;
pub(super) mod sets;
pub(super) mod transaction;

use batch::{
    Attributes, BRIDGE, Batch, CREATE, DELETE_RULE, DELETE_TABLE, EXCLUSIVE, IPV4, NEW_OBJECT, NEW_SET,
    NEW_TABLE,
};
pub(super) use field::{Field, Transport};
pub(super) use rule::Rule;

/// One transaction that makes a table which belongs to the socket that sends it and dies with that
/// socket, with one chain that sees what leaves before connection tracking does. Answers the datagram and
/// how many acknowledgements it calls for.
pub(super) fn owned_table(table: &str, rules: Vec<Rule>) -> (Vec<u8>, usize) {
    let mut batch = Batch::begin(IPV4);
    // `NFT_TABLE_F_OWNER`.
    let owned = Attributes::default().text(1, table).number(2, 2);
    batch.message(NEW_TABLE, EXCLUSIVE | CREATE, &owned);
    // `NF_INET_LOCAL_OUT`, `NF_IP_PRI_RAW`.
    batch.chain(table, "output", 3, -300, rules);
    batch.end()
}

/// One transaction that makes a table for bridges, in place of one of that name, with one chain that sees
/// what comes in by a bridge's ports before the bridge does. It stays until somebody deletes it.
pub(super) fn bridge_table(table: &str, rules: Vec<Rule>) -> (Vec<u8>, usize) {
    let mut batch = Batch::begin(BRIDGE);
    let name = Attributes::default().text(1, table);
    // A table that is not there cannot be deleted.
    batch.message(NEW_TABLE, CREATE, &name);
    batch.message(DELETE_TABLE, 0, &name);
    batch.message(NEW_TABLE, CREATE, &name);
    // `NF_BR_PRE_ROUTING`, `NF_BR_PRI_NAT_DST_BRIDGED`.
    batch.chain(table, "prerouting", 0, -300, rules);
    batch.end()
}

/// One transaction that makes a table for bridges with sets, counters and one chain, or gives the one that is there
/// these rules: what its sets hold, and what was counted, stays. It outlives its maker.
pub(super) fn bridge_table_with_sets(
    table: &str,
    sets: &[sets::Set],
    counters: &[&str],
    rules: Vec<Rule>,
) -> (Vec<u8>, usize) {
    let mut batch = Batch::begin(BRIDGE);
    batch.message(NEW_TABLE, CREATE, &Attributes::default().text(1, table));
    for (set, id) in sets.iter().zip(1..) {
        let set = Attributes::default()
            .text(1, table)
            .text(2, set.name)
            .number(3, 0)
            .number(4, set.kind)
            .number(5, set.length)
            .number(10, id);
        batch.message(NEW_SET, CREATE, &set);
    }
    for counter in counters {
        let counter = Attributes::default()
            .text(1, table)
            .text(2, counter)
            .number(3, sets::COUNTER)
            .nest(4, |data| data);
        batch.message(NEW_OBJECT, CREATE, &counter);
    }
    // Before the rules that rewrite destinations.
    batch.chain(table, "prerouting", 0, -310, Vec::new());
    batch.message(DELETE_RULE, 0, &Attributes::default().text(1, table).text(2, "prerouting"));
    batch.rules(table, "prerouting", rules);
    batch.end()
}

#[cfg(test)]
mod tests {
    use super::{batch::*, *};

    #[test]
    fn attributes_are_padded_and_messages_say_their_length() {
        let (bytes, wanted) = owned_table("t", vec![Rule::default().untracked()]);
        assert_eq!(wanted, 3);
        let mut rest = bytes.as_slice();
        let mut kinds = Vec::new();
        while let Some(length) = rest.first_chunk::<4>() {
            kinds.push(u16::from_ne_bytes([rest[4], rest[5]]));
            let length = u32::from_ne_bytes(*length) as usize;
            assert_eq!(length % 4, 0);
            rest = &rest[length..];
        }
        assert_eq!(kinds, [BATCH_BEGIN, NEW_TABLE, NEW_CHAIN, NEW_RULE, BATCH_END]);
    }

    #[test]
    fn refusals_are_read_and_rubbish_is_not() {
        let mut datagram = Vec::new();
        for code in [0_i32, -17] {
            datagram.extend(20_u32.to_ne_bytes());
            datagram.extend(ERROR.to_ne_bytes());
            datagram.extend([0; 10]);
            datagram.extend(code.to_ne_bytes());
        }
        assert_eq!(acknowledgements(&datagram), [0, 17]);
        for cut in 0..datagram.len() {
            assert!(acknowledgements(&datagram[..cut]).len() <= 1);
        }
        assert!(acknowledgements(&[0; 64]).is_empty());
    }
}
