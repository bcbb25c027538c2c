//! A small lease server, and what tests build leases and pairs from.

use super::{Handled, Leasing};
use causeway_dhcpv6::{Change, Grant, Identity, Kind, Lease, LeaseEvent, State, UnixSeconds};
use causeway_wire::MacAddr;
use std::collections::BTreeMap;
use std::net::Ipv6Addr;
use std::sync::Arc;

/// Chance (splitmix64): from a seed that a failing test prints.
#[derive(Debug, Clone)]
pub(super) struct Dice(pub(super) u64);

impl Dice {
    /// With a seed that nobody chose.
    pub(super) fn new() -> Self {
        Self(u64::from_be_bytes(super::store::random().unwrap()))
    }

    /// A number below `n`.
    pub(super) fn below(&mut self, n: u32) -> u32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        u32::try_from((z ^ (z >> 31)) % u64::from(n)).unwrap()
    }
}

pub(super) fn mac(client: u8) -> MacAddr {
    MacAddr([2, 0, 0, 0, 0, client])
}

pub(super) fn address(n: u16) -> Ipv6Addr {
    Ipv6Addr::new(0x2001, 0xdb8, 0x64, 0, 0, 0, 0, n)
}

/// The lease of address number `n`, with client `client`, from 1 to `until`.
pub(super) fn lease(n: u16, client: u8, until: UnixSeconds) -> Lease {
    Lease {
        kind: Kind::Address,
        address: address(n),
        length: 128,
        link: "tenant".into(),
        identity: Identity::Mac(mac(client)),
        duid: vec![0, 1, client].into(),
        iaid: 1,
        mac: Some(mac(client)),
        state: State::Active,
        preferred_until: until,
        valid_until: until,
        since: 1,
    }
}

/// What the small server is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Want {
    /// An address, the one that the client has if it has one.
    Address,
    /// To give it back.
    Release,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct ToyRequest {
    pub(super) client: u8,
    pub(super) want: Want,
    pub(super) worker: u16,
    /// Told back, to tell answers apart.
    pub(super) number: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ToyAnswer {
    pub(super) client: u8,
    pub(super) number: u64,
    /// What it has now, and until when.
    pub(super) given: Option<(Ipv6Addr, UnixSeconds)>,
}

#[derive(Debug, Clone)]
pub(super) struct ToyConfig {
    /// Addresses 0 to this less one.
    pub(super) addresses: u16,
    pub(super) valid: u64,
    pub(super) hold: u64,
    #[expect(dead_code, reason = "the small server has no use for it")]
    pub(super) duid: Box<[u8]>,
}

/// Addresses, lowest first, to clients that have one each.
#[derive(Debug)]
pub(super) struct Toy {
    pub(super) config: Arc<ToyConfig>,
    pub(super) leases: BTreeMap<Ipv6Addr, Lease>,
}

impl Toy {
    fn change(&mut self, at: UnixSeconds, event: LeaseEvent, after: Lease) -> Change {
        let before = self.leases.insert(after.address, after.clone());
        Change { at, event, after, before }
    }

    /// Whether a client may be given an address that it does not have.
    fn may(&self, n: u16, client: u8, now: UnixSeconds, grant: Grant) -> bool {
        let lease = self.leases.get(&address(n));
        let free = match lease {
            None => true,
            Some(l) if l.state == State::Free => {
                l.identity == Identity::Mac(mac(client)) || l.valid_until + self.config.hold <= now
            }
            Some(_) => false,
        };
        let allowed = match grant {
            Grant::All => true,
            Grant::Known | Grant::ReadOnly => false,
            Grant::Share { odd, parted } => {
                (n % 2 == 1) == odd && lease.is_none_or(|l| l.valid_until + self.config.hold.max(60) < parted)
            }
        };
        free && allowed
    }
}

impl Leasing for Toy {
    type Config = ToyConfig;
    type Request = ToyRequest;
    type Answer = ToyAnswer;

    fn build(config: Arc<ToyConfig>, leases: &mut dyn Iterator<Item = Lease>) -> Self {
        Self { config, leases: leases.map(|l| (l.address, l)).collect() }
    }

    fn with_duid(config: &ToyConfig, duid: &[u8]) -> ToyConfig {
        ToyConfig { duid: duid.into(), ..config.clone() }
    }

    fn reconfigure(&mut self, config: Arc<ToyConfig>, _: UnixSeconds) -> Vec<Change> {
        self.config = config;
        Vec::new()
    }

    fn handle(&mut self, r: &ToyRequest, now: UnixSeconds, grant: Grant) -> Handled<ToyAnswer> {
        let identity = Identity::Mac(mac(r.client));
        let held = self
            .leases
            .values()
            .find(|l| l.identity == identity && l.state == State::Active && l.valid_until > now)
            .cloned();
        let until = now + self.config.valid;
        let mut changes = Vec::new();
        let given = match (r.want, held) {
            (Want::Release, Some(l)) => {
                let over = Lease { state: State::Free, valid_until: now, preferred_until: now, ..l };
                changes.push(self.change(now, LeaseEvent::Released, over));
                None
            }
            (Want::Release, None) => None,
            (Want::Address, Some(l)) if grant == Grant::ReadOnly => Some((l.address, l.valid_until)),
            (Want::Address, Some(l)) => {
                let longer = Lease { valid_until: until, preferred_until: until, ..l };
                let at = longer.address;
                changes.push(self.change(now, LeaseEvent::Renewed, longer));
                Some((at, until))
            }
            (Want::Address, None) => {
                let n = (0..self.config.addresses).find(|n| self.may(*n, r.client, now, grant));
                n.map(|n| {
                    let new = Lease { since: now, ..lease(n, r.client, until) };
                    changes.push(self.change(now, LeaseEvent::Given, new));
                    (address(n), until)
                })
            }
        };
        let answer = ToyAnswer { client: r.client, number: r.number, given };
        Handled { answer: Some(Box::new(answer)), changes }
    }

    fn undo(&mut self, changes: &[Change]) {
        for change in changes.iter().rev() {
            match &change.before {
                Some(before) => self.leases.insert(before.address, before.clone()),
                None => self.leases.remove(&change.after.address),
            };
        }
    }

    fn adopt(&mut self, lease: Lease) {
        self.leases.insert(lease.address, lease);
    }

    fn expire(&mut self, now: UnixSeconds, most: usize) -> Vec<Change> {
        let over = |l: &&Lease| l.state == State::Active && l.valid_until <= now;
        let over: Vec<Lease> = self.leases.values().filter(over).take(most).cloned().collect();
        over.into_iter()
            .map(|l| self.change(now, LeaseEvent::Expired, Lease { state: State::Free, ..l }))
            .collect()
    }

    fn worker(request: &ToyRequest) -> u16 {
        request.worker
    }
}
