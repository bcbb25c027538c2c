//! The gateway as a whole: from a configuration to running workers, and what control sees of them.
//!
//! ```text
//!  Config + profile -> Spec -> bring-up -> ports -> Plan -> Shared -> workers
//!                                                     ^               |
//!                              reload: next Plan -----+   mailboxes --+--> control
//! ```

use crate::config::{self, Config};
use crate::control::ControlHandle;
use crate::control::dns::{CacheRow, DnsReport, UpstreamRow, ViewRow};
use crate::control::introspect::{
    BlockRow, Generations, Introspect, MappingPage, MappingQuery, MappingRow, NeighborRow, PoolRow, PortRow,
    Protocol, ProtocolPorts, RaRow, RefusedRow, ReloadError, SessionPage, SessionQuery, SessionRow,
    SubscriberPage, SubscriberQuery, SubscriberRow, VirtualRouterRow, VrrpReport,
};
use crate::control::lease_api;
use crate::control::leases::{self, LeasedSources, Leases, Rings, Standing};
use crate::control::site_api::{self, SplicerFacts};
use crate::control::sites::{self, PortMaps, Sites, StoreError};
use crate::control::track::{self, Judgement, Seen};
use crate::plan::dns64::outdates;
use crate::plan::{Plan, PortFacts, first_hop};
use crate::worker::{Clock, DnsShared, Mailbox, Shared, TscClock, Worker};
use causeway_core::{Counters, Event, IfId, Instant};
use causeway_dhcpv6::Engine;
use causeway_dns64::cache::Cache;
use causeway_dns64::explain::{Explained, Lookup};
use causeway_dns64::status::Sample;
use causeway_flowtable::{Bindings, FlowTable, Kind, Mapping, Reader, Session, TICK_MICROS, Tick};
use causeway_hwprofiles::bringup::{
    self, Control as PortControl, ControlError, Device, PollLoop, PortInfo, PortSpec, RssSpec, Spec,
};
use causeway_hwprofiles::mbuf::{MbufFrame, MempoolSource};
use causeway_hwprofiles::profile::{self, Demand, HwProfile, Rss};
use causeway_hwprofiles::queues::DpdkQueues;
use causeway_nat64::{BlockUsage, Log, StaticMapping, SubscriberUsage};
use causeway_neighbor::{LinkId, Reachability, Resolved};
use causeway_wire::l4;
use std::collections::HashMap;
use std::error::Error;
use std::io::Read as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use thiserror::Error;
use tracing::{info, warn};

/// How long a reload waits for the workers to adopt a plan. A worker that takes longer hangs.
const ADOPT_WITHIN: Duration = Duration::from_secs(5);
/// Readers of the flow table that control may have at once.
const CONTROL_READERS: u16 = 2;
/// Slots of the flow table that one answer looks at, at most.
const SLOTS_PER_PAGE: u32 = 1 << 16;
/// Entries of the neighbour table that are looked at in one slice.
const NEIGHBORS_PER_SLICE: usize = 4096;

/// Why the gateway did not start, or ended badly.
#[derive(Debug, Error)]
pub enum GatewayError {
    /// The hardware profile cannot do what the configuration wants.
    #[error("profile `{profile}`, port `{port}`: {problems}")]
    Profile {
        /// The profile.
        profile: String,
        /// The port.
        port: String,
        /// What it cannot do.
        problems: String,
    },
    /// There is no such profile.
    #[error("gateway.profile: `{0}` is no hardware profile (allowed: {1})")]
    NoProfile(String, String),
    /// A device's text is none.
    #[error("port `{port}`: {problem}")]
    Device {
        /// The port.
        port: String,
        /// What is wrong.
        problem: String,
    },
    /// There are not enough cores.
    #[error(
        "{workers} workers need as many cores, and this process may use {cores}; set gateway.cores or gateway.workers"
    )]
    Cores {
        /// Workers wanted.
        workers: u16,
        /// Cores that the process may use.
        cores: usize,
    },
    /// Frames were lost.
    #[error("{0} frames were not given back to their pool")]
    FramesLost(u32),
    /// A worker did not start.
    #[error("worker {0} did not start: its place in the flow table is taken")]
    Worker(u16),
}

/// A worker on DPDK.
type DpdkWorker = Worker<DpdkQueues, MempoolSource, TscClock>;

/// Makes our worker a loop of the bring-up's.
struct Loop(Option<DpdkWorker>);

impl PollLoop for Loop {
    #[inline]
    fn poll(&mut self) -> bool {
        self.0.as_mut().is_some_and(Worker::poll)
    }

    fn may_stop(&mut self) -> bool {
        self.0.as_mut().is_none_or(Worker::may_stop)
    }

    fn drain(&mut self) {
        if let Some(worker) = &mut self.0 {
            worker.drain();
        }
    }
}

/// Brings everything up, attaches it to control, and returns when it has stopped.
///
/// # Errors
/// What kept it from starting, or went wrong at the end; nothing is left behind.
pub fn launch(config: &Arc<Config>, control: &ControlHandle) -> Result<(), Box<dyn Error>> {
    // Before the ports: leases that cannot be had are said at once.
    let opened = first_hop::leases_of(config).map(leases::open).transpose()?;
    let profile = hw_profile(config)?;
    let (spec, capacity) = spec(config, &profile)?;
    let workers = u16::try_from(spec.worker_cores.len())?;
    let gateway = bringup::Gateway::bring_up(spec)?;
    for warning in gateway.warnings() {
        warn!("{warning}");
    }
    for port in gateway.ports() {
        info!(port = port.name, device = port.device, driver = port.driver, mac = %port.mac, mtu = port.mtu,
            queues = port.rx_queues, promiscuous = port.promiscuous, "port is up");
    }
    let facts = gateway.ports().iter().map(facts).collect::<Vec<_>>();
    let file = sites::state_file(config);
    let (sites, port_maps) = (Arc::new(Sites::new(file.clone())), Arc::new(PortMaps::new(file)));
    let plan = Arc::new(Plan::build_with(config, &facts, None, &usable_port_maps(&port_maps, config)?)?);
    configure(&sites, &plan)?;
    let table = FlowTable::new(&causeway_flowtable::Config {
        sessions: capacity.sessions,
        mappings: capacity.mappings,
        spliced: capacity.spliced,
        workers: u8::try_from(workers)?,
        control_readers: u8::try_from(CONTROL_READERS)?,
        seed: seed()?,
    })?;
    info!(stats = ?table.stats(), "flow table is ready");
    let resolved = Arc::new(Resolved::new(&plan.neighbor, workers));
    let [a, b, ..] = seed()?;
    let bindings = Arc::new(Bindings::new(plan.bindings(), [a, b])?);
    let mut shared = Shared::<MbufFrame>::new(table, resolved, bindings, workers);
    shared.dns = plan.dns64.as_deref().map(dns_shared).transpose()?;
    let (secret, cookies) = secrets()?;
    shared.splicer = Some(sites.shared(secret, cookies));
    let shared = Arc::new(shared);
    let clock = TscClock::new();
    take_virtual_macs(&plan, None, &gateway.control())?;
    let sources = Arc::new(LeasedSources::new(Arc::clone(&shared.bindings), links(&plan)));
    let leasing = match (opened, &plan.dhcpv6) {
        (Some(opened), Some(server)) => {
            let spec = lease_spec(server, &shared, &sources, &plan, clock.clone());
            Some(Arc::new(start_leasing(opened, spec)?))
        }
        _ => None,
    };
    let leases = leasing.as_ref().map(|thread| Leasing {
        control: thread.control(),
        thread: Arc::clone(thread),
        sources,
    });
    let splicing = Splicing { sites, port_maps };
    let running = Running::new(&plan, &shared, clock.clone(), facts, gateway.control(), leases, splicing)?;
    control.attach(Arc::new(running));

    let (make, stop) = (Arc::clone(&shared), gateway.stop_handle());
    let report = gateway.run(move |init| {
        let (shared, plan) = (Arc::clone(&make), Arc::clone(&plan));
        let id = init.id;
        let worker = Worker::new(id, shared, clock.clone(), plan, init.queues, init.source);
        if worker.is_none() {
            stop.stop();
        } else if id == 0 {
            make.mailboxes[0].announce.store(true, Ordering::Relaxed);
        }
        Loop(worker)
    });
    control.detach();
    drop(leasing);
    let report = report?;
    info!(cause = ?report.cause, frames_in_use = report.frames_in_use, "workers have stopped");
    if report.frames_in_use != 0 {
        return Err(GatewayError::FramesLost(report.frames_in_use).into());
    }
    if let Some(id) =
        (0..workers).find(|id| shared.mailboxes[usize::from(*id)].generation.load(Ordering::Relaxed) == 0)
    {
        return Err(GatewayError::Worker(id).into());
    }
    Ok(())
}

/// The port maps on request that can be in use in a configuration; they are read from disk when there is a splicer for the
/// first time.
fn usable_port_maps(maps: &PortMaps, config: &Config) -> Result<Vec<StaticMapping>, StoreError> {
    if config.splicer.is_none() {
        return Ok(Vec::new());
    }
    maps.open()?;
    Ok(site_api::usable(maps, config))
}

/// Makes the sites those of a plan, and of the API.
fn configure(sites: &Sites, plan: &Plan) -> Result<(), StoreError> {
    sites.configure(plan.splicer.as_ref().map(|s| (&*s.config, &*s.sites)))
}

/// Random octets of the system: for sequence numbers, ports and so on, and for cookies.
fn secrets() -> std::io::Result<([u8; 32], [u8; 16])> {
    let (mut secret, mut cookies) = ([0; 32], [0; 16]);
    let mut random = std::fs::File::open("/dev/urandom")?;
    random.read_exact(&mut secret)?;
    random.read_exact(&mut cookies)?;
    Ok((secret, cookies))
}

/// What the resolver's workers share; the memory of the cache is taken now.
fn dns_shared(config: &causeway_dns64::Config) -> Result<DnsShared, Box<dyn Error>> {
    let (secret, cookies) = secrets()?;
    let shared = DnsShared::new(&config.cache, secret, cookies)?;
    info!(stats = ?shared.cache.stats(), "DNS cache is ready");
    Ok(shared)
}

/// Makes the ports take frames for the virtual routers' addresses, as far as they did not do so for the plan
/// `before`. A device without filters for them takes everything.
fn take_virtual_macs(plan: &Plan, before: Option<&Plan>, ports: &PortControl) -> Result<(), ControlError> {
    let old = before.map(Plan::virtual_macs).unwrap_or_default();
    for (port, mac) in plan.virtual_macs().into_iter().filter(|m| !old.contains(m)) {
        let filter = ports.add_mac(port, mac)?;
        info!(port, %mac, ?filter, "virtual router");
    }
    Ok(())
}

/// Ends that for those that `before` had and `plan` has not.
fn leave_virtual_macs(plan: &Plan, before: &Plan, ports: &PortControl) {
    let new = plan.virtual_macs();
    for (port, mac) in before.virtual_macs().into_iter().filter(|m| !new.contains(m)) {
        // One frame more than needed is all that it costs.
        if let Err(e) = ports.remove_mac(port, mac) {
            warn!(port, %mac, "virtual router: {e}");
        }
    }
}

/// Networks as source validation names them, by their names.
fn links(plan: &Plan) -> HashMap<Box<str>, u32> {
    plan.active.interfaces.iter().map(|(_, i)| (i.name.as_str().into(), i.link())).collect()
}

fn lease_spec(
    server: &Arc<causeway_dhcpv6::Config>,
    shared: &Arc<Shared<MbufFrame>>,
    sources: &Arc<LeasedSources>,
    plan: &Plan,
    clock: TscClock,
) -> leases::Spec<Engine> {
    let rings = |m: &Mailbox<MbufFrame>| Rings {
        requests: Arc::clone(&m.dhcp_requests),
        answers: Arc::clone(&m.dhcp_answers),
    };
    let (vrrp, alone) = (Arc::clone(&shared.vrrp), plan.vrrp.is_none());
    leases::Spec {
        server: Arc::clone(server),
        rings: shared.mailboxes.iter().map(rings).collect(),
        bindings: Box::new(Arc::clone(sources)),
        active: Box::new(move || alone || vrrp.is_active(clock.now())),
        clock: Box::new(leases::time_of_day),
    }
}

/// Starts the lease thread, and those that it starts, away from the workers' cores: threads inherit those of the
/// one that starts them, and EAL has pinned the main thread.
fn start_leasing(
    opened: leases::Opened,
    spec: leases::Spec<Engine>,
) -> Result<Leases<Engine>, Box<dyn Error>> {
    let start = move || {
        if let Err(e) = bringup::control_affinity() {
            warn!("lease thread: its cores: {e}");
        }
        opened.start(spec)
    };
    let started = std::thread::scope(|scope| scope.spawn(start).join());
    Ok(started.map_err(|_| "the lease thread panicked while it was started")??)
}

/// Sites and port maps, as a running gateway reaches them.
struct Splicing {
    sites: Arc<Sites>,
    port_maps: Arc<PortMaps>,
}

/// Leases, as a running gateway reaches them.
struct Leasing {
    thread: Arc<Leases<Engine>>,
    control: lease_api::Control,
    sources: Arc<LeasedSources>,
}

fn facts(port: &PortInfo) -> PortFacts {
    PortFacts { name: port.name.clone(), mac: port.mac, mtu: port.mtu }
}

/// A seed that nobody outside can know.
fn seed() -> std::io::Result<[u64; 4]> {
    let mut octets = [0u8; 32];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut octets)?;
    let (words, _) = octets.as_chunks::<8>();
    Ok(std::array::from_fn(|n| u64::from_le_bytes(words[n])))
}

fn hw_profile(config: &Config) -> Result<HwProfile, Box<dyn Error>> {
    let all = profile::all(config.gateway.profile_dir.as_ref().map(|d| d.path()))?;
    let name = config.gateway.profile.as_str();
    let found = profile::by_name(&all, name).cloned();
    found.ok_or_else(|| {
        let names: Vec<&str> = all.iter().map(HwProfile::name).collect();
        GatewayError::NoProfile(name.to_owned(), names.join(", ")).into()
    })
}

/// What is to be brought up, and how large the flow table is.
fn spec(config: &Config, profile: &HwProfile) -> Result<(Spec, profile::Capacity), Box<dyn Error>> {
    let configured = config
        .gateway
        .workers
        .map(config::Workers::get)
        .or_else(|| u16::try_from(config.gateway.cores.len()).ok().filter(|n| *n > 0));
    let mut ports = Vec::new();
    let mut workers = profile.cores().default_workers;
    let (mut frames, mut room) = (0, 0);
    for port in &config.ports {
        let name = port.name.as_str();
        let text = match &port.device {
            config::Device::Vdev(vdev) => vdev.as_str(),
            config::Device::Pci(address) => address.as_str(),
        };
        let device: Device = text.parse().map_err(|e: bringup::ParseDeviceError| GatewayError::Device {
            port: name.to_owned(),
            problem: e.to_string(),
        })?;
        let demand = Demand {
            ports: u16::try_from(config.ports.len())?,
            workers: configured,
            rx_descriptors: port.rx_descriptors.map(config::Descriptors::get),
            tx_descriptors: port.tx_descriptors.map(config::Descriptors::get),
            mtu: config.port_mtu(&port.name).map(config::Mtu::octets),
            ..Demand::default()
        };
        let checked = profile.check(&demand).map_err(|errors| GatewayError::Profile {
            profile: profile.name().to_owned(),
            port: name.to_owned(),
            problems: errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "),
        })?;
        for notice in &checked.notices {
            info!(port = name, "{notice}");
        }
        workers = checked.workers;
        frames = frames.max(checked.mempool_frames);
        room = room.max(checked.room_octets);
        let key = match profile.rss() {
            Rss::Toeplitz { key, .. } => key.octets().to_vec(),
            _ => Vec::new(),
        };
        ports.push(PortSpec {
            mtu: checked.mtu,
            rx_descriptors: checked.rx_descriptors,
            tx_descriptors: checked.tx_descriptors,
            rss: RssSpec { fields: rss_fields(profile.rss()), key },
            // Every checksum is looked at or updated in software, so that what is forwarded is never
            // worse than what came in.
            rx_checksums: false,
            tx_checksums: false,
            ..PortSpec::new(name, device)
        });
    }
    let (worker_cores, main_core) = cores(config, workers)?;
    let mut capacity = profile.capacity();
    if let Some(sessions) = config.capacity.sessions {
        capacity.sessions = sessions.get();
    }
    if let Some(mappings) = config.capacity.mappings {
        capacity.mappings = mappings.get();
    }
    capacity.spliced = config.resolved.spliced;
    let spec = Spec {
        app_group: config.gateway.name.as_str().to_owned(),
        main_core,
        worker_cores,
        mempool_frames: frames,
        frame_octets: room.saturating_sub(128),
        idle: match profile.cores().idle {
            profile::Idle::Spin => bringup::Idle::Spin,
            profile::Idle::Backoff => bringup::Idle::Backoff,
        },
        memory: bringup::Memory::Auto,
        ports,
    };
    Ok((spec, capacity))
}

fn rss_fields(rss: &Rss) -> u64 {
    match rss {
        Rss::Toeplitz { fields, .. } => fields.iter().fold(0, |all, field| all | 1 << field.rte_bit()),
        _ => 0,
    }
}

/// The workers' cores and the main thread's. What is not configured is chosen among the cores that the
/// process may use: the last ones for workers, and the first for the main thread.
fn cores(config: &Config, workers: u16) -> Result<(Vec<u16>, u16), GatewayError> {
    let allowed = allowed_cores();
    let wanted = usize::from(workers);
    let worker_cores: Vec<u16> = if config.gateway.cores.is_empty() {
        if allowed.len() < wanted {
            return Err(GatewayError::Cores { workers, cores: allowed.len() });
        }
        allowed[allowed.len() - wanted..].to_vec()
    } else {
        config.gateway.cores.iter().map(|c| c.number()).collect()
    };
    let main = config.gateway.main_core.map(|c| c.number()).or_else(|| allowed.first().copied()).unwrap_or(0);
    Ok((worker_cores, main))
}

/// The cores that the process may run on (`Cpus_allowed_list` of proc(5)), in order.
fn allowed_cores() -> Vec<u16> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let list = status.lines().find_map(|l| l.strip_prefix("Cpus_allowed_list:")).unwrap_or("0").trim();
    core_list(list)
}

/// Parses `0-3,8`.
fn core_list(text: &str) -> Vec<u16> {
    let mut cores: Vec<u16> = text
        .split(',')
        .filter_map(|part| {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            Some(first.trim().parse::<u16>().ok()?..=last.trim().parse::<u16>().ok()?)
        })
        .flatten()
        .collect();
    cores.sort_unstable();
    cores.dedup();
    cores
}

/// The running gateway, as control sees it.
struct Running {
    shared: Arc<Shared<MbufFrame>>,
    /// The newest plan. Held while a reload runs, so that there is one at a time.
    plan: Mutex<Arc<Plan>>,
    reader: Mutex<Reader>,
    clock: TscClock,
    facts: Vec<PortFacts>,
    ports: PortControl,
    leases: Option<Leasing>,
    splicing: Splicing,
    /// The workers' heartbeats, as tracking last saw them.
    beats: Mutex<Beats>,
    /// What tracking found last.
    judgement: Mutex<Judgement>,
}

/// Which workers poll, by their heartbeats.
#[derive(Debug, Default)]
struct Beats(Vec<(u64, Option<std::time::Instant>)>);

/// A worker that has not polled for so long counts as one that does not.
const SILENT: Duration = Duration::from_millis(500);

impl Beats {
    /// How many workers have not polled for [`SILENT`].
    fn stalled(&mut self, beats: impl Iterator<Item = u64>) -> u16 {
        let now = std::time::Instant::now();
        let mut stalled = 0;
        for (n, beat) in beats.enumerate() {
            if self.0.len() <= n {
                self.0.push((beat, None));
            }
            let (last, since) = &mut self.0[n];
            if *last != beat {
                (*last, *since) = (beat, None);
            }
            let since = *since.get_or_insert(now);
            stalled += u16::from(now.saturating_duration_since(since) > SILENT);
        }
        stalled
    }
}

impl Running {
    fn new(
        plan: &Arc<Plan>,
        shared: &Arc<Shared<MbufFrame>>,
        clock: TscClock,
        facts: Vec<PortFacts>,
        ports: PortControl,
        leases: Option<Leasing>,
        splicing: Splicing,
    ) -> Result<Self, Box<dyn Error>> {
        let reader = shared.table.reader().ok_or("the flow table has no place for control's reader")?;
        let (shared, plan, reader) = (Arc::clone(shared), Mutex::new(Arc::clone(plan)), Mutex::new(reader));
        let (beats, judgement) = (Mutex::default(), Mutex::default());
        Ok(Self { shared, plan, reader, clock, facts, ports, leases, splicing, beats, judgement })
    }

    fn plan(&self) -> Arc<Plan> {
        Arc::clone(&self.plan.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Makes the resolver's cache follow a plan that all workers have adopted.
    fn set_cache(&self, before: &Plan, plan: &Plan) {
        let (Some(dns), Some(new)) = (&self.shared.dns, &plan.dns64) else { return };
        dns.cache.set_settings(&new.cache);
        if before.dns64.as_ref().is_some_and(|old| outdates(old, new)) {
            dns.cache.clear();
            info!("rules of DNS64 have changed: the DNS cache is empty");
        }
    }

    /// The generation that each worker uses.
    fn generations_of(&self, newest: u64) -> Generations {
        let workers = self.shared.mailboxes.iter().map(|m| m.generation.load(Ordering::Acquire)).collect();
        Generations { newest, workers }
    }
}

impl Introspect for Running {
    fn workers(&self) -> u16 {
        u16::try_from(self.shared.mailboxes.len()).unwrap_or(u16::MAX)
    }

    fn heartbeat(&self, worker: u16) -> u64 {
        self.shared.mailboxes.get(usize::from(worker)).map_or(0, |m| m.heartbeat.load(Ordering::Relaxed))
    }

    fn next_event(&self, worker: u16) -> Option<Event> {
        let mailbox = self.shared.mailboxes.get(usize::from(worker))?;
        // Plans that the worker has let go of are freed here.
        while mailbox.retired.pop().is_some() {}
        mailbox.events.pop()
    }

    fn interface_name(&self, id: IfId) -> Option<String> {
        self.plan().active.interfaces.get(id).map(|i| i.name.clone())
    }

    fn counters(&self) -> Vec<Arc<Counters>> {
        self.shared.mailboxes.iter().map(|m| Arc::clone(&m.counters)).collect()
    }

    fn nat_logs(&self) -> Vec<Arc<Log>> {
        self.shared.mailboxes.iter().map(|m| Arc::clone(&m.log)).collect()
    }

    fn now(&self) -> Instant {
        self.clock.now()
    }

    fn nat64(&self) -> Option<Arc<causeway_nat64::Config>> {
        // Whoever builds a plan has the lock, for as long as that takes: control does not wait for it.
        let plan = self.plan.try_lock().ok()?;
        plan.nat64.as_ref().map(|n| Arc::clone(&n.config))
    }

    fn sessions(&self, query: &SessionQuery) -> SessionPage {
        let plan = self.plan();
        let now = Tick::at(self.clock.now());
        let mut reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
        let Ok(mut at) = u32::try_from(query.cursor) else { return SessionPage::default() };
        let mut page = SessionPage::default();
        let mut looked = 0;
        // A slice ends with its guard, so that a listing delays the reuse of slots by a slice at most.
        const SLICE: u32 = 256;
        while looked < SLOTS_PER_PAGE {
            // A slot gives one row at most, so this keeps to the limit and loses none.
            let room = u32::try_from(query.limit.saturating_sub(page.sessions.len())).unwrap_or(u32::MAX);
            if room == 0 {
                break;
            }
            let slice = SLICE.min(room);
            let guard = reader.enter();
            let next = guard.sessions(at, slice, |session| {
                if let Some(row) = session_row(&plan, session, now).filter(|row| query.matches(row)) {
                    page.sessions.push(row);
                }
            });
            drop(guard);
            looked += slice;
            let Some(next) = next else { return page };
            at = next;
        }
        page.next = Some(u64::from(at));
        page
    }

    fn mappings(&self, query: &MappingQuery) -> MappingPage {
        let mut reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
        let Ok(mut at) = u32::try_from(query.cursor) else { return MappingPage::default() };
        let mut page = MappingPage::default();
        let mut looked = 0;
        // As for sessions.
        const SLICE: u32 = 256;
        while looked < SLOTS_PER_PAGE {
            let room = u32::try_from(query.limit.saturating_sub(page.mappings.len())).unwrap_or(u32::MAX);
            if room == 0 {
                break;
            }
            let slice = SLICE.min(room);
            let guard = reader.enter();
            let next = guard.mappings(at, slice, |mapping| {
                page.mappings.extend(mapping_row(mapping).filter(|row| query.matches(row)));
            });
            drop(guard);
            looked += slice;
            let Some(next) = next else { return page };
            at = next;
        }
        page.next = Some(u64::from(at));
        page
    }

    fn pool(&self) -> Vec<PoolRow> {
        let plan = self.plan();
        let Some(nat64) = &plan.nat64 else { return Vec::new() };
        let tenants = &nat64.config.options().subscribers.tenants;
        let owner = |a| tenants.iter().find(|t| t.pool.iter().any(|p| p.contains(a))).map(|t| t.name.clone());
        let rows = nat64.pool.usage().filter_map(|usage| {
            Some(PoolRow {
                address: usage.address,
                tenant: owner(usage.address),
                protocol: protocol(usage.protocol)?,
                in_use: usage.in_use,
                of: usage.of,
            })
        });
        rows.collect()
    }

    fn subscribers(&self, query: &SubscriberQuery) -> SubscriberPage {
        let plan = self.plan();
        let Some(nat64) = &plan.nat64 else { return SubscriberPage::default() };
        let mut rows = nat64.pool.subscribers().map(subscriber_row).filter(|row| query.matches(row));
        let subscribers = rows.by_ref().take(query.limit).collect();
        SubscriberPage { subscribers, more: rows.next().is_some() }
    }

    fn neighbors(&self) -> Vec<NeighborRow> {
        let plan = self.plan();
        let now = self.clock.now();
        let mut rows = Vec::new();
        let mut from = Some(0);
        while let Some(at) = from {
            from = self.shared.resolved.list(at, NEIGHBORS_PER_SLICE, now, |n| {
                let interface =
                    n.link.interface(&plan.active.interfaces).and_then(|id| plan.active.interfaces.get(id));
                rows.push(NeighborRow {
                    interface: interface.map_or_else(|| "?".to_owned(), |i| i.name.clone()),
                    address: n.address,
                    mac: Some(n.mac.to_string()),
                    state: state_name(n.state).to_owned(),
                    age_s: n.age_secs,
                    since: None,
                    moves: 0,
                });
            });
        }
        rows.sort_by(|a, b| (&a.interface, a.address).cmp(&(&b.interface, b.address)));
        rows
    }

    fn ports(&self) -> Vec<PortRow> {
        let plan = self.plan();
        let infos = self.ports.ports().unwrap_or_default();
        (0u16..)
            .zip(infos)
            .map(|(n, info)| PortRow {
                name: info.name,
                device: info.device,
                driver: info.driver,
                mac: info.mac.to_string(),
                mtu: info.mtu,
                rx_queues: info.rx_queues,
                promiscuous: info.promiscuous,
                link: self.ports.link(n).ok().map(|l| l.up),
                networks: plan
                    .active
                    .interfaces
                    .iter()
                    .filter(|(_, i)| i.port == n)
                    .map(|(_, i)| i.name.clone())
                    .collect(),
                statistics: self.ports.stats(n).map(statistics).unwrap_or_default(),
            })
            .collect()
    }

    fn track(&self) -> Option<Judgement> {
        let plan = self.plan.try_lock().ok().map(|plan| Arc::clone(&plan))?;
        let vrrp = plan.vrrp.as_ref()?;
        let mut seen = Seen::default();
        if plan.tracking.link {
            let ports = vrrp.routers.iter().filter_map(|r| plan.active.interfaces.get(r.interface));
            let mut ports: Vec<u16> = ports.map(|i| i.port).collect();
            ports.sort_unstable();
            ports.dedup();
            let down = ports.iter().filter(|port| self.ports.link(**port).is_ok_and(|l| !l.up));
            seen.down =
                down.filter_map(|port| self.facts.get(usize::from(*port)).map(|f| f.name.clone())).collect();
        }
        seen.reachable = plan
            .tracking
            .next_hops
            .iter()
            .map(|hop| {
                let interface = plan.active.interfaces.get(hop.interface)?;
                self.shared.resolved.reachable(LinkId::of(interface), hop.address)
            })
            .collect();
        let mut beats = self.beats.lock().unwrap_or_else(PoisonError::into_inner);
        seen.stalled =
            beats.stalled(self.shared.mailboxes.iter().map(|m| m.heartbeat.load(Ordering::Relaxed)));
        let stats = self.shared.table.stats();
        seen.full = stats.sessions >= u64::from(stats.session_capacity);
        // Another gateway that has all leases takes over without a gap; the last one says goodbye.
        let ready = self.leases.as_ref().is_some_and(|l| {
            let peer = l.control.status().peer;
            peer.connected && matches!(peer.standing, Standing::Leading | Standing::Following)
        });
        self.shared.peer_ready.store(ready, Ordering::Relaxed);
        seen.peer_ready = ready;
        let judgement = track::judge(&plan.tracking, &seen);
        self.shared.vrrp.set_tracking(judgement.penalty, judgement.fault);
        *self.judgement.lock().unwrap_or_else(PoisonError::into_inner) = judgement.clone();
        Some(judgement)
    }

    fn vrrp(&self) -> Option<VrrpReport> {
        let plan = self.plan();
        let vrrp = plan.vrrp.as_ref()?;
        let status = self.shared.vrrp.status();
        let judgement = self.judgement.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let router = |r: &causeway_vrrp::VirtualRouter| VirtualRouterRow {
            network: plan.active.interfaces.get(r.interface).map(|i| i.name.clone()).unwrap_or_default(),
            vrid: r.vrid,
            mac: r.mac().to_string(),
            addresses: r.addresses.clone(),
            source: r.source,
        };
        Some(VrrpReport {
            state: match status.phase {
                causeway_vrrp::Phase::Initialize => "initialize",
                causeway_vrrp::Phase::Backup => "backup",
                causeway_vrrp::Phase::Active => "active",
            }
            .to_owned(),
            since_s: self.clock.now().since(status.since).as_secs(),
            priority: vrrp.priority,
            effective_priority: status.priority,
            interval_ms: u32::from(vrrp.interval_cs) * 10,
            last_active: status.last_active,
            adverts_sent: status.adverts_sent,
            adverts_received: status.adverts_received,
            became_active: status.became_active,
            became_backup: status.became_backup,
            tracking: judgement.reasons,
            routers: vrrp.routers.iter().map(router).collect(),
        })
    }

    fn lease_thread_ended(&self) -> bool {
        self.leases.as_ref().is_some_and(|l| l.thread.has_ended())
    }

    fn leases(&self) -> Option<lease_api::Control> {
        self.leases.as_ref().map(|l| l.control.clone())
    }

    fn router_advertisements(&self) -> Vec<RaRow> {
        let plan = self.plan();
        let now = self.clock.now();
        let rows = plan.active.interfaces.iter().filter_map(|(id, interface)| {
            let config = plan.ra.config(id)?;
            let a = &config.advertised;
            let flags = |p: &causeway_ra::PrefixInfo| {
                let mut flags = String::new();
                flags.extend(p.on_link.then_some('L'));
                flags.extend(p.autonomous.then_some('A'));
                flags
            };
            Some(RaRow {
                network: interface.name.clone(),
                source: interface.link_local,
                managed: a.managed,
                other: a.other,
                router_lifetime_s: a.router_lifetime.as_secs(),
                interval_s: (config.max_interval.as_secs(), config.min_interval.as_secs()),
                mtu: a.mtu,
                prefixes: a.prefixes.iter().map(|p| (p.prefix, flags(p))).collect(),
                routes: a.routes.iter().map(|r| r.prefix).collect(),
                dns_servers: a.dns_servers.clone(),
                search: a.search.clone(),
                pref64: a.pref64.iter().map(|p| p.prefix).collect(),
                withdrawn: plan.ra.withdrawn(id, now).map(|(what, left)| (what, left.as_secs())).collect(),
            })
        });
        rows.collect()
    }

    fn dns64(&self) -> Option<Arc<causeway_dns64::Config>> {
        self.plan().dns64.clone()
    }

    fn dns(&self) -> Option<DnsReport> {
        let plan = self.plan();
        let config = plan.dns64.as_ref()?;
        Some(DnsReport {
            listen: config.listen.clone(),
            upstreams: UpstreamRow::all(&config.upstreams, &plan.dns64_status),
            cache: self.shared.dns.as_ref().map(|dns| cache_row(&dns.cache)),
            rates: Vec::new(),
            views: ViewRow::all(config),
        })
    }

    fn dns_lookup(&self, lookup: Box<Lookup>) -> bool {
        self.shared.mailboxes.first().is_some_and(|m| m.dns_lookups.push(lookup).is_ok())
    }

    fn dns_explained(&self) -> Option<Box<Explained>> {
        self.shared.mailboxes.first()?.dns_explained.pop()
    }

    fn dns_sample(&self, worker: u16) -> Option<Sample> {
        self.shared.mailboxes.get(usize::from(worker))?.dns_samples.pop()
    }

    fn dns_flush(&self, name: Option<&[u8]>) -> Option<u64> {
        let cache = &self.shared.dns.as_ref()?.cache;
        Some(match name {
            Some(name) => cache.forget(name) as u64,
            None => {
                let entries = cache.stats().entries;
                cache.clear();
                entries
            }
        })
    }

    fn sites(&self) -> Arc<Sites> {
        Arc::clone(&self.splicing.sites)
    }

    fn port_maps(&self) -> Arc<PortMaps> {
        Arc::clone(&self.splicing.port_maps)
    }

    fn splicer(&self) -> Option<SplicerFacts> {
        let plan = self.plan();
        let splicer = plan.splicer.as_ref()?;
        let capacity = self.shared.table.stats().spliced_capacity;
        Some(SplicerFacts { config: Arc::clone(&splicer.config), capacity })
    }

    fn generations(&self) -> Generations {
        self.generations_of(self.plan().generation)
    }

    fn reload(&self, config: Arc<Config>) -> Result<Generations, ReloadError> {
        let mut current = self.plan.lock().unwrap_or_else(PoisonError::into_inner);
        let maps = usable_port_maps(&self.splicing.port_maps, &config)
            .map_err(|e| ReloadError::Failed(format!("port maps: {e}")))?;
        let plan = Plan::build_with(&config, &self.facts, Some((&current, self.clock.now())), &maps)
            .map_err(|e| ReloadError::Failed(e.to_string()))?;
        let plan = Arc::new(plan);
        if self.shared.mailboxes.iter().any(|m| m.plans.is_full()) {
            return Err(ReloadError::Failed(
                "a worker has not taken over the plan before this one".to_owned(),
            ));
        }
        // Before the first worker sends from them. The links of those that are left hear of it from the plan's new place.
        take_virtual_macs(&plan, Some(&current), &self.ports)
            .map_err(|e| ReloadError::Failed(format!("virtual routers: {e}")))?;
        for mailbox in &self.shared.mailboxes {
            // There is room: this is the only place that pushes, and it holds the lock.
            let _ = mailbox.plans.push(Arc::clone(&plan));
        }
        let generation = plan.generation;
        let before = std::mem::replace(&mut *current, Arc::clone(&plan));
        drop(current);
        if let (Some(leases), Some(server)) = (&self.leases, &plan.dhcpv6) {
            leases.sources.set_links(links(&plan));
            let told = leases.control.reconfigure(Arc::clone(server));
            told.map_err(|e| ReloadError::Failed(format!("leases: {e}")))?;
        }
        let until = std::time::Instant::now() + ADOPT_WITHIN;
        loop {
            let generations = self.generations_of(generation);
            if generations.workers.iter().all(|g| *g >= generation) {
                self.set_cache(&before, &plan);
                configure(&self.splicing.sites, &plan)
                    .map_err(|e| ReloadError::Failed(format!("sites: {e}")))?;
                leave_virtual_macs(&plan, &before, &self.ports);
                return Ok(generations);
            }
            if std::time::Instant::now() > until {
                let late: Vec<String> = (0u16..)
                    .zip(&generations.workers)
                    .filter(|(_, g)| **g < generation)
                    .map(|(id, _)| id.to_string())
                    .collect();
                return Err(ReloadError::Failed(format!(
                    "workers {} have not taken over the plan yet",
                    late.join(", ")
                )));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

fn cache_row(cache: &Cache) -> CacheRow {
    let stats = cache.stats();
    CacheRow {
        octets: stats.octets as u64,
        octets_used: stats.used_octets as u64,
        entries: stats.entries,
        evictions: stats.evicted,
        refused: stats.refused,
    }
}

fn statistics(s: bringup::PortStats) -> std::collections::BTreeMap<String, u64> {
    [
        ("rx-frames", s.rx_frames),
        ("tx-frames", s.tx_frames),
        ("rx-octets", s.rx_octets),
        ("tx-octets", s.tx_octets),
        ("rx-missed", s.rx_missed),
        ("rx-errors", s.rx_errors),
        ("rx-no-frames", s.rx_no_frame),
        ("tx-errors", s.tx_errors),
    ]
    .into_iter()
    .map(|(name, n)| (name.to_owned(), n))
    .collect()
}

/// RFC 4861 7.3.2's names.
const fn state_name(state: Reachability) -> &'static str {
    match state {
        Reachability::Reachable => "REACHABLE",
        Reachability::Stale => "STALE",
        Reachability::Delay => "DELAY",
        Reachability::Probe => "PROBE",
    }
}

/// The protocol of this number; nothing for one without mappings.
const fn protocol(number: u8) -> Option<Protocol> {
    match number {
        l4::PROTO_TCP => Some(Protocol::Tcp),
        l4::PROTO_UDP => Some(Protocol::Udp),
        l4::PROTO_ICMP | l4::PROTO_ICMPV6 => Some(Protocol::Icmp),
        _ => None,
    }
}

/// A row of a mapping; nothing for one of a protocol that is not NAT64's.
fn mapping_row(mapping: &Mapping<'_>) -> Option<MappingRow> {
    Some(MappingRow {
        protocol: protocol(mapping.protocol())?,
        inside: Ipv6Addr::from_bits(mapping.src6()),
        inside_port: mapping.src_port(),
        outside: Ipv4Addr::from_bits(mapping.out4()),
        outside_port: mapping.out_port(),
        fixed: mapping.is_pinned(),
        // A static mapping holds one reference to itself.
        sessions: mapping.references().saturating_sub(u32::from(mapping.is_pinned())),
    })
}

fn subscriber_row(usage: SubscriberUsage) -> SubscriberRow {
    let [udp, tcp, icmp] = usage.ports;
    let block =
        |b: &BlockUsage| BlockRow { address: b.address, first: b.first, last: b.last, in_use: b.in_use };
    SubscriberRow {
        name: usage.name,
        prefix: usage.prefix,
        address: usage.home,
        sessions: usage.sessions,
        ports: ProtocolPorts { udp, tcp, icmp },
        promised: usage.promised,
        blocks: usage.blocks.iter().map(block).collect(),
        refused: RefusedRow {
            ports: usage.refused.ports,
            sessions: usage.refused.sessions,
            rate: usage.refused.rate,
        },
    }
}

/// A row of a session; nothing for one that has not been built yet or is no session of a tenant's.
fn session_row(plan: &Plan, session: &Session<'_>, now: Tick) -> Option<SessionRow> {
    let protocol = protocol(session.protocol())?;
    let nat64 = plan.nat64.as_ref()?;
    if session.kind() != Kind::Nat64 || !session.is_live() {
        return None;
    }
    let (state, lifetime) = causeway_nat64::describe(&nat64.config, session);
    let idle_s = u64::from(now.since(session.ctl().last_seen())) * TICK_MICROS / 1_000_000;
    Some(SessionRow {
        protocol,
        state: state.to_owned(),
        inside: Ipv6Addr::from_bits(session.src6()),
        inside_port: session.src_port(),
        remote: IpAddr::V4(Ipv4Addr::from_bits(session.remote4())),
        remote_port: session.remote_port(),
        outside: Some(Ipv4Addr::from_bits(session.out4())),
        outside_port: Some(session.out_port()),
        idle_s,
        expires_s: lifetime.as_secs().saturating_sub(idle_s),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn core_lists_are_read_as_proc_writes_them() {
        assert_eq!(core_list("0-3,8"), [0, 1, 2, 3, 8]);
        assert_eq!(core_list("0"), [0]);
        assert_eq!(core_list("7,1-2,2"), [1, 2, 7]);
        assert!(core_list("").is_empty() && core_list("x-3").is_empty());
    }

    #[test]
    fn seeds_differ() {
        assert_ne!(seed().unwrap(), seed().unwrap());
    }
}
