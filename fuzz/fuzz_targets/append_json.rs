//! An append in JSON, raw and base64: what is accepted comes back from a read. The input is the body of the request.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| s2s_gateway::wire::json::fuzz::append_json(data));
