//! An input is accepted or refused, and read, as a full protobuf decoder would. The input is an `AppendInput` message.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| s2s_gateway::wire::fuzz::append_input(data));
