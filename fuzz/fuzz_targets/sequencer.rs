//! The sequencer against a plain telling of its rules. The input is a script of appends.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| s2s_gateway::sequence::model::check(data));
