//! Decompression keeps its limit. The input: which compression, the limit in KiB, the body.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| s2s_gateway::wire::fuzz::inflate(data));
