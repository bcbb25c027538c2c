//! IPv4 addresses with a meaning of their own (RFC 6890), as far as NAT64 and DNS64 have to know them.

use std::net::Ipv4Addr;

/// Blocks that are not globally reachable, as the IANA IPv4 special-purpose registry of RFC 6890 lists
/// them, and multicast.
const NOT_GLOBAL: [(u32, u32); 14] = [
    (0x0000_0000, 8),
    (0x0a00_0000, 8),
    (0x6440_0000, 10),
    (0x7f00_0000, 8),
    (0xa9fe_0000, 16),
    (0xac10_0000, 12),
    (0xc000_0000, 24),
    (0xc000_0200, 24),
    (0xc0a8_0000, 16),
    (0xc612_0000, 15),
    (0xc633_6400, 24),
    (0xcb00_7100, 24),
    (0xe000_0000, 4),
    (0xf000_0000, 4),
];

/// True if `v4` is a global unicast address (RFC 6890 2.2.2).
#[must_use]
pub fn is_global(v4: Ipv4Addr) -> bool {
    // RFC 7723 and RFC 8155: these two of 192.0.0.0/24 are anycast addresses of the global Internet.
    if matches!(v4.octets(), [192, 0, 0, 9 | 10]) {
        return true;
    }
    let bits = v4.to_bits();
    !NOT_GLOBAL.iter().any(|(net, len)| (bits ^ net) >> (32 - len) == 0)
}

/// True if a packet may carry `v4` as a unicast address past a router (RFC 1812 5.3.7, RFC 1122
/// 3.2.1.3): not "this network", loopback, link-local, multicast, reserved or broadcast.
#[inline]
#[must_use]
pub const fn is_forwardable(v4: Ipv4Addr) -> bool {
    let [a, b, ..] = v4.octets();
    !(a == 0 || a == 127 || a >= 224 || (a == 169 && b == 254))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc6890_2_2_2_blocks_that_are_not_global_end_where_they_end() {
        for (text, global, forwardable) in [
            ("0.0.0.0", false, false),
            ("9.255.255.255", true, true),
            ("10.0.0.0", false, true),
            ("11.0.0.0", true, true),
            ("127.0.0.1", false, false),
            ("169.254.0.1", false, false),
            ("172.15.255.255", true, true),
            ("172.31.255.255", false, true),
            ("172.32.0.0", true, true),
            ("192.0.0.9", true, true),
            ("192.0.0.11", false, true),
            ("192.88.99.1", true, true),
            ("203.0.113.255", false, true),
            ("223.255.255.255", true, true),
            ("224.0.0.1", false, false),
            ("255.255.255.255", false, false),
        ] {
            let v4: Ipv4Addr = text.parse().unwrap();
            assert_eq!((is_global(v4), is_forwardable(v4)), (global, forwardable), "{text}");
        }
    }
}
