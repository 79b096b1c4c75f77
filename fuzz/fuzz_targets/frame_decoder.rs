//! Frames do not depend on where the chunks are cut. The input: a number of chunk lengths, the lengths, the stream.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| s2s_gateway::wire::fuzz::frame_decoder(data));
