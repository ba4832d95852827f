//! Servers that die, freeze and forget.

mod death;
mod outage;
mod resume;

use super::servers::{Consul, Etcd, Holder};

macro_rules! faults {
    ($($module:ident::$behaviour:ident: $etcd:ident, $consul:ident, $socket:ident;)*) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $etcd() {
            $module::$behaviour::<Etcd>().await;
        }

        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $consul() {
            $module::$behaviour::<Consul>().await;
        }

        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $socket() {
            $module::$behaviour::<Holder>().await;
        }
    )*};
}

faults! {
    outage::calls_fail_in_time_and_recover:
        etcd_down_calls_fail_and_recover, consul_down_calls_fail_and_recover, socket_down_calls_fail_and_recover;
    outage::a_frozen_server_is_an_outage:
        etcd_frozen_is_an_outage, consul_frozen_is_an_outage, socket_frozen_is_an_outage;
    resume::a_restart_loses_no_change:
        etcd_restart_loses_no_change, consul_restart_loses_no_change, socket_restart_loses_no_change;
    resume::a_wiped_server_is_listed_anew:
        etcd_wiped_is_listed_anew, consul_wiped_is_listed_anew, socket_wiped_is_listed_anew;
    death::transactions_are_whole_after_a_kill:
        etcd_killed_leaves_whole_txns, consul_killed_leaves_whole_txns, socket_killed_leaves_whole_txns;
}
