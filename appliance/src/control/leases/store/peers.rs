//! What the peer did, and what it is told.

use super::octets::key_of;
use super::{
    HEAD, KeptLease, NodeId, PEER, PEER_SEQ, PRUNED, Record, Store, StoreError, get_meta, put_meta,
    put_number, row,
};
use crate::control::leases::sync::merge::{Winner, merge};
use causeway_dhcpv6::{Kind, Lease, LeaseEvent, State};
use std::net::Ipv6Addr;

/// What became of a record of the peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Incorporated {
    /// It is the lease now.
    Taken(Lease),
    /// It was known.
    Known,
    /// Both gateways had changed the lease without knowing of each other: this is the lease now.
    Merged {
        /// The lease from now on.
        lease: Lease,
        /// True if two clients had been given it, for overlapping times.
        conflict: bool,
    },
}

/// What a peer missed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Missed {
    /// These events; none: nothing.
    Records(Vec<Record>),
    /// Some of its events are gone: it needs a snapshot.
    Pruned,
}

impl Store {
    /// Writes what the peer did, in its order. Afterwards [`Store::peer_seq`] is the number of the last
    /// record, or `upto` if that is more: the peer has nothing else up to there.
    ///
    /// # Errors
    /// [`StoreError`], and then none of it was done.
    pub fn incorporate(
        &mut self,
        records: &[Record],
        upto: Option<u64>,
    ) -> Result<Vec<Incorporated>, StoreError> {
        let mut head = self.head;
        let peer_seq = upto.unwrap_or(0).max(self.peer_seq);
        let outcome = self.append(|store| {
            let mut outcome = Vec::with_capacity(records.len());
            for record in records {
                outcome.push(store.put_peers(&mut head, record)?);
            }
            put_number(&store.db, PEER_SEQ, peer_seq)?;
            Ok(outcome)
        })?;
        (self.head, self.peer_seq) = (head, peer_seq);
        Ok(outcome)
    }

    fn put_peers(&mut self, head: &mut u64, record: &Record) -> rusqlite::Result<Incorporated> {
        let key = key_of(record.lease.kind, record.lease.address);
        let before = self.version(&key)?;
        let version = before.unwrap_or_default();
        if record.seq <= version.peer {
            return Ok(Incorporated::Known);
        }
        *head += 1;
        let peers = Some((record.seq, version.own));
        if !record.current {
            self.add(*head, peers, 0, record, KeptLease::Before)?;
            return Ok(Incorporated::Known);
        }
        // The peer had seen our last change of it, or we never changed it: its word is the newer one.
        let apart = before.is_some() && record.seen < version.own;
        let ours = match if apart { self.view().find(&key)? } else { None } {
            Some((_, ours)) => self.view().lease(&key, &ours)?,
            None => {
                // It stands for the renewals before it too, as it does there.
                let folds = record.times > 1 && version.renewals > 0 && version.renewed == record.first;
                let replaces = if folds { version.event } else { 0 };
                self.add(*head, peers, replaces, record, KeptLease::Its)?;
                return Ok(Incorporated::Taken(record.lease.clone()));
            }
        };
        let merged = merge(&ours, &record.lease);
        let lease = match merged.winner {
            Winner::Ours => ours,
            Winner::Theirs => record.lease.clone(),
        };
        self.add(*head, peers, 0, record, KeptLease::Other(&lease))?;
        Ok(Incorporated::Merged { lease, conflict: merged.conflict })
    }

    /// Says that the peer is `node` from now on. If it was another one, or none, nothing of it is known here
    /// and it knows nothing of ours: every lease counts as changed by us.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn meet(&mut self, node: NodeId) -> Result<(), StoreError> {
        let known = get_meta(&self.db, PEER).map_err(|e| self.error(e))?;
        if known.as_deref() == Some(&node[..]) {
            return Ok(());
        }
        self.fold_all()?;
        let head = self.head + 1;
        self.write(|store| {
            let db = &store.db;
            db.execute("UPDATE leases SET own = ?1, peer = 0", [row::number(head)])?;
            put_number(db, HEAD, head)?;
            // Only a snapshot brings it everything.
            put_number(db, PRUNED, head)?;
            put_number(db, PEER_SEQ, 0)?;
            put_meta(db, PEER, &node)
        })
        .map_err(|e| self.error(e))?;
        (self.head, self.peer_seq) = (head, 0);
        Ok(())
    }

    /// The peer that was met last.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn peer(&self) -> Result<Option<NodeId>, StoreError> {
        let node = get_meta(&self.db, PEER).map_err(|e| self.error(e))?;
        Ok(node.and_then(|n| n.try_into().ok()))
    }

    /// A part of what a peer missed that has our events up to `seq`: at most `most` records, in order.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn after(&self, seq: u64, most: usize) -> Result<Missed, StoreError> {
        if seq < self.number(PRUNED)? {
            return Ok(Missed::Pruned);
        }
        let (view, mut records) = (self.view(), Vec::new());
        let read = view.events(seq, &mut |entry| {
            if entry.peers.is_none() && records.len() < most {
                records.push(Record {
                    seq: entry.id,
                    seen: entry.seen,
                    event: entry.event,
                    first: entry.first,
                    at: entry.at,
                    times: entry.times,
                    current: self.version(&entry.key)?.is_some_and(|version| version.own == entry.id),
                    lease: view.lease(&entry.key, entry.lease)?,
                });
            }
            Ok(records.len() < most)
        });
        read.map_err(|e| self.error(e))?;
        Ok(Missed::Records(records))
    }

    /// A part of all leases that we changed last, behind the key `after`: at most `most`. For a peer that
    /// [`Store::after`] cannot serve.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn snapshot(&self, after: Option<(Kind, Ipv6Addr)>, most: usize) -> Result<Vec<Record>, StoreError> {
        let behind = after.map(|(kind, address)| key_of(kind, address));
        let (view, mut records) = (self.view(), Vec::new());
        let read = view.rows(behind, &mut |key, version, octets| {
            if version.own > 0 && records.len() < most {
                let lease = view.lease(key, octets)?;
                records.push(Record {
                    seq: version.own,
                    seen: version.peer,
                    event: match lease.state {
                        State::Active if lease.kind == Kind::Registered => LeaseEvent::Registered,
                        State::Active => LeaseEvent::Given,
                        State::Free => LeaseEvent::Released,
                        State::Declined => LeaseEvent::Declined,
                    },
                    first: lease.since,
                    at: lease.since,
                    times: 1,
                    current: true,
                    lease,
                });
            }
            Ok(records.len() < most)
        });
        read.map_err(|e| self.error(e))?;
        Ok(records)
    }
}
