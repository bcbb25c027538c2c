#![no_main]
libfuzzer_sys::fuzz_target!(|octets: &[u8]| causeway_fuzz::splicer_peek::sequence(octets));
