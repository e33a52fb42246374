#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| rialto::fuzzing::top(data));
