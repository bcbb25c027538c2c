//! Writes the named seeds of a fuzz target into a directory: `seeds TARGET DIRECTORY`; without
//! arguments, lists the targets.

use std::process::ExitCode;
use std::{env, fs, path::Path};

fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    match &args[..] {
        [] => causeway_fuzz::TARGETS.iter().for_each(|(name, _)| println!("{name}")),
        [target, directory] => {
            let seeds = causeway_fuzz::seeds(target);
            if seeds.is_empty() {
                eprintln!("no target `{target}`; run without arguments for a list");
                return ExitCode::from(2);
            }
            let write =
                |(name, octets): &(String, Vec<u8>)| fs::write(Path::new(directory).join(name), octets);
            if let Err(e) = fs::create_dir_all(directory).and_then(|()| seeds.iter().try_for_each(write)) {
                eprintln!("{directory}: {e}");
                return ExitCode::FAILURE;
            }
        }
        _ => {
            eprintln!("usage: seeds [TARGET DIRECTORY]");
            return ExitCode::from(2);
        }
    }
    ExitCode::SUCCESS
}
