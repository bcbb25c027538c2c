//! The ClientHello of a check, and what counts as an answer to it.

/// Cipher suites that nearly every server has one of (RFC 5289 3, RFC 7905 2, RFC 5288 3).
const SUITES: [u16; 8] = [0xc02b, 0xc02f, 0xc02c, 0xc030, 0xcca9, 0xcca8, 0x009c, 0x009d];
/// secp256r1, x25519, secp384r1 (RFC 8422 5.1.1).
const GROUPS: [u16; 3] = [0x0017, 0x001d, 0x0018];
/// ECDSA and RSA with SHA-256, RSA-PSS, and RSA with SHA-384 (RFC 8446 4.2.3).
const SIGNATURES: [u16; 5] = [0x0403, 0x0804, 0x0401, 0x0503, 0x0501];

fn list(code: u16, items: &[u16], out: &mut Vec<u8>) {
    let octets = (items.len() * 2) as u16;
    for value in [code, octets + 2, octets].iter().chain(items) {
        out.extend(value.to_be_bytes());
    }
}

/// A record with a ClientHello of TLS 1.2 (RFC 5246 7.4.1.2), without a name: it is to be answered somehow and no more. A server
/// of TLS 1.3 only answers it with an alert.
#[must_use]
pub fn hello(random: [u8; 32]) -> Vec<u8> {
    let mut extensions = Vec::new();
    list(10, &GROUPS, &mut extensions);
    // RFC 8422 5.1.2: uncompressed points.
    extensions.extend([0, 11, 0, 2, 1, 0]);
    list(13, &SIGNATURES, &mut extensions);
    let mut body = vec![3, 3];
    body.extend(random);
    body.push(0);
    body.extend(((SUITES.len() * 2) as u16).to_be_bytes());
    body.extend(SUITES.iter().flat_map(|s| s.to_be_bytes()));
    body.extend([1, 0]);
    body.extend((extensions.len() as u16).to_be_bytes());
    body.append(&mut extensions);
    let octets = body.len() as u16;
    let mut out = vec![22, 3, 1];
    out.extend((octets + 4).to_be_bytes());
    out.extend([1, 0]);
    out.extend(octets.to_be_bytes());
    out.append(&mut body);
    out
}

/// Whether the first octets from a server begin a record of TLS: handshake or alert (RFC 8446 5.1); nothing while there are too
/// few to tell.
#[must_use]
pub fn is_answer(octets: &[u8]) -> Option<bool> {
    let &[kind, major, _, high, low, ..] = octets else {
        let begins = octets.first().is_none_or(|kind| matches!(kind, 21 | 22));
        return (!begins).then_some(false);
    };
    let length = u16::from_be_bytes([high, low]);
    Some(matches!(kind, 21 | 22) && major == 3 && (1..=1 << 14).contains(&length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc5246_7_4_1_2_lengths_of_the_hello_agree() {
        let hello = hello([7; 32]);
        let word = |at: usize| usize::from(u16::from_be_bytes([hello[at], hello[at + 1]]));
        assert_eq!(word(3), hello.len() - 5);
        assert_eq!(word(7), hello.len() - 9);
        let suites = word(44);
        let extensions = 46 + suites + 2;
        assert_eq!(word(extensions), hello.len() - extensions - 2);
        let (mut at, mut codes) = (extensions + 2, Vec::new());
        while at < hello.len() {
            codes.push(word(at));
            at += 4 + word(at + 2);
        }
        assert_eq!((at, codes), (hello.len(), vec![10, 11, 13]));
    }

    #[test]
    fn rfc8446_5_1_an_answer_is_a_record_of_a_handshake_or_an_alert() {
        for (octets, wanted) in [
            (&b"\x16\x03\x03\x00\x7a\x02"[..], Some(true)),
            (b"\x15\x03\x01\x00\x02", Some(true)),
            (b"\x16\x03\x03\x00\x00", Some(false)),
            (b"\x16\x03\x03\x40\x01", Some(false)),
            (b"\x17\x03\x03\x00\x10", Some(false)),
            (b"HTTP/1.1 400", Some(false)),
            (b"S", Some(false)),
            (b"\x16\x03", None),
            (b"", None),
        ] {
            assert_eq!(is_answer(octets), wanted, "{octets:x?}");
        }
    }
}
