//! IPv4 addresses that are not globally reachable (RFC 6890 and the registry that it made).

use causeway_core::net::Prefix4;
use std::net::Ipv4Addr;

/// The prefixes, each with the document that sets it apart.
const NON_GLOBAL: [(&str, [u8; 4], u8); 15] = [
    ("RFC 791", [0, 0, 0, 0], 8),
    ("RFC 1918", [10, 0, 0, 0], 8),
    ("RFC 6598", [100, 64, 0, 0], 10),
    ("RFC 1122", [127, 0, 0, 0], 8),
    ("RFC 3927", [169, 254, 0, 0], 16),
    ("RFC 1918", [172, 16, 0, 0], 12),
    ("RFC 6890", [192, 0, 0, 0], 24),
    ("RFC 5737", [192, 0, 2, 0], 24),
    ("RFC 7526", [192, 88, 99, 0], 24),
    ("RFC 1918", [192, 168, 0, 0], 16),
    ("RFC 2544", [198, 18, 0, 0], 15),
    ("RFC 5737", [198, 51, 100, 0], 24),
    ("RFC 5737", [203, 0, 113, 0], 24),
    ("RFC 5771", [224, 0, 0, 0], 4),
    ("RFC 1112", [240, 0, 0, 0], 4),
];

/// The first prefix that overlaps `p` and is not globally reachable, with the document that says so.
#[must_use]
pub fn non_global(p: Prefix4) -> Option<(Prefix4, &'static str)> {
    NON_GLOBAL.iter().find_map(|(document, octets, len)| {
        let special = Prefix4::new(Ipv4Addr::from(*octets), *len)?;
        special.overlaps(p).then_some((special, *document))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc6890_every_prefix_of_the_list_is_well_formed_and_found() {
        for (document, octets, len) in NON_GLOBAL {
            let p = Prefix4::new(Ipv4Addr::from(octets), len).unwrap();
            assert_eq!(non_global(p), Some((p, document)));
        }
    }

    #[test]
    fn rfc6890_global_addresses_are_not_listed() {
        for global in ["8.8.8.0/24", "100.128.0.0/9", "172.32.0.0/11", "192.0.1.0/24", "223.255.255.255/32"] {
            assert_eq!(non_global(global.parse().unwrap()), None, "{global}");
        }
        assert!(non_global("203.0.112.0/23".parse().unwrap()).is_some());
    }
}
