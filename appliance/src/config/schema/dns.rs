//! The section `[dns]`.

use super::Item;
use crate::config::first_hop::{Dns, EncryptedDns};
use crate::config::read::Section;
use crate::config::types::{Alpn, DohPath, DomainName, Host6, ServicePriority};

#[derive(Debug, Default)]
pub(in crate::config) struct DnsDraft {
    pub(in crate::config) servers: Vec<Item<Host6>>,
    pub(in crate::config) search: Vec<Item<DomainName>>,
    pub(in crate::config) encrypted: Vec<EncryptedDraft>,
}

#[derive(Debug)]
pub(in crate::config) struct EncryptedDraft {
    pub(in crate::config) name: Option<Item<DomainName>>,
    pub(in crate::config) addresses: Vec<Item<Host6>>,
    pub(in crate::config) alpn: Vec<Item<Alpn>>,
    pub(in crate::config) priority: ServicePriority,
    pub(in crate::config) port: Option<super::PortNumber>,
    pub(in crate::config) doh_path: Option<Item<DohPath>>,
}

pub(super) fn dns(s: Section<'_, '_>) -> DnsDraft {
    let draft = DnsDraft {
        servers: s.list("servers"),
        search: s.list("search"),
        encrypted: s.sections("encrypted").into_iter().map(encrypted).collect(),
    };
    s.finish();
    draft
}

fn encrypted(s: Section<'_, '_>) -> EncryptedDraft {
    let draft = EncryptedDraft {
        name: s.required("name"),
        addresses: s.some("addresses"),
        alpn: s.some("alpn"),
        priority: s.or("priority", ServicePriority::literal(1)),
        port: s.optional("port").map(|item| item.value),
        doh_path: s.optional("doh-path"),
    };
    // RFC 9461 5: what speaks HTTP has a path; to others it says nothing.
    let http = draft.alpn.iter().any(|alpn| alpn.is_http());
    if http && !s.has("doh-path") {
        s.error("doh-path", "missing", "a path for DNS over HTTPS, as in \"/dns-query{?dns}\"");
    }
    if !http && s.has("doh-path") && !draft.alpn.is_empty() {
        s.error("doh-path", "no `alpn` speaks HTTP", "only with \"h2\" or \"h3\" among `alpn`");
    }
    s.finish();
    draft
}

impl DnsDraft {
    pub(in crate::config) fn build(self) -> Option<Dns> {
        Some(Dns {
            servers: self.servers.into_iter().map(|item| item.value).collect(),
            search: self.search.into_iter().map(|item| item.value).collect(),
            encrypted: self.encrypted.into_iter().map(EncryptedDraft::build).collect::<Option<_>>()?,
        })
    }
}

impl EncryptedDraft {
    fn build(self) -> Option<EncryptedDns> {
        Some(EncryptedDns {
            name: self.name?.value,
            addresses: self.addresses.into_iter().map(|item| item.value).collect(),
            alpn: self.alpn.into_iter().map(|item| item.value).collect(),
            priority: self.priority,
            port: self.port,
            doh_path: self.doh_path.map(|item| item.value),
        })
    }
}
