//! WebSocket frames (RFC 6455 section 5) as a server reads and writes them. Sans-IO.
//!
//! The libraries keep a buffer as large as the largest message for the life of a socket, and process any
//! number of frames that complete no message without returning. Here an idle socket holds no buffer, and
//! every frame is an event of its own, so that the caller can slow a client down.

/// The longest payload of a control frame (section 5.5).
const CONTROL_BYTES: usize = 125;

/// The longest header of a client's frame: two bytes, eight of length, four of the mask.
const HEADER_BYTES: usize = 14;

const CONTINUATION: u8 = 0;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

const FIN: u8 = 0x80;
const MASKED: u8 = 0x80;

/// A frame or message from a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// A complete text message.
    Text(String),
    /// A complete binary message of this many bytes; the content is discarded.
    Binary(usize),
    /// A fragment of a message that is not complete yet.
    Part,
    /// A ping, which must be answered with the same payload.
    Ping(Vec<u8>),
    /// A pong.
    Pong,
    /// The client closes the connection with this code.
    Close(Option<u16>),
}

/// A protocol error of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Fault {
    /// A reserved bit, an unknown opcode, a frame without a mask, a control frame that is fragmented or too
    /// long, or a continuation without a message (sections 5.1 to 5.5).
    #[error("protocol error")]
    Protocol,
    /// A text message that is not UTF-8 (section 8.1).
    #[error("invalid UTF-8")]
    NotUtf8,
    /// A message longer than the limit.
    #[error("message too long")]
    TooLong,
}

impl Fault {
    /// The status code for the close frame (section 7.4.1).
    pub(crate) fn code(self) -> u16 {
        match self {
            Self::Protocol => 1002,
            Self::NotUtf8 => 1007,
            Self::TooLong => 1009,
        }
    }

    /// The reason for the close frame.
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Self::Protocol => "protocol error",
            Self::NotUtf8 => "invalid UTF-8",
            Self::TooLong => "message too long",
        }
    }
}

/// Parses frames incrementally.
#[derive(Debug)]
pub(crate) struct FrameReader {
    /// The longest accepted message, in bytes.
    limit: usize,
    head: [u8; HEADER_BYTES],
    /// How many bytes of `head` are filled.
    headed: usize,
    frame: Option<Frame>,
    message: Option<Message>,
    control: Vec<u8>,
    /// Messages are skipped from now on.
    ended: bool,
}

/// A frame whose header is complete.
#[derive(Clone, Copy, Debug)]
struct Frame {
    opcode: u8,
    last: bool,
    mask: [u8; 4],
    /// Payload bytes received, and payload bytes still to come.
    taken: usize,
    left: u64,
}

/// A fragmented message that is not complete yet.
#[derive(Debug)]
struct Message {
    text: bool,
    bytes: Vec<u8>,
    length: usize,
}

impl FrameReader {
    /// Creates a reader that accepts messages of up to `limit` bytes.
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            limit,
            head: [0; HEADER_BYTES],
            headed: 0,
            frame: None,
            message: None,
            control: Vec::new(),
            ended: false,
        }
    }

    /// Skips messages of any length from now on and reports only the client's close frame.
    pub(crate) fn end(&mut self) {
        self.ended = true;
        if let Some(message) = &mut self.message {
            message.bytes = Vec::new();
        }
    }

    /// Bytes buffered for an incomplete message or control frame.
    pub(crate) fn held(&self) -> usize {
        self.control.capacity() + self.message.as_ref().map_or(0, |m| m.bytes.capacity())
    }

    /// Consumes `bytes` up to the end of the next frame. Returns `None` when all bytes are consumed and the
    /// frame is incomplete.
    ///
    /// # Errors
    /// The client's protocol error. After an error the frame boundaries are lost, except after
    /// [`Fault::TooLong`] when [`Self::end`] follows.
    pub(crate) fn read(&mut self, bytes: &mut &[u8]) -> Result<Option<Event>, Fault> {
        loop {
            let Some(mut frame) = self.frame else {
                if !self.read_head(bytes)? {
                    return Ok(None);
                }
                continue;
            };
            let count = bytes.len().min(usize::try_from(frame.left).unwrap_or(usize::MAX));
            let Some((payload, rest)) = bytes.split_at_checked(count) else { return Ok(None) };
            *bytes = rest;
            self.take(&mut frame, payload);
            self.frame = Some(frame);
            if frame.left > 0 {
                return Ok(None);
            }
            self.frame = None;
            return self.finish(frame).map(Some);
        }
    }

    /// Returns whether the header is complete.
    fn read_head(&mut self, bytes: &mut &[u8]) -> Result<bool, Fault> {
        loop {
            if let Some(needed) = header_length(self.head.get(..self.headed).unwrap_or_default())
                && self.headed >= needed
            {
                self.headed = 0;
                let frame = Frame::parse(&self.head, needed).ok_or(Fault::Protocol)?;
                // A frame that is too long can still be skipped.
                self.frame = Some(frame);
                self.begin(frame)?;
                return Ok(true);
            }
            let Some((&first, rest)) = bytes.split_first() else { return Ok(false) };
            let Some(place) = self.head.get_mut(self.headed) else { return Err(Fault::Protocol) };
            (*place, *bytes) = (first, rest);
            self.headed += 1;
        }
    }

    /// Checks that a frame may follow the frames before it.
    fn begin(&mut self, frame: Frame) -> Result<(), Fault> {
        match frame.opcode {
            CLOSE | PING | PONG => {
                self.control = Vec::new();
                let short = frame.left <= CONTROL_BYTES as u64;
                return if frame.last && short { Ok(()) } else { Err(Fault::Protocol) };
            }
            TEXT | BINARY if self.message.is_none() => {
                let text = frame.opcode == TEXT;
                self.message = Some(Message { text, bytes: Vec::new(), length: 0 });
            }
            CONTINUATION if self.message.is_some() => {}
            _ => return Err(Fault::Protocol),
        }
        let so_far = self.message.as_ref().map_or(0, |message| message.length);
        let length = usize::try_from(frame.left).unwrap_or(usize::MAX).saturating_add(so_far);
        if length > self.limit && !self.ended { Err(Fault::TooLong) } else { Ok(()) }
    }

    /// Unmasks a piece of a payload (section 5.3), and keeps it if the message is wanted.
    fn take(&mut self, frame: &mut Frame, payload: &[u8]) {
        let control = matches!(frame.opcode, CLOSE | PING | PONG);
        let kept = match (&mut self.message, control) {
            (_, true) => Some(&mut self.control),
            (Some(message), false) => {
                message.length = message.length.saturating_add(payload.len());
                (message.text && !self.ended).then_some(&mut message.bytes)
            }
            (None, false) => None,
        };
        if let Some(kept) = kept {
            let mask = frame.mask.iter().cycle().skip(frame.taken % 4);
            kept.extend(payload.iter().zip(mask).map(|(byte, mask)| byte ^ mask));
        }
        frame.taken = frame.taken.wrapping_add(payload.len());
        frame.left = frame.left.saturating_sub(payload.len() as u64);
    }

    fn finish(&mut self, frame: Frame) -> Result<Event, Fault> {
        match frame.opcode {
            PING => Ok(Event::Ping(std::mem::take(&mut self.control))),
            PONG => {
                self.control = Vec::new();
                Ok(Event::Pong)
            }
            CLOSE => close(&std::mem::take(&mut self.control)),
            _ if !frame.last => Ok(Event::Part),
            _ => match self.message.take() {
                Some(message) if message.text => {
                    let text = String::from_utf8(message.bytes);
                    text.map(Event::Text).map_err(|_| Fault::NotUtf8)
                }
                message => Ok(Event::Binary(message.map_or(0, |message| message.length))),
            },
        }
    }
}

/// Reads the code of a close frame, if it has one (section 5.5.1).
fn close(payload: &[u8]) -> Result<Event, Fault> {
    let Some((code, reason)) = payload.split_first_chunk::<2>() else {
        return if payload.is_empty() { Ok(Event::Close(None)) } else { Err(Fault::Protocol) };
    };
    let code = u16::from_be_bytes(*code);
    // Section 7.4: all reserved codes are treated alike.
    let sendable = matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999);
    if !sendable {
        return Err(Fault::Protocol);
    }
    if std::str::from_utf8(reason).is_err() {
        Err(Fault::NotUtf8)
    } else {
        Ok(Event::Close(Some(code)))
    }
}

/// Returns the length of a client's frame header, once its first bytes determine it.
fn header_length(head: &[u8]) -> Option<usize> {
    let second = head.get(1)?;
    Some(match second & !MASKED {
        126 => 8,
        127 => HEADER_BYTES,
        _ => 6,
    })
}

impl Frame {
    /// Returns `None` for a reserved bit or opcode or a missing mask.
    fn parse(head: &[u8; HEADER_BYTES], length: usize) -> Option<Self> {
        let [first, second, ..] = *head;
        if first & 0x70 != 0 || second & MASKED == 0 {
            return None;
        }
        let left = match second & !MASKED {
            126 => u64::from(u16::from_be_bytes(*head.get(2..)?.first_chunk()?)),
            127 => u64::from_be_bytes(*head.get(2..)?.first_chunk()?),
            short => u64::from(short),
        };
        let mask = *head.get(..length)?.last_chunk::<4>()?;
        let opcode = first & 0x0f;
        let known = matches!(opcode, CONTINUATION | TEXT | BINARY | CLOSE | PING | PONG);
        // Section 5.2: the most significant bit of a length is 0.
        (known && left >> 63 == 0).then_some(Self {
            opcode,
            last: first & FIN != 0,
            mask,
            taken: 0,
            left,
        })
    }
}

/// Encodes a text message as one frame.
pub(crate) fn text(text: &str) -> Vec<u8> {
    frame(TEXT, text.as_bytes())
}

/// Encodes a ping with an empty payload.
pub(crate) fn ping() -> Vec<u8> {
    frame(PING, &[])
}

/// Encodes the answer to a ping.
pub(crate) fn pong(payload: &[u8]) -> Vec<u8> {
    frame(PONG, payload)
}

/// Encodes a close frame; without a code, an empty one.
pub(crate) fn close_frame(code: Option<u16>, reason: &str) -> Vec<u8> {
    let Some(code) = code else { return frame(CLOSE, &[]) };
    let mut payload = code.to_be_bytes().to_vec();
    payload.extend(reason.bytes().take(CONTROL_BYTES - 2));
    frame(CLOSE, &payload)
}

/// Encodes a frame; a server does not mask (section 5.1).
fn frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(payload.len() + 10);
    frame.push(FIN | opcode);
    match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
        (Ok(short), _) if short < 126 => frame.push(short),
        (_, Ok(length)) => {
            frame.push(126);
            frame.extend(length.to_be_bytes());
        }
        _ => {
            frame.push(127);
            frame.extend((payload.len() as u64).to_be_bytes());
        }
    }
    frame.extend(payload);
    frame
}

/// Fuzz entry: parses the bytes as a client's stream, in pieces of two sizes. Both runs must agree, and
/// buffer no more than the limit.
pub(crate) fn read_both_ways(bytes: &[u8]) {
    const LIMIT: usize = 4096;
    let (piece, bytes) = bytes.split_first().map_or((1, bytes), |(first, rest)| (*first, rest));
    let read = |piece: usize| {
        let (mut reader, mut events) = (FrameReader::new(LIMIT), Vec::new());
        for mut part in bytes.chunks(piece.max(1)) {
            loop {
                match reader.read(&mut part) {
                    Ok(Some(event)) => events.push(Ok(event)),
                    Ok(None) => break,
                    Err(fault) => {
                        events.push(Err(fault));
                        return events;
                    }
                }
                assert!(reader.held() <= 4 * LIMIT, "{}", reader.held());
            }
        }
        events
    };
    assert_eq!(read(usize::from(piece)), read(usize::MAX));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A client's frame.
    fn masked(first: u8, payload: &[u8], mask: [u8; 4]) -> Vec<u8> {
        let mut bytes = frame(first & 0x0f, payload);
        bytes[0] = first;
        bytes[1] |= MASKED;
        let at = bytes.len() - payload.len();
        let hidden = payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask);
        let hidden: Vec<u8> = mask.into_iter().chain(hidden).collect();
        bytes.truncate(at);
        bytes.extend(hidden);
        bytes
    }

    fn sent(first: u8, payload: &[u8]) -> Vec<u8> {
        masked(first, payload, [1, 2, 3, 4])
    }

    fn all(bytes: &[u8]) -> Result<Vec<Event>, Fault> {
        let (mut reader, mut bytes) = (FrameReader::new(1000), bytes);
        let mut events = Vec::new();
        while let Some(event) = reader.read(&mut bytes)? {
            events.push(event);
        }
        assert!(bytes.is_empty());
        Ok(events)
    }

    /// RFC 6455 section 5.7.
    #[test]
    fn the_examples_of_the_rfc() {
        let hello = [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
        assert_eq!(all(&hello), Ok(vec![Event::Text("Hello".to_owned())]));
        assert_eq!(text("Hello"), [0x81, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f]);
        let pong_hello = [0x8a, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
        assert_eq!(all(&pong_hello), Ok(vec![Event::Pong]));
        assert_eq!(&text(&"x".repeat(256))[..4], [0x81, 0x7e, 0x01, 0x00]);
        assert_eq!(&text(&"x".repeat(1 << 16))[..10], [0x81, 0x7f, 0, 0, 0, 0, 0, 1, 0, 0]);
    }

    #[test]
    fn a_message_comes_in_parts_with_pings_between() {
        let parts = [
            sent(0x01, "a\u{e9}".as_bytes().split_at(2).0),
            sent(0x89, b"there?"),
            sent(0x00, "a\u{e9}".as_bytes().split_at(2).1),
            sent(0x80, b"b"),
            sent(0x82, &[0; 300]),
            sent(0x88, &[0x03, 0xe8, b'x']),
        ];
        let expected = [
            Event::Part,
            Event::Ping(b"there?".to_vec()),
            Event::Part,
            Event::Text("a\u{e9}b".to_owned()),
            Event::Binary(300),
            Event::Close(Some(1000)),
        ];
        assert_eq!(all(&parts.concat()), Ok(expected.to_vec()));
        assert_eq!(all(&sent(0x88, &[])), Ok(vec![Event::Close(None)]));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let long = sent(0x01, &[b'x'; 600]);
        for (bytes, fault) in [
            (text("unmasked"), Fault::Protocol),
            (sent(0xc1, b"reserved bit"), Fault::Protocol),
            (sent(0x83, b"opcode"), Fault::Protocol),
            (sent(0x80, b"part of nothing"), Fault::Protocol),
            ([sent(0x01, b"a"), sent(0x81, b"b")].concat(), Fault::Protocol),
            (sent(0x09, b"part of a ping"), Fault::Protocol),
            (sent(0x89, &[0; 126]), Fault::Protocol),
            (sent(0x88, &[3]), Fault::Protocol),
            (sent(0x88, &[0x03, 0xed]), Fault::Protocol),
            (sent(0x88, &[0x03, 0xe8, 0xff]), Fault::NotUtf8),
            (sent(0x81, &[0xff]), Fault::NotUtf8),
            (sent(0x81, &[b'x'; 1001]), Fault::TooLong),
            ([long, sent(0x80, &[b'x'; 401])].concat(), Fault::TooLong),
            (vec![0x82, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], Fault::Protocol),
            (vec![0x82, 0xff, 0x7f, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], Fault::TooLong),
        ] {
            assert_eq!(all(&bytes), Err(fault), "{bytes:02x?}");
        }
    }

    #[test]
    fn a_socket_that_says_nothing_holds_nothing() {
        let mut reader = FrameReader::new(1 << 20);
        let frames =
            [sent(0x81, &vec![b'x'; 1 << 20]), sent(0x89, &[0; 125]), sent(0x82, &vec![0; 70_000])];
        for frame in frames {
            let mut bytes = &frame[..];
            assert!(matches!(reader.read(&mut bytes), Ok(Some(_))));
            assert_eq!(reader.held(), 0);
        }
    }

    #[test]
    fn a_message_that_is_too_long_can_be_skipped() {
        let (mut reader, long) = (FrameReader::new(10), sent(0x81, &[b'x'; 5000]));
        let frames = [long, sent(0x88, &[])].concat();
        let (head, rest) = frames.split_at(3);
        assert_eq!(reader.read(&mut &head[..]), Ok(None));
        let mut rest = rest;
        assert_eq!(reader.read(&mut rest), Err(Fault::TooLong));
        reader.end();
        assert_eq!(reader.read(&mut rest), Ok(Some(Event::Text(String::new()))));
        assert_eq!(reader.read(&mut rest), Ok(Some(Event::Close(None))));
    }

    #[test]
    fn after_the_end_only_the_close_frame_counts() {
        let mut reader = FrameReader::new(10);
        reader.end();
        let frames = [sent(0x01, &[b'x'; 5000]), sent(0x80, &[0xff; 9]), sent(0x88, &[])].concat();
        let mut bytes = &frames[..];
        assert_eq!(reader.read(&mut bytes), Ok(Some(Event::Part)));
        assert_eq!(reader.held(), 0);
        assert_eq!(reader.read(&mut bytes), Ok(Some(Event::Text(String::new()))));
        assert_eq!(reader.read(&mut bytes), Ok(Some(Event::Close(None))));
    }

    proptest! {
        #[test]
        fn texts_arrive_as_they_were_sent(
            texts in prop::collection::vec(".{0,300}", 0..4),
            mask in any::<[u8; 4]>(),
            piece in 1..50_usize,
        ) {
            let bytes: Vec<u8> =
                texts.iter().flat_map(|text| masked(0x81, text.as_bytes(), mask)).collect();
            let (mut reader, mut events) = (FrameReader::new(2000), Vec::new());
            for mut part in bytes.chunks(piece) {
                while let Some(event) = reader.read(&mut part).unwrap() {
                    events.push(event);
                }
            }
            prop_assert_eq!(events, texts.into_iter().map(Event::Text).collect::<Vec<_>>());
        }

        #[test]
        fn pieces_do_not_matter(bytes in any::<Vec<u8>>()) {
            read_both_ways(&bytes);
        }

        #[test]
        fn pieces_of_frames_do_not_matter(
            frames in prop::collection::vec((any::<u8>(), any::<Vec<u8>>()), 0..8),
            piece in any::<u8>(),
        ) {
            let frames = frames.iter().map(|(first, payload)| sent(first & 0x8f, payload));
            let bytes: Vec<u8> = std::iter::once(piece).chain(frames.flatten()).collect();
            read_both_ways(&bytes);
        }
    }
}
