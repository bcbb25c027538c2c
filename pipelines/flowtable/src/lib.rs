//! The shared flow table: every stateful flow of the gateway, for all workers, without locks.
//!
//! ```text
//!   inside key ----+                                  +---- outside key
//!                  v                                  v
//!        index: buckets of eight tagged words, one cache line each
//!                  |        generation, state, slot   |
//!                  +-------------> session <----------+        64 octets
//!                                  |     |
//!                        mapping <-+     +-> spliced line      48 and 64 octets
//! ```
//! - Lookups are wait-free and can be made in bulk, with their cache misses overlapped.
//! - Creation leaves exactly one entry for a key, whoever else creates it at the same time, from either
//!   side; a flow that is being built reads as [`Lookup::Building`].
//! - A flow is ended by exactly one party, and a refresh is never lost.
//! - Memory is taken once. A slot is used again only when nobody can hold it any more.
//!
//! A worker thread owns a [`Worker`], and enters once per burst:
//! ```
//! use causeway_flowtable::*;
//! let table = FlowTable::new(&Config {
//!     sessions: 1000, mappings: 1000, spliced: 0, workers: 1, control_readers: 1, seed: [1, 2, 3, 4],
//! })?;
//! let mut worker = table.worker(0).expect("nobody else is worker 0");
//! let guard = worker.enter();
//! let key = InsideKey { src6: 1, dst4: 2, src_port: 3, dst_port: 4, protocol: 17, prefix: 0 };
//! let map_key = MapInsideKey { src6: 1, port: 3, protocol: 17, pool: 0 };
//! let new_mapping = NewMapping {
//!     key: map_key, owner: 0, flags: 0, subscriber: 7, plan_generation: 1, pinned: false, aux: 0,
//! };
//! let new = NewSession {
//!     key: NewKey::Inside(key), kind: Kind::Nat64, owner: 0, subscriber: 7, plan_generation: 1,
//!     state: 0, flags: 0, tick: Tick(0), aux: 0,
//! };
//! let created = guard.create_session(&new, || {
//!     let mapping = guard.create_mapping(&new_mapping, &mut FixedPort::new(0xcb00_7101, 4000))?;
//!     Ok::<_, MappingError>(Reserved::translated(mapping.into_inner(), key.dst4, key.dst_port, 0))
//! });
//! assert!(matches!(created, Ok(Created::Fresh(_))));
//! let reply =
//!     OutsideKey { out4: 0xcb00_7101, remote4: 2, out_port: 4000, remote_port: 4, protocol: 17 };
//! assert_eq!(guard.lookup(&reply).hit().map(|s| s.src6()), Some(1));
//! # Ok::<(), TableError>(())
//! ```
//! What is not here: what states mean and when flows expire (the functions judge, see [`Sweeper`]),
//! which port to take ([`PortSource`], [`ports::PortBitmap`]), and the clock.

mod add;
mod ahead;
mod bindings;
mod create;
mod epoch;
mod guard;
mod hash;
mod index;
mod key;
#[cfg(all(test, loom))]
mod loom_tests;
mod mapping;
mod memory;
pub mod octets;
pub mod ports;
pub mod prefetch;
pub mod seqmap;
mod session;
mod slab;
mod spliced;
mod stats;
mod sweep;
mod sync;
mod table;
mod tick;

pub use add::AddError;
pub use bindings::{Asked, Bindings};
pub use create::{CreateError, Created, MappingError, Reserved};
pub use guard::{BULK, Guard, Lookup, ReadGuard, Reader, Worker};
pub use key::{InsideKey, MapInsideKey, MapOutsideKey, NativeKey, OWN_ADDRESS, OutsideKey, SessionKey};
pub use mapping::{FixedPort, Mapping, MappingRef, NewMapping, PortSource};
pub use memory::Pages;
pub use session::{Ctl, Kind, Lifecycle, NewKey, NewSession, Session};
pub use spliced::{Spliced, SplicedRef};
pub use stats::Stats;
pub use sweep::{Fate, Sweeper, Swept};
pub use table::{Config, FlowTable, MAX_SLOTS, TableError};
pub use tick::{TICK_MICROS, Tick};
