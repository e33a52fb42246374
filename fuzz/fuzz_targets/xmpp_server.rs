#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| rialto::fuzzing::xmpp_server(data));
