//! For tests only: what makes a packet test a row.
//!
//! Packets are built by `etherparse` and judged by plain loops written here, never by `causeway-wire`:
//! an error in our own emitters or checksums cannot hide behind itself.
//!
//! ```text
//!  build      frames from a line of code            check     every length and checksum, both families
//!  fragment   cut into fragments, put together      mutate    hostile frames as proptest strategies
//!  rig        a Ctx over heap frames, virtual time  counters  the whole counter difference
//!  pcap       look at it in Wireshark               hello     ClientHellos, in records cut anywhere
//! ```

#![forbid(unsafe_code)]

pub mod build;
pub mod check;
pub mod counters;
pub mod fragment;
pub mod hello;
pub mod mutate;
pub mod nat64_oracle;
pub mod pcap;
pub mod rig;

pub use build::{
    Addr4, Addr6, Eth, Ip4, Ip6, Tcp, arp, arp_reply, arp_request, eth, ip4, ip6, pad60, poke, tcp,
};
pub use check::{Inner, check_packet, check_packet_with, describe, upper_layer};
pub use counters::{Snapshot, assert_counters};
pub use fragment::{fragments4, fragments6, reassemble};
pub use rig::{Leaving, Rig, lab_interfaces, mac};
