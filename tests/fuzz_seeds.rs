//! Replays the seeds of the fuzz targets, and what a fuzzer found on this machine, through the functions they drive.

use std::{fs, path::Path};

use s2s_gateway::{
    sequence::model,
    wire::{fuzz, json},
};

/// A target and the function that it drives.
type Target = (&'static str, fn(&[u8]));

const TARGETS: &[Target] = &[
    ("append_input", fuzz::append_input),
    ("append_json", json::fuzz::append_json),
    ("frame_decoder", fuzz::frame_decoder),
    ("inflate", fuzz::inflate),
    ("sequencer", model::check),
];

fn fuzz_folder() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz"))
}

/// Runs all files of a folder, if it is there; says how many.
fn replay(folder: &Path, run: fn(&[u8])) -> usize {
    let Ok(files) = fs::read_dir(folder) else { return 0 };
    let files: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    for file in &files {
        println!("{}", file.display());
        run(&fs::read(file).unwrap());
    }
    files.len()
}

#[test]
fn seeds_and_corpora_hold() {
    for &(target, run) in TARGETS {
        assert!(replay(&fuzz_folder().join("seeds").join(target), run) > 0, "no seeds for {target}");
        replay(&fuzz_folder().join("corpus").join(target), run);
        replay(&fuzz_folder().join("artifacts").join(target), run);
    }
}

#[test]
fn every_folder_of_seeds_is_replayed() {
    for folder in fs::read_dir(fuzz_folder().join("seeds")).unwrap() {
        let name = folder.unwrap().file_name();
        assert!(TARGETS.iter().any(|(target, _)| name == *target), "{name:?} is replayed by nobody");
    }
}
