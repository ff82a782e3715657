#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| hydra_proto::fuzz::handshake(data));
