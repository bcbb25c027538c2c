#![no_main]
libfuzzer_sys::fuzz_target!(|octets: &[u8]| causeway_fuzz::nat64::oracle6(octets));
