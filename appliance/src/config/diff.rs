//! What differs between the running configuration and a new one, and which of it needs a restart.

use super::Config;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::{HashMap, HashSet};

/// One key that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// Key path, as in `capacity.sessions` or `port[tenant0].device`.
    pub key: String,
    /// The value that runs; nothing if the key is new.
    pub old: Option<Value>,
    /// The value that is wanted; nothing if the key is gone.
    pub new: Option<Value>,
}

impl std::fmt::Display for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = |v: &Option<Value>| v.as_ref().map_or_else(|| "(not set)".to_owned(), Value::to_string);
        write!(f, "{}: {} -> {}", self.key, text(&self.old), text(&self.new))
    }
}

/// Everything that differs, in the order of the keys. Elements of an array of tables are matched by
/// their `name` (or `prefix`), so that an element in front does not rename all others.
#[must_use]
pub fn changes(old: &Config, new: &Config) -> Vec<Change> {
    let tree = |c: &Config| {
        let mut value = serde_json::to_value(c).unwrap_or_default();
        if let Some(map) = value.as_object_mut() {
            map.remove("notes");
        }
        value
    };
    let mut out = Vec::new();
    compare("", Some(&tree(old)), Some(&tree(new)), &mut out);
    // What follows from other changes is not one of its own; a profile's file that was changed is.
    if out.iter().any(|c| c.key.starts_with("gateway.") || c.key.starts_with("capacity.")) {
        out.retain(|c| !c.key.starts_with("resolved."));
    }
    out
}

/// What identifies an element of an array: its name, or what no two of them have alike.
fn label(element: &Value) -> Option<String> {
    let text = |key| element.get(key).and_then(Value::as_str);
    ["name", "prefix", "mac", "interface-id"]
        .into_iter()
        .find_map(text)
        .map(ToOwned::to_owned)
        .or_else(|| Some(format!("{} {}", text("protocol")?, text("outside")?)))
        // A listener, a server and a rule of the splicer.
        .or_else(|| Some(format!("{}:{}", text("address")?, element.get("port")?)))
        .or_else(|| element.get("weight").and(text("address")).map(ToOwned::to_owned))
        .or_else(|| element.get("backend").and(text("protocol")).map(ToOwned::to_owned))
        .or_else(|| Some(format!("{} {} {}", text("network")?, element.get("vrid")?, text("family")?)))
        .or_else(|| {
            let iaid = element.get("iaid").map_or_else(String::new, |iaid| format!(" {iaid}"));
            Some(format!("{}{iaid}", text("duid")?))
        })
}

/// True if each element has a label of its own.
fn labelled(list: &[Value]) -> bool {
    let mut seen = HashSet::new();
    list.iter().all(|element| label(element).is_some_and(|label| seen.insert(label)))
}

fn compare(path: &str, old: Option<&Value>, new: Option<&Value>, out: &mut Vec<Change>) {
    match (old, new) {
        (old, new) if old == new => {}
        (Some(Value::Object(a)), Some(Value::Object(b))) => {
            let mut keys: Vec<&String> = a.keys().chain(b.keys().filter(|k| !a.contains_key(*k))).collect();
            keys.sort_unstable();
            for key in keys {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                compare(&path, a.get(key), b.get(key), out);
            }
        }
        (Some(Value::Array(a)), Some(Value::Array(b))) if labelled(a) && labelled(b) => {
            let before = out.len();
            // By name, so that a hundred thousand routes do not take a square of that.
            let by_label = |list: &[Value]| -> HashMap<String, usize> {
                list.iter().enumerate().filter_map(|(n, e)| Some((label(e)?, n))).collect()
            };
            let (in_a, in_b) = (by_label(a), by_label(b));
            for element in a {
                let name = label(element).unwrap_or_default();
                compare(&format!("{path}[{name}]"), Some(element), in_b.get(&name).map(|n| &b[*n]), out);
            }
            for element in b {
                let name = label(element).unwrap_or_default();
                if !in_a.contains_key(&name) {
                    compare(&format!("{path}[{name}]"), None, Some(element), out);
                }
            }
            // The order of ports is their numbering.
            let order = |list: &[Value]| list.iter().filter_map(label).map(Value::from).collect::<Vec<_>>();
            if order(a) != order(b) && out.len() == before {
                out.push(Change {
                    key: path.to_owned(),
                    old: Some(Value::from(order(a))),
                    new: Some(Value::from(order(b))),
                });
            }
        }
        (old, new) => {
            out.push(Change { key: path.to_owned(), old: old.cloned(), new: new.cloned() });
        }
    }
}

/// Keys that a running gateway cannot change: what was allocated, opened or pinned at the start.
const RESTART: [&str; 20] = [
    "gateway",
    "capacity",
    "port",
    "control",
    "watchdog",
    "log.format",
    "icmp",
    "neighbor",
    "nat64.subscribers.capacity",
    "dns64.cache",
    "dhcpv6.leases",
    "dhcpv6.capacity",
    "dhcpv6.duid",
    "dhcpv6.history",
    "dhcpv6.peer.listen",
    "dhcpv6.peer.connect",
    "dhcpv6.peer.secret-file",
    "dhcpv6.peer.ack-timeout",
    "dhcpv6.peer.alone-after",
    "resolved",
];

/// Sections that a running gateway cannot begin or end to have: the thread and the file of the leases, the
/// connection to the other gateway, the MAC addresses of virtual routers, the memory of the resolver's cache.
const RESTART_WHOLE: [&str; 4] = ["dhcpv6", "dhcpv6.peer", "vrrp", "dns64"];

/// True for a virtual router that comes or goes; what is inside one can change.
fn whole_router(key: &str) -> bool {
    key.strip_prefix("vrrp.router[").is_some_and(|rest| rest.find(']') == Some(rest.len() - 1))
}

/// The changes that need a restart, out of those of [`changes`]. Also a network whose MTU is larger than
/// what its port was opened with.
#[must_use]
pub fn restart_needed(old: &Config, new: &Config) -> Vec<Change> {
    let mut out: Vec<Change> = changes(old, new)
        .into_iter()
        .filter(|change| {
            RESTART_WHOLE.contains(&change.key.as_str())
                || whole_router(&change.key)
                || RESTART.iter().any(|key| {
                    change
                        .key
                        .strip_prefix(key)
                        .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
                })
        })
        .collect();
    for port in &old.ports {
        if let (Some(opened), Some(wanted)) = (old.port_mtu(&port.name), new.port_mtu(&port.name))
            && wanted > opened
        {
            out.push(Change {
                key: format!("port[{}].mtu (the largest `mtu` of its networks)", port.name),
                old: Some(Value::from(opened.octets())),
                new: Some(Value::from(wanted.octets())),
            });
        }
    }
    out
}
