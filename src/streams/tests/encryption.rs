//! Streams with a cipher: what is in the store, what each reader gets, what a request without the right key gets.

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;

use super::*;
use crate::{
    encryption::{DecryptionFailed, KeyError},
    types::Cipher,
};

const KEY: [u8; 32] = *b"the customer's key has 32 bytes.";

fn material(key: [u8; 32]) -> KeyMaterial {
    KeyMaterial::new(&STANDARD.encode(key)).unwrap()
}

/// Makes the basin's cipher `cipher`, for streams made from now on.
async fn choose(world: &World, cipher: Option<Cipher>) {
    let config = BasinConfig {
        stream_cipher: cipher,
        create_stream_on_append: true,
        create_stream_on_read: true,
        ..Default::default()
    };
    world.streams.ensure_basin(&basin(), BasinWish { config, location: None }, Operations::ALL).await.unwrap();
}

async fn encrypted(cipher: Cipher) -> World {
    let world = World::new().await;
    choose(&world, Some(cipher)).await;
    world
}

impl World {
    async fn keyed(&self, access: Access, key: &KeyMaterial) -> Arc<Stream> {
        self.streams.stream(&basin(), &orders(), access, None, Some(key)).await.unwrap()
    }

    async fn append_with(&self, key: &KeyMaterial, input: AppendInput) {
        let mut writer = self.streams.append_session(self.keyed(Access::Append, key).await, Some(key)).unwrap();
        put(&mut writer, &input);
        self.store.release();
        assert!(matches!(ack(&mut writer), Poll::Ready(Some(Ok(_)))));
    }

    async fn reader_with(&self, key: &KeyMaterial, request: ReadRequest) -> ReadSession {
        self.streams.read_session(self.keyed(Access::Read, key).await, Some(key), &request).await.unwrap()
    }

    async fn read_once(&self, key: &KeyMaterial, request: ReadRequest) -> Result<Option<ReadEvent>, Failure> {
        self.streams.read(self.keyed(Access::Read, key).await, Some(key), &request).await
    }

    /// Writes `batch` into the log of the stream opened last, past the service, and lets go of the stream.
    fn put_in_store(&self, batch: Batch, tail: Position) {
        let logs = std::mem::take(&mut *self.store.logs.lock().unwrap());
        let head = Head { tail, ..Head::default() };
        assert_eq!(logs.last().unwrap().memory.append(batch, head), Ok(Commit::Durable));
        self.streams.close_idle(Duration::ZERO);
    }

    /// The batches of all streams as the store has them.
    async fn stored(&self) -> Vec<Batch> {
        let logs: Vec<_> = self.store.logs.lock().unwrap().iter().map(|log| log.memory.clone()).collect();
        let mut batches = Vec::new();
        for log in logs {
            batches.extend(log.read(SeqNum::FIRST, usize::MAX).await.unwrap());
        }
        batches
    }
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

fn failed_at(seq_num: u64) -> Failure {
    Failure::Decryption(DecryptionFailed { seq_num: SeqNum::new(seq_num) })
}

#[tokio::test(start_paused = true)]
async fn neither_key_nor_plaintext_is_in_the_store() {
    for cipher in [Cipher::Aegis256, Cipher::Aes256Gcm] {
        let world = encrypted(cipher).await;
        let key = material(KEY);
        let secret = testing::Records::new().record(None, &[(b"secret name", b"secret value")], b"secret body");
        world.append_with(&key, secret.fence("in clear").input()).await;

        let mut kept: Vec<Bytes> = world.stored().await.iter().map(|batch| batch.records_bytes().clone()).collect();
        assert_eq!(kept.len(), 1);
        assert!(contains(&kept[0], b"in clear"), "commands are");
        let entries = world.store.memory.meta().scan(b"", None, usize::MAX).await.unwrap();
        assert!(entries.len() >= 2, "the basin and the stream");
        kept.extend(entries.into_iter().flat_map(|(key, entry)| [key, entry.value]));
        let encoded = STANDARD.encode(KEY);
        for secret in [&b"secret"[..], &KEY, &KEY[..8], encoded.as_bytes(), &encoded.as_bytes()[..12]] {
            assert!(!kept.iter().any(|bytes| contains(bytes, secret)), "{cipher}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_followers_share_is_never_in_clear() {
    let world = encrypted(Cipher::Aegis256).await;
    let key = material(KEY);
    let mut readers =
        [world.reader_with(&key, from_the_start()).await, world.reader_with(&key, from_the_start()).await];
    for reader in &mut readers {
        assert!(is_heartbeat(peek(reader), 0));
    }
    world.append_with(&key, testing::input(&[("secret a", None), ("secret b", None)])).await;
    let opened = readers.each_mut().map(|reader| match peek(reader) {
        Poll::Ready(Some(Ok(ReadEvent::Records { slices, tail, .. }))) => {
            assert_eq!(tail.seq_num, SeqNum::new(2));
            assert!(contains(&slices[0].bytes(), b"secret a"));
            slices[0].bytes()
        }
        other => panic!("not private records: {other:?}"),
    });
    assert_ne!(opened[0].as_ptr(), opened[1].as_ptr(), "each decrypts for itself");

    // The frame that readers of the stored batch would share is ciphertext.
    let stored = world.stored().await.remove(0);
    let shared = stored.follow_frame(Compression::None, |_| None).unwrap();
    assert!(!contains(shared, b"secret"));
    for compression in [Compression::Zstd, Compression::Gzip] {
        assert_eq!(stored.follow_frame(compression, |_| None), None, "nobody made one before");
    }
}

#[tokio::test(start_paused = true)]
async fn catching_up_and_following_bring_the_same_records() {
    let world = encrypted(Cipher::Aes256Gcm).await;
    let key = material(KEY);
    world.append_with(&key, testing::input(&[("a", None), ("b", None)])).await;
    world.append_with(&key, one("c")).await;
    let mut reader = world.reader_with(&key, from_the_start()).await;
    assert_eq!(bodies(peek(&mut reader)), ["a", "b", "c"]);
    assert!(is_heartbeat(peek(&mut reader), 3));
    world.append_with(&key, one("d")).await;
    assert_eq!(bodies(peek(&mut reader)), ["d"]);

    let bounds = ReadBounds { count: Some(2), ..Default::default() };
    let start = ReadStart::SeqNum(SeqNum::new(1));
    let request = ReadRequest { bounds, start, ..Default::default() };
    let mut bounded = world.reader_with(&key, request).await;
    assert_eq!(bodies(peek(&mut bounded)), ["b", "c"]);
    assert!(matches!(peek(&mut bounded), Poll::Ready(None)));
    assert_eq!(bodies(Poll::Ready(world.read_once(&key, request).await.transpose())), ["b", "c"]);
}

#[tokio::test(start_paused = true)]
async fn sessions_deliver_what_is_before_the_first_failure_and_unary_reads_nothing() {
    // data-plane.md §11
    let world = encrypted(Cipher::Aegis256).await;
    let (key, other) = (material(KEY), material([9; 32]));
    world.append_with(&key, testing::input(&[("a", None), ("b", None)])).await;
    world.append_with(&other, testing::Records::new().fence("t").body(None, b"c").input()).await;
    world.append_with(&key, one("d")).await;

    let mut reader = world.reader_with(&key, from_the_start()).await;
    assert_eq!(bodies(peek(&mut reader)), ["a", "b", "t"], "commands are readable with any key");
    assert!(matches!(peek(&mut reader), Poll::Ready(Some(Err(failure))) if failure == failed_at(3)));
    assert!(matches!(peek(&mut reader), Poll::Ready(None)));
    assert_eq!(world.read_once(&key, from_the_start()).await.unwrap_err(), failed_at(3));

    let mut reader = world.reader_with(&other, from_the_start()).await;
    assert!(matches!(peek(&mut reader), Poll::Ready(Some(Err(failure))) if failure == failed_at(0)));
    assert!(matches!(peek(&mut reader), Poll::Ready(None)));

    // A bound before the record keeps it from being looked at.
    let bounds = ReadBounds { count: Some(3), ..Default::default() };
    let request = ReadRequest { bounds, ..from_the_start() };
    assert_eq!(bodies(Poll::Ready(world.read_once(&key, request).await.transpose())), ["a", "b", "t"]);
}

#[tokio::test(start_paused = true)]
async fn following_with_the_wrong_key_fails_at_the_first_record() {
    let world = encrypted(Cipher::Aegis256).await;
    let (key, other) = (material(KEY), material([9; 32]));
    let mut reader = world.reader_with(&other, ReadRequest::default()).await;
    assert!(is_heartbeat(peek(&mut reader), 0));
    world.append_with(&key, testing::command(crate::types::Command::Trim(SeqNum::FIRST))).await;
    assert_eq!(bodies(peek(&mut reader)).len(), 1);
    world.append_with(&key, one("a")).await;
    assert!(matches!(peek(&mut reader), Poll::Ready(Some(Err(failure))) if failure == failed_at(1)));
}

#[tokio::test(start_paused = true)]
async fn a_request_without_a_key_is_refused_and_makes_no_stream() {
    let world = encrypted(Cipher::Aes256Gcm).await;
    let (cipher, unusable) = (Cipher::Aes256Gcm, KeyMaterial::new("c2hvcnQ=").unwrap());
    let (basin, orders) = (basin(), orders());
    let stream = |access, key| world.streams.stream(&basin, &orders, access, None, key);
    for access in [Access::Append, Access::Read] {
        assert_eq!(stream(access, None).await.err(), Some(KeyError::Missing { cipher }.into()));
        assert_eq!(stream(access, Some(&unusable)).await.err(), Some(KeyError::Length { cipher, len: 5 }.into()));
    }
    assert!(world.streams.stream_config(&basin, &orders).await.is_err(), "not there");

    // Checking the tail needs no key, to make the stream neither.
    let made = stream(Access::CheckTail, None).await.unwrap();
    assert_eq!(made.check_tail(), Ok(Position::EMPTY));
    let missing = Some(Failure::from(KeyError::Missing { cipher }));
    assert_eq!(world.streams.append_session(made.clone(), None).err(), missing);
    let nothing = ReadRequest { bounds: ReadBounds { count: Some(0), ..Default::default() }, ..Default::default() };
    assert_eq!(world.streams.read_session(made.clone(), None, &nothing).await.err(), missing, "nothing comes before");
    assert_eq!(world.streams.read(made, None, &ReadRequest::default()).await.err(), missing, "also no 416");
}

#[tokio::test(start_paused = true)]
async fn a_stream_keeps_its_cipher_for_life() {
    let world = encrypted(Cipher::Aegis256).await;
    let key = material(KEY);
    world.append_with(&key, one("a")).await;
    choose(&world, None).await;
    // It is let go of once it is written down when its records came.
    world.streams.sweep().await;
    world.streams.close_idle(Duration::ZERO);
    assert_eq!(world.streams.open_count(), 0);
    let plain = StreamName::new("plain").unwrap();
    let plain = world.streams.stream(&basin(), &plain, Access::Append, None, None).await.unwrap();
    assert!(world.streams.append_session(plain, None).is_ok());

    let reopened = world.keyed(Access::Read, &key).await;
    assert!(world.streams.append_session(reopened, None).is_err());
    assert_eq!(bodies(Poll::Ready(world.read_once(&key, from_the_start()).await.transpose())), ["a"]);
    let infos = world.streams.list_streams(&basin(), &Default::default(), &Default::default(), 10).await.unwrap();
    let ciphers: Vec<_> = infos.entries.iter().map(|info| info.cipher).collect();
    assert_eq!(ciphers, [Some(Cipher::Aegis256), None]);
}

#[tokio::test(start_paused = true)]
async fn a_stream_without_a_cipher_takes_any_key_and_shares_frames() {
    let world = World::new().await;
    let not_base64 = KeyMaterial::new("%%%").unwrap();
    let mut reader = world.reader_with(&not_base64, from_the_start()).await;
    assert!(is_heartbeat(peek(&mut reader), 0));
    world.append_with(&not_base64, one("a")).await;
    assert!(matches!(peek(&mut reader), Poll::Ready(Some(Ok(ReadEvent::Followed(_))))));
    assert!(contains(world.stored().await[0].records_bytes(), b"a"));
}

#[tokio::test(start_paused = true)]
async fn a_follower_of_an_encrypted_stream_waits_like_others() {
    let world = encrypted(Cipher::Aegis256).await;
    let key = material(KEY);
    let count = Arc::new(Count::default());
    let waker = Waker::from(count.clone());
    let mut reader = world.reader_with(&key, from_the_start()).await;
    let mut poll = || reader.poll_next(&mut Context::from_waker(&waker), clock::instant());
    assert!(is_heartbeat(poll(), 0));
    assert!(poll().is_pending());
    for (times, body) in ["a", "b", "c"].into_iter().enumerate() {
        world.append_with(&key, one(body)).await;
        assert_eq!(count.0.load(Ordering::Relaxed), times + 1);
        assert_eq!(bodies(poll()), [body]);
    }
    assert!(reader.waits());
}

#[tokio::test(start_paused = true)]
async fn a_recreated_stream_does_not_open_records_of_its_earlier_life() {
    let world = encrypted(Cipher::Aegis256).await;
    let key = material(KEY);
    world.append_with(&key, one("a")).await;
    let earlier = world.stored().await.remove(0);
    let first = world.keyed(Access::Read, &key).await.id();
    world.streams.delete_stream(&basin(), &orders()).await.unwrap();
    world.streams.remove_stream(&basin(), &orders(), first).await.unwrap();

    world.keyed(Access::Append, &key).await;
    let tail = earlier.end();
    world.put_in_store(earlier, tail);
    assert_eq!(world.read_once(&key, from_the_start()).await.unwrap_err(), failed_at(0));
}

#[tokio::test(start_paused = true)]
async fn encrypted_records_of_aes_256_gcm_end_at_their_last_number() {
    let key = material(KEY);
    let last = u64::from(u32::MAX);
    for cipher in [Cipher::Aegis256, Cipher::Aes256Gcm] {
        let world = encrypted(cipher).await;
        world.keyed(Access::Append, &key).await;
        world.put_in_store(testing::batch(0, &[("not read", 1)]), Position::new(last, 1));
        world.append_with(&key, one("the last")).await;
        world.append_with(&key, testing::command(crate::types::Command::Trim(SeqNum::new(last)))).await;
        let stream = world.keyed(Access::Append, &key).await;
        let mut writer = world.streams.append_session(stream, Some(&key)).unwrap();
        put(&mut writer, &one("one too many"));
        assert_eq!(writer.is_open(), cipher == Cipher::Aegis256);
        world.store.release();
        let refused = Rejection::PastLastEncrypted { last: SeqNum::new(last), attempted: SeqNum::new(last + 2) };
        match ack(&mut writer) {
            Poll::Ready(Some(Err(failure))) => assert_eq!(failure, Failure::Rejected(refused)),
            outcome => assert!(cipher == Cipher::Aegis256 && matches!(outcome, Poll::Ready(Some(Ok(_))))),
        }
    }
}
