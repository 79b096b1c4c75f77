//! Appends in JSON against the tables of `data-plane.md` §1, §2 and §6.

use proptest::prelude::*;

use super::*;
use crate::types::{BatchError, Command, FencingTokenTooLong, Position, RecordError};

fn raw(json: &str) -> Result<AppendInput, JsonError> {
    decode_append_input(json.as_bytes(), S2Format::Raw)
}

fn base64(json: &str) -> Result<AppendInput, JsonError> {
    decode_append_input(json.as_bytes(), S2Format::Base64)
}

/// Timestamp, headers and body of each record.
type Content = Vec<(Option<u64>, Vec<(Vec<u8>, Vec<u8>)>, Vec<u8>)>;

fn content(input: &AppendInput) -> Content {
    let records = input.batch.records().map(|record| {
        let headers = record.fields().headers().map(|(name, value)| (name.to_vec(), value.to_vec()));
        (record.timestamp.map(Timestamp::get), headers.collect(), record.fields().body().to_vec())
    });
    records.collect()
}

fn header(name: &str, value: &str) -> (Vec<u8>, Vec<u8>) {
    (name.into(), value.into())
}

#[test]
fn the_example_of_the_contract() {
    // data-plane.md §2.1
    let input = raw(r#"{"records":[
            {"body":"hello"},
            {"timestamp":1713812735000,"headers":[["k","v"]],"body":"x"}],
           "match_seq_num":42,
           "fencing_token":"writer-1"}"#)
    .unwrap();
    let second = (Some(1_713_812_735_000), vec![header("k", "v")], b"x".to_vec());
    assert_eq!(content(&input), [(None, vec![], b"hello".to_vec()), second]);
    assert_eq!(input.match_seq_num, Some(SeqNum::new(42)));
    assert_eq!(input.fencing_token, Some(FencingToken::new("writer-1").unwrap()));
    assert_eq!(input.batch.metered(), 13 + 13);
}

#[test]
fn accepted_shapes() {
    // data-plane.md §6.2
    let empty = (None, vec![], vec![]);
    let cases: &[(&str, Content)] = &[
        (r#"{"records":[{}]}"#, vec![empty.clone()]),
        (r#" { "records" : [ { "timestamp" : null } ] } "#, vec![empty.clone()]),
        (r#"{"records":[{"timestamp":0}]}"#, vec![(Some(0), vec![], vec![])]),
        (r#"{"records":[{"timestamp":18446744073709551615}]}"#, vec![(Some(u64::MAX), vec![], vec![])]),
        (r#"{"records":[{"headers":[],"body":""}]}"#, vec![empty.clone()]),
        (
            r#"{"records":[{"body":"b","headers":[["k",""],["k","2"]],"timestamp":7}]}"#,
            vec![(Some(7), vec![header("k", ""), header("k", "2")], b"b".to_vec())],
        ),
        (r#"{"records":[{"body":"\u0000\n\u00e9\ud83d\ude00é"}]}"#, vec![(None, vec![], "\0\né😀é".into())]),
        (
            r#"{"records":[{"headers":[["\u006b","v\t"]]},{"body":"plain"}]}"#,
            vec![(None, vec![header("k", "v\t")], vec![]), (None, vec![], b"plain".to_vec())],
        ),
        (r#"{"records":[{"seq_num":[{"a":null}],"x":1e5}],"y":{"z":[]}}"#, vec![empty.clone()]),
        (r#"{"match_seq_num":null,"fencing_token":null,"records":[{}]}"#, vec![empty]),
    ];
    for (json, expected) in cases {
        assert_eq!(raw(json).map(|input| content(&input)).as_ref(), Ok(expected), "{json}");
    }
}

#[test]
fn conditions_tell_zero_and_empty_from_absent() {
    let conditions = |json| raw(json).map(|input| (input.match_seq_num, input.fencing_token)).unwrap();
    assert_eq!(conditions(r#"{"records":[{}]}"#), (None, None));
    assert_eq!(conditions(r#"{"records":[{}],"match_seq_num":null,"fencing_token":null}"#), (None, None));
    let zero = (Some(SeqNum::FIRST), Some(FencingToken::NONE));
    assert_eq!(conditions(r#"{"records":[{}],"match_seq_num":0,"fencing_token":""}"#), zero);
}

#[test]
fn refused_shapes() {
    // data-plane.md §6.2, errors.md §4.1
    for json in [
        "",
        "null",
        "[]",
        "[[{}]]",
        "{",
        "{}",
        r#"{"records":null}"#,
        r#"{"records":{}}"#,
        r#"{"records":[null]}"#,
        r#"{"records":[[]]}"#,
        r#"{"records":["x"]}"#,
        r#"{"records":[{}],}"#,
        r#"{"records":[{}]} x"#,
        r#"{"records":[{}],"records":[{}]}"#,
        r#"{"records":[{"headers":null}]}"#,
        r#"{"records":[{"headers":{}}]}"#,
        r#"{"records":[{"headers":[null]}]}"#,
        r#"{"records":[{"headers":[["a"]]}]}"#,
        r#"{"records":[{"headers":[["a","b","c"]]}]}"#,
        r#"{"records":[{"headers":[["a",null]]}]}"#,
        r#"{"records":[{"headers":[["a",1]]}]}"#,
        r#"{"records":[{"headers":[{"name":"a","value":"b"}]}]}"#,
        r#"{"records":[{"body":null}]}"#,
        r#"{"records":[{"body":1}]}"#,
        r#"{"records":[{"body":"a","body":"b"}]}"#,
        r#"{"records":[{"body":"\ud800"}]}"#,
        r#"{"records":[{"timestamp":"1"}]}"#,
        r#"{"records":[{"timestamp":1.0}]}"#,
        r#"{"records":[{"timestamp":-1}]}"#,
        r#"{"records":[{"timestamp":18446744073709551616}]}"#,
        r#"{"records":[{}],"match_seq_num":"1"}"#,
        r#"{"records":[{}],"match_seq_num":1.0}"#,
        r#"{"records":[{}],"fencing_token":1}"#,
    ] {
        let error = raw(json).unwrap_err();
        assert!(matches!(error, JsonError::Malformed(_)), "{json}: {error:?}");
    }
    let not_utf8 = decode_append_input(b"{\"records\":[{\"body\":\"\xff\"}]}", S2Format::Raw);
    assert!(matches!(not_utf8, Err(JsonError::Malformed(_))));
}

#[test]
fn faults_of_records() {
    // data-plane.md §1.2, §1.3, §3.2
    let record = |index, error| JsonError::Invalid(BatchError::Record { index, error });
    let over_count = format!(r#"{{"records":[{}{{}}]}}"#, "{},".repeat(1000));
    let far_over_count = format!(r#"{{"records":[{}{{}}]}}"#, "{},".repeat(5000));
    let too_large = format!(r#"{{"records":[{{}},{{"body":"{}"}}]}}"#, "x".repeat(1_048_569));
    let token = format!(r#"{{"records":[{{}}],"fencing_token":"{}"}}"#, "x".repeat(37));
    let cases = [
        (r#"{"records":[]}"#, JsonError::Invalid(BatchError::Empty)),
        (&over_count, JsonError::Invalid(BatchError::TooManyRecords)),
        (&far_over_count, JsonError::Invalid(BatchError::TooManyRecords)),
        (&too_large, record(1, RecordError::TooLarge { metered: 1_048_577 })),
        (r#"{"records":[{},{"headers":[["",""],["a","b"]]}]}"#, record(1, RecordError::EmptyHeaderName)),
        (r#"{"records":[{"headers":[["","compact"]]}]}"#, record(0, RecordError::UnknownCommand)),
        (&token, JsonError::FencingTokenTooLong(FencingTokenTooLong { len: 37 })),
    ];
    for (json, expected) in cases {
        assert_eq!(raw(json).unwrap_err(), expected);
    }
    let largest = format!(r#"{{"records":[{{"body":"{}"}}]}}"#, "x".repeat(1_048_568));
    assert_eq!(raw(&largest).unwrap().batch.metered(), 1_048_576);
}

#[test]
fn base64_strings() {
    // data-plane.md §6.1
    let input = base64(r#"{"records":[{"headers":[["aw==","/w=="]],"body":"aGVsbG8="},{"body":"\u0061GVs"}]}"#);
    let first = (None, vec![(b"k".to_vec(), vec![0xff])], b"hello".to_vec());
    assert_eq!(content(&input.unwrap()), [first, (None, vec![], b"hel".to_vec())]);
    for bad in ["a", "aGVsbG8", "aGVsbG8==", "aGVs bG8=", "aGVsbG8=\\n", "_w==", "/x==", "é", "="] {
        let json = format!(r#"{{"records":[{{}},{{"body":"{bad}"}},{{"body":"?"}}]}}"#);
        assert_eq!(base64(&json).unwrap_err(), JsonError::Base64 { index: 1 }, "{bad:?}");
        let json = format!(r#"{{"records":[{{"headers":[["aw==","{bad}"]]}}]}}"#);
        assert_eq!(base64(&json).unwrap_err(), JsonError::Base64 { index: 0 }, "{bad:?}");
    }
    let token = base64(r#"{"records":[{}],"fencing_token":"plain text"}"#).unwrap().fencing_token;
    assert_eq!(token, Some(FencingToken::new("plain text").unwrap()));
}

#[test]
fn bad_json_comes_before_bad_base64() {
    // errors.md §4.4: syntax, then semantics
    assert!(matches!(base64(r#"{"records":[{"body":"?"}],}"#), Err(JsonError::Malformed(_))));
}

#[test]
fn command_records() {
    // data-plane.md §6.2
    let fence = |token| Command::Fence(FencingToken::new(token).unwrap());
    let trim = |to| Command::Trim(SeqNum::new(to));
    let producer = r#"{"records":[{"headers":[["","fence"]],"body":"producer-123"}]}"#;
    let producer64 = r#"{"records":[{"headers":[["","ZmVuY2U="]],"body":"cHJvZHVjZXItMTIz"}]}"#;
    let trim64 = r#"{"records":[{"headers":[["","dHJpbQ=="]],"body":"AAAAAAAAA+g="}]}"#;
    let trim_raw =
        r#"{"records":[{"headers":[["","trim"]],"body":"\u0000\u0000\u0000\u0000\u0000\u0000\u0000\u0005"}]}"#;
    for (input, command) in [
        (raw(producer), fence("producer-123")),
        (raw(r#"{"records":[{"headers":[["","fence"]]}]}"#), fence("")),
        (base64(producer64), fence("producer-123")),
        (base64(trim64), trim(1000)),
        (raw(trim_raw), trim(5)),
    ] {
        assert_eq!(input.unwrap().batch.commands(), [(0, command)]);
    }
}

#[test]
fn deep_nesting_neither_overflows_nor_passes_for_a_value() {
    // errors.md §4.1
    let deep = format!("{}1{}", "[".repeat(50_000), "]".repeat(50_000));
    let deep_objects = format!("{}1{}", r#"{"a":"#.repeat(50_000), "}".repeat(50_000));
    for unknown in [&deep, &deep_objects] {
        assert!(raw(&format!(r#"{{"x":{unknown},"records":[{{"y":{unknown}}}]}}"#)).is_ok());
    }
    for json in [
        deep.clone(),
        format!(r#"{{"records":{deep}}}"#),
        format!(r#"{{"records":[{{"headers":{deep}}}]}}"#),
        format!(r#"{{"records":[{{"body":{deep_objects}}}]}}"#),
        format!(r#"{{"records":[{{}}],"match_seq_num":{deep}}}"#),
        format!(r#"{{"records":[{{}}],"fencing_token":{deep}}}"#),
    ] {
        assert!(matches!(raw(&json), Err(JsonError::Malformed(_))));
    }
}

#[test]
fn acknowledgements() {
    // data-plane.md §2.1
    let ack = AppendAck {
        start: Position::new(42, 1_713_812_735_000),
        end: Position::new(44, 1_713_812_735_012),
        tail: Position::new(45, 1_713_812_735_013),
    };
    let json = encode_append_ack(&ack);
    let expected = r#"{"start":{"seq_num":42,"timestamp":1713812735000},"end":{"seq_num":44,"timestamp":1713812735012},"tail":{"seq_num":45,"timestamp":1713812735013}}"#;
    assert_eq!(String::from_utf8_lossy(&json), expected);
    assert_eq!(decode_append_ack(&json), Ok(ack));
    assert!(decode_append_ack(br#"{"start":{"seq_num":42,"timestamp":1}}"#).is_err());
}

proptest! {
    #[test]
    fn any_text_comes_through(
        texts in prop::collection::vec(("\\PC{1,8}", ".{0,8}", any::<String>()), 1..5),
    ) {
        let quoted = |text: &str| serde_json::to_string(text).unwrap();
        let records: Vec<_> = texts
            .iter()
            .map(|(n, v, b)| format!(r#"{{"headers":[[{},{}]],"body":{}}}"#, quoted(n), quoted(v), quoted(b)))
            .collect();
        let input = raw(&format!(r#"{{"records":[{}]}}"#, records.join(","))).unwrap();
        let expected: Content =
            texts.iter().map(|(n, v, b)| (None, vec![header(n, v)], b.clone().into_bytes())).collect();
        prop_assert_eq!(content(&input), expected);
    }

    #[test]
    fn any_bytes_come_through_in_base64(name in prop::collection::vec(any::<u8>(), 1..8), body in any::<Vec<u8>>()) {
        let (name64, body64) = (BASE64.encode(&name), BASE64.encode(&body));
        let input = base64(&format!(r#"{{"records":[{{"headers":[["{name64}",""]],"body":"{body64}"}}]}}"#));
        prop_assert_eq!(content(&input.unwrap()), [(None, vec![(name, vec![])], body)]);
    }
}
