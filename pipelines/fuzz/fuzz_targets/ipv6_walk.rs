#![no_main]
libfuzzer_sys::fuzz_target!(|octets: &[u8]| causeway_fuzz::ipv6_walk(octets));
