#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| harbormaster_fuzz::sas_token(data));
