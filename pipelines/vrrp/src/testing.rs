//! Messages for tests, built octet by octet with a checksum loop of their own.

use causeway_testkit::{ip4, ip6};
use std::net::IpAddr;

pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap_or_else(|_| panic!("`{text}`"))
}

/// A message to be, and what is around it.
#[derive(Debug, Clone)]
pub(crate) struct Msg {
    pub(crate) version_type: u8,
    pub(crate) vrid: u8,
    pub(crate) priority: u8,
    pub(crate) count: Option<u8>,
    /// The reserved bits included.
    pub(crate) interval: u16,
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) src: IpAddr,
    pub(crate) dst: IpAddr,
    pub(crate) hops: u8,
    pub(crate) pseudo4: bool,
    pub(crate) more: Vec<u8>,
    /// Added to the right checksum.
    pub(crate) wrong: u16,
}

impl Msg {
    /// A right one, every second, of VRID 64.
    pub(crate) fn new(src: &str, priority: u8, addresses: &[&str]) -> Self {
        let src = ip(src);
        Self {
            version_type: 0x31,
            vrid: 64,
            priority,
            count: None,
            interval: 100,
            addresses: addresses.iter().map(|a| ip(a)).collect(),
            src,
            dst: ip(if src.is_ipv6() { "ff02::12" } else { "224.0.0.18" }),
            hops: 255,
            pseudo4: false,
            more: Vec::new(),
            wrong: 0,
        }
    }

    pub(crate) fn message(&self) -> Vec<u8> {
        let count = self.count.unwrap_or(self.addresses.len() as u8);
        let interval = self.interval.to_be_bytes();
        let mut b = vec![self.version_type, self.vrid, self.priority, count, interval[0], interval[1], 0, 0];
        for a in &self.addresses {
            match a {
                IpAddr::V6(a) => b.extend(a.octets()),
                IpAddr::V4(a) => b.extend(a.octets()),
            }
        }
        b.extend(&self.more);
        let mut summed = match (self.src, self.dst) {
            (IpAddr::V6(src), IpAddr::V6(dst)) => [src.octets(), dst.octets()].concat(),
            (IpAddr::V4(src), IpAddr::V4(dst)) if self.pseudo4 => [src.octets(), dst.octets()].concat(),
            _ => Vec::new(),
        };
        if !summed.is_empty() {
            summed.extend((b.len() as u32).to_be_bytes());
            summed.extend([0, 0, 0, 112]);
        }
        summed.extend(&b);
        let mut sum = 0u32;
        for pair in summed.chunks(2) {
            sum += u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0));
            sum = (sum & 0xffff) + (sum >> 16);
        }
        let sum = (!(sum as u16)).wrapping_add(self.wrong).to_be_bytes();
        b[6..8].copy_from_slice(&sum);
        b
    }

    pub(crate) fn packet(&self) -> Vec<u8> {
        match (self.src, self.dst) {
            (IpAddr::V6(src), IpAddr::V6(dst)) => {
                ip6(src, dst).hop_limit(self.hops).raw(112, &self.message())
            }
            (IpAddr::V4(src), IpAddr::V4(dst)) => ip4(src, dst).ttl(self.hops).raw(112, &self.message()),
            _ => panic!("one family"),
        }
    }
}
