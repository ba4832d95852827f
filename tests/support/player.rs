//! Plays a recording to a host, puts our pools and addresses in the place of the recorder's, and checks
//! what every answer holds.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::{Arc, Mutex},
};

use ipnet::IpNet;
use rs_overlay::{
    driver::{GLOBAL_SPACE, KNOWN_OPTIONS, LOCAL_SPACE},
    model::{AddressClaim, EndpointId, NetworkId},
    store::{keys, ledger::Ledger},
};
use serde_json::{Value, json};

use super::{host::Host, trace::Step};

/// The default address pool of the hosts that recordings are played to.
pub(crate) const DEFAULT_POOL: &str = "10.128.0.0/9";

/// Addresses that are handed out at the moment, in the whole cluster.
pub(crate) type HandedOut = Arc<Mutex<BTreeSet<IpAddr>>>;

/// An engine that repeats what a recorded one did.
pub(crate) struct Player<'a> {
    host: &'a Host,
    scope: &'static str,
    /// Waits after each deletion until its effect is there; otherwise goes on at once, as an engine does.
    patient: bool,
    /// What the person typed that the calls come of.
    command: String,
    /// Texts of the recording and what stands for them here: spaces, pool ids, subnets, addresses.
    ours: BTreeMap<String, String>,
    handed_out: HandedOut,
    /// Addresses that came with the endpoints of the engine's own IPAM.
    claimed: BTreeMap<String, (NetworkId, Vec<IpAddr>)>,
}

impl<'a> Player<'a> {
    /// An engine on `host`.
    pub(crate) fn new(host: &'a Host, scope: &'static str, patient: bool, handed_out: HandedOut) -> Self {
        let spaces = [("RecLocal", LOCAL_SPACE), ("RecGlobal", GLOBAL_SPACE)];
        let ours = spaces.map(|(theirs, ours)| (theirs.to_owned(), ours.to_owned())).into();
        Self { host, scope, patient, command: String::new(), ours, handed_out, claimed: BTreeMap::new() }
    }

    /// Learns what the swarm's manager has got for the recorded addresses.
    pub(crate) fn adopt(&mut self, manager: &Player<'_>) {
        let known = manager.ours.iter().filter(|(theirs, _)| theirs.parse::<IpAddr>().is_ok());
        self.ours.extend(known.map(|(theirs, ours)| (theirs.clone(), ours.clone())));
    }

    /// Plays all steps, one after another.
    pub(crate) async fn play(&mut self, steps: &[Step]) {
        for step in steps {
            match step {
                Step::Command { command } => self.command.clone_from(command),
                Step::Call { path, request, answer } => {
                    let method = path.trim_start_matches('/');
                    match request {
                        None => self.ask(method, answer).await,
                        Some(request) => self.call(method, self.rewritten(request), answer).await,
                    }
                }
            }
        }
    }

    /// A call without a body.
    async fn ask(&self, method: &str, recorded: &Value) {
        let got = self.host.send(&format!("/{method}"), "").await.success(method);
        let wanted = match method {
            "Plugin.Activate" => json!({"Implements": ["NetworkDriver", "IpamDriver"]}),
            "NetworkDriver.GetCapabilities" => {
                assert_eq!(recorded["Scope"], self.scope, "the recording is of another mode");
                json!({"Scope": self.scope, "ConnectivityScope": "global", "GwAllocChecker": false})
            }
            "IpamDriver.GetCapabilities" => {
                json!({"RequiresMACAddress": false, "RequiresRequestReplay": false})
            }
            "IpamDriver.GetDefaultAddressSpaces" => json!({
                "LocalDefaultAddressSpace": LOCAL_SPACE,
                "GlobalDefaultAddressSpace": GLOBAL_SPACE,
            }),
            other => panic!("no engine asks {other} without a body"),
        };
        assert_eq!(got, wanted, "{method}");
    }

    async fn call(&mut self, method: &str, mut request: Value, recorded: &Value) {
        if matches!(method, "NetworkDriver.CreateNetwork" | "NetworkDriver.AllocateNetwork") {
            self.without_unknown_option(method, &mut request).await;
        }
        let what = format!("{}: {method} {request}", self.command);
        let got = self.host.call(method, &request).await.success(&what);
        let what = format!("{what} -> {got}");
        match method {
            "IpamDriver.RequestPool" => self.pool(&request, recorded, &got, &what),
            "IpamDriver.RequestAddress" => self.address(&request, recorded, &got, &what),
            "NetworkDriver.CreateEndpoint" => self.created(&request, &got, &what).await,
            "NetworkDriver.Join" => self.joined(&request, &got, &what),
            "NetworkDriver.EndpointOperInfo" => assert_eq!(got, json!({"Value": {}}), "{what}"),
            "NetworkDriver.AllocateNetwork" => assert_eq!(got, json!({"Options": {}}), "{what}"),
            "NetworkDriver.DeleteEndpoint" => self.deleted(&request).await,
            "IpamDriver.ReleaseAddress" => self.released(&request, &what).await,
            _ => assert_eq!(got, json!({}), "{what}"),
        }
    }

    /// The recorded networks have an option that this driver does not know: it must be refused with a
    /// text that helps, and without a trace. Takes it out.
    async fn without_unknown_option(&self, method: &str, request: &mut Value) {
        let before = self.host.put_by_calls().await;
        let whole = request.clone();
        let options = match request.pointer_mut("/Options/com.docker.network.generic") {
            Some(generic) => generic,
            None => &mut request["Options"],
        };
        if options.as_object_mut().and_then(|options| options.remove("color")).is_none() {
            return;
        }
        let text = self.host.refused(method, &whole).await;
        assert!(text.contains("\"color\"") && KNOWN_OPTIONS.iter().all(|o| text.contains(o)), "{text}");
        assert_eq!(self.host.put_by_calls().await, before, "a refused call left a trace");
    }

    fn pool(&mut self, request: &Value, recorded: &Value, got: &Value, what: &str) {
        let cidr: IpNet = text(&got["Pool"]).parse().unwrap();
        match text(&request["Pool"]) {
            "" => {
                let from: IpNet = DEFAULT_POOL.parse().unwrap();
                assert!(from.contains(&cidr) && cidr.prefix_len() == 24, "{what}");
            }
            wanted => assert_eq!(cidr.to_string(), wanted, "{what}"),
        }
        for key in ["Pool", "PoolID"] {
            self.ours.insert(text(&recorded[key]).to_owned(), text(&got[key]).to_owned());
        }
    }

    fn address(&mut self, request: &Value, recorded: &Value, got: &Value, what: &str) {
        let pool = text(&request["PoolID"]);
        let cidr = cidr_of(pool);
        let (ip, length) = text(&got["Address"]).split_once('/').expect(what);
        let ip: IpAddr = ip.parse().unwrap();
        assert_eq!(length, cidr.prefix_len().to_string(), "{what}");
        assert!(cidr.contains(&ip) && ip != cidr.network() && ip != cidr.broadcast(), "{what}");
        match text(&request["Address"]) {
            "" => {
                let theirs = text(&recorded["Address"]).split('/').next().unwrap();
                self.ours.insert(theirs.to_owned(), ip.to_string());
            }
            wanted => assert_eq!(ip.to_string(), wanted, "{what}"),
        }
        // What a swarm's node asks for, its manager has got.
        if is_repeated(pool) {
            assert!(self.handed_out().contains(&ip), "{what}");
        } else {
            assert!(self.handed_out().insert(ip), "handed out twice: {what}");
        }
    }

    async fn created(&mut self, request: &Value, got: &Value, what: &str) {
        let interface = &request["Interface"];
        let given = [&interface["Address"], &interface["AddressIPv6"]].map(text);
        let addresses: Vec<IpAddr> =
            given.iter().filter_map(|ip| ip.split('/').next()?.parse().ok()).collect();
        let wanted = match (text(&interface["MacAddress"]), addresses[0]) {
            ("", IpAddr::V4(ip)) => {
                let [a, b, c, d] = ip.octets();
                json!({"MacAddress": format!("02:42:{a:02x}:{b:02x}:{c:02x}:{d:02x}")})
            }
            _ => json!({}),
        };
        assert_eq!(got["Interface"], wanted, "{what}");
        let network = NetworkId::new(text(&request["NetworkID"])).unwrap();
        let by_engine = self.scope == "local" && !self.ours.keys().any(|key| key.starts_with("P/"));
        if by_engine {
            for ip in &addresses {
                assert!(self.claim_exists(*ip).await, "{ip} is not claimed: {what}");
            }
            self.claimed.insert(text(&request["EndpointID"]).to_owned(), (network, addresses));
        }
    }

    fn joined(&self, request: &Value, got: &Value, what: &str) {
        let name = text(&got["InterfaceName"]["SrcName"]);
        assert!((1..=15).contains(&name.len()), "{what}");
        assert_eq!(got["InterfaceName"]["DstPrefix"], "eth", "{what}");
        assert_eq!(got.as_object().map(serde_json::Map::len), Some(1), "no gateway, no routes: {what}");
        let id = EndpointId::new(text(&request["EndpointID"])).unwrap();
        assert_eq!(rs_overlay::dataplane::names::container_link(&id), name);
        assert!(has_port(self.host, &id), "answered before the link was there: {what}");
    }

    async fn deleted(&mut self, request: &Value) {
        let id = EndpointId::new(text(&request["EndpointID"])).unwrap();
        let claimed = self.claimed.remove(id.as_str());
        if !self.patient {
            return;
        }
        self.host.until("port gone", async || has_port(self.host, &id).then(|| id.to_string())).await;
        for ip in claimed.into_iter().flat_map(|(_, addresses)| addresses) {
            let look = async || self.in_use(ip).await.then(|| ip.to_string());
            self.host.until("claim gone", look).await;
        }
    }

    async fn released(&self, request: &Value, what: &str) {
        let pool = text(&request["PoolID"]);
        let ip: IpAddr = text(&request["Address"]).parse().expect(what);
        if is_repeated(pool) {
            return;
        }
        self.handed_out().remove(&ip);
        // A gateway stays for as long as its network does.
        let is_gateway = ip.to_string().ends_with(".1");
        if self.patient && !is_gateway {
            let look = async || self.in_use(ip).await.then(|| ip.to_string());
            self.host.until("claim gone", look).await;
        }
    }

    /// Whether the store says that a container has the address: in reserve it may stay.
    async fn in_use(&self, ip: IpAddr) -> bool {
        let claims =
            Ledger::new(self.host.store.clone()).list::<AddressClaim>("v1/addresses/").await.unwrap();
        claims.iter().any(|held| keys::address_of(&held.entry.key) == Some(ip) && held.record.kind.is_use())
    }

    async fn claim_exists(&self, ip: IpAddr) -> bool {
        let claims = self.host.store.range("v1/addresses/").await.unwrap();
        claims.iter().any(|entry| keys::address_of(&entry.key) == Some(ip))
    }

    fn handed_out(&self) -> std::sync::MutexGuard<'_, BTreeSet<IpAddr>> {
        self.handed_out.lock().unwrap()
    }

    /// `value` with ours in the place of what the recording driver had chosen.
    fn rewritten(&self, value: &Value) -> Value {
        match value {
            Value::String(text) => Value::String(self.rewritten_text(text)),
            Value::Array(values) => values.iter().map(|value| self.rewritten(value)).collect(),
            Value::Object(fields) => {
                fields.iter().map(|(key, value)| (key.clone(), self.rewritten(value))).collect()
            }
            other => other.clone(),
        }
    }

    fn rewritten_text(&self, text: &str) -> String {
        if let Some(ours) = self.ours.get(text) {
            return ours.clone();
        }
        match text.split_once('/') {
            Some((ip, length)) => match self.ours.get(ip) {
                Some(ours) => format!("{ours}/{length}"),
                None => text.to_owned(),
            },
            None => text.to_owned(),
        }
    }
}

/// Whether the kernel has a port for `id`.
fn has_port(host: &Host, id: &EndpointId) -> bool {
    host.kernel.overlay().segments.values().any(|segment| segment.ports.contains_key(id))
}

/// A pool that a swarm's node has asked for after its manager.
fn is_repeated(pool: &str) -> bool {
    pool.starts_with("rs-overlay/again/")
}

fn cidr_of(pool: &str) -> IpNet {
    pool.splitn(3, '/').nth(2).unwrap().parse().unwrap()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
