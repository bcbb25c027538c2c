//! What a plan advertises: the octets for every network, and what of the plan before hosts are to forget.

use crate::config::{Advertised, Config};
use crate::message::{Message, Occasion, Speaker, build};
use crate::schedule::Timing;
use crate::withdrawn::{self, Gone};
use causeway_core::{Duration, IfId, Instant, Interface, Interfaces};
use std::sync::atomic::{AtomicBool, Ordering};

/// What one plan advertises on each network. Made by control, shared by the workers, and never changed, but for
/// the notes that a network has been asked for.
#[derive(Debug, Default)]
pub struct Advertisements {
    networks: Vec<Network>,
    /// Some network has been asked for.
    asked: AtomicBool,
}

/// One interface of the plan.
#[derive(Debug)]
pub(crate) struct Network {
    /// Port and VLAN: what an interface is known by from one plan to the next.
    link: (u16, Option<u16>),
    /// What is advertised; nothing where nothing is, or nothing any more.
    pub(crate) config: Option<Config>,
    speaker: Speaker,
    gone: Vec<Gone>,
    /// Until when something is withdrawn.
    until: Instant,
    regular: Vec<Message>,
    /// The regular ones with what is withdrawn, or those that withdraw everything.
    withdrawing: Vec<Message>,
    last: Vec<Message>,
    /// From an address that was ours before.
    moved: Vec<Message>,
    left_out: usize,
    /// A host asked for an advertisement to all nodes.
    asked: AtomicBool,
}

impl Network {
    fn new(interface: &Interface, config: Option<Config>, before: Option<&Self>, now: Instant) -> Self {
        let speaker = Speaker::of(interface);
        let former = before.and_then(|b| b.config.as_ref());
        let gone = before.map_or_else(Vec::new, |b| {
            let said = |c: &'_ Config| -> Advertised { c.advertised.clone() };
            withdrawn::gone(former.map(said).as_ref(), &b.gone, config.as_ref().map(|c| &c.advertised), now)
        });
        let until = gone.iter().map(|g| g.until).max().unwrap_or(Instant::ZERO);
        let mut left_out = 0;
        let mut make = |a: &Advertised, speaker: &Speaker, occasion: Occasion<'_>| {
            let (messages, missing) = build(a, speaker, occasion);
            left_out += missing;
            messages
        };
        let (mut regular, mut withdrawing, mut last, mut moved) =
            (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        if let Some(c) = &config {
            regular = make(&c.advertised, &speaker, Occasion::Regular(&[]));
            last = make(&c.advertised, &speaker, Occasion::Final);
            if !gone.is_empty() {
                withdrawing = make(&c.advertised, &speaker, Occasion::Regular(&gone));
            }
            // RFC 4861 6.2.8. Not for an address of a virtual router: it may live on at another gateway.
            let old = before.map(|b| b.speaker).filter(|old| old.source != speaker.source && !old.shared);
            if let (Some(old), Some(former)) = (old, former) {
                moved = make(&former.advertised, &old, Occasion::Moved);
            }
        } else if let Some(former) = former {
            withdrawing = make(&former.advertised, &speaker, Occasion::Ceased(&gone));
        } else if let Some(b) = before.filter(|b| now < b.until && b.speaker == speaker) {
            withdrawing.clone_from(&b.withdrawing);
        }
        let link = (interface.port, interface.vlan);
        let asked = AtomicBool::new(false);
        Self { link, config, speaker, gone, until, regular, withdrawing, last, moved, left_out, asked }
    }

    pub(crate) fn timing(&self) -> Timing {
        let (min, max) = self
            .config
            .as_ref()
            .map_or((Duration::ZERO, Duration::ZERO), |c| (c.min_interval, c.max_interval));
        Timing { min, max }
    }

    /// The advertisements as they are at `now`.
    pub(crate) fn messages(&self, now: Instant) -> &[Message] {
        if self.config.is_none() || now < self.until { &self.withdrawing } else { &self.regular }
    }

    /// Those that say that the gateway is gone.
    pub(crate) fn last(&self) -> &[Message] {
        &self.last
    }

    /// Those that say that the gateway is gone from its former address.
    pub(crate) fn moved(&self) -> &[Message] {
        &self.moved
    }

    /// It is advertised no more, and hosts have to hear of it.
    pub(crate) fn ceased(&self) -> bool {
        self.config.is_none() && !self.withdrawing.is_empty()
    }

    /// True if hosts that know `before` have to hear of this.
    pub(crate) fn differs(&self, before: &Self) -> bool {
        // What is newly withdrawn was in the settings before.
        self.config != before.config || self.regular != before.regular
    }

    /// Notes that a host asked.
    pub(crate) fn was_asked(&self) -> bool {
        self.asked.swap(false, Ordering::AcqRel)
    }
}

impl Advertisements {
    /// What the first plan of a process advertises. `interfaces` are those of the view in which we are active, and
    /// `per_interface` has what is advertised on each, in the same order.
    #[must_use]
    pub fn new(interfaces: &Interfaces, per_interface: Vec<Option<Config>>) -> Self {
        Self::after(None, interfaces, per_interface, Instant::ZERO)
    }

    /// What the next plan advertises: what this one did and the next does not is withdrawn from `now` on, for as long
    /// as hosts may remember it, at most two hours. Networks are told apart by port and VLAN.
    #[must_use]
    pub fn successor(
        &self,
        interfaces: &Interfaces,
        per_interface: Vec<Option<Config>>,
        now: Instant,
    ) -> Self {
        Self::after(Some(self), interfaces, per_interface, now)
    }

    fn after(
        before: Option<&Self>,
        interfaces: &Interfaces,
        per_interface: Vec<Option<Config>>,
        now: Instant,
    ) -> Self {
        let configs = per_interface.into_iter().chain(std::iter::repeat(None));
        let networks = interfaces.iter().zip(configs).map(|((_, interface), config)| {
            let before = before.and_then(|b| b.by_link((interface.port, interface.vlan))).map(|(_, n)| n);
            Network::new(interface, config, before, now)
        });
        Self { networks: networks.collect(), asked: AtomicBool::new(false) }
    }

    /// What is advertised on an interface.
    #[must_use]
    pub fn config(&self, interface: IfId) -> Option<&Config> {
        self.get(interface).and_then(|n| n.config.as_ref())
    }

    /// What is withdrawn on an interface at `now`, in words, and for how much longer.
    pub fn withdrawn(&self, interface: IfId, now: Instant) -> impl Iterator<Item = (String, Duration)> {
        let all = self.get(interface).map_or(&[][..], |n| &n.gone);
        all.iter().filter(move |g| now < g.until).map(move |g| (g.fact.to_string(), g.until.since(now)))
    }

    /// How many options could not be written or did not fit; none where [`Config::check`] found no fault.
    #[must_use]
    pub fn left_out(&self) -> usize {
        self.networks.iter().map(|n| n.left_out).sum()
    }

    pub(crate) fn get(&self, interface: IfId) -> Option<&Network> {
        self.networks.get(usize::from(interface.0))
    }

    pub(crate) fn networks(&self) -> &[Network] {
        &self.networks
    }

    fn by_link(&self, link: (u16, Option<u16>)) -> Option<(usize, &Network)> {
        self.networks.iter().enumerate().find(|(_, n)| n.link == link)
    }

    /// The number of a network of another plan in this one.
    pub(crate) fn same_as(&self, network: &Network) -> Option<(usize, &Network)> {
        self.by_link(network.link)
    }

    /// Notes that a host asked for an advertisement to all nodes; worker 0 sees to it. Any worker may call it.
    pub(crate) fn ask(&self, network: &Network) {
        if !network.asked.swap(true, Ordering::AcqRel) {
            self.asked.store(true, Ordering::Release);
        }
    }

    /// True if some host asked.
    #[inline(always)]
    pub(crate) fn is_asked(&self) -> bool {
        self.asked.load(Ordering::Relaxed)
    }

    /// Forgets that a host asked; the networks still know.
    pub(crate) fn was_asked(&self) -> bool {
        self.asked.swap(false, Ordering::AcqRel)
    }
}
