//! Cookies (RFC 7873), made as RFC 9018 4 says: they cost no memory.
//!
//! ```text
//!  client cookie (8) | version 1, reserved 0 (4) | time (4) | SipHash-2-4 of all that and the client's address (8)
//! ```
//! The time is the gateway's own clock in seconds. Nothing here depends on whether a client brings a cookie of ours, so
//! none is checked: a client that uses them knows by the answer's that it is no forgery (RFC 7873 5.3).

use std::net::IpAddr;

/// Octets of the client's part (RFC 7873 4).
pub const CLIENT_OCTETS: usize = 8;
/// Octets of the server's part as we make it (RFC 9018 4).
pub const SERVER_OCTETS: usize = 16;
/// Version 1, and three octets of zero (RFC 9018 4.1, 4.2).
const VERSION: [u8; 4] = [1, 0, 0, 0];

/// Makes cookies.
#[derive(Clone)]
pub struct Cookies {
    key: [u64; 2],
}

impl std::fmt::Debug for Cookies {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Cookies")
    }
}

impl Cookies {
    /// With a secret that nobody can guess. All workers have the same one.
    #[must_use]
    pub fn new(secret: [u8; 16]) -> Self {
        Self { key: [word(&secret, 0), word(&secret, 8)] }
    }

    /// The server's part for a client's cookie, of which the first eight octets count.
    #[must_use]
    pub fn make(&self, cookie: &[u8], client: IpAddr, now_secs: u32) -> [u8; SERVER_OCTETS] {
        let mut made = [0; SERVER_OCTETS];
        made[..4].copy_from_slice(&VERSION);
        made[4..8].copy_from_slice(&now_secs.to_be_bytes());
        let hash = self.hash(cookie, &made, client);
        made[8..].copy_from_slice(&hash.to_le_bytes());
        made
    }

    /// RFC 9018 4.4: over the client's cookie, version, reserved octets and time, and the client's address.
    fn hash(&self, cookie: &[u8], server: &[u8; SERVER_OCTETS], client: IpAddr) -> u64 {
        let mut input = [0; 32];
        for (to, from) in input.iter_mut().zip(cookie.iter().take(CLIENT_OCTETS)) {
            *to = *from;
        }
        input[8..16].copy_from_slice(&server[..8]);
        let octets = match client {
            IpAddr::V4(a) => {
                input[16..20].copy_from_slice(&a.octets());
                20
            }
            IpAddr::V6(a) => {
                input[16..32].copy_from_slice(&a.octets());
                32
            }
        };
        siphash24(self.key, &input[..octets])
    }
}

fn word(octets: &[u8], at: usize) -> u64 {
    let mut eight = [0; 8];
    for (to, from) in eight.iter_mut().zip(octets.iter().skip(at)) {
        *to = *from;
    }
    u64::from_le_bytes(eight)
}

/// SipHash-2-4 (Aumasson and Bernstein, "SipHash: a fast short-input PRF").
fn siphash24(key: [u64; 2], input: &[u8]) -> u64 {
    let mut v = [
        key[0] ^ 0x736f_6d65_7073_6575,
        key[1] ^ 0x646f_7261_6e64_6f6d,
        key[0] ^ 0x6c79_6765_6e65_7261,
        key[1] ^ 0x7465_6462_7974_6573,
    ];
    let whole = input.len() / 8 * 8;
    for at in (0..whole).step_by(8) {
        absorb(&mut v, word(input, at));
    }
    absorb(&mut v, word(input, whole) | (input.len() as u64) << 56);
    v[2] ^= 0xff;
    for _ in 0..4 {
        round(&mut v);
    }
    v[0] ^ v[1] ^ v[2] ^ v[3]
}

fn absorb(v: &mut [u64; 4], m: u64) {
    v[3] ^= m;
    round(v);
    round(v);
    v[0] ^= m;
}

fn round(v: &mut [u64; 4]) {
    v[0] = v[0].wrapping_add(v[1]);
    v[1] = v[1].rotate_left(13) ^ v[0];
    v[0] = v[0].rotate_left(32);
    v[2] = v[2].wrapping_add(v[3]);
    v[3] = v[3].rotate_left(16) ^ v[2];
    v[0] = v[0].wrapping_add(v[3]);
    v[3] = v[3].rotate_left(21) ^ v[0];
    v[2] = v[2].wrapping_add(v[1]);
    v[1] = v[1].rotate_left(17) ^ v[2];
    v[2] = v[2].rotate_left(32);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
    }

    fn cookies(secret: &str) -> Cookies {
        Cookies::new(hex(secret).try_into().unwrap())
    }

    #[test]
    fn siphash_of_its_authors_example() {
        let key: Vec<u8> = (0..16).collect();
        let input: Vec<u8> = (0..15).collect();
        assert_eq!(siphash24([word(&key, 0), word(&key, 8)], &input), 0xa129_ca61_49be_45e5);
    }

    #[test]
    fn rfc9018_appendix_a_examples() {
        let rows = [
            // A.1
            (
                "e5e973e5a6b2a43f48e7dc849e37bfcf",
                "2464c4abcf10c957",
                "198.51.100.100",
                "010000005cf79f111f8130c3eee29480",
            ),
            // A.2
            (
                "e5e973e5a6b2a43f48e7dc849e37bfcf",
                "2464c4abcf10c957",
                "198.51.100.100",
                "010000005cf7a871d4a564a1442aca77",
            ),
            // A.3
            (
                "e5e973e5a6b2a43f48e7dc849e37bfcf",
                "fc93fc62807ddb86",
                "203.0.113.203",
                "010000005cf7a9acf73a7810aca2381e",
            ),
            // A.4, after the change of the secret
            (
                "445536bcd2513298075a5d379663c962",
                "22681ab97d52c298",
                "2001:db8:220:1:59de:d0f4:8769:82b8",
                "010000005cf7c609a6bb79d16625507a",
            ),
        ];
        for (secret, client, address, server) in rows {
            let (server, address) = (hex(server), address.parse().unwrap());
            let now = u32::from_be_bytes(server[4..8].try_into().unwrap());
            assert_eq!(cookies(secret).make(&hex(client), address, now).to_vec(), server);
        }
    }
}
