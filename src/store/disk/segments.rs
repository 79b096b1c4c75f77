//! Segments: files of large batches, so that these are written once. Knows where bytes lie and how much of a file is
//! still needed, and neither logs nor why something is not needed any more.
//!
//! ```text
//! segments/7   (key, length, batch)*              full, and never written again
//! segments/8   (key, length, batch)* zeros        the current one, if the process has begun one
//!              ▲ pointer.offset: behind key and length
//!
//! write, sync ──► the database gets the pointers       a pointer leads to nothing that is not durable
//! ```
//!
//! * One thread writes, perhaps the next batches while these are synced. All large batches of one write go to one
//!   segment, and a process never goes on with a segment of an earlier one: behind its last pointer it may be torn.
//! * Of every segment the database knows how many of its bytes are live. One that is not known, or has none, is deleted.
//! * Room is set aside a little ahead, so that a write need not find it; what was not used is given back when a segment
//!   is full, or by the next start.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File, OpenOptions},
    io::{self, ErrorKind, IoSlice, Write},
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use rustix::{buffer::spare_capacity, io::Errno};

use super::{
    directory::{create, sync_directory},
    format::{BatchKey, Damage, FrameHead, Pieces, Pointer, SegmentNumber, Usage},
    locked,
};

/// Files that are kept open for reading, at most.
const MOST_OPEN: usize = 64;
/// Buffers that the system takes in one call.
const MOST_BUFFERS: usize = 1024;

/// What goes to segments, and how large they get.
#[derive(Clone, Copy, Debug)]
pub(super) struct SegmentSizes {
    /// Bytes of records from which on a batch goes to a segment. More get through that way from 2 KiB on, but an append
    /// that is waited for takes a sync longer, which is less and less of it the larger it is.
    pub(super) least_batch: usize,
    /// Bytes that must wait for it to be worth while to write them while others are synced: they take longer to copy than
    /// a thread takes to wake.
    pub(super) worth_overlapping: usize,
    /// Bytes after which another segment is begun.
    pub(super) full: u64,
    /// Bytes that are set aside at once.
    pub(super) ahead: u64,
    /// Bytes of the current segment that must be dead before another is begun so that the others can be moved out of it.
    pub(super) worth_moving: u64,
}

impl Default for SegmentSizes {
    fn default() -> Self {
        const MIB: u64 = 1024 * 1024;
        Self {
            least_batch: 16 * 1024,
            worth_overlapping: 256 * 1024,
            full: 256 * MIB,
            ahead: 16 * MIB,
            worth_moving: 16 * MIB,
        }
    }
}

impl SegmentSizes {
    /// These, for a disk on which appends leave `reserve` bytes free, of which moves may take half. What is live of a segment,
    /// up to half of it, must find room there before anything of it is given back: else a disk once full would stay so.
    pub(super) fn within(self, reserve: u64) -> Self {
        Self { full: self.full.min(reserve / 2), ..self }
    }
}

/// The segments of a store, for those who read and those who look after them.
pub(super) struct Segments {
    directory: PathBuf,
    sizes: SegmentSizes,
    table: Mutex<Table>,
    open: Mutex<OpenFiles>,
}

#[derive(Default)]
struct Table {
    usage: BTreeMap<SegmentNumber, Usage>,
    /// The one that is written to.
    current: Option<SegmentNumber>,
    /// Where the writes went whose pointers are not in the database yet: once for each.
    unsettled: Vec<SegmentNumber>,
    /// Where what was set aside for it ends.
    set_aside: u64,
    next: u64,
}

/// Those that were read last, the last one last.
#[derive(Default)]
struct OpenFiles(Vec<(SegmentNumber, Arc<File>)>);

impl Segments {
    /// Opens those in `directory`, made if it is not there, of which `usage` is known. Changes none of them.
    pub(super) fn open(
        directory: &Path,
        sizes: SegmentSizes,
        mut usage: BTreeMap<SegmentNumber, Usage>,
    ) -> io::Result<Self> {
        create(directory)?;
        let last = usage.last_key_value().map_or(0, |(number, _)| number.0);
        let mut table = Table { next: last + 1, ..Table::default() };
        usage.retain(|_, usage| usage.live > 0);
        for (number, _) in files_in(directory)? {
            table.next = table.next.max(number.0 + 1);
        }
        table.usage = usage;
        Ok(Self { directory: directory.into(), sizes, table: Mutex::new(table), open: Mutex::default() })
    }

    /// Gives back what earlier processes left: segments that were never pointed to, or are not any more, and what was set
    /// aside for others. To be called before anything is written.
    pub(super) fn clear_up(&self) -> io::Result<()> {
        for (number, path) in files_in(&self.directory)? {
            match self.usage(number) {
                Some(usage) => give_back_behind(&path, usage.written)?,
                None => fs::remove_file(&path)?,
            }
        }
        sync_directory(&self.directory)
    }

    pub(super) fn sizes(&self) -> SegmentSizes {
        self.sizes
    }

    /// What `pointer` leads to, in one read.
    pub(super) fn read(&self, pointer: &Pointer) -> io::Result<Bytes> {
        read_at(&*self.file(pointer.segment)?, pointer.offset, pointer.len as usize)
    }

    /// What stands at `at` in a segment: a pointer to it, and whose it is.
    pub(super) fn frame(&self, segment: SegmentNumber, at: u64) -> io::Result<(BatchKey, Pointer)> {
        let bytes = read_at(&*self.file(segment)?, at, FrameHead::LEN)?;
        let head = bytes[..].try_into().map_err(|_| Damage::Malformed).and_then(FrameHead::decode);
        let head = head.map_err(|damage| io::Error::new(ErrorKind::InvalidData, damage))?;
        Ok((head.key, Pointer { segment, offset: at + FrameHead::LEN as u64, len: head.len }))
    }

    /// Whether a segment is there, as far as pointers that can be found now are concerned.
    pub(super) fn has(&self, segment: SegmentNumber) -> bool {
        locked(&self.table).usage.contains_key(&segment)
    }

    pub(super) fn usage(&self, segment: SegmentNumber) -> Option<Usage> {
        locked(&self.table).usage.get(&segment).copied()
    }

    /// Takes note of what is in the database now: pointers to what was `written`, and this usage. Segments that are gone
    /// stay so.
    pub(super) fn settle(&self, written: Option<&Written>, changed: BTreeMap<SegmentNumber, Usage>) {
        let mut table = locked(&self.table);
        if let Some(written) = written {
            table.settle(written.segment);
        }
        for (number, usage) in changed {
            if let Some(known) = table.usage.get_mut(&number) {
                *known = usage;
            }
        }
    }

    /// Bytes that all of them take, with what is set aside.
    pub(super) fn disk_space(&self) -> u64 {
        let table = locked(&self.table);
        let of = |(number, usage): (&SegmentNumber, &Usage)| match table.current == Some(*number) {
            true => usage.written.max(table.set_aside),
            false => usage.written,
        };
        table.usage.iter().map(of).sum()
    }

    /// Lets go of those that nobody needs; their files, to be deleted.
    pub(super) fn take_empty(&self) -> Vec<PathBuf> {
        let mut table = locked(&self.table);
        let Table { usage, current, unsettled, .. } = &mut *table;
        let in_use = |number: &SegmentNumber| *current == Some(*number) || unsettled.contains(number);
        let empty = usage.extract_if(.., |number, usage| usage.live == 0 && !in_use(number));
        let empty: Vec<_> = empty.map(|(number, _)| number).collect();
        drop(table);
        locked(&self.open).0.retain(|(number, _)| !empty.contains(number));
        empty.into_iter().map(|number| self.path_of(number)).collect()
    }

    /// The segment with the fewest live bytes, of those that are less than half live; none of `except`, and the current
    /// one only for a good deal of space, or there would be many small ones.
    pub(super) fn worth_moving(&self, except: &BTreeSet<SegmentNumber>) -> Option<SegmentNumber> {
        let table = locked(&self.table);
        let worth = |(number, usage): &(&SegmentNumber, &Usage)| {
            let least = if table.current == Some(**number) { self.sizes.worth_moving } else { 0 };
            2 * usage.live < usage.written && usage.dead() >= least && !except.contains(number)
        };
        table.usage.iter().filter(worth).min_by_key(|(_, usage)| usage.live).map(|(number, _)| *number)
    }

    fn file(&self, segment: SegmentNumber) -> io::Result<Arc<File>> {
        if let Some(file) = locked(&self.open).find(segment) {
            return Ok(file);
        }
        let file = Arc::new(File::open(self.path_of(segment))?);
        // Not kept if it was let go of meanwhile: it would never be closed.
        let table = locked(&self.table);
        if table.usage.contains_key(&segment) {
            locked(&self.open).add(segment, file.clone());
        }
        Ok(file)
    }

    fn path_of(&self, segment: SegmentNumber) -> PathBuf {
        self.directory.join(segment.0.to_string())
    }

    /// Makes a file for the next segment, its name durable.
    fn begin(&self) -> io::Result<Current> {
        let number = {
            let mut table = locked(&self.table);
            let number = SegmentNumber(table.next);
            table.next += 1;
            table.current = Some(number);
            table.usage.insert(number, Usage::default());
            number
        };
        let file = OpenOptions::new().write(true).create_new(true).open(self.path_of(number))?;
        sync_directory(&self.directory)?;
        Ok(Current { number, file: Arc::new(file), end: 0, set_aside: 0 })
    }

    fn note_unsettled(&self, segment: SegmentNumber) {
        locked(&self.table).unsettled.push(segment);
    }

    fn note_set_aside(&self, end: u64) {
        locked(&self.table).set_aside = end;
    }

    fn end_current(&self) {
        let mut table = locked(&self.table);
        (table.current, table.set_aside) = (None, 0);
    }
}

impl Table {
    fn settle(&mut self, segment: SegmentNumber) {
        if let Some(place) = self.unsettled.iter().position(|unsettled| *unsettled == segment) {
            self.unsettled.swap_remove(place);
        }
    }
}

impl OpenFiles {
    fn find(&mut self, segment: SegmentNumber) -> Option<Arc<File>> {
        let place = self.0.iter().rposition(|(number, _)| *number == segment)?;
        let found = self.0.remove(place);
        let file = found.1.clone();
        self.0.push(found);
        Some(file)
    }

    fn add(&mut self, segment: SegmentNumber, file: Arc<File>) {
        if self.0.len() == MOST_OPEN {
            self.0.remove(0);
        }
        self.0.push((segment, file));
    }
}

/// Writes segments: there is one.
pub(super) struct SegmentWriter {
    segments: Arc<Segments>,
    current: Option<Current>,
}

/// Batches that were written in one go, and are durable when their segment was synced. The segment is there at least until
/// this is [settled](Segments::settle).
pub(super) struct Written {
    segment: SegmentNumber,
    pub(super) file: Arc<File>,
    pub(super) pointers: Vec<(BatchKey, Pointer)>,
}

struct Current {
    number: SegmentNumber,
    file: Arc<File>,
    end: u64,
    /// Where what was set aside ends.
    set_aside: u64,
}

impl SegmentWriter {
    pub(super) const fn new(segments: Arc<Segments>) -> Self {
        Self { segments, current: None }
    }

    pub(super) fn sizes(&self) -> SegmentSizes {
        self.segments.sizes
    }

    /// Writes `batches`, to be synced; nothing if there are none.
    pub(super) fn append(&mut self, batches: &[(&BatchKey, &Pieces)]) -> io::Result<Option<Written>> {
        if batches.is_empty() {
            return Ok(None);
        }
        if self.current.as_ref().is_some_and(|current| current.end >= self.segments.sizes.full) {
            self.end_current();
        }
        let current = match &mut self.current {
            Some(current) => current,
            none => none.insert(self.segments.begin()?),
        };
        current.append(batches, &self.segments).map(Some)
    }

    /// Writes no more to `segment`.
    pub(super) fn leave(&mut self, segment: SegmentNumber) {
        if self.current.as_ref().is_some_and(|current| current.number == segment) {
            self.end_current();
        }
    }

    fn end_current(&mut self) {
        if let Some(current) = self.current.take() {
            if let Err(error) = current.file.set_len(current.end) {
                tracing::debug!(%error, "what was set aside for a segment is given back by the next start");
            }
            self.segments.end_current();
        }
    }
}

impl Current {
    fn append(&mut self, batches: &[(&BatchKey, &Pieces)], segments: &Segments) -> io::Result<Written> {
        let heads: Vec<_> = batches.iter().map(|(key, value)| head_of(key, value)).collect::<io::Result<_>>()?;
        let parts = heads.iter().zip(batches).flat_map(|(head, (_, value))| {
            let [front, records] = value.in_order();
            [head, front, records]
        });
        let mut parts: Vec<_> = parts.map(IoSlice::new).collect();
        self.set_aside(parts.iter().map(|part| part.len() as u64).sum(), segments);
        segments.note_unsettled(self.number);
        write_all(&self.file, &mut parts)?;
        let pointers = batches.iter().map(|&(key, value)| (*key, self.point_to_next(value))).collect();
        Ok(Written { segment: self.number, file: self.file.clone(), pointers })
    }

    fn point_to_next(&mut self, value: &Pieces) -> Pointer {
        let offset = self.end + FrameHead::LEN as u64;
        self.end = offset + value.len() as u64;
        Pointer { segment: self.number, offset, len: value.len() as u32 }
    }

    /// Sees to it that `len` more bytes have room. Where that cannot be done in advance, writing does it.
    fn set_aside(&mut self, len: u64, segments: &Segments) {
        let end = self.end + len;
        if end <= self.set_aside {
            return;
        }
        let more = end.next_multiple_of(segments.sizes.ahead) - self.set_aside;
        #[cfg(target_os = "linux")]
        if let Err(error) =
            rustix::fs::fallocate(&*self.file, rustix::fs::FallocateFlags::empty(), self.set_aside, more)
        {
            tracing::trace!(%error, "no room is set aside");
        }
        self.set_aside += more;
        segments.note_set_aside(self.set_aside);
    }
}

fn head_of(key: &BatchKey, value: &Pieces) -> io::Result<[u8; FrameHead::LEN]> {
    let len = u32::try_from(value.len()).map_err(|_| io::Error::new(ErrorKind::InvalidInput, "a batch of 4 GiB"))?;
    Ok(FrameHead { key: *key, len }.to_bytes())
}

fn write_all(mut file: &File, mut parts: &mut [IoSlice<'_>]) -> io::Result<()> {
    while !parts.is_empty() {
        let next = &parts[..parts.len().min(MOST_BUFFERS)];
        match file.write_vectored(next) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(written) => IoSlice::advance_slices(&mut parts, written),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn read_at(file: &File, at: u64, len: usize) -> io::Result<Bytes> {
    let mut bytes = Vec::with_capacity(len);
    while bytes.len() < len {
        let from = at + bytes.len() as u64;
        match rustix::io::pread(file, spare_capacity(&mut bytes), from) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    bytes.truncate(len);
    Ok(bytes.into())
}

/// Of a segment of an earlier process, what was set aside or torn.
fn give_back_behind(path: &Path, end: u64) -> io::Result<()> {
    let file = OpenOptions::new().write(true).open(path)?;
    match file.metadata()?.len() > end {
        true => file.set_len(end),
        false => Ok(()),
    }
}

/// The segments in `directory`, in any order.
fn files_in(directory: &Path) -> io::Result<Vec<(SegmentNumber, PathBuf)>> {
    let entries: io::Result<Vec<_>> = fs::read_dir(directory)?.map(|entry| Ok(entry?.path())).collect();
    Ok(entries?.into_iter().filter_map(|path| Some((number_of(&path)?, path))).collect())
}

fn number_of(path: &Path) -> Option<SegmentNumber> {
    path.file_name()?.to_str()?.parse().ok().map(SegmentNumber)
}
