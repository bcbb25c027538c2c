//! Header blocks of HTTP/2: HPACK (RFC 7541), the first block of a connection.
//!
//! The tables and the Huffman code are those of `httlib-hpack` and `httlib-huffman`. Its decoder of whole blocks is not
//! used: it reads past the end of blocks that are cut, and gives its caller no way to stop at a block that is small and
//! stands for a huge one.

use httlib_hpack::table::Table;
use httlib_huffman::DecoderSpeed;
use std::borrow::Cow;

/// Why a block is not read further.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop<E> {
    /// RFC 7541 2.3.3, 5 and 6: it is cut, lies, or names what nobody has.
    Malformed,
    /// Whoever took the fields wants no more of them.
    Taker(E),
}

/// Octets that further octets of an integer are read from (RFC 7541 5.1): no number of use here needs more.
const INTEGER_OCTETS: usize = 4;

/// Reads a block of a client that has been told nothing (so that the table may have 4,096 octets, RFC 9113 6.5.2), and
/// gives each name and value to `each`.
pub(super) fn fields<E>(
    block: &[u8],
    mut each: impl FnMut(&[u8], &[u8]) -> Result<(), E>,
) -> Result<(), Stop<E>> {
    let mut table = Table::default();
    let most = table.max_dynamic_size();
    let (mut rest, mut sizes, mut begun) = (block, 0, false);
    while let Some(first) = rest.first().copied() {
        if first & 0xe0 == 0x20 {
            // RFC 7541 4.2: the table's size may change ahead of all fields, and twice at most.
            let size = integer(&mut rest, 5).filter(|size| *size <= most).ok_or(Stop::Malformed)?;
            sizes += 1;
            if begun || sizes > 2 {
                return Err(Stop::Malformed);
            }
            table.update_max_dynamic_size(size);
            continue;
        }
        begun = true;
        // RFC 7541 6.1.
        if first & 0x80 != 0 {
            let (name, value) = integer(&mut rest, 7).and_then(|n| table.get(n)).ok_or(Stop::Malformed)?;
            each(name, value).map_err(Stop::Taker)?;
            continue;
        }
        // RFC 7541 6.2: kept or not. An index of 0 says that the name is written out.
        let kept = first & 0x40 != 0;
        let name = match integer(&mut rest, if kept { 6 } else { 4 }).ok_or(Stop::Malformed)? {
            0 => string(&mut rest),
            n => table.get(n).map(|(name, _)| Cow::Owned(name.to_vec())),
        };
        let name = name.ok_or(Stop::Malformed)?;
        let value = string(&mut rest).ok_or(Stop::Malformed)?;
        each(&name, &value).map_err(Stop::Taker)?;
        if kept {
            table.insert(name.into_owned(), value.into_owned());
        }
    }
    // RFC 7541 4.2: nothing but sizes is no block that an encoder makes.
    if sizes > 0 && !begun { Err(Stop::Malformed) } else { Ok(()) }
}

/// RFC 7541 5.1: an integer behind the upper bits of its first octet.
fn integer(rest: &mut &[u8], bits: u32) -> Option<u32> {
    let (first, mut behind) = rest.split_first()?;
    let most = (1_u8 << bits) - 1;
    let mut value = u32::from(first & most);
    if first & most == most {
        for n in 0.. {
            let (octet, further) = behind.split_first().filter(|_| n < INTEGER_OCTETS)?;
            behind = further;
            value += u32::from(octet & 0x7f) << (7 * n);
            if octet & 0x80 == 0 {
                break;
            }
        }
    }
    *rest = behind;
    Some(value)
}

/// RFC 7541 5.2: a string, as it is or in Huffman code.
fn string<'a>(rest: &mut &'a [u8]) -> Option<Cow<'a, [u8]>> {
    let is_coded = rest.first()? & 0x80 != 0;
    let octets = usize::try_from(integer(rest, 7)?).ok()?;
    let (octets, behind) = rest.split_at_checked(octets)?;
    *rest = behind;
    if !is_coded {
        return Some(Cow::Borrowed(octets));
    }
    // RFC 7541 Appendix B: the shortest code has five bits.
    let mut text = Vec::with_capacity(octets.len() * 8 / 5);
    httlib_huffman::decode(octets, &mut text, DecoderSpeed::FiveBits).ok()?;
    // There is one way to write a string. The decoder takes some paddings that are none.
    let mut again = Vec::with_capacity(octets.len());
    httlib_huffman::encode(&text, &mut again).ok()?;
    (again == octets).then_some(Cow::Owned(text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Fields = Vec<(Vec<u8>, Vec<u8>)>;

    fn read(block: &[u8]) -> Result<Fields, Stop<()>> {
        let mut read = Vec::new();
        fields(block, |name, value| {
            read.push((name.to_vec(), value.to_vec()));
            Ok(())
        })?;
        Ok(read)
    }

    fn text(fields: &[(&str, &str)]) -> Result<Fields, Stop<()>> {
        Ok(fields.iter().map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec())).collect())
    }

    #[test]
    fn rfc7541_5_1_integers() {
        for (octets, bits, value) in [
            (&[0b0000_1010][..], 5, Some(10)),
            (&[0b1111_1111, 154, 10], 5, Some(1337)),
            (&[42], 7, Some(42)),
            (&[127, 0], 7, Some(127)),
            (&[127, 0xff, 0xff, 0xff, 0x7f], 7, Some(127 + (1 << 28) - 1)),
            (&[127, 0xff, 0xff, 0xff, 0xff, 0], 7, None),
            (&[127, 0x80], 7, None),
            (&[127], 7, None),
            (&[], 7, None),
        ] {
            let mut rest = octets;
            assert_eq!(integer(&mut rest, bits), value, "{octets:x?}");
            assert!(value.is_none() || rest.is_empty(), "{octets:x?}");
        }
    }

    #[test]
    fn rfc7541_c_2_and_c_4_examples() {
        assert_eq!(read(b"\x40\x0acustom-key\x0dcustom-header"), text(&[("custom-key", "custom-header")]));
        assert_eq!(read(b"\x04\x0c/sample/path"), text(&[(":path", "/sample/path")]));
        assert_eq!(read(b"\x10\x08password\x06secret"), text(&[("password", "secret")]));
        assert_eq!(read(&[0x82]), text(&[(":method", "GET")]));
        // The three requests of C.4.1, C.4.2 and C.4.3 in one block: what the first keeps, the others name.
        let three = [
            &[
                0x82, 0x86, 0x84, 0x41, 0x8c, 0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90,
                0xf4, 0xff,
            ][..],
            &[0x82, 0x86, 0x84, 0xbe, 0x58, 0x86, 0xa8, 0xeb, 0x10, 0x64, 0x9c, 0xbf],
            &[0x82, 0x87, 0x85, 0xbf, 0x40, 0x88, 0x25, 0xa8, 0x49, 0xe9, 0x5b, 0xa9, 0x7d, 0x7f],
            &[0x89, 0x25, 0xa8, 0x49, 0xe9, 0x5b, 0xb8, 0xe8, 0xb4, 0xbf],
        ];
        assert_eq!(
            read(&three.concat()),
            text(&[
                (":method", "GET"),
                (":scheme", "http"),
                (":path", "/"),
                (":authority", "www.example.com"),
                (":method", "GET"),
                (":scheme", "http"),
                (":path", "/"),
                (":authority", "www.example.com"),
                ("cache-control", "no-cache"),
                (":method", "GET"),
                (":scheme", "https"),
                (":path", "/index.html"),
                (":authority", "www.example.com"),
                ("custom-key", "custom-value"),
            ])
        );
    }

    #[test]
    fn rfc7541_4_3_and_4_4_a_smaller_table_forgets() {
        // Kept, and named by its number; with a table of nothing, it is not kept.
        let kept = b"\x40\x01a\x01b\xbe";
        assert_eq!(read(kept), text(&[("a", "b"), ("a", "b")]));
        assert_eq!(read(&[&[0x20], &kept[..]].concat()), Err(Stop::Malformed));
        let at_once: Result<(), Stop<u8>> = fields(kept, |_, _| Err(7));
        assert_eq!(at_once, Err(Stop::Taker(7)));
    }

    proptest! {
        /// What another library's encoder writes, in all its ways, is read as it was meant; with an end cut off, it is
        /// less or nothing; and any octets at all do no harm.
        #[test]
        fn what_is_written_is_read(
            all in prop::collection::vec(
                (prop_oneof!["[a-z-]{1,12}", ":(path|method|authority)"], "[ -~]{0,40}", any::<[bool; 4]>()), 0..12),
            cut in 0_usize..200,
            any in prop::collection::vec(any::<u8>(), 0..80),
        ) {
            let mut encoder = httlib_hpack::Encoder::default();
            let mut block = Vec::new();
            for (name, value, [kept, never, name_coded, value_coded]) in &all {
                let flag = |on: bool, flag: u8| if on { flag } else { 0 };
                let flags = flag(*kept, httlib_hpack::Encoder::WITH_INDEXING)
                    | flag(!kept && *never, httlib_hpack::Encoder::NEVER_INDEXED)
                    | flag(*name_coded, httlib_hpack::Encoder::HUFFMAN_NAME)
                    | flag(*value_coded, httlib_hpack::Encoder::HUFFMAN_VALUE)
                    | httlib_hpack::Encoder::BEST_FORMAT;
                let field = (name.clone().into_bytes(), value.clone().into_bytes(), flags);
                encoder.encode(field, &mut block).expect("a field");
            }
            let meant: Fields =
                all.into_iter().map(|(name, value, _)| (name.into_bytes(), value.into_bytes())).collect();
            prop_assert_eq!(read(&block), Ok(meant.clone()));
            if let Ok(less) = read(&block[..cut.min(block.len())]) {
                prop_assert_eq!(&less[..], &meant[..less.len()]);
            }
            let _ = read(&any);
        }
    }
}
