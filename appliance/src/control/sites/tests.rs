use super::*;
use crate::control::introspect::Protocol;
use crate::plan::PortMapRange;
use crate::testing::TempDir;
use causeway_nat64::StaticMapping;
use causeway_splicer::site::Identity;
use std::net::{Ipv4Addr, SocketAddrV4, SocketAddrV6};

const NOW: Instant = Instant::ZERO;

fn prefix(text: &str) -> Option<Prefix6> {
    Some(text.parse().unwrap())
}

fn server(n: u16) -> Ipv6Addr {
    Ipv6Addr::new(0x2001, 0xdb8, 0x64, 0, 0, 0, 0, n)
}

fn spec(name: &str, n: u16) -> SiteSpec {
    let backend = BackendSpec { address: server(n), ports: Vec::new(), weight: 100, draining: false };
    SiteSpec::new(name, vec![backend])
}

/// A splicer with these client prefixes.
fn config(prefixes: &[Option<Prefix6>]) -> causeway_splicer::Config {
    causeway_splicer::Config { client_prefixes: prefixes.to_vec(), ..causeway_splicer::Config::default() }
}

struct Rig {
    dir: TempDir,
    sites: Sites,
}

impl Rig {
    fn new() -> Self {
        let dir = TempDir::new();
        let sites = Sites::new(dir.path().join("kept/sites.db"));
        sites.configure(Some((&config(&[]), &[]))).unwrap();
        Self { dir, sites }
    }

    /// The gateway starts again, with these sites in its configuration.
    fn again(self, file: &[Site]) -> Self {
        let sites = Sites::new(self.dir.path().join("kept/sites.db"));
        sites.configure(Some((&config(&[]), file))).unwrap();
        Self { dir: self.dir, sites }
    }

    /// The last number of the server that workers would send a client to.
    fn found(&self, name: &str) -> Option<u16> {
        let table = self.sites.shared([0; 32], [0; 16]).sites.load_full();
        table.find(name).map(|e| e.site.backends[0].address.segments()[7])
    }
}

fn of_file(name: &str, n: u16) -> Site {
    spec(name, n).site(&[]).unwrap()
}

#[test]
fn a_site_that_is_set_is_there_at_once_and_after_a_restart_until_it_is_removed() {
    let rig = Rig::new();
    let (row, created) = rig.sites.set(&spec("Site1.Example.", 1), NOW).unwrap();
    assert_eq!((row.name.as_str(), row.origin, created), ("site1.example", Origin::Api, true));
    assert_eq!(row.servers[0].state, "up");
    assert!(!rig.sites.set(&spec("site1.example", 2), NOW).unwrap().1, "changed");
    assert!(rig.sites.set(&spec("*.wild.example", 3), NOW).unwrap().1);
    assert_eq!((rig.found("site1.example"), rig.found("a.wild.example")), (Some(2), Some(3)));
    let rig = rig.again(&[]);
    assert_eq!((rig.found("site1.example"), rig.found("a.wild.example")), (Some(2), Some(3)));
    rig.sites.remove("*.wild.example").unwrap();
    assert!(matches!(rig.sites.remove("*.wild.example"), Err(SiteRefusal::Unknown(_))));
    let rig = rig.again(&[]);
    assert_eq!((rig.found("site1.example"), rig.found("a.wild.example")), (Some(2), None));
    assert_eq!(rig.sites.counts().of_api, 1);
}

#[test]
fn what_cannot_be_kept_is_not_set_and_what_cannot_be_forgotten_stays() {
    let rig = Rig::new();
    rig.sites.set(&spec("a.example", 1), NOW).unwrap();
    let db = rusqlite::Connection::open(rig.dir.path().join("kept/sites.db")).unwrap();
    db.execute_batch("ALTER TABLE site RENAME TO away").unwrap();
    assert!(matches!(rig.sites.set(&spec("b.example", 2), NOW), Err(SiteRefusal::Store(_))));
    assert!(matches!(rig.sites.set(&spec("a.example", 2), NOW), Err(SiteRefusal::Store(_))));
    assert!(matches!(rig.sites.remove("a.example"), Err(SiteRefusal::Store(_))));
    assert_eq!((rig.found("a.example"), rig.found("b.example")), (Some(1), None));
    assert_eq!(rig.sites.page("", 10, NOW).sites.len(), 1);
    db.execute_batch("ALTER TABLE away RENAME TO site").unwrap();
    rig.sites.set(&spec("b.example", 2), NOW).unwrap();
    assert_eq!(rig.found("b.example"), Some(2));
}

#[test]
fn the_configuration_counts_and_its_sites_are_not_the_apis() {
    let rig = Rig::new();
    rig.sites.set(&spec("both.example", 1), NOW).unwrap();
    let rig = rig.again(&[of_file("both.example", 7), of_file("file.example", 8)]);
    assert_eq!((rig.found("both.example"), rig.found("file.example")), (Some(7), Some(8)));
    for name in ["both.example", "file.example"] {
        assert!(matches!(rig.sites.set(&spec(name, 2), NOW), Err(SiteRefusal::Configured(_))));
        assert!(matches!(rig.sites.remove(name), Err(SiteRefusal::Configured(_))));
        assert!(matches!(rig.sites.drain(name, server(7), true, NOW), Err(SiteRefusal::Configured(_))));
    }
    let before = rig.sites.table.load().get("file.example").cloned().unwrap();
    let c = config(&[]);
    rig.sites.configure(Some((&c, &[of_file("file.example", 8)]))).unwrap();
    assert_eq!(rig.found("both.example"), Some(1), "the API's again");
    let after = rig.sites.table.load().get("file.example").cloned().unwrap();
    assert!(Arc::ptr_eq(&before, &after), "what stays is not touched");
    rig.sites.configure(Some((&c, &[]))).unwrap();
    assert_eq!(rig.found("file.example"), None);
    rig.sites.configure(None).unwrap();
    assert_eq!(rig.found("both.example"), None);
    assert!(matches!(rig.sites.set(&spec("a.example", 1), NOW), Err(SiteRefusal::NoSplicer)));
    rig.sites.configure(Some((&c, &[]))).unwrap();
    assert_eq!(rig.found("both.example"), Some(1), "kept all the while");
}

#[test]
fn a_client_prefix_is_meant_by_itself_and_not_by_its_place() {
    let rig = Rig::new();
    let (a, b) = (prefix("2001:db8:64:c1::/96"), prefix("2001:db8:64:c2::/96"));
    rig.sites.configure(Some((&config(&[a, b]), &[]))).unwrap();
    let wanted = SiteSpec { identity: IdentitySpec::Embedded, client_prefix: b, ..spec("site1.example", 1) };
    rig.sites.set(&wanted, NOW).unwrap();
    let identity = || rig.sites.table.load().get("site1.example").map(|e| e.site.identity);
    assert_eq!(identity(), Some(Identity::Embedded(1)));
    rig.sites.configure(Some((&config(&[b]), &[]))).unwrap();
    assert_eq!(identity(), Some(Identity::Embedded(0)));
    rig.sites.configure(Some((&config(&[a]), &[]))).unwrap();
    assert_eq!(identity(), None, "nobody is sent where answers do not come back from");
    rig.sites.configure(Some((&config(&[a, b]), &[]))).unwrap();
    assert_eq!(identity(), Some(Identity::Embedded(1)));
    let lost = SiteSpec { client_prefix: prefix("2001:db8:64:c3::/96"), ..wanted };
    let why = rig.sites.set(&lost, NOW).unwrap_err().to_string();
    assert!(why.contains("2001:db8:64:c1::/96, 2001:db8:64:c2::/96"), "{why}");
}

#[test]
fn what_is_no_site_is_refused_and_changes_nothing() {
    let rig = Rig::new();
    let parse = |text: &str| serde_json::from_str::<SiteSpec>(text);
    assert!(parse(r#"{"backends":[{"address":"2001:db8::1","wieght":1}]}"#).is_err());
    for text in [
        r#"{"name":"192.0.2.1","backends":[{"address":"2001:db8:64::1"}]}"#,
        r#"{"name":"a.example","backends":[]}"#,
        r#"{"name":"a.example","backends":[{"address":"ff02::1"}]}"#,
        r#"{"name":"a.example","backends":[{"address":"2001:db8:64::1","weight":1001}]}"#,
        r#"{"name":"a.example","backends":[{"address":"2001:db8:64::1"}],"identity":"embedded"}"#,
        r#"{"name":"a.example","backends":[{"address":"2001:db8:64::1"}],"client_prefix":"2001:db8:64:c1::/96"}"#,
        r#"{"name":"a.example","backends":[{"address":"2001:db8:64::1"}],"health":{"check":"tcp"}}"#,
        r#"{"name":"a.example","backends":[{"address":"2001:db8:64::1"}],"health":{"port":80}}"#,
        r#"{"name":"a.example","backends":[{"address":"2001:db8:64::1"}],"alpn":[{"protocol":"","backends":[]}]}"#,
    ] {
        let outcome = rig.sites.set(&parse(text).unwrap(), NOW);
        assert!(matches!(outcome, Err(SiteRefusal::Bad(..))), "{text}: {outcome:?}");
    }
    assert!(rig.sites.page("", 10, NOW).sites.is_empty() && rig.found("a.example").is_none());
}

#[test]
fn a_server_that_drains_gets_no_new_connections_until_that_is_undone() {
    let rig = Rig::new();
    let mut site = spec("site1.example", 1);
    site.backends.extend(spec("", 2).backends);
    site.alpn = vec![AlpnSpec { protocol: "h2".to_owned(), backends: spec("", 1).backends }];
    rig.sites.set(&site, NOW).unwrap();
    let states = |row: SiteRow| row.servers.into_iter().map(|s| s.state).collect::<Vec<_>>();
    let row = rig.sites.drain("site1.example", server(1), true, NOW).unwrap();
    assert_eq!(states(row), ["draining", "up", "draining"]);
    assert_eq!(
        states(rig.again(&[]).sites.get("site1.example", NOW).unwrap()),
        ["draining", "up", "draining"]
    );
    let rig = Rig::new();
    rig.sites.set(&site, NOW).unwrap();
    rig.sites.drain("site1.example", server(1), true, NOW).unwrap();
    let row = rig.sites.drain("site1.example", server(1), false, NOW).unwrap();
    assert_eq!(states(row), ["up", "up", "up"]);
    let unknown = rig.sites.drain("site1.example", server(3), true, NOW);
    assert!(matches!(unknown, Err(SiteRefusal::NoServer(..))));
}

#[test]
fn pages_have_every_site_once_in_order_and_states_of_servers_outlive_changes() {
    let rig = Rig::new();
    for n in 0..25u16 {
        rig.sites.set(&spec(&format!("s{n:02}.example"), n + 1), NOW).unwrap();
    }
    let (mut names, mut after) = (Vec::new(), String::new());
    loop {
        let page = rig.sites.page(&after, 10, NOW);
        assert!(page.sites.len() <= 10);
        names.extend(page.sites.into_iter().map(|s| s.name));
        let Some(next) = page.next else { break };
        after = next;
    }
    assert_eq!(names, (0..25).map(|n| format!("s{n:02}.example")).collect::<Vec<_>>());
    let entry = rig.sites.table.load().get("s00.example").cloned().unwrap();
    entry.set(None).1[0].set_up(false);
    let changed = SiteSpec { redirect: Some(true), ..spec("s00.example", 1) };
    assert_eq!(rig.sites.set(&changed, NOW).unwrap().0.servers[0].state, "down");
    let counts = rig.sites.counts();
    assert_eq!((counts.sites, counts.servers_up, counts.servers_down), (25, 24, vec![server(1)]));
}

const RANGE: PortMapRange =
    PortMapRange { address: Ipv4Addr::new(203, 0, 113, 80), first: 20_000, last: 20_003 };

fn inside(n: u16, port: u16) -> SocketAddrV6 {
    SocketAddrV6::new(server(n), port, 0, 0)
}

fn outside(port: u16) -> SocketAddrV4 {
    SocketAddrV4::new(RANGE.address, port)
}

fn tcp(n: u16, port: u16) -> Wanted {
    Wanted { protocol: Protocol::Tcp, server: inside(n, port), port: None }
}

#[test]
fn ports_are_given_out_once_each_kept_by_their_servers_and_rest_when_given_back() {
    let dir = TempDir::new();
    let maps = PortMaps::new(dir.path().join("sites.db"));
    maps.open().unwrap();
    let add = |wanted: &Wanted| maps.add(wanted, RANGE, &[]).map(|(row, new)| (row.outside.port(), new));
    assert_eq!(add(&tcp(1, 22)).unwrap(), (20_000, true));
    assert_eq!(add(&tcp(1, 22)).unwrap(), (20_000, false), "a server keeps what it has");
    assert_eq!(add(&tcp(2, 22)).unwrap(), (20_001, true));
    let udp = Wanted { protocol: Protocol::Udp, ..tcp(1, 22) };
    assert_eq!(add(&udp).unwrap(), (20_002, true));
    maps.remove(Protocol::Tcp, outside(20_001)).unwrap();
    assert_eq!(add(&tcp(3, 22)).unwrap(), (20_003, true));
    // Where UDP's is, TCP's is free; the one that was given back comes last.
    assert_eq!(add(&tcp(4, 22)).unwrap(), (20_001, true));
    assert_eq!(add(&tcp(5, 22)).unwrap(), (20_002, true));
    assert!(matches!(add(&tcp(6, 22)), Err(PortMapRefusal::Full)));
    assert_eq!(
        add(&Wanted { port: Some(20_001), ..udp }).unwrap_err().to_string(),
        "203.0.113.80:20002 leads to [2001:db8:64::101]:22 already".replace("::101", "::1")
    );
    let certain = |n, port| add(&Wanted { port: Some(port), ..tcp(n, 80) });
    assert!(matches!(certain(7, 20_000), Err(PortMapRefusal::Taken(..))));
    assert!(matches!(certain(7, 19_999), Err(PortMapRefusal::NotInRange { .. })));
    maps.remove(Protocol::Tcp, outside(20_000)).unwrap();
    assert_eq!(certain(7, 20_000).unwrap(), (20_000, true));
    assert!(matches!(maps.remove(Protocol::Udp, outside(20_000)), Err(PortMapRefusal::Unknown(..))));
    let bad = Wanted { server: SocketAddrV6::new(Ipv6Addr::LOCALHOST, 22, 0, 0), ..tcp(1, 1) };
    assert!(matches!(add(&bad), Err(PortMapRefusal::Server(_))));
    assert!(matches!(add(&tcp(1, 0)), Err(PortMapRefusal::Server(_))));
    let icmp = Wanted { protocol: Protocol::Icmp, ..tcp(1, 1) };
    assert!(matches!(add(&icmp), Err(PortMapRefusal::Protocol)));
    // After a restart all are there.
    let again = PortMaps::new(dir.path().join("sites.db"));
    again.open().unwrap();
    assert_eq!(again.usable(Some(RANGE), &[]), maps.usable(Some(RANGE), &[]));
    assert_eq!(again.usable(Some(RANGE), &[]).len(), 5);
}

#[test]
fn a_server_gets_no_more_ports_than_it_may() {
    let dir = TempDir::new();
    let maps = PortMaps::new(dir.path().join("sites.db"));
    let range = PortMapRange { last: 21_000, ..RANGE };
    for port in 1..=256 {
        maps.add(&tcp(1, port), range, &[]).unwrap();
    }
    assert!(matches!(maps.add(&tcp(1, 257), range, &[]), Err(PortMapRefusal::Enough(_))));
    assert!(maps.add(&tcp(2, 257), range, &[]).is_ok());
}

#[test]
fn the_configuration_goes_before_port_maps_on_request() {
    let dir = TempDir::new();
    let maps = PortMaps::new(dir.path().join("sites.db"));
    for n in 1..=3 {
        maps.add(&tcp(n, 22), RANGE, &[]).unwrap();
    }
    let fixed = [
        StaticMapping { protocol: 6, outside: (RANGE.address, 2201), inside: (server(1), 22) },
        StaticMapping { protocol: 6, outside: (RANGE.address, 20_001), inside: (server(9), 22) },
        StaticMapping { protocol: 17, outside: (RANGE.address, 20_002), inside: (server(3), 22) },
    ];
    let usable = maps.usable(Some(RANGE), &fixed);
    assert_eq!(usable.iter().map(|m| m.outside.1).collect::<Vec<_>>(), [20_002]);
    assert!(maps.usable(None, &[]).is_empty());
    assert!(
        maps.usable(Some(PortMapRange { address: Ipv4Addr::new(203, 0, 113, 81), ..RANGE }), &[]).is_empty()
    );
    let rows = maps.rows(Some(RANGE), &fixed[..1], &fixed);
    let seen: Vec<_> = rows.iter().map(|r| (r.outside.port(), r.origin, r.in_use)).collect();
    let api = |port, in_use| (port, Origin::Api, in_use);
    assert_eq!(
        seen,
        [(2201, Origin::Config, true), api(20_000, false), api(20_001, false), api(20_002, true)]
    );
    // What the configuration leads to has its port there, and no other.
    let (row, new) = maps.add(&tcp(1, 22), RANGE, &fixed).unwrap();
    assert_eq!((row.outside.port(), row.origin, new), (2201, Origin::Config, false));
    let other = Wanted { port: Some(20_003), ..tcp(9, 22) };
    let why = maps.add(&other, RANGE, &fixed).unwrap_err();
    assert!(matches!(why, PortMapRefusal::Taken(at, _) if at == outside(20_001)), "{why}");
}
