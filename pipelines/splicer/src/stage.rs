//! The stage: vectors of packets in, verdicts out. What is spliced is rewritten; the rest is terminated here, or is
//! somebody else's.
//!
//! ```text
//!  clients (IPv4) --+-> spliced: rewritten, a burst at a time
//!  servers (IPv6) --+-> else, one at a time:
//!                         a connection that is terminated, or a SYN to a listener -> Peek, at its owner
//!                         an ICMP error about a connection -> translated, or told to Peek
//!                         anything else -> NAT64 (static mappings), or the gateway itself
//! ```

use crate::config::Config;
use crate::peek::Peek;
use crate::site::SiteTable;
use crate::splice::{Expiry, Splice};
use arc_swap::ArcSwap;
use arrayvec::ArrayVec;
use causeway_core::icmp_error::IcmpErrors;
use causeway_core::{BURST, Counters, Ctx, Frame, FrameSource, Packet, Verdict};
use causeway_flowtable::Guard;
use std::sync::Arc;

/// A splicer of one worker. The flow table, the sites and the configuration are shared.
#[derive(Debug)]
pub struct Stage<F: Frame> {
    config: Arc<Config>,
    splice: Splice,
    peek: Peek<F>,
}

impl<F: Frame> Stage<F> {
    /// The splicer of `worker`. `errors` limits the ICMP errors that it sends; `seed` has to be unforeseeable, and
    /// another one for each worker; `cookies` as well, and the same for all workers.
    #[must_use]
    pub fn new(
        config: Arc<Config>,
        sites: Arc<ArcSwap<SiteTable>>,
        errors: IcmpErrors,
        worker: u16,
        seed: [u8; 32],
        cookies: [u8; 16],
    ) -> Self {
        let peek = Peek::new(Arc::clone(&config), sites, worker, seed, cookies);
        Self { splice: Splice::new(Arc::clone(&config), errors), peek, config }
    }
}
