//! What the fuzzer of appends in JSON drives: any bytes, decoded; and what was accepted, there and back.

use super::{JsonRecord, decode_append_input, decode_read_batch, encode_read_batch};
use crate::{
    types::{AppendBatch, AppendRecord, Batch, SeqNum, Timestamp},
    wire::negotiate::S2Format,
};

/// Decodes `data` as an append in both formats. A batch that is accepted is numbered, written as JSON and read again;
/// its content must be the same.
///
/// # Panics
///
/// When it is not.
pub fn append_json(data: &[u8]) {
    for format in [S2Format::Raw, S2Format::Base64] {
        if let Ok(input) = decode_append_input(data, format) {
            assert_comes_back(&input.batch, format);
        }
    }
}

fn assert_comes_back(append: &AppendBatch, format: S2Format) {
    let mut latest = Timestamp::default();
    let batch = Batch::sequence(append, SeqNum::new(1), |timestamp| {
        latest = latest.max(timestamp.unwrap_or_default());
        latest
    });
    let json = encode_read_batch(&[batch.whole()], Some(batch.end()), format);
    let (records, tail) = decode_read_batch(&json, format).expect("what we write, we read");
    assert_eq!(records, expected(append));
    assert_eq!(tail, Some(batch.end()));
}

/// The records of `append` with numbers from 1 on and times that do not decrease. What came as JSON text is UTF-8, so
/// raw text loses nothing.
fn expected(append: &AppendBatch) -> Vec<JsonRecord> {
    let mut latest = Timestamp::default();
    let record = |(record, seq_num): (AppendRecord<'_>, u64)| {
        latest = latest.max(record.timestamp.unwrap_or_default());
        JsonRecord {
            seq_num: SeqNum::new(seq_num),
            timestamp: latest,
            headers: record.fields().headers().map(|(name, value)| (name.to_vec(), value.to_vec())).collect(),
            body: record.fields().body().to_vec(),
        }
    };
    append.records().zip(1..).map(record).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_bytes(data in any::<Vec<u8>>()) {
            append_json(&data);
        }

        #[test]
        fn batches_of_odd_records(
            records in prop::collection::vec(
                (any::<Option<u64>>(), prop::collection::vec(("[a-z=]{0,4}", "[a-zA-Z+/=]{0,8}"), 0..3), ".{0,8}"),
                1..4,
            ),
        ) {
            let records: Vec<_> = records
                .iter()
                .map(|(timestamp, headers, body)| serde_json::json!({ "timestamp": timestamp, "headers": headers, "body": body }))
                .collect();
            append_json(serde_json::json!({ "records": records }).to_string().as_bytes());
        }
    }
}
