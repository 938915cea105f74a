#![no_main]

#[path = "../src/chain.rs"]
mod chain;

libfuzzer_sys::fuzz_target!(|data: &[u8]| chain::certificate_chain(data));
