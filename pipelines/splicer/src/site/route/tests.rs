use super::*;
use crate::site::{Health, Servers, Site};
use causeway_core::Prefix6;
use std::net::Ipv4Addr;

const NOW: Instant = Instant::from_micros(1);
const CLIENT: u32 = 0xc633_6463;

fn backend(n: u16) -> Backend {
    let address = Ipv6Addr::new(0x2001, 0xdb8, 0x64, 0, 0, 0, 0, n);
    Backend { address, ports: Vec::new(), weight: 1, draining: false }
}

fn site(name: &str, n: u16) -> Site {
    Site {
        name: name.to_owned(),
        backends: vec![backend(n)],
        alpn: Vec::new(),
        identity: Identity::None,
        redirect: None,
        health: Health::default(),
    }
}

fn listener() -> Listener {
    Listener {
        address: Ipv4Addr::new(203, 0, 113, 80),
        port: 443,
        tls: true,
        http: true,
        default_site: None,
        redirect: false,
    }
}

struct Rig {
    config: Config,
    listener: Listener,
    table: SiteTable,
}

impl Rig {
    fn new(sites: impl IntoIterator<Item = Site>) -> Self {
        let prefix = Prefix6::new("2001:db8:64:c11e::".parse().unwrap(), 96);
        let config = Config { client_prefixes: vec![None, prefix], ..Config::default() };
        Self { config, listener: listener(), table: SiteTable::of(sites, &mut Servers::new()) }
    }

    fn route(&self, said: &Sniffed) -> Route {
        route(&self.config, &self.listener, &self.table, said, CLIENT)
    }

    /// The last number of the server's address, or why there is none.
    fn server(&self, said: &Sniffed) -> Result<u16, Reason> {
        match self.route(said) {
            Route::To(target) => {
                let number = target.order(NOW, 1).get(0).unwrap();
                Ok(target.server(number).unwrap().0.address.segments()[7])
            }
            Route::Answer(reason) => Err(reason),
            Route::Redirect { .. } => panic!("redirected"),
        }
    }
}

fn hello(name: Option<&str>, alpn: &[&str]) -> Sniffed {
    Sniffed::Tls(ClientHello {
        server_name: name.map(ToOwned::to_owned),
        alpn: alpn.iter().map(|p| p.as_bytes().to_vec()).collect(),
        encrypted: false,
    })
}

fn get(host: Option<&str>, target: Option<&str>) -> Sniffed {
    let own = |text: Option<&str>| text.map(ToOwned::to_owned);
    Sniffed::Http(Request { host: own(host), target: own(target), http2: false })
}

#[test]
fn rfc6066_3_a_name_that_is_not_known_gets_unrecognized_name_or_the_default_site() {
    let mut rig = Rig::new([site("site1.example", 1), site("*.wild.example", 2)]);
    assert_eq!(rig.server(&hello(Some("site1.example"), &[])), Ok(1));
    assert_eq!(rig.server(&hello(Some("a.b.wild.example"), &[])), Ok(2));
    for (said, why) in [
        (hello(Some("site2.example"), &[]), Reason::UnknownName),
        (hello(Some("wild.example"), &[]), Reason::UnknownName),
        (hello(None, &[]), Reason::NoName),
    ] {
        assert_eq!(rig.server(&said), Err(why));
        assert_eq!(why.words(&said), Words::Alert(112));
        assert_eq!(rig.route(&said).counter(), Some(why.counter()));
    }
    rig.listener.default_site = Some("*.wild.example".to_owned());
    for said in [hello(Some("site2.example"), &[]), hello(None, &[]), get(None, Some("/"))] {
        assert_eq!(rig.server(&said), Ok(2));
        assert_eq!(rig.route(&said).counter(), Some(Counter::SpliceDefaultSite));
    }
    assert_eq!(rig.route(&hello(Some("site1.example"), &[])).counter(), None);
    rig.listener.default_site = Some("gone.example".to_owned());
    assert_eq!(rig.server(&hello(None, &[])), Err(Reason::NoName));
}

#[test]
fn rfc9849_an_encrypted_hello_goes_by_its_outer_name_and_is_counted_apart_if_that_is_not_known() {
    let mut rig = Rig::new([site("public.example", 1), site("other.example", 2)]);
    let said = |name: &str| {
        let hello = ClientHello { server_name: Some(name.to_owned()), alpn: Vec::new(), encrypted: true };
        Sniffed::Tls(hello)
    };
    assert_eq!(rig.server(&said("public.example")), Ok(1));
    assert_eq!(rig.server(&said("cover.example")), Err(Reason::UnknownOuterName));
    assert_eq!(Reason::UnknownOuterName.words(&said("cover.example")), Words::Alert(112));
    rig.listener.default_site = Some("other.example".to_owned());
    assert_eq!(rig.server(&said("cover.example")), Ok(2));
}

#[test]
fn rfc9110_15_5_20_an_unknown_host_is_misdirected_and_no_host_is_not_found() {
    let rig = Rig::new([site("site1.example", 1)]);
    assert_eq!(rig.server(&get(Some("site1.example"), Some("/"))), Ok(1));
    for (host, why, status) in [
        (Some("site2.example"), Reason::UnknownName, 421),
        (None, Reason::NoName, 404),
        (Some("203.0.113.80"), Reason::NoName, 404),
        (Some("[2001:db8::1]"), Reason::NoName, 404),
    ] {
        let said = get(host, Some("/"));
        assert_eq!(rig.server(&said), Err(why), "{host:?}");
        assert_eq!(why.words(&said), Words::Status { status, http2: false });
    }
    let h2 = Request { host: Some("site2.example".to_owned()), target: None, http2: true };
    assert_eq!(Reason::UnknownName.words(&Sniffed::Http(h2)), Words::Status { status: 421, http2: true });
}

#[test]
fn rfc7301_3_2_the_first_rule_of_the_site_counts_and_others_get_its_usual_servers() {
    let mut s = site("site1.example", 1);
    s.alpn = vec![(b"imap".to_vec(), vec![backend(5)]), (b"h2".to_vec(), vec![backend(6)])];
    let rig = Rig::new([s]);
    let with = |alpn: &[&str]| rig.server(&hello(Some("site1.example"), alpn));
    assert_eq!(with(&[]), Ok(1));
    assert_eq!(with(&["http/1.1"]), Ok(1));
    assert_eq!(with(&["http/1.1", "h2"]), Ok(6));
    assert_eq!(with(&["h2", "imap"]), Ok(5));
}

#[test]
fn rfc8737_3_a_tls_alpn_challenge_reaches_the_sites_servers_unless_a_rule_says_others() {
    let mut ruled = site("ruled.example", 2);
    ruled.alpn = vec![(b"acme-tls/1".to_vec(), vec![backend(9)])];
    let mut rig = Rig::new([site("site1.example", 1), ruled]);
    rig.listener.redirect = true;
    assert_eq!(rig.server(&hello(Some("site1.example"), &["acme-tls/1"])), Ok(1));
    assert_eq!(rig.server(&hello(Some("ruled.example"), &["acme-tls/1"])), Ok(9));
}

#[test]
fn rfc8555_8_3_an_http_challenge_is_never_redirected() {
    let mut stays = site("stays.example", 2);
    stays.redirect = Some(false);
    let mut moves = site("moves.example", 3);
    moves.redirect = Some(true);
    let mut rig = Rig::new([site("site1.example", 1), stays, moves]);
    let redirected = |rig: &Rig, host: &str, target: Option<&str>| match rig.route(&get(Some(host), target)) {
        Route::Redirect { host: h, target: t, http2: false } => {
            (h == host && Some(&*t) == target).then_some(true)
        }
        Route::To(_) => Some(false),
        _ => None,
    };
    assert_eq!(redirected(&rig, "site1.example", Some("/a?b")), Some(false));
    assert_eq!(redirected(&rig, "moves.example", Some("/a?b")), Some(true));
    rig.listener.redirect = true;
    assert_eq!(redirected(&rig, "site1.example", Some("/a?b")), Some(true));
    assert_eq!(redirected(&rig, "stays.example", Some("/a?b")), Some(false));
    assert_eq!(redirected(&rig, "moves.example", None), Some(false), "CONNECT and OPTIONS * have no target");
    let challenge = "/.well-known/acme-challenge/LoqXcYV8q5ONbJQxbmR7SCTNo3tiAXDfowyjxAjEuX0";
    assert_eq!(redirected(&rig, "site1.example", Some(challenge)), Some(false));
    assert_eq!(redirected(&rig, "site1.example", Some("/x/.well-known/acme-challenge/")), Some(true));
    assert_eq!(rig.route(&get(Some("site1.example"), Some("/"))).counter(), Some(Counter::SpliceRedirected));
    // A site that is not known is refused and not redirected.
    assert_eq!(rig.server(&get(Some("site2.example"), Some("/"))), Err(Reason::UnknownName));
}

#[test]
fn rfc6052_2_2_a_clients_address_is_the_end_of_its_servers_view_of_it() {
    let mut s = site("site1.example", 1);
    s.identity = Identity::Embedded(1);
    let mut lost = site("site2.example", 2);
    lost.identity = Identity::Embedded(0);
    let rig = Rig::new([s, lost, site("site3.example", 3)]);
    let source = |name| match rig.route(&hello(Some(name), &[])) {
        Route::To(target) => Ok(target.source),
        Route::Answer(reason) => Err(reason),
        Route::Redirect { .. } => panic!(),
    };
    assert_eq!(source("site1.example"), Ok(Some("2001:db8:64:c11e::198.51.100.99".parse().unwrap())));
    assert_eq!(source("site2.example"), Err(Reason::NoClientPrefix));
    assert_eq!(source("site3.example"), Ok(None));
}

#[test]
fn a_listener_for_neither_protocol_waits_for_nothing() {
    let mut rig = Rig::new([site("raw.example", 1)]);
    (rig.listener.tls, rig.listener.http) = (false, false);
    rig.listener.default_site = Some("raw.example".to_owned());
    for said in [Sniffed::More, Sniffed::Bad(Bad::Protocol)] {
        assert_eq!(rig.server(&said), Ok(1));
    }
}

#[test]
fn without_a_server_that_may_get_connections_the_client_is_told_so_and_one_that_failed_lately_may() {
    let mut s = site("site1.example", 1);
    s.backends.push(Backend { weight: 0, ..backend(2) });
    s.backends.push(Backend { draining: true, ..backend(3) });
    s.alpn.push((b"h2".to_vec(), vec![backend(4)]));
    let rig = Rig::new([s]);
    let entry = Arc::clone(rig.table.get("site1.example").unwrap());
    let said = hello(Some("site1.example"), &[]);
    entry.set(None).1[0].failed(NOW);
    assert_eq!(rig.server(&said), Ok(1));
    entry.set(None).1[0].set_up(false);
    assert_eq!(rig.server(&said), Err(Reason::NoServer));
    assert_eq!(Reason::NoServer.words(&said), Words::Alert(80));
    let said = get(Some("site1.example"), Some("/"));
    assert_eq!(Reason::NoServer.words(&said), Words::Status { status: 503, http2: false });
    assert_eq!(rig.server(&hello(Some("site1.example"), &["h2"])), Ok(4), "another set");
}

#[test]
fn what_is_not_to_be_served_is_refused_in_its_own_words_even_with_a_default_site() {
    let mut rig = Rig::new([site("site1.example", 1)]);
    rig.listener.default_site = Some("site1.example".to_owned());
    let status = |status| Words::Status { status, http2: false };
    for (bad, words) in [
        (Bad::Protocol, Words::Silence),
        (Bad::Hello, Words::Alert(50)),
        (Bad::HelloTooLong, Words::Alert(50)),
        (Bad::ServerName, Words::Alert(112)),
        (Bad::Request, status(400)),
        (Bad::RequestTooLong, status(431)),
        (Bad::Host, status(400)),
    ] {
        let said = Sniffed::Bad(bad);
        assert_eq!(rig.server(&said), Err(Reason::Bad(bad)));
        assert_eq!(Reason::Bad(bad).words(&said), words, "{bad:?}");
    }
}

#[test]
fn a_server_may_have_another_port_than_the_listener() {
    let mut s = site("site1.example", 1);
    s.backends[0].ports = vec![(443, 8443)];
    let rig = Rig::new([s]);
    let Route::To(target) = rig.route(&hello(Some("site1.example"), &[])) else { panic!() };
    assert_eq!(target.address(0, 443), Some("[2001:db8:64::1]:8443".parse().unwrap()));
    assert_eq!(target.address(0, 993).map(|a| a.port()), Some(993));
    assert_eq!(target.address(1, 443), None);
}
