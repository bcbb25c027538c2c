//! Random clients, messages, time, failing disks, reloads and restarts, against what each client believes to
//! have. Whatever happens:
//!
//! - no address is told to a client while another may still believe in it, or its quarantine lasts;
//! - what a Reply gives is on the disk for as long, before it leaves;
//! - nobody newly gets what is reserved for another;
//! - every message that has to be answered is;
//! - a change that is undone has never been: a twin that never saw it does the same ever after.

use super::*;
use proptest::prelude::*;
use std::collections::HashMap;

#[derive(Debug, Clone)]
enum Step {
    Ask { host: u8, duid: u8, kind: Ask, iaids: Vec<u8>, hint: u8, fails: bool, prefixes: bool },
    Pass(u32),
    Expire(u8),
    Grant(u8),
    Reload(u8),
    Restart,
    Withdraw(u8),
}

fn step() -> impl Strategy<Value = Step> {
    let ask = (
        0u8..8,
        0u8..3,
        prop::sample::select(Ask::ALL.to_vec()),
        prop::collection::vec(0u8..3, 1..3),
        0u8..12,
        prop::bool::weighted(0.15),
        prop::bool::weighted(0.2),
    )
        .prop_map(|(host, duid, kind, iaids, hint, fails, prefixes)| Step::Ask {
            host,
            duid,
            kind,
            iaids,
            hint,
            fails,
            prefixes,
        });
    prop_oneof![
        20 => ask,
        3 => (0u32..2000).prop_map(Step::Pass),
        1 => (2000u32..60_000).prop_map(Step::Pass),
        4 => (1u8..20).prop_map(Step::Expire),
        1 => (0u8..6).prop_map(Step::Grant),
        1 => (0u8..3).prop_map(Step::Reload),
        1 => Just(Step::Restart),
        1 => (0u8..16).prop_map(Step::Withdraw),
    ]
}

/// A pool of six, four prefixes; variants reserve an address of the pool, or make the pool smaller.
fn variant(n: u8, rapid: bool) -> Config {
    let mut c = config();
    c.per_client = 2;
    let link = &mut c.links[0];
    link.rapid_commit = rapid;
    (link.preferred, link.valid) = (Duration::from_secs(2000), Duration::from_secs(4000));
    link.pools[0].last = a(if n == 2 { "2001:db8:64::1003" } else { "2001:db8:64::1005" });
    link.delegations = vec![Delegation { prefix: p("2001:db8:64:8000::/62"), length: 64 }];
    if n == 1 {
        link.reservations.push(reserved(5, "2001:db8:64::1002"));
    }
    c
}

type Key = (Kind, Ipv6Addr);

#[derive(Debug, Clone, Copy)]
struct Belief {
    who: (u8, u8),
    iaid: u32,
    until: UnixSeconds,
}

struct World {
    engine: Engine,
    twin: Engine,
    now: UnixSeconds,
    grant: Grant,
    kept: HashMap<Key, Lease>,
    beliefs: HashMap<Key, Belief>,
    quarantine: HashMap<Key, UnixSeconds>,
    config: Arc<Config>,
}

impl World {
    fn new(rapid: bool) -> Self {
        let config = Arc::new(variant(0, rapid));
        let engine = || Engine::new(Arc::clone(&config), std::iter::empty());
        Self {
            engine: engine(),
            twin: engine(),
            now: T0,
            grant: Grant::All,
            kept: HashMap::new(),
            beliefs: HashMap::new(),
            quarantine: HashMap::new(),
            config: Arc::clone(&config),
        }
    }

    fn keep(&mut self, changes: &[Change]) {
        for c in changes {
            let key = (c.after.kind, c.after.address);
            assert_eq!(self.kept.insert(key, c.after.clone()), c.before, "{c:?}");
            match c.event {
                LeaseEvent::Declined => drop(self.quarantine.insert(key, c.after.valid_until)),
                LeaseEvent::Withdrawn => drop(self.beliefs.remove(&key)),
                LeaseEvent::Given => {
                    let owner =
                        self.config.links[0].reservations.iter().find(|r| r.addresses.contains(&key.1));
                    let others = key.0 == Kind::Address && owner.is_some_and(|r| r.mac != c.after.mac);
                    assert!(!others, "reserved for another: {c:?}");
                }
                _ => {}
            }
        }
    }

    fn step(&mut self, step: &Step, rapid: bool) {
        match step {
            Step::Ask { host, duid, kind, iaids, hint, fails, prefixes } => {
                self.ask(*host, *duid, *kind, iaids, *hint, *fails, *prefixes);
            }
            Step::Pass(seconds) => self.now += u64::from(*seconds),
            Step::Expire(most) => {
                // Without the disk nothing can be expired.
                if self.grant != Grant::ReadOnly {
                    let changes = self.engine.expire(self.now, usize::from(*most));
                    assert_eq!(changes, self.twin.expire(self.now, usize::from(*most)));
                    self.keep(&changes);
                }
            }
            Step::Grant(n) => {
                let share = |odd| Grant::Share { odd, parted: self.now };
                self.grant = match n {
                    0 => Grant::ReadOnly,
                    1 => Grant::Known,
                    2 => share(false),
                    3 => share(true),
                    _ => Grant::All,
                };
            }
            Step::Reload(n) => {
                self.config = Arc::new(variant(*n, rapid));
                let changes = self.engine.reconfigure(Arc::clone(&self.config), self.now);
                assert_eq!(changes, self.twin.reconfigure(Arc::clone(&self.config), self.now));
                self.keep(&changes);
            }
            Step::Restart => {
                let again = |w: &Self| Engine::new(Arc::clone(&w.config), w.kept.values().cloned());
                (self.engine, self.twin) = (again(self), again(self));
            }
            Step::Withdraw(n) => {
                let address = a("2001:db8:64::1000").to_bits() + u128::from(*n);
                let key = (Kind::Address, Ipv6Addr::from_bits(address));
                if self.grant != Grant::ReadOnly {
                    let change = self.engine.withdraw(key.0, key.1, self.now);
                    assert_eq!(change, self.twin.withdraw(key.0, key.1, self.now));
                    // The administrator answers for its consequences.
                    if let Some(c) = change {
                        self.quarantine.remove(&key);
                        self.keep(&[c]);
                    }
                }
            }
        }
        let mut leases: HashMap<Key, Lease> = HashMap::new();
        leases.extend(self.engine.leases().map(|l| ((l.kind, l.address), l)));
        assert_eq!(leases, self.kept);
    }

    #[expect(clippy::too_many_arguments, reason = "the fields of a step")]
    fn ask(&mut self, n: u8, duid: u8, kind: Ask, iaids: &[u8], hint: u8, fails: bool, prefixes: bool) {
        // Two last hosts are behind one port of a relay, which knows no MAC addresses.
        let port = n >= 6;
        let who = if port { (n, duid) } else { (n, 0) };
        let h = Host { mac: mac(n), duid: crate::testing::duid(n * 16 + duid) };
        let lease_kind = if prefixes { Kind::Prefix } else { Kind::Address };
        let mut iaids = iaids.to_vec();
        iaids.dedup();
        iaids.sort_unstable();
        iaids.dedup();
        let mut options = Vec::new();
        for iaid in iaids {
            let mine = self.beliefs.iter().filter(|((k, _), b)| {
                *k == lease_kind && b.who == who && b.iaid == u32::from(iaid) && b.until > self.now
            });
            let mut shown: Vec<String> = mine.map(|((_, address), _)| address.to_string()).collect();
            shown.sort();
            if matches!(kind, Ask::Solicit | Ask::Request | Ask::Renew) && hint < 8 {
                shown.push(if prefixes {
                    format!("2001:db8:64:800{hint}::")
                } else {
                    format!("2001:db8:64::100{hint}")
                });
                shown.dedup();
            }
            if prefixes {
                let shown: Vec<String> = shown.iter().map(|t| format!("{t}/64")).collect();
                let shown: Vec<&str> = shown.iter().map(String::as_str).collect();
                options.push(ia_pd(u32::from(iaid), &shown));
            } else {
                let shown: Vec<&str> = shown.iter().map(String::as_str).collect();
                options.push(ia_na(u32::from(iaid), &shown));
            }
        }
        if kind == Ask::Information {
            options.clear();
        }
        if hint == 9 {
            options.push(DhcpOption::RapidCommit);
        }
        let m = [
            M::Solicit,
            M::Request,
            M::Confirm,
            M::Renew,
            M::Rebind,
            M::Release,
            M::Decline,
            M::InformationRequest,
        ];
        let at = Ask::ALL.iter().position(|k| *k == kind).expect("one of them");
        let message = h.message(m[at], &options);
        let r = if port {
            let id = [DhcpOption::InterfaceId(b"port".to_vec())];
            request(mac(77), &relayed(0, "2001:db8:64::", "fe80::9", &id, &message))
        } else {
            request(h.mac, &message)
        };
        let (mut outcome, mut grant) = (self.engine.handle(&r, self.now, self.grant), self.grant);
        if fails && !outcome.changes.is_empty() {
            self.engine.undo(&outcome.changes);
            grant = Grant::ReadOnly;
            outcome = self.engine.handle(&r, self.now, grant);
        }
        assert_eq!(self.twin.handle(&r, self.now, grant), outcome);
        if grant == Grant::ReadOnly {
            assert_eq!(outcome.changes, []);
        }
        // A client that gives back has stopped using it.
        if matches!(kind, Ask::Release | Ask::Decline) {
            let now = self.now;
            for shown in r.received.message.ias.iter().flat_map(|ia| &ia.shown) {
                self.beliefs.retain(|(k, address), b| {
                    !(*k == lease_kind && *address == shown.address && b.who == who) || b.until <= now
                });
            }
        }
        self.keep(&outcome.changes);
        let answer = outcome.answer.expect("always");
        match (outcome.why, kind) {
            (Some(DropReason::Dhcp6NothingToConfirm), Ask::Confirm) => return,
            (why, _) => assert_eq!(why, None),
        }
        let seen = unwrap(&answer, usize::from(port)).1;
        if !matches!(kind, Ask::Confirm | Ask::Release | Ask::Decline) {
            assert_eq!(seen.ias.len(), r.received.message.ias.len());
        }
        assert!(seen.ias.iter().all(|ia| !ia.leases.is_empty() || ia.status.is_some()), "{seen:?}");
        for ia in &seen.ias {
            for (text, preferred, valid) in &ia.leases {
                self.told(who, ia.iaid, lease_kind, text, (*preferred, *valid), seen.kind == M::Reply, grant);
            }
        }
    }

    #[expect(clippy::too_many_arguments, reason = "all that is told")]
    fn told(
        &mut self,
        who: (u8, u8),
        iaid: u32,
        kind: Kind,
        text: &str,
        (preferred, valid): (u32, u32),
        reply: bool,
        grant: Grant,
    ) {
        assert!(preferred <= valid);
        let address = a(text.split('/').next().expect("an address"));
        let key = (kind, address);
        if valid == 0 {
            if reply && self.beliefs.get(&key).is_some_and(|b| b.who == who) {
                self.beliefs.remove(&key);
            }
            return;
        }
        if let Some(b) = self.beliefs.get(&key) {
            assert!(b.who == who || b.until <= self.now, "{text} is {b:?}'s and was told to {who:?}");
        }
        if let Some(until) = self.quarantine.get(&key) {
            assert!(*until <= self.now, "{text} is in quarantine");
        }
        if !reply {
            return;
        }
        let kept = &self.kept[&key];
        let mut until = self.now + u64::from(valid);
        let rest = if grant == Grant::ReadOnly { 3600 } else { 0 };
        let reserved = self.config.links[0]
            .reservations
            .iter()
            .any(|r| r.addresses.contains(&address) && r.mac == Some(mac(who.0)));
        if grant == Grant::ReadOnly && reserved {
            // A promise that rests on the reservation alone.
            until = until.min(kept.valid_until + rest);
        }
        assert!(kept.valid_until + rest >= until, "{text} until {until}, on the disk {kept:?}");
        self.beliefs.insert(key, Belief { who, iaid, until });
    }
}

proptest! {
    // RFC 9915 18.3.1: what is told is kept first.
    #[test]
    fn no_address_is_two_clients(rapid in any::<bool>(), steps in prop::collection::vec(step(), 1..120)) {
        let mut world = World::new(rapid);
        for step in &steps {
            world.step(step, rapid);
        }
    }
}
