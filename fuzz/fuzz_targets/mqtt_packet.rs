#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| harbormaster_fuzz::mqtt_packet(data));
