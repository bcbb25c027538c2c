//! Commands of the administrator, and changes that are taken back.

use super::super::Leasing;
use super::super::handle::{Command, ReleaseError};
use super::{Thread, binds, key};
use causeway_dhcpv6::{Change, Kind, Lease, LeaseEvent, State, UnixSeconds};
use std::collections::HashSet;
use std::net::Ipv6Addr;
use std::sync::Arc;
use tracing::{error, info, warn};

/// A lease that somebody ended: it does not have to rest before it is given again.
fn ended(lease: &Lease, now: UnixSeconds) -> Lease {
    Lease { state: State::Free, preferred_until: 0, valid_until: now.min(lease.valid_until), ..lease.clone() }
}

/// What takes `changes` back that the peer may have and nobody was told of: each key once. A lease that was in use
/// before is as it was. What was newly given is over now, and not as if it had never been: the peer may know it, and
/// give it to that client.
pub(super) fn taken_back(changes: &[Change], now: UnixSeconds) -> Vec<Change> {
    let mut seen = HashSet::new();
    let first = changes.iter().filter(|c| seen.insert(key(&c.after)));
    first
        .map(|c| {
            let in_use = c.before.as_ref().filter(|before| before.state != State::Free);
            let after = in_use.cloned().unwrap_or_else(|| ended(&c.after, now));
            Change { at: now, event: LeaseEvent::Withdrawn, after, before: Some(c.after.clone()) }
        })
        .collect()
}

impl<L: Leasing> Thread<L> {
    /// Does what the control socket asked for.
    pub(super) fn commands(&mut self) -> bool {
        let mut any = false;
        while let Ok(command) = self.inbox.try_recv() {
            any = true;
            match command {
                Command::Release { address, kind, reply } => {
                    let _ = reply.send(self.release(address, kind));
                }
                Command::Takeover { reply } => {
                    let _ = reply.send(self.takeover());
                }
                Command::Reconfigure { server, reply } => {
                    self.reconfigure(server);
                    let _ = reply.send(());
                }
            }
        }
        any
    }

    /// Takes over a configuration, with our DUID.
    pub(super) fn reconfigure(&mut self, server: Arc<L::Config>) {
        let config = Arc::new(L::with_duid(&server, &self.duid));
        self.server = server;
        let changes = self.engine.reconfigure(config, self.now);
        if !changes.is_empty() {
            self.write_or_put_off(&changes);
        }
        if self.bindings.have_moved() {
            self.bind_all();
        }
    }

    /// Tells the workers of all leases anew, those that could not be written included.
    fn bind_all(&mut self) {
        let bindings = &self.bindings;
        let told = self.store.load(|leases| leases.filter(binds).for_each(|lease| bindings.set_anew(&lease)));
        if let Err(e) = told {
            error!("leases cannot be read; their hosts may be kept from sending until they renew: {e}");
        }
        self.unwritten.values().for_each(|c| self.bind_one(&c.after));
        self.bindings.settled();
    }

    /// Writes changes that nobody waits for; if the disk refuses, as soon as it does not.
    fn write_or_put_off(&mut self, changes: &[Change]) {
        match self.store.commit(changes) {
            Ok(records) => self.tell(records),
            Err(e) => {
                self.disk_refused(&e);
                changes.iter().for_each(|c| self.put_off(c.clone()));
            }
        }
        self.bind(changes);
    }

    /// Ends leases of an address or of the prefix that begins with it.
    fn release(&mut self, address: Ipv6Addr, kind: Option<Kind>) -> Result<Vec<Lease>, ReleaseError> {
        let kinds = [Kind::Address, Kind::Prefix, Kind::Registered];
        let mut changes = Vec::new();
        for kind in kinds.into_iter().filter(|k| kind.is_none_or(|wanted| wanted == *k)) {
            let found = self.store.lease(kind, address).map_err(|e| ReleaseError::Store(e.to_string()))?;
            let Some(before) = found.filter(|l| l.state != State::Free) else { continue };
            let after = ended(&before, self.now);
            changes.push(Change { at: self.now, event: LeaseEvent::Withdrawn, after, before: Some(before) });
        }
        if changes.is_empty() {
            return Err(ReleaseError::NoLease(address));
        }
        let records = self.store.commit(&changes).map_err(|e| ReleaseError::Store(e.to_string()))?;
        let released: Vec<Lease> = changes.iter().map(|c| c.after.clone()).collect();
        for lease in &released {
            info!(address = %lease.address, length = lease.length, "lease withdrawn by the administrator");
            self.engine.adopt(lease.clone());
        }
        self.bind(&changes);
        self.tell(records);
        Ok(released)
    }

    fn takeover(&mut self) -> Result<(), ReleaseError> {
        if !self.peer.is_configured() {
            return Err(ReleaseError::NoPeer);
        }
        if self.peer.is_connected() {
            return Err(ReleaseError::PeerIsThere);
        }
        warn!("the administrator says that the peer is out of service: new leases from all pools");
        self.peer_takeover();
        Ok(())
    }
}
