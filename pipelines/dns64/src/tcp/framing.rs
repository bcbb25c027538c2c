//! Messages in a stream: each behind two octets that say how long it is (RFC 1035 4.2.2, RFC 7766 8).

/// Octets of a DNS header (RFC 1035 4.1.1): nothing shorter is a message.
const SHORTEST: usize = 12;

/// Puts messages together from a stream that may be split anywhere.
#[derive(Debug, Default)]
pub(super) struct Reader {
    /// What there is of the two octets of the length.
    length: Option<u8>,
    /// The message that is being read, and how long it will be.
    message: Vec<u8>,
    want: usize,
}

/// Why the stream is of no use any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FramingError {
    /// A message that is too short to be one.
    TooShort,
    /// A message that is longer than what is read.
    TooLong,
}

impl Reader {
    /// True if part of a message is there.
    pub(super) const fn is_inside(&self) -> bool {
        self.length.is_some() || self.want > 0
    }

    /// Octets of memory in use.
    pub(super) const fn octets(&self) -> usize {
        self.message.capacity()
    }

    /// Takes octets from the front of `input` up to the end of a message. How many were taken, and the message if it is
    /// complete.
    ///
    /// # Errors
    /// The stream is of no use any more.
    pub(super) fn take(
        &mut self,
        input: &[u8],
        longest: usize,
    ) -> Result<(usize, Option<Vec<u8>>), FramingError> {
        let mut taken = 0;
        while self.want == 0 {
            let Some(&octet) = input.get(taken) else { return Ok((taken, None)) };
            taken += 1;
            match self.length.take() {
                None => self.length = Some(octet),
                Some(high) => {
                    let want = usize::from(u16::from_be_bytes([high, octet]));
                    if want < SHORTEST {
                        return Err(FramingError::TooShort);
                    }
                    if want > longest {
                        return Err(FramingError::TooLong);
                    }
                    self.want = want;
                }
            }
        }
        let rest = &input[taken..];
        let more = rest.len().min(self.want - self.message.len());
        // Memory is for what has come, not for what was announced.
        if self.message.capacity() < self.message.len() + more {
            let room = (self.message.len() + more).max(2 * self.message.capacity()).min(self.want);
            self.message.reserve_exact(room - self.message.len());
        }
        self.message.extend_from_slice(&rest[..more]);
        taken += more;
        if self.message.len() < self.want {
            return Ok((taken, None));
        }
        self.want = 0;
        Ok((taken, Some(std::mem::take(&mut self.message))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn rfc7766_8_a_stream_may_be_split_anywhere(
            messages in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 12..300), 0..8),
            cuts in proptest::collection::vec(1usize..40, 1..50),
        ) {
            let mut stream = Vec::new();
            for m in &messages {
                stream.extend(u16::try_from(m.len()).unwrap().to_be_bytes());
                stream.extend(m);
            }
            let mut reader = Reader::default();
            let mut got = Vec::new();
            let mut rest = &stream[..];
            let mut cuts = cuts.iter().cycle();
            while !rest.is_empty() {
                let (mut part, tail) = rest.split_at((*cuts.next().unwrap()).min(rest.len()));
                rest = tail;
                while !part.is_empty() {
                    let (taken, message) = reader.take(part, 300).unwrap();
                    prop_assert!(taken > 0 && reader.octets() <= 300);
                    got.extend(message);
                    part = &part[taken..];
                }
            }
            prop_assert_eq!(got, messages);
            prop_assert!(!reader.is_inside());
        }
    }

    #[test]
    fn lengths_that_no_message_has_end_the_stream() {
        assert_eq!(Reader::default().take(&[0, 11, 1], 100), Err(FramingError::TooShort));
        assert_eq!(Reader::default().take(&[0, 101], 100), Err(FramingError::TooLong));
        let mut reader = Reader::default();
        assert_eq!(reader.take(&[0], 100), Ok((1, None)));
        assert!(reader.is_inside());
        assert_eq!(reader.take(&[0], 100), Err(FramingError::TooShort));
    }

    #[test]
    fn memory_is_taken_for_what_came_and_not_for_what_was_announced() {
        let mut reader = Reader::default();
        reader.take(&[0xff, 0xff, 1, 2, 3], 65_535).unwrap();
        assert!(reader.is_inside() && reader.octets() <= 16, "{}", reader.octets());
    }
}
