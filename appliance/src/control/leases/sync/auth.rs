//! Who is at the other end: a challenge on each side, answered by HMAC-SHA256 (RFC 2104) over a shared secret,
//! and a tag on every frame after that. Nothing is encrypted: what crosses is who has which address.
//!
//! ```text
//!  both:  "CWPEER01" | node [16] | nonce [32]
//!  both:  HMAC(secret, "proof"  | role | connecting node, nonce | listening node, nonce)
//!  keys:  HMAC(secret, "frames" | role | ...the same...), one for each direction
//! ```

use super::super::store::NodeId;
use super::codec::TAG;
use hmac::{Hmac, Mac as _};
use sha2::Sha256;

/// First octets of a connection; a later version has others.
pub(in super::super) const MAGIC: [u8; 8] = *b"CWPEER01";
/// Octets of the first message.
pub(in super::super) const HELLO: usize = 8 + 16 + 32;
/// Octets of the second one.
pub(in super::super) const PROOF: usize = 32;

/// Which end a gateway is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Role {
    Connecting,
    Listening,
}

impl Role {
    pub(in super::super) const fn other(self) -> Self {
        match self {
            Self::Connecting => Self::Listening,
            Self::Listening => Self::Connecting,
        }
    }
}

/// What an end says first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) struct Hello {
    pub(in super::super) node: NodeId,
    pub(in super::super) nonce: [u8; 32],
}

impl Hello {
    pub(in super::super) fn emit(&self) -> [u8; HELLO] {
        let mut out = [0; HELLO];
        out[..8].copy_from_slice(&MAGIC);
        out[8..24].copy_from_slice(&self.node);
        out[24..].copy_from_slice(&self.nonce);
        out
    }

    /// Nothing if it is not the first message of this protocol and version.
    pub(in super::super) fn parse(octets: &[u8; HELLO]) -> Option<Self> {
        let (magic, rest) = octets.split_first_chunk::<8>()?;
        let (node, rest) = rest.split_first_chunk::<16>()?;
        let nonce = rest.first_chunk::<32>()?;
        (*magic == MAGIC).then_some(Self { node: *node, nonce: *nonce })
    }
}

type HmacSha256 = Hmac<Sha256>;

fn keyed(key: &[u8]) -> HmacSha256 {
    // HMAC takes keys of any length (RFC 2104 3): this cannot fail.
    HmacSha256::new_from_slice(key).unwrap_or_else(|_| unreachable!("HMAC refuses no key"))
}

/// A conversation: both ends' first messages.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Conversation {
    pub(in super::super) connecting: Hello,
    pub(in super::super) listening: Hello,
}

impl Conversation {
    fn mac(&self, secret: &[u8], purpose: &[u8], role: Role) -> HmacSha256 {
        let mut mac = keyed(secret);
        mac.update(purpose);
        mac.update(&[match role {
            Role::Connecting => 1,
            Role::Listening => 2,
        }]);
        for hello in [&self.connecting, &self.listening] {
            mac.update(&hello.node);
            mac.update(&hello.nonce);
        }
        mac
    }

    /// What the end with this role proves itself by.
    pub(in super::super) fn proof(&self, secret: &[u8], role: Role) -> [u8; PROOF] {
        self.mac(secret, b"proof", role).finalize().into_bytes().into()
    }

    /// Whether that is the proof of the end with this role. Takes as long for a wrong one as for a right one.
    pub(in super::super) fn proves(&self, secret: &[u8], role: Role, proof: &[u8; PROOF]) -> bool {
        self.mac(secret, b"proof", role).verify_slice(proof).is_ok()
    }

    /// The key of the frames that the end with this role sends.
    pub(in super::super) fn frames(&self, secret: &[u8], role: Role) -> FrameKey {
        FrameKey(keyed(&self.mac(secret, b"frames", role).finalize().into_bytes()))
    }
}

/// Makes and checks the tags of one direction.
#[derive(Clone)]
pub(in super::super) struct FrameKey(HmacSha256);

impl FrameKey {
    /// The tag of a frame: everything between its length and its tag.
    pub(in super::super) fn tag(&self, frame: &[u8]) -> [u8; TAG] {
        let mut mac = self.0.clone();
        mac.update(frame);
        let whole = mac.finalize().into_bytes();
        std::array::from_fn(|n| whole[n])
    }

    /// Whether that is the tag of this frame.
    pub(in super::super) fn verify(&self, frame: &[u8], tag: &[u8]) -> bool {
        let mut mac = self.0.clone();
        mac.update(frame);
        tag.len() == TAG && mac.verify_truncated_left(tag).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conversation() -> Conversation {
        Conversation {
            connecting: Hello { node: [1; 16], nonce: [2; 32] },
            listening: Hello { node: [3; 16], nonce: [4; 32] },
        }
    }

    #[test]
    fn the_first_message_is_read_back_and_another_version_is_not() {
        let hello = conversation().connecting;
        let mut octets = hello.emit();
        assert_eq!(Hello::parse(&octets), Some(hello));
        octets[7] = b'2';
        assert_eq!(Hello::parse(&octets), None);
    }

    #[test]
    fn a_proof_is_for_one_secret_one_role_and_one_conversation() {
        let c = conversation();
        let proof = c.proof(b"a secret of some length", Role::Connecting);
        assert!(c.proves(b"a secret of some length", Role::Connecting, &proof));
        assert!(!c.proves(b"another secret, as long", Role::Connecting, &proof));
        assert!(!c.proves(b"a secret of some length", Role::Listening, &proof), "sent back to its sender");
        let mut again = c;
        again.listening.nonce[31] ^= 1;
        assert!(!again.proves(b"a secret of some length", Role::Connecting, &proof), "recorded earlier");
    }

    #[test]
    fn a_tag_is_for_one_frame_and_one_direction() {
        let c = conversation();
        let (ours, theirs) = (c.frames(b"secret", Role::Connecting), c.frames(b"secret", Role::Listening));
        let tag = ours.tag(b"a frame");
        assert!(ours.verify(b"a frame", &tag));
        assert!(!ours.verify(b"b frame", &tag) && !theirs.verify(b"a frame", &tag));
        assert!(!ours.verify(b"a frame", &tag[..15]) && !ours.verify(b"a frame", &[]));
    }
}
