//! The names of a container in one network. Pure.

use super::EngineContainer;

/// Digits of a container id that Docker shows, and answers as a name.
const SHORT_ID: usize = 12;

/// What a container is called in a network.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ContainerNames {
    /// The container's own name.
    pub name: String,
    /// Further names in the order in which the engine has them: the user's and compose's aliases, the
    /// hostname. Without the container's name and the short id, none twice.
    pub aliases: Vec<String>,
}

/// The names of `container` in the network with Docker's id `network`; `None` if it is not part of it.
///
/// Engines from API 1.44 on list all names themselves. Older ones give the aliases only; their resolver
/// answers the hostname as well, where it is not the short id.
pub fn names_in(container: &EngineContainer, network: &str) -> Option<ContainerNames> {
    let place = container.networks.get(network)?;
    let short_id = container.id.get(..SHORT_ID).unwrap_or(&container.id);
    let mut aliases: Vec<String> = Vec::new();
    for name in place.dns_names.iter().chain(&place.aliases).chain([&container.hostname]) {
        // Names of the DNS know no case.
        let known = [container.name.as_str(), short_id, ""]
            .into_iter()
            .chain(aliases.iter().map(String::as_str))
            .any(|other| other.eq_ignore_ascii_case(name));
        if !known {
            aliases.push(name.clone());
        }
    }
    Some(ContainerNames { name: container.name.clone(), aliases })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::engine::EngineAttachment;

    fn container(hostname: &str, aliases: &[&str], dns_names: &[&str]) -> EngineContainer {
        let list = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect();
        let place = EngineAttachment { endpoint: None, aliases: list(aliases), dns_names: list(dns_names) };
        EngineContainer {
            id: "0123456789abcdef".into(),
            name: "shop-web-1".into(),
            hostname: hostname.into(),
            networks: BTreeMap::from([("net".into(), place)]),
            ..EngineContainer::default()
        }
    }

    fn aliases(container: &EngineContainer) -> Vec<String> {
        names_in(container, "net").unwrap().aliases
    }

    #[test]
    fn compose_s_names_without_short_id_and_repetitions() {
        // Docker 20.10 and compose: container name and service name are both aliases.
        let old = container("0123456789ab", &["shop-web-1", "web", "0123456789ab"], &[]);
        assert_eq!(aliases(&old), ["web"]);
        // Docker 28, API 1.44.
        let new = container(
            "0123456789ab",
            &["shop-web-1", "web", "0123456789ab"],
            &["shop-web-1", "web", "0123456789ab"],
        );
        assert_eq!(aliases(&new), ["web"]);
        assert_eq!(names_in(&new, "net").unwrap().name, "shop-web-1");
    }

    #[test]
    fn a_chosen_hostname_is_a_name() {
        assert_eq!(aliases(&container("front", &["www", "0123456789ab"], &[])), ["www", "front"]);
        let listed = container("front", &[], &["shop-web-1", "WWW", "www", "0123456789ab", "front"]);
        assert_eq!(aliases(&listed), ["WWW", "front"]);
    }

    #[test]
    fn odd_containers_have_names_too() {
        assert_eq!(names_in(&container("x", &[], &[]), "other"), None);
        let mut odd = container("", &["", "a"], &[]);
        odd.id = "é".repeat(7);
        odd.name = String::new();
        assert_eq!(aliases(&odd), ["a"]);
    }
}
