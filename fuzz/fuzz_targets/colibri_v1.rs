#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| rialto::fuzzing::colibri_v1(data));
