//! Cookies (RFC 7873), made as RFC 9018 4 says: they cost no memory.
//!
//! ```text
//!  client cookie (8) | version 1, reserved 0 (4) | time (4) | SipHash-2-4 of all that and the client's address (8)
//! ```
//! The time is the gateway's own clock in seconds: only who made a cookie reads it.

use std::net::IpAddr;

/// Octets of the client's part (RFC 7873 4).
pub const CLIENT_OCTETS: usize = 8;
/// Octets of the server's part as we make it (RFC 9018 4).
pub const SERVER_OCTETS: usize = 16;
/// RFC 9018 4.3: cookies are good for an hour, and for five minutes of clocks that differ.
const LIFETIME: u32 = 3600;
const AHEAD: u32 = 300;
/// Version 1, and three octets of zero (RFC 9018 4.1, 4.2).
const VERSION: [u8; 4] = [1, 0, 0, 0];

/// What a query's cookie tells of the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known {
    /// There is none, or none of ours: the source address may be forged.
    No,
    /// It has a cookie that it got from us: it receives what is sent to its address.
    Yes,
}

/// Makes and checks cookies.
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

    /// Whether a cookie as it came, both parts, is one that this client got from us within the hour.
    #[must_use]
    pub fn check(&self, cookie: &[u8], client: IpAddr, now_secs: u32) -> Known {
        let Some((_, server)) = cookie.split_at_checked(CLIENT_OCTETS) else { return Known::No };
        let Ok(server) = <&[u8; SERVER_OCTETS]>::try_from(server) else { return Known::No };
        let made = u32::from_be_bytes([server[4], server[5], server[6], server[7]]);
        // RFC 9018 4.2: the reserved octets may be anything. 4.3: serial number arithmetic (RFC 1982).
        let age = now_secs.wrapping_sub(made);
        if server[0] != VERSION[0] || (age > LIFETIME && age < u32::MAX - AHEAD) {
            return Known::No;
        }
        let hash = self.hash(cookie, server, client).to_le_bytes();
        // Every octet is looked at: how long it takes tells nothing.
        let differ = hash.iter().zip(&server[8..]).fold(0, |d, (a, b)| d | (a ^ b));
        if differ == 0 { Known::Yes } else { Known::No }
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
            let both = [hex(client), server].concat();
            assert_eq!(cookies(secret).check(&both, address, now), Known::Yes);
        }
    }

    #[test]
    fn rfc9018_4_2_reserved_octets_may_be_anything() {
        // Appendix A.3.
        let cookie = hex("fc93fc62807ddb8601abcdef5cf78f71a314227b6679ebf5");
        let address = "203.0.113.203".parse().unwrap();
        let cookies = cookies("e5e973e5a6b2a43f48e7dc849e37bfcf");
        assert_eq!(cookies.check(&cookie, address, 0x5cf7_8f71), Known::Yes);
    }

    #[test]
    fn rfc9018_4_3_cookies_are_good_for_an_hour_for_one_client() {
        let cookies = cookies("e5e973e5a6b2a43f48e7dc849e37bfcf");
        let client: IpAddr = "2001:db8::1".parse().unwrap();
        for made in [5_000u32, u32::MAX - 10] {
            let cookie = [b"clientcc".to_vec(), cookies.make(b"clientcc", client, made).to_vec()].concat();
            let check = |now: u32| cookies.check(&cookie, client, now);
            assert_eq!(check(made), Known::Yes);
            assert_eq!(check(made.wrapping_add(3600)), Known::Yes);
            assert_eq!(check(made.wrapping_add(3601)), Known::No);
            assert_eq!(check(made.wrapping_sub(299)), Known::Yes);
            assert_eq!(check(made.wrapping_sub(302)), Known::No);
            assert_eq!(cookies.check(&cookie, "2001:db8::2".parse().unwrap(), made), Known::No);
            for at in 0..cookie.len() {
                let mut bad = cookie.clone();
                bad[at] ^= 1;
                assert_eq!(cookies.check(&bad, client, made), Known::No, "{at}");
            }
            for short in 0..cookie.len() {
                assert_eq!(cookies.check(&cookie[..short], client, made), Known::No);
            }
        }
    }
}
