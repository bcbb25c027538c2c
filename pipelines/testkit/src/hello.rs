//! ClientHellos (RFC 8446 4.1.2) as clients send them, and as none should.

/// A ClientHello: its extensions as they are put in, in this order, right or wrong.
#[derive(Debug, Clone, Default)]
pub struct Hello {
    /// Types and data.
    pub extensions: Vec<(u16, Vec<u8>)>,
}

/// Extension types.
pub mod extension {
    /// RFC 6066 3.
    pub const SERVER_NAME: u16 = 0;
    /// RFC 7301 3.1.
    pub const ALPN: u16 = 16;
    /// RFC 8446 4.2.8.
    pub const KEY_SHARE: u16 = 51;
    /// RFC 9849 5.
    pub const ENCRYPTED_CLIENT_HELLO: u16 = 0xfe0d;
}

impl Hello {
    /// Nothing but this name.
    #[must_use]
    pub fn named(name: &str) -> Self {
        Self::default().server_name(name.as_bytes())
    }

    /// As a browser of today sends it: extensions of GREASE (RFC 8701), ALPN, a key share of X25519MLKEM768 (1,216
    /// octets) beside one of X25519, padding. About 1,800 octets.
    #[must_use]
    pub fn browser(name: &str) -> Self {
        let grease_share =
            [&[0x5a, 0x5a, 0, 1, 0][..], &[0x11, 0xec, 0x04, 0xc0], &[7; 1216], &[0, 29, 0, 32], &[9; 32]];
        Self::default()
            .with(0x4a4a, &[])
            .server_name(name.as_bytes())
            .with(23, &[])
            .with(0xff01, &[0])
            .with(10, &[0, 8, 0x5a, 0x5a, 0x11, 0xec, 0, 29, 0, 23])
            .with(11, &[1, 0])
            .with(35, &[])
            .alpn(&[b"h2", b"http/1.1"])
            .with(5, &[1, 0, 0, 0, 0])
            .with(13, &[0, 8, 4, 3, 8, 4, 4, 1, 5, 3])
            .with(18, &[])
            .with(extension::KEY_SHARE, &vector16(&grease_share.concat()))
            .with(45, &[1, 1])
            .with(43, &[6, 0x7a, 0x7a, 3, 4, 3, 3])
            .with(27, &[2, 0, 2])
            .with(0xaaaa, &[0])
            .with(21, &[0; 305])
    }

    /// With one more extension.
    #[must_use]
    pub fn with(mut self, kind: u16, data: &[u8]) -> Self {
        self.extensions.push((kind, data.to_vec()));
        self
    }

    /// With SNI of one name.
    #[must_use]
    pub fn server_name(self, name: &[u8]) -> Self {
        let entry = [&[0][..], &vector16(name)].concat();
        self.with(extension::SERVER_NAME, &vector16(&entry))
    }

    /// With these protocols.
    #[must_use]
    pub fn alpn(self, names: &[&[u8]]) -> Self {
        let names: Vec<u8> = names.iter().flat_map(|name| vector8(name)).collect();
        self.with(extension::ALPN, &vector16(&names))
    }

    /// The message, with its header of four octets.
    #[must_use]
    pub fn message(&self) -> Vec<u8> {
        let extensions: Vec<u8> = self
            .extensions
            .iter()
            .flat_map(|(kind, data)| [&kind.to_be_bytes()[..], &vector16(data)].concat())
            .collect();
        let suites = [0x3a, 0x3a, 0x13, 1, 0x13, 2, 0x13, 3, 0xc0, 0x2b, 0xc0, 0x2f];
        let body = [
            &[3, 3][..],
            &[0x52; 32],
            &vector8(&[0x49; 32]),
            &vector16(&suites),
            &vector8(&[0]),
            &vector16(&extensions),
        ]
        .concat();
        message(1, &body)
    }

    /// The message in one record, or as few as hold it.
    #[must_use]
    pub fn octets(&self) -> Vec<u8> {
        records(&self.message(), &[1 << 14])
    }
}

/// A handshake message.
#[must_use]
pub fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).expect("of less than 2^24 octets").to_be_bytes();
    [&[kind][..], &length[1..], body].concat()
}

/// Handshake records of so many octets each; the last size holds for all further ones.
#[must_use]
pub fn records(message: &[u8], sizes: &[usize]) -> Vec<u8> {
    let (mut out, mut rest, mut sizes) = (Vec::new(), message, sizes.iter().copied().peekable());
    while !rest.is_empty() {
        let size = if sizes.len() > 1 { sizes.next() } else { sizes.peek().copied() }.unwrap_or(1 << 14);
        let (data, behind) = rest.split_at(size.min(rest.len()));
        out.extend_from_slice(&record(22, data));
        rest = behind;
    }
    out
}

/// One record.
#[must_use]
pub fn record(kind: u8, data: &[u8]) -> Vec<u8> {
    [&[kind, 3, 1][..], &vector16(data)].concat()
}

/// A vector whose length is one octet.
#[must_use]
pub fn vector8(data: &[u8]) -> Vec<u8> {
    [&[u8::try_from(data.len()).expect("of less than 2^8 octets")][..], data].concat()
}

/// A vector whose length is two octets.
#[must_use]
pub fn vector16(data: &[u8]) -> Vec<u8> {
    [&u16::try_from(data.len()).expect("of less than 2^16 octets").to_be_bytes()[..], data].concat()
}
