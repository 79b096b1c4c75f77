//! Large batches: where they come to lie, what becomes of their space, and what a crash or damage leaves of them.

use std::{collections::BTreeMap, fs, io::Write, path::PathBuf};

use super::*;
use crate::store::disk::{
    engine::EngineError,
    format::{FrameHead, Pieces, Usage},
    reading::{self, Reading},
    segments::{SegmentWriter, Segments},
};

/// The files of segments, by their numbers.
fn files(directory: &Path) -> Vec<(u64, PathBuf)> {
    let entries = fs::read_dir(directory.join("log/segments")).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> =
        entries.map(|path| (path.file_name().unwrap().to_str().unwrap().parse().unwrap(), path)).collect();
    files.sort();
    files
}

fn numbers(directory: &Path) -> Vec<u64> {
    files(directory).into_iter().map(|(number, _)| number).collect()
}

fn large(number: usize) -> String {
    format!("{number}{}", "x".repeat(3000))
}

fn trim(writer: &Writer, to: u64) {
    block_on(writer.log.trim(SeqNum::new(to))).unwrap();
}

#[test]
fn a_batch_is_in_the_database_or_in_a_segment_by_its_size() {
    let disk = OnDisk::create();
    let mut writer = Writer::open(&disk.store, 1);
    writer.append("small").unwrap();
    assert!(numbers(disk.directory.path()).is_empty());
    writer.append(&large(0)).unwrap();
    writer.append("small").unwrap();
    let usage = disk.store.shared.engine.segments().usage(SegmentNumber(1)).unwrap();
    assert!(usage.live > 3000 && usage.live < 3200 && usage.written == usage.live, "{usage:?}");
    assert_eq!(writer.read(0), Ok(3));
}

#[test]
fn a_full_segment_is_followed_by_another() {
    let disk = OnDisk::create();
    let mut writer = Writer::open(&disk.store, 1);
    (0..20).for_each(|i| drop(writer.append(&large(i)).unwrap()));
    assert_eq!(numbers(disk.directory.path()), [1, 2, 3, 4]);
    assert_eq!(writer.read(0), Ok(20));
    for (number, path) in &files(disk.directory.path())[..3] {
        let usage = disk.store.shared.engine.segments().usage(SegmentNumber(*number)).unwrap();
        assert_eq!(path.metadata().unwrap().len(), usage.written, "nothing is set aside for it any more");
    }
}

#[test]
fn a_start_begins_another_segment_and_gives_back_what_was_set_aside() {
    let disk = OnDisk::create();
    Writer::open(&disk.store, 1).append(&large(0)).unwrap();
    let OnDisk { store, directory } = disk;
    drop(store);
    // As a crash may leave it.
    let (_, path) = files(directory.path()).remove(0);
    let mut torn = fs::OpenOptions::new().append(true).open(&path).unwrap();
    torn.write_all(&[7; 5000]).unwrap();
    let disk = OnDisk::open(directory);
    let usage = disk.store.shared.engine.segments().usage(SegmentNumber(1)).unwrap();
    assert_eq!(path.metadata().unwrap().len(), usage.written);
    let mut writer = Writer::open(&disk.store, 1);
    writer.append(&large(1)).unwrap();
    assert_eq!(numbers(disk.directory.path()), [1, 2]);
    assert_eq!(writer.read(0), Ok(2));
}

#[test]
fn a_segment_that_nothing_points_to_is_deleted_by_a_start() {
    let disk = OnDisk::create();
    Writer::open(&disk.store, 1).append(&large(0)).unwrap();
    let OnDisk { store, directory } = disk;
    drop(store);
    fs::write(directory.path().join("log/segments/9"), "of a write that was never finished").unwrap();
    let disk = OnDisk::open(directory);
    assert_eq!(numbers(disk.directory.path()), [1]);
    let mut writer = Writer::open(&disk.store, 1);
    writer.append(&large(1)).unwrap();
    assert_eq!(numbers(disk.directory.path()), [1, 10]);
    assert_eq!(writer.read(0), Ok(2));
}

#[test]
fn segments_without_live_batches_are_deleted() {
    let disk = OnDisk::create();
    let mut writer = Writer::open(&disk.store, 1);
    (0..20).for_each(|i| drop(writer.append(&large(i)).unwrap()));
    trim(&writer, 20);
    eventually("deletion", || disk.store.shared.engine.segments().disk_space() == 0);
    eventually("deletion of the files", || numbers(disk.directory.path()).is_empty());
    writer.append(&large(20)).unwrap();
    assert_eq!(writer.read(20), Ok(1));
    drop(writer);
    let mut disk = disk.reopen().unwrap();
    assert_eq!(Writer::open(&disk.store, 1).read(20), Ok(1));
    // What was noted of them is gone as well.
    let noted = disk.store.shared.engine.segments().disk_space();
    disk = disk.reopen().unwrap();
    assert_eq!(disk.store.shared.engine.segments().disk_space(), noted);
}

#[test]
fn live_batches_are_moved_out_of_segments_that_are_mostly_dead() {
    let disk = OnDisk::create();
    let (mut goes, mut stays) = (Writer::open(&disk.store, 1), Writer::open(&disk.store, 2));
    let mut kept = Vec::new();
    for i in 0..40 {
        goes.append(&large(i)).unwrap();
        if i % 4 == 0 {
            kept.push(stays.append(&large(1000 + i)).unwrap());
        }
    }
    let before = numbers(disk.directory.path());
    trim(&goes, 40);
    eventually("deletion", || numbers(disk.directory.path()).iter().all(|number| !before.contains(number)));
    let is_whole = |stays: &Writer| {
        let found = block_on(stays.log.read(SeqNum::FIRST, usize::MAX)).unwrap();
        assert!(found.iter().map(Batch::records_bytes).eq(kept.iter().map(Batch::records_bytes)));
    };
    is_whole(&stays);
    drop((goes, stays));
    let disk = disk.reopen().unwrap();
    is_whole(&Writer::open(&disk.store, 2));
    assert!(disk.store.disk_used().unwrap() >= 30_000, "segments are counted");
}

#[test]
fn reads_find_what_is_moved_while_they_read() {
    let disk = OnDisk::create();
    let (mut goes, mut stays) = (Writer::open(&disk.store, 1), Writer::open(&disk.store, 2));
    let running = Arc::new(());
    let (log, runs) = (stays.log.clone(), Arc::downgrade(&running));
    thread::scope(|scope| {
        // Gone as well when something panics here.
        let _running = running;
        for _ in 0..2 {
            scope.spawn(|| {
                while runs.strong_count() > 0 {
                    let found = block_on(log.read(SeqNum::FIRST, usize::MAX)).unwrap();
                    found.iter().fold(SeqNum::FIRST, |next, batch| {
                        assert_eq!(batch.first_seq_num(), next);
                        batch.end().seq_num
                    });
                }
            });
        }
        for i in 0..60 {
            stays.append(&large(i)).unwrap();
            (0..4).for_each(|_| drop(goes.append(&large(i)).unwrap()));
            trim(&goes, goes.head.tail.seq_num.get());
        }
        let segments = disk.store.shared.engine.segments();
        // No segment but the current one stays less than half live.
        eventually("moving", || segments.disk_space() < 2 * 60 * 3200 + 20_000);
    });
    assert_eq!(stays.read(0), Ok(60));
}

/// Moves what is in the segment `number` to another one, as the writer does it.
fn move_out_of(engine: &Engine, number: u64) {
    let segment = SegmentNumber(number);
    let look = engine.look();
    let batches = look.all_batches().map(|batch| batch.unwrap());
    let pointed = batches.filter_map(|(key, pointer)| Some((key, pointer.filter(|to| to.segment == segment)?)));
    let value_of = |(key, pointer)| (key, Pieces::whole(engine.value_behind(&key, &pointer).unwrap()));
    let moved: Vec<_> = pointed.map(value_of).collect();
    let large: Vec<_> = moved.iter().map(|(key, value)| (key, value)).collect();
    let written = SegmentWriter::new(engine.segments().clone()).append(&large).unwrap().unwrap();
    let mut writing = engine.write();
    written.pointers.iter().for_each(|(key, pointer)| writing.put_pointer(key, pointer));
    writing.commit().unwrap();
    let live = Usage { live: 1, ..Usage::default() };
    let usage = BTreeMap::from([(segment, Usage::default()), (written.pointers[0].1.segment, live)]);
    engine.segments().settle(Some(&written), usage);
    engine.segments().take_empty().into_iter().for_each(|path| fs::remove_file(path).unwrap());
}

#[test]
fn a_read_goes_on_where_it_was_when_something_was_moved() {
    let disk = OnDisk::create();
    let mut writer = Writer::open(&disk.store, 1);
    // Six of them fill a segment.
    let batches: Vec<_> = (0..18).map(|i| writer.append(&large(i)).unwrap()).collect();
    drop(writer);
    let OnDisk { store, directory } = disk;
    drop(store);
    with_engine(directory.path(), |engine| {
        let look = engine.look();
        let written = look.head(StreamId::new(1)).unwrap().unwrap();
        let mut head = reading::head_after_last(&look, written).unwrap();
        let mut reading = Reading::new(SeqNum::FIRST, usize::MAX);
        let mut read_while_moving = |number| {
            let look = engine.look();
            move_out_of(engine, number);
            reading.go_on(&look, &head)
        };
        let moved = read_while_moving(2).unwrap_err();
        assert!(matches!(moved, EngineError::Moved), "{moved}");
        let found = read_while_moving(1).expect("the first six were found before");
        assert!(found.iter().map(Batch::records_bytes).eq(batches.iter().map(Batch::records_bytes)));

        let mut reading = Reading::new(SeqNum::FIRST, usize::MAX);
        let look = engine.look();
        move_out_of(engine, 3);
        reading.go_on(&look, &head).unwrap_err();
        head.released.to = SeqNum::new(15);
        let found = reading.go_on(&engine.look(), &head).unwrap();
        assert!(found.iter().map(Batch::records_bytes).eq(batches[15..].iter().map(Batch::records_bytes)));
    });
}

#[test]
fn a_damaged_segment_is_reported_and_what_is_whole_in_it_is_not() {
    for damage in
        [(|path| drop(fs::OpenOptions::new().write(true).open(path).unwrap().set_len(5000))) as fn(&Path), |path| {
            let mut bytes = fs::read(path).unwrap();
            bytes[5000] ^= 1;
            fs::write(path, bytes).unwrap();
        }]
    {
        let disk = OnDisk::create();
        let (mut whole, mut damaged) = (Writer::open(&disk.store, 1), Writer::open(&disk.store, 2));
        whole.append(&large(0)).unwrap();
        damaged.append(&large(1)).unwrap();
        drop((whole, damaged));
        let OnDisk { store, directory } = disk;
        drop(store);
        damage(&files(directory.path())[0].1);
        let disk = OnDisk::open(directory);
        let (whole, mut damaged) = (Writer::open(&disk.store, 1), Writer::open(&disk.store, 2));
        assert_eq!(whole.read(0), Ok(1));
        let found = damaged.read(0).unwrap_err();
        assert!(matches!(found, StoreError::Damaged(_)), "{found}");
        damaged.append(&large(2)).unwrap();
        assert_eq!(damaged.read(1), Ok(1), "and so is what comes after");
    }
}

#[test]
fn a_segment_that_is_gone_is_damage() {
    let disk = OnDisk::create();
    Writer::open(&disk.store, 1).append(&large(0)).unwrap();
    let OnDisk { store, directory } = disk;
    drop(store);
    fs::remove_file(&files(directory.path())[0].1).unwrap();
    let disk = OnDisk::open(directory);
    let found = Writer::open(&disk.store, 1).read(0).unwrap_err();
    assert!(matches!(found, StoreError::Damaged(_)), "{found}");
}

#[test]
fn what_is_damaged_is_not_moved_and_harms_nothing_else() {
    let disk = OnDisk::create();
    let (mut goes, mut stays) = (Writer::open(&disk.store, 1), Writer::open(&disk.store, 2));
    stays.append(&large(0)).unwrap();
    (0..4).for_each(|i| drop(goes.append(&large(i)).unwrap()));
    let (_, path) = files(disk.directory.path()).remove(0);
    let mut bytes = fs::read(&path).unwrap();
    bytes[500] ^= 1;
    fs::write(&path, bytes).unwrap();
    trim(&goes, 4);
    goes.append(&large(9)).unwrap();
    let segments = disk.store.shared.engine.segments();
    eventually("another segment", || segments.usage(SegmentNumber(2)).is_some());
    assert!(segments.has(SegmentNumber(1)), "what is damaged stays where it is");
    assert!(matches!(stays.read(0), Err(StoreError::Damaged(_))));
    assert_eq!(goes.read(4), Ok(1));
}

#[test]
fn a_segment_whose_frames_do_not_add_up_keeps_no_other_from_being_moved() {
    let disk = OnDisk::create();
    let segments = disk.store.shared.engine.segments();
    let (mut goes, mut stays) = (Writer::open(&disk.store, 1), Writer::open(&disk.store, 2));
    // Six of them fill a segment.
    (0..5).for_each(|i| drop(goes.append(&large(i)).unwrap()));
    stays.append(&large(9)).unwrap();
    let (_, path) = files(disk.directory.path()).remove(0);
    let mut bytes = fs::read(&path).unwrap();
    // A few bytes are left behind the last frame, whose length nothing checks.
    let last = last_frame(&bytes, segments.usage(SegmentNumber(1)).unwrap().written);
    let low = last + FrameHead::LEN - 1;
    assert_ne!(bytes[low] & 31, 0, "a bit that can be taken away");
    bytes[low] &= !(1 << (bytes[low] & 31).trailing_zeros());
    fs::write(&path, bytes).unwrap();
    trim(&goes, 5);
    (5..8).for_each(|i| drop(goes.append(&large(i)).unwrap()));
    assert!(segments.has(SegmentNumber(2)));
    stays.append(&large(9)).unwrap();
    trim(&goes, goes.head.tail.seq_num.get());
    eventually("that one is moved", || !segments.has(SegmentNumber(2)));
    assert!(segments.has(SegmentNumber(1)), "the batch in it is still needed");
    assert_eq!(stays.read(1), Ok(1));
}

/// Where the last frame of a segment begins.
fn last_frame(bytes: &[u8], end: u64) -> usize {
    let mut at = 0;
    loop {
        let head = FrameHead::decode(bytes[at..at + FrameHead::LEN].try_into().unwrap()).unwrap();
        let next = at + FrameHead::LEN + head.len as usize;
        if next as u64 >= end {
            return at;
        }
        at = next;
    }
}

#[test]
fn a_segment_that_cannot_be_written_ends_the_store() {
    let disk = OnDisk::create();
    let (mut one, mut other) = (Writer::open(&disk.store, 1), Writer::open(&disk.store, 2));
    other.append("small").unwrap();
    fs::remove_dir(disk.directory.path().join("log/segments")).unwrap();
    let failed = one.append(&large(0)).unwrap_err();
    assert!(matches!(failed, StoreError::Unknown(_)), "it may have happened: {failed}");
    assert!(disk.store.health().is_err());
    let refused = other.append("small").unwrap_err();
    assert!(matches!(refused, StoreError::Closed(_)), "nothing is written any more: {refused}");
    let refused = block_on(disk.store.meta().put(b"key", "value".into(), Version::ABSENT));
    assert!(matches!(refused, Err(StoreError::Closed(_))), "{refused:?}");
    assert_eq!((one.read(0), other.read(0)), (Ok(0), Ok(1)));
    drop((one, other));
    let disk = disk.reopen().unwrap();
    assert_eq!(Writer::open(&disk.store, 1).read(0), Ok(0), "it was not acknowledged");
    assert_eq!(Writer::open(&disk.store, 2).read(0), Ok(1));
}

#[test]
fn what_is_written_while_others_are_synced_is_there_and_in_order() {
    let mut disk = OnDisk::create();
    let mut kept = Vec::new();
    for round in 0..3 {
        let (mut goes, mut stays) = (Writer::open(&disk.store, 1), Writer::open(&disk.store, 2));
        for i in 0..100 {
            goes.send(&large(i)).unwrap();
            kept.push(stays.send(&large(1000 + i)).unwrap());
            if i % 10 == 9 {
                // Segments become empty while the next ones are written.
                goes.append("small").unwrap();
                trim(&goes, goes.head.tail.seq_num.get());
            }
        }
        stays.reports.wait_for(stays.head.tail.seq_num).unwrap();
        disk.store.audit().unwrap();
        drop((goes, stays));
        disk = disk.reopen().unwrap();
        let found = block_on(Writer::open(&disk.store, 2).log.read(SeqNum::FIRST, usize::MAX)).unwrap();
        assert!(found.iter().map(Batch::records_bytes).eq(kept.iter().map(Batch::records_bytes)), "round {round}");
    }
}

#[test]
fn what_is_written_ahead_of_a_failure_is_told_as_unknown() {
    let disk = OnDisk::create();
    let mut writers: Vec<_> = (0..4).map(|stream| Writer::open(&disk.store, stream)).collect();
    fs::remove_dir(disk.directory.path().join("log/segments")).unwrap();
    let sent = writers.iter_mut().map(|writer| (0..50).map_while(|i| writer.send(&large(i)).ok()).count());
    for (stream, sent) in sent.collect::<Vec<_>>().into_iter().enumerate().filter(|(_, sent)| *sent > 0) {
        let failed = writers[stream].reports.wait_for(SeqNum::new(sent as u64)).unwrap_err();
        assert!(matches!(failed, StoreError::Unknown(_)), "stream {stream}: {failed}");
    }
    drop(writers);
    let disk = disk.reopen().unwrap();
    assert_eq!(disk.store.audit(), Ok(Audit::default()));
}

#[test]
fn a_segment_is_there_until_its_pointers_are_known() {
    let directory = tempfile::tempdir().unwrap();
    let segments = Arc::new(Segments::open(directory.path(), SMALL, BTreeMap::new()).unwrap());
    let mut writer = SegmentWriter::new(segments.clone());
    let batch = testing::batch(0, &[(&large(0), 1)]);
    let key = BatchKey::of(LogNumber(1), &batch, 0, Place::Segment);
    let mut write = || writer.append(&[(&key, &Pieces::of(&key, &batch))]).unwrap().unwrap();
    let [first, second] = [write(), write()];
    let (_, pointer) = first.pointers[0];
    writer.leave(pointer.segment);
    assert!(segments.take_empty().is_empty(), "two writes are still to be pointed to");
    segments.settle(Some(&first), BTreeMap::new());
    assert!(segments.take_empty().is_empty(), "one write is still to be pointed to");
    let live = Usage { live: 1, ..Usage::default() };
    segments.settle(Some(&second), BTreeMap::from([(pointer.segment, live)]));
    assert!(segments.take_empty().is_empty(), "it is needed");
    segments.settle(None, BTreeMap::from([(pointer.segment, Usage::default())]));
    assert_eq!(segments.take_empty(), [directory.path().join("1")]);
}

#[test]
fn a_number_that_is_given_again_leads_to_nothing_old() {
    let mut disk = OnDisk::create();
    for round in 0..4 {
        let mut writer = Writer::open(&disk.store, 1);
        let first = writer.head.tail.seq_num.get();
        (0..6).for_each(|i| drop(writer.append(&large(i)).unwrap()));
        assert_eq!(writer.read(first), Ok(6), "round {round}");
        trim(&writer, first + 6);
        eventually("deletion", || numbers(disk.directory.path()).is_empty());
        drop(writer);
        // The first start forgets them, and the next one begins anew.
        disk = disk.reopen().unwrap().reopen().unwrap();
        assert_eq!(disk.store.audit(), Ok(Audit::default()));
    }
    Writer::open(&disk.store, 1).append(&large(0)).unwrap();
    assert_eq!(numbers(disk.directory.path()), [1]);
}

#[test]
fn segments_of_earlier_runs_are_given_back_however_small() {
    let disk = OnDisk::create();
    let (mut goes, mut stays) = (Writer::open(&disk.store, 1), Writer::open(&disk.store, 2));
    stays.append(&"x".repeat(1000)).unwrap();
    goes.append(&"x".repeat(1500)).unwrap();
    trim(&goes, 1);
    eventually("the end of the removal", || disk.store.shared.engine.look().reclaims().unwrap().is_empty());
    assert_eq!(numbers(disk.directory.path()), [1], "while it is the current one, there is too little to be had");
    drop((goes, stays));
    let disk = disk.reopen().unwrap();
    eventually("moving", || numbers(disk.directory.path()) == [2]);
    assert_eq!(Writer::open(&disk.store, 2).read(0), Ok(1));
    disk.store.audit().unwrap();
}

#[test]
fn what_is_set_aside_counts_as_used() {
    let disk = OnDisk::create();
    let segments = disk.store.shared.engine.segments();
    Writer::open(&disk.store, 1).append(&large(0)).unwrap();
    let (_, path) = files(disk.directory.path()).remove(0);
    assert_eq!((segments.disk_space(), path.metadata().unwrap().len()), (SMALL.ahead, SMALL.ahead));
    let disk = disk.reopen().unwrap();
    assert_eq!(disk.store.shared.engine.segments().disk_space(), path.metadata().unwrap().len());
}

#[test]
fn what_is_noted_of_segments_stays_what_pointers_come_to() {
    let mut disk = OnDisk::create();
    let mut appended = [0; 3];
    for round in 0..4 {
        let mut writers: Vec<_> = (0..3).map(|stream| Writer::open(&disk.store, stream)).collect();
        for i in 0..40 {
            let place = (i * 7 + round) % 3;
            let body = if i % 5 == 0 { "small".into() } else { large(i) };
            writers[place].append(&body).unwrap();
            appended[place] += 1;
            if place == 0 && i % 4 == 0 {
                trim(&writers[0], appended[0]);
            }
        }
        trim(&writers[0], appended[0]);
        // Gone with all its batches, wherever they are being moved to.
        drop(writers.remove(1));
        block_on(disk.store.delete(StreamId::new(1))).unwrap();
        appended[1] = 0;
        assert_eq!(writers[1].read(0), Ok(appended[2] as usize));
        disk.store.audit().unwrap();
        drop(writers);
        disk = disk.reopen().unwrap();
        disk.store.audit().unwrap();
    }
    eventually("the end of the removal", || disk.store.shared.engine.look().reclaims().unwrap().is_empty());
    let audit = disk.store.audit().unwrap();
    assert_eq!(audit.in_database + audit.in_segments, appended[2], "{audit:?}");
}

#[test]
fn an_audit_finds_what_is_noted_wrongly() {
    let disk = OnDisk::create();
    Writer::open(&disk.store, 1).append(&large(0)).unwrap();
    assert_eq!(disk.store.audit().unwrap(), Audit { in_database: 0, in_segments: 1, segments: 1 });
    let OnDisk { store, directory } = disk;
    drop(store);
    with_engine(directory.path(), |engine| {
        let mut usage = engine.segments().usage(SegmentNumber(1)).unwrap();
        usage.live += 1;
        let mut writing = engine.write();
        writing.put_usage(SegmentNumber(1), &usage);
        writing.commit().unwrap();
    });
    let found = OnDisk::open(directory).store.audit().unwrap_err();
    assert!(found.to_string().contains("segment 1: noted as"), "{found}");
}
