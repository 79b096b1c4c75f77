//! The worked frames of `s2s.md` §5, each in both directions.

use bytes::{Bytes, BytesMut};

use super::*;
use crate::types::{
    ApiError, AppendAck, Batch, BatchError, Command, Compression, ErrorCode, FencingToken, Position, SeqNum, Timestamp,
};

const T0: u64 = 1_713_812_735_000;
const T12: u64 = 1_713_812_735_012;

fn bytes(hex: &str) -> Bytes {
    hex.split_whitespace().map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect()
}

/// The one frame that `hex` is.
fn frame(hex: &str) -> Frame {
    let mut buffer = FrameBuffer::new();
    buffer.push(bytes(hex));
    let frame = buffer.next_frame().unwrap().unwrap();
    assert_eq!(buffer.next_frame(), Ok(None));
    assert_eq!(buffer.finish(), Ok(()));
    frame
}

fn message(hex: &str) -> (Advice, Bytes) {
    match frame(hex) {
        Frame::Message { compression: Compression::None, advice, body } => (advice, body),
        frame => panic!("{frame:?}"),
    }
}

struct Input {
    hex: &'static str,
    timestamp: Option<u64>,
    headers: &'static [(&'static str, &'static str)],
    body: &'static [u8],
    match_seq_num: Option<u64>,
    fencing_token: Option<&'static str>,
    metered: usize,
}

const PLAIN: Input =
    Input { hex: "", timestamp: None, headers: &[], body: b"", match_seq_num: None, fencing_token: None, metered: 8 };

const INPUTS: [Input; 8] = [
    Input { hex: "00 00 0a 00 0a 07 1a 05 68 65 6c 6c 6f", body: b"hello", metered: 13, ..PLAIN },
    Input {
        hex: "00 00 19 00 0a 16 08 98 88 cc b9 f0 31 12 06 0a 01 6b 12 01 76 1a 05 68 65 6c 6c 6f",
        timestamp: Some(T0),
        headers: &[("k", "v")],
        body: b"hello",
        metered: 17,
        ..PLAIN
    },
    Input {
        hex: "00 00 0c 00 0a 03 1a 01 78 10 00 1a 02 77 31",
        body: b"x",
        match_seq_num: Some(0),
        fencing_token: Some("w1"),
        metered: 9,
        ..PLAIN
    },
    Input { hex: "00 00 08 00 0a 03 1a 01 78 1a 00", body: b"x", fencing_token: Some(""), metered: 9, ..PLAIN },
    Input { hex: "00 00 03 00 0a 00", ..PLAIN },
    Input {
        hex: "00 00 1a 00 0a 17 12 07 12 05 66 65 6e 63 65 1a 0c 70 72 6f 64 75 63 65 72 2d 31 32 33",
        headers: &[("", "fence")],
        body: b"producer-123",
        metered: 27,
        ..PLAIN
    },
    Input { hex: "00 00 0c 00 0a 09 12 07 12 05 66 65 6e 63 65", headers: &[("", "fence")], metered: 15, ..PLAIN },
    Input {
        hex: "00 00 15 00 0a 12 12 06 12 04 74 72 69 6d 1a 08 00 00 00 00 00 00 03 e8",
        headers: &[("", "trim")],
        body: &[0, 0, 0, 0, 0, 0, 3, 0xe8],
        metered: 22,
        ..PLAIN
    },
];

impl Input {
    fn headers(&self) -> impl Iterator<Item = (&[u8], &[u8])> + Clone {
        self.headers.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()))
    }

    fn fencing_token(&self) -> Option<FencingToken> {
        self.fencing_token.map(|token| FencingToken::new(token).unwrap())
    }
}

#[test]
fn append_inputs_decode() {
    for expected in INPUTS {
        let input = append_input_of_frame(frame(expected.hex)).unwrap();
        assert_eq!(input.match_seq_num, expected.match_seq_num.map(SeqNum::new), "{}", expected.hex);
        assert_eq!(input.fencing_token, expected.fencing_token(), "{}", expected.hex);
        assert_eq!(input.batch.metered(), expected.metered, "{}", expected.hex);
        let record = input.batch.records().next().unwrap();
        assert_eq!(input.batch.len(), 1);
        assert_eq!(record.timestamp, expected.timestamp.map(Timestamp::new));
        assert!(record.fields().headers().eq(expected.headers()), "{record:?}");
        assert_eq!(record.fields().body(), expected.body);
    }
}

#[test]
fn append_inputs_encode() {
    for input in INPUTS {
        let mut records = RecordsWriter::new();
        records.push(input.timestamp.map(Timestamp::new), input.headers(), input.body);
        let message = records.into_append_input(input.match_seq_num.map(SeqNum::new), input.fencing_token());
        assert_eq!(message_frame(Compression::Zstd, Advice::None, &message).unwrap(), bytes(input.hex));
    }
}

#[test]
fn command_records_are_commands() {
    let command = |input: &Input| {
        let commands = append_input_of_frame(frame(input.hex)).unwrap().batch.commands().to_vec();
        commands.first().map(|&(index, command)| (index, command))
    };
    assert_eq!(command(&INPUTS[0]), None);
    assert_eq!(command(&INPUTS[5]), Some((0, Command::Fence(FencingToken::new("producer-123").unwrap()))));
    assert_eq!(command(&INPUTS[6]), Some((0, Command::Fence(FencingToken::NONE))));
    assert_eq!(command(&INPUTS[7]), Some((0, Command::Trim(SeqNum::new(1000)))));
}

#[test]
fn an_empty_message_decodes_and_is_invalid() {
    let result = append_input_of_frame(frame("00 00 01 00"));
    assert_eq!(result.unwrap_err(), InputError::Invalid(BatchError::Empty));
    assert_eq!(message_frame(Compression::None, Advice::None, b"").unwrap(), bytes("00 00 01 00"));
}

#[test]
fn compressed_inputs_come_back() {
    let gzip = "00 00 2a 40 1f 8b 08 00 00 00 00 00 00 03 e3 ba cc 2f 75 81 3f 71 14 8c 82 51 30 0a 46 c1 28 18 05 43 \
                1e 00 00 b0 83 60 81 d6 07 00 00";
    let zstd = "00 00 18 20 28 b5 2f fd 00 58 75 00 00 38 0a d3 0f 1a d0 0f 61 01 00 cc ff c0 08";
    let mut records = RecordsWriter::new();
    records.push(None, [], &[b'a'; 2000]);
    let message = records.into_append_input(None, None);
    assert_eq!(message.len(), 2006);

    for (negotiated, hex) in [(Compression::Gzip, gzip), (Compression::Zstd, zstd)] {
        let Frame::Message { compression, body, .. } = frame(hex) else { panic!("{hex}") };
        assert_eq!(compression, negotiated);
        assert_eq!(inflate(compression, body, 2006).unwrap(), message);
        assert_eq!(append_input_of_frame(frame(hex)).unwrap().batch.metered(), 2008);

        let mut buffer = FrameBuffer::new();
        buffer.push(message_frame(negotiated, Advice::None, &message).unwrap());
        let Ok(Some(Frame::Message { compression, body, .. })) = buffer.next_frame() else { panic!() };
        assert_eq!(compression, negotiated);
        assert_eq!(inflate(compression, body, 2006).unwrap(), message);
    }
}

#[test]
fn acks() {
    let hex = "00 00 22 00 0a 09 08 2a 10 98 88 cc b9 f0 31 12 09 08 2d 10 a4 88 cc b9 f0 31 1a 09 08 2d 10 a4 88 cc b9 \
               f0 31";
    let first =
        "00 00 20 00 0a 07 10 98 88 cc b9 f0 31 12 09 08 01 10 98 88 cc b9 f0 31 1a 09 08 01 10 98 88 cc b9 f0 31";
    let ack = |start, end| AppendAck { start, end, tail: end };
    for (hex, ack) in [
        (hex, ack(Position::new(42, T0), Position::new(45, T12))),
        (first, ack(Position::new(0, T0), Position::new(1, T0))),
    ] {
        assert_eq!(decode_append_ack(message(hex).1), Ok(ack));
        let mut out = BytesMut::new();
        put_append_ack(&mut out, &ack, Advice::None);
        assert_eq!(out, bytes(hex));
        assert_eq!(encode_append_ack(&ack), message(hex).1);

        let mut advised = BytesMut::new();
        put_append_ack(&mut advised, &ack, Advice::Reconnect);
        assert_eq!((advised[3], &advised[4..]), (0x10, &out[4..]));
    }
}

fn batch_42(headers: &[(&[u8], &[u8])]) -> Batch {
    let mut records = RecordsWriter::new();
    records.push(None, headers.iter().copied(), b"hello");
    Batch::sequence(&records.into_batch().unwrap(), SeqNum::new(42), |_| Timestamp::new(T0))
}

fn read_42(headers: &[(&'static [u8], &'static [u8])], tail: Option<Position>) -> ReadBatch {
    let headers = headers.iter().map(|&(name, value)| (Bytes::from(name), Bytes::from(value))).collect();
    let (seq_num, timestamp) = (SeqNum::new(42), Timestamp::new(T0));
    ReadBatch { records: vec![ReadRecord { seq_num, timestamp, headers, body: "hello".into() }], tail }
}

#[test]
fn a_batch_without_tail() {
    let hex = "00 00 13 00 0a 10 08 2a 10 98 88 cc b9 f0 31 22 05 68 65 6c 6c 6f";
    assert_eq!(decode_read_batch(message(hex).1), Ok(read_42(&[], None)));
    let shown = read_frames(&[batch_42(&[]).whole()], None, Compression::Gzip, Advice::None);
    assert_eq!(shown.into_bytes(), bytes(hex));
}

#[test]
fn a_batch_with_tail() {
    let hex = "00 00 26 00 0a 18 08 2a 10 98 88 cc b9 f0 31 1a 06 0a 01 6b 12 01 76 22 05 68 65 6c 6c 6f 12 09 08 2b 10 \
               98 88 cc b9 f0 31";
    let headers: &[(&[u8], &[u8])] = &[(b"k", b"v")];
    let tail = Position::new(43, T0);
    assert_eq!(decode_read_batch(message(hex).1), Ok(read_42(headers, Some(tail))));
    let batch = batch_42(headers);
    for compression in Compression::ALL {
        assert_eq!(follow_frame(&batch, compression, Advice::None).into_bytes(), bytes(hex));
        assert_eq!(read_frames(&[batch.whole()], Some(tail), compression, Advice::None).into_bytes(), bytes(hex));
    }
    assert_eq!(encode_read_batch(&[batch.whole()], Some(tail)).into_bytes(), message(hex).1);
}

#[test]
fn heartbeats() {
    let tail = Position::new(45, T12);
    for (hex, tail, advice) in [
        ("00 00 0c 00 12 09 08 2d 10 a4 88 cc b9 f0 31", tail, Advice::None),
        ("00 00 0c 10 12 09 08 2d 10 a4 88 cc b9 f0 31", tail, Advice::Reconnect),
        ("00 00 03 00 12 00", Position::EMPTY, Advice::None),
    ] {
        assert_eq!(heartbeat_frame(tail, advice), bytes(hex));
        let (came, message) = message(hex);
        assert_eq!(came, advice);
        assert_eq!(decode_read_batch(message), Ok(ReadBatch { records: Vec::new(), tail: Some(tail) }));
    }
}

#[test]
fn terminal_frames() {
    let token = |current| ApiError::FencingTokenMismatch { current: FencingToken::new(current).unwrap() };
    let coded = ApiError::new;
    for (hex, error, json) in [
        (
            "00 00 1a 80 01 9c 7b 22 73 65 71 5f 6e 75 6d 5f 6d 69 73 6d 61 74 63 68 22 3a 34 35 7d",
            ApiError::SeqNumMismatch { next: SeqNum::new(45) },
            r#"{"seq_num_mismatch":45}"#,
        ),
        (
            "00 00 28 80 01 9c 7b 22 66 65 6e 63 69 6e 67 5f 74 6f 6b 65 6e 5f 6d 69 73 6d 61 74 63 68 22 3a 22 77 72 69 \
             74 65 72 2d 32 22 7d",
            token("writer-2"),
            r#"{"fencing_token_mismatch":"writer-2"}"#,
        ),
        (
            "00 00 20 80 01 9c 7b 22 66 65 6e 63 69 6e 67 5f 74 6f 6b 65 6e 5f 6d 69 73 6d 61 74 63 68 22 3a 22 22 7d",
            token(""),
            r#"{"fencing_token_mismatch":""}"#,
        ),
        (
            "00 00 34 80 01 a0 7b 22 74 61 69 6c 22 3a 7b 22 73 65 71 5f 6e 75 6d 22 3a 34 35 2c 22 74 69 6d 65 73 74 61 \
             6d 70 22 3a 31 37 31 33 38 31 32 37 33 35 30 31 32 7d 7d",
            ApiError::OutOfRange { tail: Position::new(45, T12) },
            r#"{"tail":{"seq_num":45,"timestamp":1713812735012}}"#,
        ),
        (
            "00 00 40 80 01 a6 7b 22 63 6f 64 65 22 3a 22 69 6e 76 61 6c 69 64 22 2c 22 6d 65 73 73 61 67 65 22 3a 22 72 \
             65 63 6f 72 64 20 62 61 74 63 68 20 6d 75 73 74 20 6e 6f 74 20 62 65 20 65 6d 70 74 79 22 7d",
            coded(ErrorCode::Invalid, "record batch must not be empty"),
            r#"{"code":"invalid","message":"record batch must not be empty"}"#,
        ),
        (
            "00 00 3e 80 01 90 7b 22 63 6f 64 65 22 3a 22 62 61 64 5f 66 72 61 6d 65 22 2c 22 6d 65 73 73 61 67 65 22 3a \
             22 66 72 61 6d 65 20 65 78 63 65 65 64 73 20 64 65 63 6f 64 65 20 6c 69 6d 69 74 22 7d",
            coded(ErrorCode::BadFrame, "frame exceeds decode limit"),
            r#"{"code":"bad_frame","message":"frame exceeds decode limit"}"#,
        ),
        (
            "00 00 49 80 01 99 7b 22 63 6f 64 65 22 3a 22 73 74 72 65 61 6d 5f 64 65 6c 65 74 69 6f 6e 5f 70 65 6e 64 69 \
             6e 67 22 2c 22 6d 65 73 73 61 67 65 22 3a 22 73 74 72 65 61 6d 20 64 65 6c 65 74 69 6f 6e 20 70 65 6e 64 69 \
             6e 67 22 7d",
            coded(ErrorCode::StreamDeletionPending, "stream deletion pending"),
            r#"{"code":"stream_deletion_pending","message":"stream deletion pending"}"#,
        ),
        (
            "00 00 3c 80 01 f7 7b 22 63 6f 64 65 22 3a 22 73 65 72 76 65 72 5f 64 72 61 69 6e 69 6e 67 22 2c 22 6d 65 73 \
             73 61 67 65 22 3a 22 73 65 72 76 65 72 20 69 73 20 64 72 61 69 6e 69 6e 67 22 7d",
            coded(ErrorCode::ServerDraining, "server is draining"),
            r#"{"code":"server_draining","message":"server is draining"}"#,
        ),
    ] {
        assert_eq!(terminal_frame(&error), bytes(hex));
        assert_eq!(error_json(&error), json);
        let Frame::Terminal(terminal) = frame(hex) else { panic!("{hex}") };
        assert_eq!(terminal, Terminal { status: error.status(), body: json.into() });
        assert_eq!(parse_error(terminal.status, &terminal.body), RemoteError::Known(error));
        assert!(append_input_of_frame(frame(hex)).is_err(), "clients do not send these");
    }
}
