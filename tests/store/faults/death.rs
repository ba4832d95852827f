//! A server that is killed or frozen while transactions are under way.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use rs_overlay::store::{Outcome, Store, StoreError, Txn};
use tokio::{task::JoinSet, time::sleep};

use crate::{
    servers::{Server, answers},
    watched::map,
};

const WRITERS: usize = 8;
const PARTS: usize = 5;

pub(super) async fn transactions_are_whole_after_a_kill<S: Server>() {
    let Some(mut server) = S::start().await else { return };
    let store = server.store().await;
    let mut told = BTreeMap::new();
    for round in 0..3_u64 {
        let mut writers = JoinSet::new();
        for writer in 0..WRITERS {
            writers.spawn(write(Arc::clone(&store), format!("death/{round}-{writer}")));
        }
        sleep(Duration::from_millis(150 + 70 * round)).await;
        if round == 1 {
            // Frozen first: some transactions are received and not yet answered.
            server.process().freeze();
            sleep(Duration::from_millis(100)).await;
        }
        server.process().kill();
        while let Some(results) = writers.join_next().await {
            told.extend(results.unwrap());
        }
        server.process().revive();
        answers(&*store).await;
    }
    let found = map(&*store, "death/").await;
    let mut committed = 0;
    for (name, fate) in &told {
        let parts = found.keys().filter(|key| key.starts_with(&format!("{name}/"))).count();
        match fate {
            Ok(Outcome::Committed) => {
                committed += 1;
                assert_eq!(parts, PARTS, "{name} was committed");
            }
            Ok(Outcome::Conflict) => assert_eq!(parts, 0, "{name} was a conflict"),
            Err(StoreError::Unavailable { detail, .. }) => {
                assert_eq!(parts, 0, "{name} was not sent: {detail}");
            }
            Err(StoreError::Unknown { .. }) => assert!(parts == 0 || parts == PARTS, "{name}: {parts} parts"),
            Err(error) => panic!("{name}: {error}"),
        }
    }
    let lost = told.values().filter(|fate| matches!(fate, Err(StoreError::Unknown { .. }))).count();
    eprintln!("{} transactions: {committed} committed, {lost} of unknown fate", told.len());
    assert!(committed > 0, "nothing was under way");
}

/// Writes transaction after transaction until one fails; tells how each ended.
async fn write(store: Arc<dyn Store>, name: String) -> Vec<(String, Result<Outcome, StoreError>)> {
    let mut results = Vec::new();
    for n in 0..100_000 {
        let name = format!("{name}-{n}");
        let claim = Txn::new().absent(format!("{name}/0"));
        let fate =
            store.txn((0..PARTS).fold(claim, |txn, part| txn.put(format!("{name}/{part}"), "1"))).await;
        let failed = fate.is_err();
        results.push((name, fate));
        if failed {
            break;
        }
    }
    results
}
