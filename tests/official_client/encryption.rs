//! Streams encrypted with the user's key.

use base64::{Engine, engine::general_purpose::STANDARD};
use s2_sdk::{
    S2Stream,
    types::{
        BasinConfig, Compression, CreateBasinInput, CreateStreamInput, EncryptionAlgorithm, EncryptionKey, Header,
        ListStreamsInput,
    },
};

use crate::{
    sdk::{
        assert_numbered, basin_name, config, follow, from_seq_num, input, numbered, read_until, record, server_error,
        stream_name,
    },
    support::Gateway,
};

fn key(byte: u8) -> EncryptionKey {
    STANDARD.encode([byte; 32]).parse().unwrap()
}

async fn encrypted_stream(gateway: &Gateway, cipher: EncryptionAlgorithm, compression: Compression) -> S2Stream {
    let s2 = s2_sdk::S2::new(config(gateway.address).with_compression(compression)).unwrap();
    let (basin, stream) = (basin_name("my-basin-01"), stream_name("orders/eu"));
    let with_cipher = BasinConfig::new().with_stream_cipher(cipher);
    s2.create_basin(CreateBasinInput::new(basin.clone()).with_config(with_cipher)).await.unwrap();
    let basin = s2.basin(basin);
    let info = basin.create_stream(CreateStreamInput::new(stream.clone())).await.unwrap();
    assert_eq!(info.cipher, Some(cipher));
    let listed = basin.list_streams(ListStreamsInput::new()).await.unwrap();
    assert_eq!(listed.values[0].cipher, Some(cipher));
    basin.stream(stream)
}

#[tokio::test]
async fn sessions_with_the_key_bring_every_record_back() {
    for cipher in [EncryptionAlgorithm::Aegis256, EncryptionAlgorithm::Aes256Gcm] {
        for compression in [Compression::None, Compression::Zstd] {
            let gateway = Gateway::start().await;
            let stream = encrypted_stream(&gateway, cipher, compression).await.with_encryption_key(key(7));
            let mut follower = follow(&stream, 0).await;
            let session = stream.append_session(Default::default());
            for n in 0..50 {
                session.submit(numbered(n * 20..n * 20 + 20)).await.unwrap();
            }
            session.close().await.unwrap();
            assert_numbered(&read_until(&mut follower, 1000).await, 0..1000);
            assert_numbered(&read_until(&mut follow(&stream, 990).await, 1000).await, 990..1000);
        }
    }
}

#[tokio::test]
async fn unary_calls_need_the_key_that_the_records_were_appended_with() {
    let gateway = Gateway::start().await;
    let bare = encrypted_stream(&gateway, EncryptionAlgorithm::Aes256Gcm, Compression::None).await;
    let (ours, theirs) = (bare.clone().with_encryption_key(key(1)), bare.clone().with_encryption_key(key(2)));
    let secret = || input([record("body").with_headers([Header::new("name", "value")]).unwrap()]);
    ours.append(secret()).await.unwrap();

    let read = ours.read(from_seq_num(0)).await.unwrap();
    assert_eq!((&read.records[0].body[..], &read.records[0].headers[0].value[..]), (&b"body"[..], &b"value"[..]));
    let wrong = theirs.read(from_seq_num(0)).await.unwrap_err();
    assert_eq!(server_error(wrong.request_error()), (400, "decryption_failed"));
    let unread = bare.read(from_seq_num(0)).await.unwrap_err();
    assert_eq!(server_error(unread.request_error()), (400, "bad_header"));
    let refused = bare.append(secret()).await.unwrap_err();
    assert_eq!(server_error(refused.request_error()), (400, "bad_header"));
    assert_eq!(bare.check_tail().await.unwrap().seq_num, 1);
}
