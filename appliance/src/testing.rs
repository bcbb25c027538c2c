//! Help for tests of this crate.

pub(crate) mod dns;

use crate::config::Config;
use crate::control::dns::DnsReport;
use crate::control::introspect::{
    BlockRow, Generations, Introspect, MappingPage, MappingQuery, MappingRow, NeighborRow, PoolRow, PortRow,
    Protocol, ProtocolPorts, RaRow, RefusedRow, ReloadError, SessionPage, SessionQuery, SessionRow,
    SubscriberPage, SubscriberQuery, SubscriberRow, VrrpReport,
};
use crate::control::site_api::SplicerFacts;
use crate::control::sites::{PortMaps, Sites};
use crate::control::track::Judgement;
use causeway_core::{Counter, Counters, DropReason, Event, IfId, Instant};
use causeway_dns64::explain::{Explained, Lookup};
use causeway_dns64::status::Sample;
use causeway_nat64::Log;
use dns::FakeResolver;
use std::collections::VecDeque;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// A folder of a test's own; gone when dropped.
#[derive(Debug)]
pub(crate) struct TempDir(PathBuf);

impl TempDir {
    pub(crate) fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let n = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("causeway-test-{}-{n}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A gateway without packets, as control sees it.
#[derive(Debug)]
pub(crate) struct FakeGateway {
    pub(crate) sessions: Vec<SessionRow>,
    pub(crate) neighbors: Vec<NeighborRow>,
    pub(crate) counters: Vec<Arc<Counters>>,
    /// Mapping logs, one a worker.
    pub(crate) logs: Vec<Arc<Log>>,
    /// The workers' clock, in microseconds.
    pub(crate) now_us: AtomicU64,
    /// NAT64's settings.
    pub(crate) nat64: Mutex<Option<Arc<causeway_nat64::Config>>>,
    pub(crate) beats: Vec<AtomicU64>,
    /// Workers that poll whenever they are looked at.
    pub(crate) alive: AtomicBool,
    /// The lease thread panicked.
    pub(crate) leases_ended: AtomicBool,
    pub(crate) events: Mutex<VecDeque<Event>>,
    pub(crate) generation: AtomicU64,
    /// Configurations that it was given.
    pub(crate) reloads: Mutex<Vec<Arc<Config>>>,
    /// What it says to the next one.
    pub(crate) refuse: Mutex<Option<ReloadError>>,
    /// The resolver.
    pub(crate) dns: FakeResolver,
    /// The splicer's settings; nothing without one.
    pub(crate) splicer: Mutex<Option<Arc<causeway_splicer::Config>>>,
    /// Its sites, and port maps on request, in a folder of their own.
    pub(crate) sites: Arc<Sites>,
    pub(crate) port_maps: Arc<PortMaps>,
    _kept: TempDir,
    /// Slots looked at in one page, as a real table would bound them.
    pub(crate) slots_per_page: usize,
}

impl FakeGateway {
    pub(crate) fn new(sessions: usize) -> Self {
        let session = |n: usize| {
            let n16 = u16::try_from(n % 60_000).unwrap();
            SessionRow {
                protocol: [Protocol::Tcp, Protocol::Udp, Protocol::Icmp][n % 3],
                state: ["established", "active", "active"][n % 3].to_owned(),
                inside: Ipv6Addr::new(0x2001, 0xdb8, 0x64, 0, 0, 0, 0, 0x101 + n16 % 2),
                inside_port: 1024 + n16,
                remote: Ipv4Addr::new(198, 51, 100, 10).into(),
                remote_port: if n % 3 == 2 { 0 } else { 80 },
                outside: Some(Ipv4Addr::new(203, 0, 113, u8::try_from(n % 16).unwrap())),
                outside_port: Some(2048 + n16),
                idle_s: 3,
                expires_s: 7437,
            }
        };
        let neighbor = |address: &str, interface: &str| NeighborRow {
            interface: interface.to_owned(),
            address: address.parse().unwrap(),
            mac: Some("02:00:00:00:01:01".to_owned()),
            state: "reachable".to_owned(),
            age_s: 12,
            since: None,
            moves: 0,
        };
        let counters = [Arc::new(Counters::new()), Arc::new(Counters::new())];
        counters[0].add(Counter::RxFrames, 100);
        counters[1].add(Counter::RxFrames, 20);
        counters[1].as_ref().drop(DropReason::SpoofedSource);
        let kept = TempDir::new();
        let file = kept.path().join("sites.db");
        Self {
            sessions: (0..sessions).map(session).collect(),
            neighbors: vec![neighbor("192.0.2.1", "uplink0"), neighbor("2001:db8:64::101", "tenant0")],
            counters: counters.into(),
            logs: (0..2).map(|_| Arc::new(Log::new(64))).collect(),
            now_us: AtomicU64::new(0),
            nat64: Mutex::default(),
            beats: (0..2).map(|_| AtomicU64::new(0)).collect(),
            alive: AtomicBool::new(true),
            leases_ended: AtomicBool::new(false),
            events: Mutex::default(),
            generation: AtomicU64::new(1),
            reloads: Mutex::default(),
            refuse: Mutex::default(),
            dns: FakeResolver::default(),
            splicer: Mutex::default(),
            sites: Arc::new(Sites::new(file.clone())),
            port_maps: Arc::new(PortMaps::new(file)),
            _kept: kept,
            slots_per_page: 100,
        }
    }
}

impl Introspect for FakeGateway {
    fn workers(&self) -> u16 {
        2
    }

    fn heartbeat(&self, worker: u16) -> u64 {
        let more = u64::from(self.alive.load(Ordering::Relaxed));
        self.beats[usize::from(worker)].fetch_add(more, Ordering::Relaxed)
    }

    fn next_event(&self, _worker: u16) -> Option<Event> {
        self.events.lock().unwrap().pop_front()
    }

    fn interface_name(&self, id: IfId) -> Option<String> {
        ["tenant0", "uplink0"].get(usize::from(id.0)).map(ToString::to_string)
    }

    fn counters(&self) -> Vec<Arc<Counters>> {
        self.counters.clone()
    }

    fn nat_logs(&self) -> Vec<Arc<Log>> {
        self.logs.clone()
    }

    fn now(&self) -> Instant {
        Instant::from_micros(self.now_us.load(Ordering::Relaxed))
    }

    fn nat64(&self) -> Option<Arc<causeway_nat64::Config>> {
        self.nat64.lock().unwrap().clone()
    }

    fn sessions(&self, query: &SessionQuery) -> SessionPage {
        let from = usize::try_from(query.cursor).unwrap();
        let mut page = SessionPage::default();
        let mut at = from;
        while at < self.sessions.len() && at < from + self.slots_per_page && page.sessions.len() < query.limit
        {
            page.sessions.extend(self.sessions.get(at).filter(|row| query.matches(row)).cloned());
            at += 1;
        }
        page.next = (at < self.sessions.len()).then_some(at as u64);
        page
    }

    /// A mapping for each session; the first is static.
    fn mappings(&self, query: &MappingQuery) -> MappingPage {
        let from = usize::try_from(query.cursor).unwrap();
        let mut page = MappingPage::default();
        let mut at = from;
        while at < self.sessions.len() && at < from + self.slots_per_page && page.mappings.len() < query.limit
        {
            let session = &self.sessions[at];
            let row = MappingRow {
                protocol: session.protocol,
                inside: session.inside,
                inside_port: session.inside_port,
                outside: session.outside.unwrap(),
                outside_port: session.outside_port.unwrap(),
                fixed: at == 0,
                sessions: 1,
            };
            page.mappings.extend(Some(row).filter(|row| query.matches(row)));
            at += 1;
        }
        page.next = (at < self.sessions.len()).then_some(at as u64);
        page
    }

    fn pool(&self) -> Vec<PoolRow> {
        let row = |last: u8, tenant: Option<&str>, protocol, in_use| PoolRow {
            address: Ipv4Addr::new(203, 0, 113, last),
            tenant: tenant.map(ToOwned::to_owned),
            protocol,
            in_use,
            of: 64_512,
        };
        vec![
            row(1, None, Protocol::Udp, 3),
            row(1, None, Protocol::Tcp, 32_256),
            row(16, Some("shop"), Protocol::Tcp, 64_512),
        ]
    }

    fn subscribers(&self, query: &SubscriberQuery) -> SubscriberPage {
        let shop = SubscriberRow {
            name: Some("shop".to_owned()),
            prefix: "2001:db8:64::102/128".parse().unwrap(),
            address: Some(Ipv4Addr::new(203, 0, 113, 16)),
            sessions: 3,
            ports: ProtocolPorts { udp: 2, tcp: 1, icmp: 0 },
            promised: 16,
            blocks: vec![BlockRow {
                address: Ipv4Addr::new(203, 0, 113, 16),
                first: 2048,
                last: 2111,
                in_use: 3,
            }],
            refused: RefusedRow { ports: 0, sessions: 7, rate: 1 },
        };
        let other = SubscriberRow {
            name: None,
            prefix: "2001:db8:64:1::/64".parse().unwrap(),
            address: None,
            sessions: 0,
            ports: ProtocolPorts::default(),
            promised: 0,
            blocks: Vec::new(),
            refused: RefusedRow::default(),
        };
        let mut rows = [other, shop].into_iter().filter(|row| query.matches(row));
        let subscribers = rows.by_ref().take(query.limit).collect();
        SubscriberPage { subscribers, more: rows.next().is_some() }
    }

    fn neighbors(&self) -> Vec<NeighborRow> {
        self.neighbors.clone()
    }

    fn track(&self) -> Option<Judgement> {
        None
    }

    fn vrrp(&self) -> Option<VrrpReport> {
        Some(VrrpReport { state: "backup".to_owned(), priority: 100, ..VrrpReport::default() })
    }

    fn lease_thread_ended(&self) -> bool {
        self.leases_ended.load(Ordering::Relaxed)
    }

    fn leases(&self) -> Option<crate::control::lease_api::Control> {
        None
    }

    fn router_advertisements(&self) -> Vec<RaRow> {
        Vec::new()
    }

    fn ports(&self) -> Vec<PortRow> {
        vec![PortRow {
            name: "tenant0".to_owned(),
            device: "net_af_packet0,iface=tenant0".to_owned(),
            driver: "net_af_packet".to_owned(),
            mac: "02:00:00:00:00:01".to_owned(),
            mtu: 1500,
            rx_queues: 2,
            promiscuous: true,
            link: Some(true),
            networks: vec!["tenant0".to_owned()],
            ..PortRow::default()
        }]
    }

    fn dns64(&self) -> Option<Arc<causeway_dns64::Config>> {
        self.dns.config.lock().unwrap().clone()
    }

    fn dns(&self) -> Option<DnsReport> {
        self.dns64().map(|config| self.dns.report(&config))
    }

    fn dns_lookup(&self, lookup: Box<Lookup>) -> bool {
        self.dns.lookup(lookup)
    }

    fn dns_explained(&self) -> Option<Box<Explained>> {
        self.dns.explained.lock().unwrap().pop_front()
    }

    fn dns_sample(&self, worker: u16) -> Option<Sample> {
        if worker == 0 { self.dns.samples.lock().unwrap().pop_front() } else { None }
    }

    fn dns_flush(&self, name: Option<&[u8]>) -> Option<u64> {
        self.dns64()?;
        self.dns.flushed.lock().unwrap().push(name.map(<[u8]>::to_vec));
        Some(3)
    }

    fn sites(&self) -> Arc<Sites> {
        Arc::clone(&self.sites)
    }

    fn port_maps(&self) -> Arc<PortMaps> {
        Arc::clone(&self.port_maps)
    }

    fn splicer(&self) -> Option<SplicerFacts> {
        let config = self.splicer.lock().unwrap().clone()?;
        Some(SplicerFacts { config, capacity: 1000 })
    }

    fn generations(&self) -> Generations {
        let newest = self.generation.load(Ordering::Relaxed);
        Generations { newest, workers: vec![newest; 2] }
    }

    fn reload(&self, config: Arc<Config>) -> Result<Generations, ReloadError> {
        if let Some(error) = self.refuse.lock().unwrap().take() {
            return Err(error);
        }
        self.reloads.lock().unwrap().push(config);
        self.generation.fetch_add(1, Ordering::Relaxed);
        Ok(self.generations())
    }
}
