//! The messages of `proto/s2/v1/s2.proto` as prost generates them. They go no further than this module: values go out.

#![allow(missing_docs, unreachable_pub, reason = "generated; the comments are in the .proto file")]
#![allow(dead_code, reason = "what the gateway reads and writes by hand is here for tests to compare with")]

include!(concat!(env!("OUT_DIR"), "/s2.v1.rs"));
