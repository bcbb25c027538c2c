//! The arguments that Capsule gives to EAL, translated to what EAL understands today.
//!
//! Capsule writes a command line for DPDK 19.11: `--pci-whitelist` and `--master-lcore` are gone since
//! 21.11. And its pattern of a PCI address knows decimal digits only, so that `0000:3b:00.0` comes as
//! the name of a virtual device.

use std::fmt;

/// A PCI address as DPDK writes it: domain, bus, device and function in hexadecimal digits
/// (`0000:3b:00.0`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PciAddress {
    /// Domain, 0 to 0xffff.
    pub domain: u16,
    /// Bus, 0 to 0xff.
    pub bus: u8,
    /// Device, 0 to 0x1f.
    pub device: u8,
    /// Function, 0 to 7.
    pub function: u8,
}

/// The text is not a PCI address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a PCI address: it looks like 0000:3b:00.0 (domain:bus:device.function, hexadecimal)")]
pub struct ParsePciError;

impl std::str::FromStr for PciAddress {
    type Err = ParsePciError;

    /// Takes four, two, two and one digits, no fewer: DPDK compares names, and has only this form.
    fn from_str(text: &str) -> Result<Self, ParsePciError> {
        let octets = text.as_bytes();
        if octets.len() != 12 || octets[4] != b':' || octets[7] != b':' || octets[10] != b'.' {
            return Err(ParsePciError);
        }
        let field = |range: std::ops::Range<usize>| {
            octets[range].iter().try_fold(0u16, |value, digit| {
                let digit = char::from(*digit).to_digit(16).ok_or(ParsePciError)?;
                Ok(value << 4 | u16::try_from(digit).map_err(|_| ParsePciError)?)
            })
        };
        let octet = |range| u8::try_from(field(range)?).map_err(|_| ParsePciError);
        let (device, function) = (octet(8..10)?, octet(11..12)?);
        if device > 0x1f || function > 7 {
            return Err(ParsePciError);
        }
        Ok(Self { domain: field(0..4)?, bus: octet(5..7)?, device, function })
    }
}

impl fmt::Display for PciAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04x}:{:02x}:{:02x}.{:x}", self.domain, self.bus, self.device, self.function)
    }
}

/// One argument of EAL: a word alone, or an option with its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EalArg {
    /// A word that is passed through.
    Word(String),
    /// A PCI device to use; others are left alone.
    Allow(String),
    /// A virtual device to make.
    Vdev(String),
    /// The core of the main thread.
    MainLcore(String),
}

impl EalArg {
    /// The words that EAL gets for it.
    fn words(self) -> impl Iterator<Item = String> {
        let (option, value) = match self {
            Self::Word(word) => (None, word),
            Self::Allow(value) => (Some("--allow"), value),
            Self::Vdev(value) => (Some("--vdev"), value),
            Self::MainLcore(value) => (Some("--main-lcore"), value),
        };
        option.map(str::to_owned).into_iter().chain([value])
    }
}

/// Reads the words that Capsule wrote.
///
/// An option at the end that lacks its value stays a word, for EAL to complain about.
#[must_use]
pub fn read(words: &[String]) -> Vec<EalArg> {
    let mut args = Vec::with_capacity(words.len());
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let make: fn(String) -> EalArg = match word.as_str() {
            "--pci-whitelist" | "-w" | "--allow" | "-a" => EalArg::Allow,
            "--vdev" => vdev_or_pci,
            "--master-lcore" | "--main-lcore" => EalArg::MainLcore,
            _ => {
                args.push(EalArg::Word(word.clone()));
                continue;
            }
        };
        args.push(match words.next() {
            Some(value) => make(value.clone()),
            None => EalArg::Word(word.clone()),
        });
    }
    args
}

/// A "virtual device" whose name is a PCI address is a PCI device.
fn vdev_or_pci(value: String) -> EalArg {
    let name = value.split(',').next().unwrap_or_default();
    if name.parse::<PciAddress>().is_ok() { EalArg::Allow(value) } else { EalArg::Vdev(value) }
}

/// The words that EAL of today gets for the words that Capsule wrote.
#[must_use]
pub fn translate(words: &[String]) -> Vec<String> {
    read(words).into_iter().flat_map(EalArg::words).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn translated(words: &[&str]) -> Vec<String> {
        translate(&words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn options_that_were_renamed_get_their_new_names() {
        assert_eq!(
            translated(&["cw", "--pci-whitelist", "0000:00:01.0", "--master-lcore", "3", "-l", "3"]),
            ["cw", "--allow", "0000:00:01.0", "--main-lcore", "3", "-l", "3"]
        );
    }

    #[test]
    fn a_hexadecimal_pci_address_that_came_as_a_virtual_device_is_a_pci_device() {
        assert_eq!(
            translated(&["cw", "--vdev", "0000:3b:00.0", "--vdev", "0000:af:1f.7,arg=1"]),
            ["cw", "--allow", "0000:3b:00.0", "--allow", "0000:af:1f.7,arg=1"]
        );
    }

    #[test]
    fn virtual_devices_stay_virtual_devices() {
        let words = ["cw", "--vdev", "net_af_packet0,iface=tenant0,qpairs=2", "--vdev", "net_null0"];
        assert_eq!(translated(&words), words);
    }

    #[test]
    fn an_option_without_its_value_is_left_for_eal_to_refuse() {
        assert_eq!(translated(&["cw", "--vdev"]), ["cw", "--vdev"]);
        assert_eq!(translated(&["cw", "--master-lcore"]), ["cw", "--master-lcore"]);
    }

    #[test]
    fn what_is_no_pci_address_is_refused() {
        for text in [
            "",
            "0000:3b:00",
            "3b:00.0",
            "0000:3b:00.8",
            "0000:3b:20.0",
            "0000:3g:00.0",
            "0000-3b-00.0",
            "0000:+b:00.0",
        ] {
            assert_eq!(text.parse::<PciAddress>(), Err(ParsePciError), "{text}");
        }
    }

    proptest! {
        #[test]
        fn every_pci_address_survives_its_text(domain: u16, bus: u8, device in 0u8..32, function in 0u8..8) {
            let address = PciAddress { domain, bus, device, function };
            prop_assert_eq!(address.to_string().parse(), Ok(address));
            prop_assert_eq!(address.to_string().to_uppercase().parse(), Ok(address));
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in any::<String>()) {
            let _ = text.parse::<PciAddress>();
        }

        #[test]
        fn words_that_are_no_options_of_ours_pass_unchanged(words in prop::collection::vec("[a-z0-9=,.:]{1,12}", 0..8)) {
            let words: Vec<String> = words;
            prop_assert_eq!(translate(&words), words);
        }
    }
}
