//! Writes packets as a capture file, to look at with Wireshark or tcpdump. For debugging; no test reads
//! or keeps such files.

use std::io::{self, Write};

/// What the packets begin with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Link {
    /// An Ethernet header.
    Ethernet,
    /// An IPv4 or IPv6 header.
    Raw,
}

/// Writes a classic capture file with one packet a millisecond.
///
/// # Errors
/// Those of the writer.
pub fn write<T: AsRef<[u8]>>(mut to: impl Write, link: Link, packets: &[T]) -> io::Result<()> {
    let link: u32 = match link {
        Link::Ethernet => 1,
        Link::Raw => 101,
    };
    for field in [0xa1b2_c3d4u32, 2 << 16 | 4, 0, 0, 65_535, link] {
        to.write_all(&field.to_be_bytes())?;
    }
    for (ms, packet) in (0u32..).zip(packets) {
        let b = packet.as_ref();
        let octets = u32::try_from(b.len()).map_err(io::Error::other)?;
        for field in [ms / 1000, ms % 1000 * 1000, octets, octets] {
            to.write_all(&field.to_be_bytes())?;
        }
        to.write_all(b)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_has_its_header_and_its_packets() {
        let mut file = Vec::new();
        write(&mut file, Link::Raw, &[vec![0x45; 30], vec![0x60; 50]]).unwrap();
        assert_eq!(file.len(), 24 + 16 + 30 + 16 + 50);
        assert_eq!(file[..8], [0xa1, 0xb2, 0xc3, 0xd4, 0, 2, 0, 4]);
        assert_eq!(file[24 + 8..24 + 12], 30u32.to_be_bytes());
    }
}
